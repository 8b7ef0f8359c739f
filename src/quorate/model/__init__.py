"""The nouns, one per file: immutable, validated, no I/O."""
