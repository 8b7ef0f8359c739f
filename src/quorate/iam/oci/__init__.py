"""Oracle's policy language: parsed, rendered, linted and generated."""
