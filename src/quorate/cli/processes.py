"""Daemons that the command line starts in the background: known by pid and start time, watched while they start."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from quorate.cli.errors import CommandError

#: Every process of a local cluster carries this variable with the cluster's mark, so that none is overlooked.
MARK = "QUORATE_LOCAL"
#: Set by the agent for every process of a member.
MEMBER = "QUORATE_MEMBER"
#: Seconds between two looks at something that has no other way to tell. Starting takes about a second.
LOOK_EVERY = 0.03


@dataclass(frozen=True)
class Daemon:
    """A process: its name for people, and what makes its pid certain."""

    name: str
    pid: int
    started: float
    log: str
    #: What stood behind `quorate`, to start it again; never a secret.
    arguments: tuple[str, ...] = ()

    def process(self) -> psutil.Process | None:
        """The process if it still runs; none if it ended or the pid is somebody else's by now."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 0.05
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def spawn(
    name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str], keep: Sequence[int] = ()
) -> Daemon:
    """Starts `quorate ARGUMENTS` in a session of its own, its output in `log`; it inherits the descriptors `keep`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "quorate", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **environment},
            cwd=log.parent,
            pass_fds=keep,
        )
    _children.append(process)
    return Daemon(name, process.pid, psutil.Process(process.pid).create_time(), str(log), tuple(arguments))


def wait_for_word(reader: int, daemon: Daemon, within: float = 60.0) -> None:
    """Returns once a line comes out of the pipe; raises CommandError with the log's end if the daemon ends instead."""
    with os.fdopen(reader, "rb") as pipe:
        answered, _, _ = select.select([pipe], [], [], within)
        if answered and pipe.readline():
            return
    why = "ended while it started" if answered else f"took longer than {within:g} s to start"
    raise CommandError(f"{daemon.name} {why}", lines=last_lines(Path(daemon.log)), hint=_where_to_look(daemon))


#: Kept so that ended children are reaped and the interpreter does not warn of them.
_children: list[subprocess.Popen[bytes]] = []


def wait_until(ready: Callable[[], bool], what: str, daemons: Sequence[Daemon], within: float = 60.0) -> None:
    """Returns once `ready`; raises CommandError if a daemon ends first, or after `within` seconds."""
    deadline = time.monotonic() + within
    while not ready():
        for daemon in daemons:
            if daemon.process() is None:
                lines = last_lines(Path(daemon.log))
                raise CommandError(f"{daemon.name} ended while it started", lines=lines, hint=_where_to_look(daemon))
        if time.monotonic() > deadline:
            lines = tuple(line for daemon in daemons for line in last_lines(Path(daemon.log), 5))
            raise CommandError(f"{what} took longer than {within:g} s", lines=lines, hint=_where_to_look(*daemons))
        time.sleep(LOOK_EVERY)


def _where_to_look(*daemons: Daemon) -> str:
    logs = " ".join(dict.fromkeys(daemon.log for daemon in daemons))
    return f"quorate doctor; all of the log: less {logs}"


def last_lines(log: Path, count: int = 15) -> tuple[str, ...]:
    """The end of a log file; empty where there is none."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 8192))
        return tuple(file.read().decode(errors="replace").splitlines()[-count:])
    return ()


def end(daemons: Sequence[Daemon], within: float = 15.0) -> None:
    """SIGTERM, then SIGKILL after `within` seconds."""
    running = [process for daemon in daemons if (process := daemon.process())]
    for process in running:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(running, timeout=within)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    for child in _children:
        child.poll()


def advertised_addresses() -> set[str]:
    """The addresses of the agents that run on this machine, as far as their command lines say."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if "--advertise-address" in words[:-1]:
                found.add(words[words.index("--advertise-address") + 1])
    return found


def sweep(mark: str, members: frozenset[str] = frozenset()) -> None:
    """Kills what still carries the cluster's mark or is one of its members."""
    found = list(_marked(mark, members))
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(found, timeout=5)


def _marked(mark: str, members: frozenset[str]) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            environment = process.environ()
            if environment.get(MARK) == mark or environment.get(MEMBER) in members:
                yield process
