"""Lock files that say who has taken them: flock(2) decides, and what lies in the file is for whoever comes too late."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from quorate.agent.processes import Process, process

#: More than any process takes to describe. Always that many, so that nobody who reads meanwhile finds the file empty.
_BYTES: Final = 256


@dataclass(frozen=True)
class Lock:
    """Held until each copy of its descriptor is closed, those that children have inherited among them."""

    path: Path
    fd: int

    def sign(self) -> None:
        """Says in the file that this process has it."""
        own = process(os.getpid())
        assert own is not None
        os.pwrite(self.fd, json.dumps(asdict(own)).encode().ljust(_BYTES), 0)
        os.ftruncate(self.fd, _BYTES)

    def close(self) -> None:
        """This process lets go; the file stays."""
        os.close(self.fd)

    def remove(self) -> None:
        """The same, and the file goes: whoever has opened it meanwhile finds in `take` that it is none any more."""
        if _is_at(self.path, self.fd):
            self.path.unlink(missing_ok=True)
        self.close()


def take(path: Path, *, make: bool = True) -> Lock | None:
    """The lock, or None while somebody has it. Does not wait.

    `make`: where there is no such file there is one afterwards. Raises OSError.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if _is_at(path, fd):
            return Lock(path, fd)
        # Whoever had it has removed it in between: others take another file by this name.
        os.close(fd)


def holder(path: Path) -> Process | None:
    """Who has signed it last; gone, perhaps. None where nobody has, or it cannot be read."""
    return Process.kept(path)


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
