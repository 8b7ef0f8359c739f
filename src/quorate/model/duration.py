"""Durations as people write them: `90`, `15m`, `1h30m`, `500ms`."""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
LONGEST = 3650 * 86400.0


class DurationError(ValueError):
    """A text that is no duration."""


def parse_duration(value: object) -> float:
    """Returns seconds for `15m`, `1h30m`, `500ms` or a bare number of seconds; raises DurationError."""
    if isinstance(value, bool):
        raise DurationError("a duration such as 15m is needed, not true or false")
    if isinstance(value, int | float):
        seconds = float(value)
    else:
        text = str(value).strip().lower()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
        else:
            parts = _PART.findall(text)
            if not parts or "".join(number + unit for number, unit in parts) != text:
                raise DurationError(f"{value!r} is not a duration; write it as 90s, 15m or 1h30m")
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 <= seconds <= LONGEST:
        raise DurationError(f"{value!r} is out of range; a duration lies between 0 and 3650d")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest exact text that parse_duration reads back, to the millisecond."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


#: Seconds as a float inside; `15m` outside.
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["15m", "1h30m", "90s"]}),
]
