"""K=V as flags give it."""

from __future__ import annotations

from quorate.cli.errors import usage


def pairs(flag: str, items: list[str] | None) -> dict[str, str]:
    """`["a=1"]` as `{"a": "1"}`; refuses what is no pair, naming the flag."""
    found = {}
    for item in items or []:
        key, separator, value = item.partition("=")
        if not separator or not key:
            usage(f"{flag} {item!r} is not K=V")
        found[key] = value
    return found
