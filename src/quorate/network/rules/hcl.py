"""Just enough of HashiCorp's configuration language to write resources: blocks, lists, texts and references.

Syntax: https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


class Reference(str):
    """An expression that is written as it is, such as `var.network`."""

    __slots__ = ()


class Block(dict[str, Any]):
    """A nested block, written without an equals sign."""


def resource(kind: str, name: str, body: Mapping[str, Any]) -> str:
    """Return one resource block."""
    return "\n".join([f'resource "{kind}" "{name}" {{', *_body(body, 1), "}"])


def variable(name: str, description: str) -> str:
    """Return the declaration of a text variable."""
    return "\n".join([f'variable "{name}" {{', f"  description = {_value(description)}", "  type        = string", "}"])


def _body(body: Mapping[str, Any], depth: int) -> Iterator[str]:
    pad = "  " * depth
    # Terraform's own formatter lines up the equals signs of attributes that stand together.
    width = max((len(key) for key, value in body.items() if not isinstance(value, Block | list)), default=0)
    for key, value in body.items():
        if isinstance(value, Block):
            yield f"{pad}{key} {{"
            yield from _body(value, depth + 1)
            yield f"{pad}}}"
        elif isinstance(value, list) and value and isinstance(value[0], Block):
            for block in value:
                yield f"{pad}{key} {{"
                yield from _body(block, depth + 1)
                yield f"{pad}}}"
        elif isinstance(value, list):
            yield f"{pad}{key} = [{', '.join(_value(item) for item in value)}]"
        else:
            yield f"{pad}{key.ljust(width)} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, Reference):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    # JSON's escapes are HCL's; only the beginnings of templates are not.
    return json.dumps(str(value), ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
