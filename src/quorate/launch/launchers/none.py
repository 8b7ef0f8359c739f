"""No launcher: the entry point is the member's one command."""

from __future__ import annotations

from typing import Mapping, Tuple

from quorate.launch.config import Configuration
from quorate.launch.launchers import Launch


def derive(configuration: Configuration, entrypoint: Tuple[str, ...], environment: Mapping[str, str]) -> Launch:
    return Launch(entrypoint)
