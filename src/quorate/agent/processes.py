"""Processes as they can be known for certain, found however they hide, and ended without hitting another one.

A pid is used again; a process is (boot id, pid, start time). Standard library only: the zygote preloads it.
"""

import functools
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Set in the environment of every process of a member, so that what a dead shim left behind is found.
MARKER = "QUORATE_MEMBER"
#: Set besides in what lets people into a member: it is not the job's own.
_SERVES = "QUORATE_SERVES"

#: Of control groups, by what a job may limit; in cgroup v2 one group counts all of them.
_CONTROLLERS = {"memory": "memory", "cpus": "cpu", "pids": "pids"}

#: execve(2) takes no more than 6 MiB of arguments and variables, so that of honest processes all is read.
_ENVIRONMENT_BYTES = 8 * 1024 * 1024
_PIECE_BYTES = 256 * 1024


@functools.cache
def boot_id() -> str:
    """The random id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def boottime() -> float:
    """Seconds of CLOCK_BOOTTIME, which goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Process:
    """A process that is this one and no later one with its pid. `started` in clock ticks since boot (proc(5), stat)."""

    boot: str
    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return self.boot == boot_id() and _stat(self.pid) == (self.started, True)

    @classmethod
    def kept(cls, path: str | Path) -> "Process | None":
        """The one that a file names; None where there is no such file, or it is damaged."""
        try:
            kept = cls(**json.loads(Path(path).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return kept if isinstance(kept.pid, int) and kept.pid > 0 else None

    def kill(self, number: int) -> None:
        """Sends a signal to it, and to nobody else: the pid is pinned before it is compared."""
        with suppress(ProcessLookupError, PermissionError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.alive:
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)


def process(pid: int) -> Process | None:
    """The process that has this pid now; None if there is none."""
    stat = _stat(pid)
    return Process(boot_id(), pid, stat[0]) if stat else None


def _stat(pid: int) -> tuple[int, bool] | None:
    """Start time and whether it is more than a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command's name stands in brackets and may hold anything, brackets too.
    fields = text[text.rindex(b")") + 2 :].split()
    return int(fields[19]), fields[0] not in (b"Z", b"X")


def children(pid: int) -> list[int]:
    """Direct children of all threads of a process; needs CONFIG_PROC_CHILDREN, else every process is looked at."""
    found: list[int] = []
    try:
        for task in os.scandir(f"/proc/{pid}/task"):
            with open(f"{task.path}/children", "rb") as file:  # noqa: PTH123 (a hot path of the shim)
                found += map(int, file.read().split())
    except FileNotFoundError:
        return found if Path("/proc/self/task").joinpath(str(os.getpid()), "children").exists() else _scan_children(pid)
    except OSError:
        pass
    return found


def _scan_children(parent: int) -> list[int]:
    found = []
    for pid in _pids():
        with suppress(OSError):
            text = Path(f"/proc/{pid}/stat").read_bytes()
            if int(text[text.rindex(b")") + 2 :].split()[1]) == parent:
                found.append(pid)
    return found


def descendants(root: int, without: Iterable[int] = ()) -> list[int]:
    """All below `root`, parents before children, but for the branches of `without`."""
    skip = set(without)
    found: list[int] = []
    todo = [root]
    while todo:
        for child in children(todo.pop()):
            if child not in skip:
                found.append(child)
                todo.append(child)
    return found


def _pids() -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208 (a hot path)
        if name.isdigit():
            yield int(name)


def environment(pid: int) -> bytes:
    """A process's variables, as environ of proc(5) has them, but bounded: a process may call all its memory its
    environment (prctl(2), PR_SET_MM_MAP). Raises OSError."""
    with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123 (a hot path)
        data = file.read(_PIECE_BYTES)
        if len(data) < _PIECE_BYTES:
            return data
        pieces, left = [data], _ENVIRONMENT_BYTES - len(data)
        while left and (data := file.read(min(_PIECE_BYTES, left))):
            pieces.append(data)
            left -= len(data)
        return b"".join(pieces)


def marked(member: str) -> list[int]:
    """Processes whose environment names the member, whoever their parent is by now."""
    wanted = f"{MARKER}={member}".encode()
    own = os.getpid()
    found = []
    for pid in _pids():
        with suppress(OSError):
            variables = environment(pid)
            if pid != own and wanted in variables and wanted in variables.split(b"\0"):
                found.append(pid)
    return found


def serving(member: str) -> dict[str, str]:
    """The variables that mark what lets people into the member."""
    return {MARKER: member, _SERVES: "1"}


def serves(pid: int) -> bool:
    """Whether it lets people into a member: of what they run there, nothing does."""
    with suppress(OSError):
        return f"{_SERVES}=1".encode() in environment(pid).split(b"\0")
    return False


def signal_all(pids: Iterable[int], number: int) -> int:
    """Signals each of them; returns how many there were to take it."""
    count = 0
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
            count += 1
    return count


class Cgroup:
    """The control group of one member: what is in it stays in it, whatever it forks and whoever adopts it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def make(cls, name: str) -> "Cgroup | None":
        """Makes one below this process's own; None where the machine or our rights do not let us."""
        for hierarchy in hierarchies():
            path = hierarchy / f"quorate-{name}"
            with suppress(OSError):
                path.mkdir(exist_ok=True)
                if os.access(path / "cgroup.procs", os.W_OK):
                    return cls(path)
        return None

    @classmethod
    def find(cls, name: str) -> "list[Cgroup]":
        """The groups that a shim of this machine has made for the member."""
        paths = (hierarchy / f"quorate-{name}" for hierarchy in hierarchies())
        return [cls(path) for path in paths if path.is_dir()]

    def enter(self) -> None:
        """Moves the calling process in."""
        (self.path / "cgroup.procs").write_text("0")

    def pids(self) -> list[int]:
        """All processes in it, zombies left out."""
        try:
            return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]
        except OSError:
            return []

    def kill(self) -> None:
        """SIGKILL to all in it: at once with cgroup v2 (from Linux 5.14), else one by one."""
        try:
            (self.path / "cgroup.kill").write_text("1")
        except OSError:
            signal_all(self.pids(), signal.SIGKILL)

    def remove(self) -> None:
        """Removes it if it is empty."""
        with suppress(OSError):
            self.path.rmdir()


@functools.cache
def hierarchies() -> tuple[Path, ...]:
    """Where groups of our own can be made: below our own group in cgroup v2, else in the v1 hierarchy `pids`."""
    try:
        mounts, own = _mounted(), _groups("self")
    except OSError:
        return ()
    return tuple(
        mounts[wanted] / path
        for wanted in ("", "pids")
        for controllers, path in own
        if wanted in mounts and wanted in controllers
    )


def groups_of(pid: int) -> tuple[Path, ...]:
    """The control groups of a process, in every hierarchy that is mounted here and shows it. Raises OSError."""
    mounts = _mounted()
    found = {
        mounts[one] / path: None
        for controllers, path in _groups(str(pid))
        for one in controllers
        # Outside of what a namespace of groups shows, there are only dots.
        if one in mounts and ".." not in path.split("/")
    }
    return tuple(path for path in found if path.is_dir())


def group_names(pid: int | None = None) -> dict[str, str]:
    """By what a job may limit: the name of the group of that process (else ours) in which it counts. Raises OSError."""
    # By its pid this process would not be found once it is in another namespace of them.
    said = _groups("self" if pid is None else str(pid))
    names = {controller: path for controllers, path in said for controller in controllers}
    unified = names.get("", "")
    return {limit: names.get(controller, unified) for limit, controller in _CONTROLLERS.items()}


def _mounted() -> dict[str, Path]:
    """Where hierarchies of control groups are, by controller; that of v2 without a name."""
    mounts: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        place = Path(before.split()[4])
        if kind == "cgroup2":
            mounts.setdefault("", place)
        elif kind == "cgroup":
            for option in options.split(" ")[-1].split(","):
                if option:
                    mounts.setdefault(option, place)
    return mounts


def _groups(pid: str) -> list[tuple[list[str], str]]:
    """Controllers, the empty one for v2, and the path below where they are mounted."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    return [(controllers.split(","), path.lstrip("/")) for _, controllers, path in lines]
