"""How a member ended, as its shim leaves it on disk for whoever asks later. Standard library only."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

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
    #: Seconds that the command ran; 0 if it never did.
    ran_s: float = 0.0


def write_outcome(path: str, outcome: Outcome, told: Callable[[], None]) -> None:
    """Whole and to be found when `told` is called, and on its way to the disk when this returns: then it is synced.

    Who reads it survives anything but a loss of power, and that is another boot, in which a member whose end nobody was
    told is lost: so nobody waits for the disk to hear of it, and the master has its own. The rename is not synced.
    """
    data = json.dumps(asdict(outcome)).encode()
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Over the room that was taken for it; to cut off the zeros that follow costs more than to ignore them.
        os.pwrite(fd, data, 0)
        os.rename(f"{path}.new", path)  # noqa: PTH104
        told()
        os.fdatasync(fd)
    finally:
        os.close(fd)


def read_outcome(path: str) -> Outcome | None:
    """None if the member has none (yet), or it is damaged, as by a loss of power: then how it ended is not known."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            outcome = Outcome(**json.loads(file.read().rstrip(b"\0")))
    except (OSError, ValueError, TypeError):
        return None
    wanted: dict[str, Any] = {field.name: field.type for field in fields(Outcome)}
    return outcome if all(isinstance(getattr(outcome, name), kind) for name, kind in wanted.items()) else None
