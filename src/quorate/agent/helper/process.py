"""The root helper that an agent starts for itself: a child, started again when it dies, that ends with its agent."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from quorate.agent import lockfile, unixsocket
from quorate.agent.helper.client import Helper
from quorate.agent.lockfile import Lock

log = logging.getLogger(__name__)

#: In the agent's state folder.
_SOCKET, FOLDER = "helper.sock", "network"
_BACKLOG: Final = 64
#: The pause before a helper that died is started again, and the longest; one that lived this long was a good one.
_PAUSE_S, _LONGEST_PAUSE_S, _GOOD_S = 0.05, 5.0, 10.0
#: Locks of network namespaces: the host's part of private networks has one owner in each.
_LOCKS: Final = Path("/run/quorate")
#: Of a folder through which a user gets to its own socket, and nobody sees what else is there.
PASSABLE: Final = 0o711
#: The helper of an agent that has just ended finishes what it does, if only its own start on a loaded machine.
_LOCK_WAIT_S: Final = 30.0


class Taken(Exception):
    """Another agent, or its helper, makes the private networks of this network namespace."""


class HelperProcess:
    """Runs helpers one after the other, from `start` to `close`."""

    def __init__(self, state_dir: Path) -> None:
        """Raises Taken, or OSError."""
        self._lock = claim()
        #: Where namespaces are kept.
        self.folder = state_dir / FOLDER
        path = state_dir / _SOCKET
        path.unlink(missing_ok=True)
        # It listens for as long as the agent lives: what is asked while a helper is away waits for the next one.
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        unixsocket.bind(self._listener, path)
        path.chmod(0o600)
        self._listener.listen(_BACKLOG)
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self.client = Helper(path)

    @property
    def pid(self) -> int | None:
        """Of the helper of the moment."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Comes back at once; the first answer takes a moment longer."""
        self._run()
        threading.Thread(target=self._keep, name="helper", daemon=True).start()

    def close(self) -> None:
        """Lets the helper finish what it does and end."""
        self._closing.set()
        process = self._process
        if process is not None:
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
            process.wait()
        self._listener.close()
        self._lock.remove()

    def _run(self) -> None:
        listener = self._listener.fileno()
        self._process = subprocess.Popen(
            [
                sys.executable, "-P", "-m", "quorate.agent.helper", "--listener", str(listener), "--user",
                str(os.geteuid()), "--folder", str(self.folder),
            ],
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.environ.get("PATH", os.defpath)},
            pass_fds=(listener, self._lock.fd),
            stdin=subprocess.PIPE,
            # Ctrl-C is for the agent.
            start_new_session=True,
            cwd="/",
        )  # fmt: skip

    def _keep(self) -> None:
        pause = _PAUSE_S
        while True:
            assert self._process is not None
            began = time.monotonic()
            code = self._process.wait()
            if self._closing.is_set():
                return
            log.warning("the helper ended with %d; starting another", code)
            pause = _PAUSE_S if time.monotonic() - began > _GOOD_S else min(2 * pause, _LONGEST_PAUSE_S)
            if self._closing.wait(pause):
                return
            try:
                self._run()
            except OSError as error:
                log.error("no helper can be started: %s", error)


def claim() -> Lock:
    """The lock on the private networks of this network namespace, to be removed at the end. Raises Taken, or OSError.

    Where who took it is gone, its helper still has to end; where he lives, nobody waits.
    """
    _LOCKS.mkdir(parents=True, exist_ok=True)
    # Whatever the umask: a helper's socket is in there, too, and its user is not always root.
    _LOCKS.chmod(PASSABLE)
    # Of this thread: it may have entered another one than its process is in.
    path = _LOCKS / f"network-{Path('/proc/thread-self/ns/net').stat().st_ino}.lock"
    deadline = time.monotonic() + _LOCK_WAIT_S
    while (lock := lockfile.take(path)) is None:
        holder = lockfile.holder(path)
        if (holder is not None and holder.alive) or time.monotonic() > deadline:
            raise Taken("another agent makes the private networks of this machine")
        time.sleep(0.02)
    lock.sign()
    _remove_stale(path)
    return lock


def _remove_stale(own: Path) -> None:
    """The locks of those who were killed, most of them of namespaces that are gone."""
    for path in _LOCKS.glob("network-*.lock"):
        with suppress(OSError):
            if path != own and (lock := lockfile.take(path, make=False)) is not None:
                lock.remove()
