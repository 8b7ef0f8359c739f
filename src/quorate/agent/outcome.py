"""How a member ended, as its shim leaves it on disk for whoever asks later. Standard library only."""

import json
import os
from dataclasses import asdict, dataclass

#: Room for any outcome: its longest part is the tail, of which each byte may become six.
OUTCOME_BYTES = 16 * 1024


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
    """Durable and whole when it returns: written beside, synced, renamed.

    The rename itself is not synced: what may undo it, a loss of power, is another boot, in which the member is lost.
    """
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        data = json.dumps(asdict(outcome)).encode()
        # Over the room that was taken for it; to cut off the zeros that follow costs more than to ignore them.
        os.pwrite(fd, data, 0)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)  # noqa: PTH104


def read_outcome(path: str) -> Outcome | None:
    """None if the member has none (yet), or a loss of power took it."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return Outcome(**json.loads(file.read().rstrip(b"\0")))
    except (FileNotFoundError, ValueError):
        return None
