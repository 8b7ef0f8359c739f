"""How a member ended, as its shim leaves it on disk for whoever asks later. Standard library only."""

import json
import os
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Outcome:
    """The end of a member. `ran` is false if its command never did; then `reason` says why."""

    ran: bool
    code: int | None = None
    signal: int | None = None
    #: Last lines of output.
    tail: str = ""
    reason: str = ""
    #: Code of the finding behind it, such as DISK-FULL.
    finding: str = ""
    echo: bool = False
    #: Seconds of CLOCK_BOOTTIME at which the command began.
    since: float | None = None
    log_bytes: int = 0


def write_outcome(path: str, outcome: Outcome) -> None:
    """Durable and whole when it returns: written beside, fsynced, renamed."""
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        data = json.dumps(asdict(outcome)).encode()
        # Over the room that was taken for it, and only then cut: a file cut first would have to find room again.
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)  # noqa: PTH104
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC)  # noqa: PTH120
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_outcome(path: str) -> Outcome | None:
    """None if the member has none (yet)."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return Outcome(**json.load(file))
    except FileNotFoundError:
        return None
