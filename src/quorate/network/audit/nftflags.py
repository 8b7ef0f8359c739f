"""Comparisons of TCP's flags as `nft -j` prints them (nft(8), libnftables-json(5))."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from quorate.network.audit.space import Intervals
from quorate.network.audit.tcpflags import BITS, flags_where


class NotModelled(Exception):
    """A match that is not modelled; the text says which."""


def looked_at_by(left: Any) -> int | None:
    """Return which of TCP's flags a comparison looks at; None for one of something else."""
    if isinstance(left, dict) and isinstance(left.get("&"), list) and len(left["&"]) == 2:
        inner, mask = left["&"]
        return None if looked_at_by(inner) is None else bits_of(mask)
    body = left.get("payload") if isinstance(left, dict) else None
    return 255 if isinstance(body, dict) and (body.get("protocol"), body.get("field")) == ("tcp", "flags") else None


def bits_of(value: Any) -> int:
    """Return a value of flags as one number; raises NotModelled."""
    if isinstance(value, str) and value in BITS:
        return BITS[value]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return value
    if isinstance(value, dict) and "|" in value:
        value = value["|"]
    if isinstance(value, list):
        bits = 0
        for item in value:
            bits |= bits_of(item)
        return bits
    raise NotModelled(f"the TCP flags {json.dumps(value)[:40]} are not modelled")


def holding(looked_at: int, op: str, values: list[int]) -> Intervals:
    """Return the flags with which a comparison holds; `in` and `!` ask for any of several, or none (nft(8))."""
    holds: dict[str, Callable[[int], bool]] = {
        "==": lambda flags: flags in values,
        "!=": lambda flags: flags not in values,
        "in": lambda flags: any(flags & value for value in values),
        "!": lambda flags: not any(flags & value for value in values),
        "<": lambda flags: all(flags < value for value in values),
        "<=": lambda flags: all(flags <= value for value in values),
        ">": lambda flags: all(flags > value for value in values),
        ">=": lambda flags: all(flags >= value for value in values),
    }
    if op not in holds:
        raise NotModelled(f"the comparison tcp flags {op} is not modelled")
    return flags_where(lambda flags: holds[op](flags & looked_at))
