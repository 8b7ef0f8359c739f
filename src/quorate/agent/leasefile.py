"""The agent's lease on the disk, where its shims see it as well: they end members for an agent that no longer can.

Standard library only.
"""

import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

NAME: Final = "lease"
_FRAME: Final = struct.Struct(">II")


def write(path: Path, lease: Mapping[str, Any], *, durable: bool) -> None:
    """Overwrites it in place, which takes no room on a full disk. Raises OSError."""
    body = json.dumps(lease).encode()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # One block written at once: a crash of the process leaves the old or the new one, never a mixture.
        os.pwrite(fd, _FRAME.pack(len(body), zlib.crc32(body)) + body, 0)
        if durable:
            os.fdatasync(fd)
    finally:
        os.close(fd)


def read(path: str | Path) -> dict[str, Any] | None:
    """What was written last; None where nothing was, or where it is being written just now."""
    try:
        data = Path(path).read_bytes()
        length, checksum = _FRAME.unpack_from(data)
        body = data[_FRAME.size : _FRAME.size + length]
        lease = json.loads(body) if zlib.crc32(body) == checksum else None
    except (OSError, ValueError, struct.error):
        return None
    return lease if isinstance(lease, dict) else None


def ends(path: str, stop_after_s: float) -> float | None:
    """When (CLOCK_BOOTTIME) a member with this `stop_after` must have been told to end; None if it cannot be known."""
    lease = read(path)
    try:
        return None if lease is None else max(float(lease["renewed"]), float(lease["planned"])) + stop_after_s
    except (KeyError, TypeError, ValueError):
        return None
