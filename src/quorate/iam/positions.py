"""Finds where each part of a JSON or YAML text stands, which their parsers do not tell with the values."""

from __future__ import annotations

import json
import re

import yaml

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


def yaml_positions(text: str) -> dict[Path, Place]:
    """The same for YAML that has been parsed already, aliases left out: a role or a policy needs none."""
    found: dict[Path, Place] = {}
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    waiting: list[tuple[Path, yaml.Node]] = [((), root)] if root is not None else []
    while waiting:
        path, node = waiting.pop()
        if path in found:
            continue
        found[path] = Place(node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.SequenceNode):
            waiting += [((*path, index), item) for index, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            waiting += [((*path, str(key.value)), value) for key, value in node.value]
    return found
