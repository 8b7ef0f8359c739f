"""Finds where each part of a JSON text stands, which the standard library's parser does not tell."""

from __future__ import annotations

import json
import re

from quorate.iam.place import Place

Path = tuple[str | int, ...]

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def positions(text: str) -> dict[Path, Place]:
    """The place of every value by its path from the root. `text` is JSON that has been parsed already."""
    found: dict[Path, Place] = {}
    # Each open bracket: its path, the next index of an array or None for an object, and the key just read.
    stack: list[tuple[Path, int | None, str | None]] = []
    line, line_start, scanned = 1, 0, 0
    for token in _TOKEN.finditer(text):
        newlines = text.count("\n", scanned, token.start())
        if newlines:
            line += newlines
            line_start = text.rindex("\n", scanned, token.start()) + 1
        scanned = token.start()
        sign = token.group()
        if sign in "}]":
            if stack:
                stack.pop()
            continue
        if sign in ",:":
            if sign == "," and stack:
                path, index, _ = stack[-1]
                stack[-1] = (path, None if index is None else index + 1, None)
            continue
        place = Place(line, token.start() - line_start + 1)
        if stack and stack[-1][1] is None and stack[-1][2] is None:
            path, _, _ = stack[-1]
            stack[-1] = (path, None, json.loads(sign, strict=False))
            continue
        path = ()
        if stack:
            outer, index, key = stack[-1]
            path = (*outer, index if index is not None else key or "")
        found[path] = place
        if sign in "{[":
            stack.append((path, 0 if sign == "[" else None, None))
    return found
