"""A helper that stands by itself, as the systemd unit's does: one agent at a time uses it, and what it leaves goes."""

import fcntl
import logging
import os
from pathlib import Path
from typing import Final

from quorate.agent.helper.client import Helper, HelperError
from quorate.agent.helper.process import Taken
from quorate.agent.sandbox.spec import Desired

log = logging.getLogger(__name__)

#: In the agent's state folder: where the helper listens that it has used last.
_USED: Final = "helper"
_LONGEST_PATH: Final = 4096


def use(helper: Path, state_dir: Path) -> int:
    """Nobody else uses it while the descriptor is open: two would remove each other's networks.

    Raises Taken, or OSError.
    """
    lock = _lock(helper)
    os.ftruncate(lock, 0)
    os.pwrite(lock, _name(state_dir), 0)
    (state_dir / _USED).write_text(str(helper))
    return lock


def sweep(state_dir: Path) -> None:
    """Has the helper remove what the agent of that folder, which is gone, has left; what a later agent has, stays."""
    try:
        helper = Path((state_dir / _USED).read_text())
        lock = _lock(helper)
    except FileNotFoundError:
        return
    except (Taken, OSError) as error:
        log.warning("networks of %s are left as they are: %s", state_dir, error)
        return
    try:
        if os.pread(lock, _LONGEST_PATH, 0) == _name(state_dir):
            failures = Helper(helper).converge(Desired()).failures
            for whose, why in failures.items():
                log.warning("the network of %s is left: %s", whose, why)
    except HelperError as error:
        log.warning("networks of %s are left as they are: %s", state_dir, error)
    finally:
        os.close(lock)


def _name(state_dir: Path) -> bytes:
    return os.fsencode(state_dir.resolve())


def _lock(helper: Path) -> int:
    """Held while the descriptor is open; the file says who took it last."""
    lock = os.open(helper.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Taken(f"another agent uses the helper at {helper}") from None
    return lock
