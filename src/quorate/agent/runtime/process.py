"""Runs a member's command as a process, in a control group where there can be one. Standard library only."""

import fcntl
import os
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from quorate.agent import command, processes
from quorate.agent.runtime.runner import End
from quorate.agent.runtime.surroundings import Surroundings
from quorate.model.logframes import Stream

_READ_BYTES = 64 * 1024
_PIPE_BYTES = 1024 * 1024
_F_SETPIPE_SZ = 1031


class ProcessRunner:
    """A Runner (runner.py). What the command leaves behind is found by group and by tree, below this process."""

    signs: Mapping[int, Callable[[], None]] = {}
    due: float | None = None

    def __init__(
        self,
        member: str,
        argv: Sequence[str],
        work: str,
        user: command.User | None,
        surroundings: Surroundings,
        beside: Callable[[], Collection[int]],
    ) -> None:
        """`beside`: children of this process that serve the member, and are none of what it runs."""
        self._argv = argv
        self._work = work
        self._user = user
        self._surroundings = surroundings
        self._beside = beside
        self._pid = 0
        self._pipes: dict[int, Stream] = {}
        self._cgroup = processes.Cgroup.make(member)
        self.end: End | None = None

    @property
    def outputs(self) -> Collection[int]:
        return tuple(self._pipes)

    @property
    def entry(self) -> tuple[int, str]:
        return self._pid, str(self._cgroup.path) if self._cgroup else ""

    def start(self, environment: Mapping[str, str]) -> None:
        ends = []
        for stream in (Stream.STDOUT, Stream.STDERR):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reader, False)
            with suppress(OSError):
                fcntl.fcntl(reader, _F_SETPIPE_SZ, _PIPE_BYTES)
            self._pipes[reader] = stream
            ends.append(writer)
        try:
            self._pid = command.start(
                self._argv,
                environment,
                self._work,
                self._user,
                self._cgroup,
                self._surroundings,
                stdout=ends[0],
                stderr=ends[1],
            )
        finally:
            for end in ends:
                os.close(end)

    def read(self, output: int) -> Sequence[tuple[Stream, bytes]]:
        try:
            data = os.read(output, _READ_BYTES)
        except BlockingIOError:
            return ()
        if data:
            return ((self._pipes[output], data),)
        os.close(output)
        del self._pipes[output]
        return ()

    def reaped(self, pid: int, status: int) -> None:
        if pid == self._pid and self.end is None:
            self.end = _decode(status)

    def tick(self) -> None:
        pass

    def left(self) -> bool:
        return bool(self._left())

    def _left(self) -> list[int]:
        """The member's processes, by group and by tree: a group can fail to be entered, a tree cannot be left."""
        beside = self._beside()
        found = processes.descendants(os.getpid(), beside)
        return sorted({*found, *(self._cgroup.pids() if self._cgroup else ())} - {*beside})

    def signal(self, number: int) -> None:
        if number == signal.SIGKILL and self._cgroup is not None:
            self._cgroup.kill()
        processes.signal_all(self._left(), number)

    def remove(self) -> None:
        if self._cgroup is not None:
            self._cgroup.remove()


def _decode(status: int) -> End:
    if os.WIFSIGNALED(status):
        return End(signal=os.WTERMSIG(status))
    return End(code=os.WEXITSTATUS(status))
