"""JSON for people and version control: the outline over several lines, each rule on a line of its own."""

from __future__ import annotations

import json
from typing import Any


def outline(value: Any, depth: int) -> str:
    """Return JSON in which what is nested deeper than `depth` stands on one line; with a line break at its end."""
    return "".join(_pieces(value, depth, "\n")) + "\n"


def _pieces(value: Any, depth: int, pad: str) -> list[str]:
    if depth == 0 or not isinstance(value, dict | list) or not value:
        return [json.dumps(value)]
    inner = pad + "  "
    pieces: list[str] = []
    opened, closed = ("{", "}") if isinstance(value, dict) else ("[", "]")
    for item in value.items() if isinstance(value, dict) else value:
        pieces.append("," + inner if pieces else opened + inner)
        if isinstance(value, dict):
            pieces.append(json.dumps(item[0]) + ": ")
        pieces += _pieces(item[1] if isinstance(value, dict) else item, depth - 1, inner)
    return [*pieces, pad + closed]
