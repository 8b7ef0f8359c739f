"""Lets long vocabularies be written as running text, which a reader can scan."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a text that white space parts."""
    return frozenset(text.split())
