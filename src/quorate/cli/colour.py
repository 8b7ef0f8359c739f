"""Whether text is coloured, and how: on a terminal alone, and never where NO_COLOR is set."""

from __future__ import annotations

import os
from typing import TextIO

BOLD, FAINT, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"


def draws(stream: TextIO) -> bool:
    """Whether a person sees it on a terminal that can go back and draw over what it shows."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def colours(stream: TextIO) -> bool:
    """Whether it shows colours, and whoever reads it wants them (no-color.org)."""
    return draws(stream) and not os.environ.get("NO_COLOR")


def paint(text: str, code: str, stream: TextIO) -> str:
    """The text in that colour, or as it is."""
    return f"\033[{code}m{text}\033[0m" if text and colours(stream) else text
