"""Sizes as people write them, in binary units: `512MiB`, `16GiB`, or a number of bytes."""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS = {"": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
#: As Docker writes them, with the same meaning.
_SHORT = {"K": "KiB", "M": "MiB", "G": "GiB", "T": "TiB"}
_TEXT = re.compile(r"(\d{1,16}(?:\.\d{1,6})?)\s*([A-Za-z]*)")
#: No machine has more, and the kernel's limits are signed 64-bit numbers.
LARGEST = 1 << 50


class SizeError(ValueError):
    """A text that is no size."""


def parse_size(value: object) -> int:
    """Returns bytes for `512MiB`, `1.5GiB`, `16g` or a bare number; raises SizeError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise SizeError(f"{value!r} is not a size; write it as 512MiB or 16GiB")
    found = _TEXT.fullmatch(str(value).strip())
    if not found:
        raise SizeError(f"{value!r} is not a size; write it as 512MiB or 16GiB")
    number, unit = found.groups()
    if len(unit) == 2 and unit.upper().endswith("B") and unit[0].upper() in _SHORT:
        raise SizeError(f"{value!r}: sizes are in binary units; write {number}{_SHORT[unit[0].upper()]}")
    factor = _UNITS.get(_SHORT.get(unit.upper(), unit).upper())
    if factor is None:
        raise SizeError(f"{unit!r} is not a unit of size; there are KiB, MiB, GiB and TiB")
    size = float(number) * factor
    if size != int(size) or size > LARGEST:
        raise SizeError(f"{value!r} is not a whole number of bytes up to {format_size(LARGEST)}")
    return int(size)


def format_size(size: int) -> str:
    """The shortest exact text that parse_size reads back."""
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


#: Bytes inside; `16GiB` outside.
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["16GiB", "512MiB"]}),
]
