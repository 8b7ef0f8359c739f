"""Since when members have done nothing that shows: no output, no time on a processor, nothing sent or received."""

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quorate.agent.answers import Answers
from quorate.agent.inspecting import pid_in
from quorate.agent.processes import MARKER, boottime, environment
from quorate.model import asks

#: What is no progress: a process that waits still wakes now and then, and companions and keep-alives send a little.
_IDLE_CORES: Final = 0.02
_IDLE_BYTES_PER_S: Final = 2048.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MARK: Final = f"{MARKER}=".encode()
#: Longer than any member's id.
_MEMBER_BYTES: Final = 256


@dataclass(frozen=True)
class Sign:
    """What a member has done so far: bytes of output, seconds of processor, bytes in a network of its own."""

    output: int
    cpu_s: float
    sent: int


class Progress:
    """Looks at members whenever it is asked, and keeps when each was first seen as it still is."""

    def __init__(
        self, running: Callable[[], Collection[str]], folder: Callable[[str], Path], answers: Answers, *, spins: bool
    ) -> None:
        """`spins`: ranks keep a core busy while they wait for each other, as NCCL's do, so that time says nothing."""
        self._running = running
        self._spins = spins
        self._folder = folder
        self._in_thread = answers.in_thread
        self._last: dict[str, tuple[float, Sign]] = {}
        self._since: dict[str, float] = {}
        answers.register(asks.PROGRESS, self._answer)

    async def _answer(self, _body: Any) -> asks.Idle:
        now = boottime()
        seen = await self._in_thread(signs, {member: self._folder(member) for member in self._running()})
        self._look(seen, now)
        return asks.Idle({member: max(0.0, now - since) for member, since in self._since.items()})

    def _look(self, signs: Mapping[str, Sign], now: float) -> None:
        for member, sign in signs.items():
            before = self._last.get(member)
            if before is None or is_progress(before[1], sign, now - before[0], spins=self._spins):
                self._since[member] = now
            self._last[member] = (now, sign)
        for member in self._last.keys() - signs.keys():
            self._last.pop(member)
            self._since.pop(member, None)


def is_progress(before: Sign, after: Sign, seconds: float, *, spins: bool = False) -> bool:
    """Whether more was done in between than what somebody does who waits."""
    return (
        after.output != before.output
        or (not spins and after.cpu_s - before.cpu_s > _IDLE_CORES * seconds)
        or after.sent - before.sent > _IDLE_BYTES_PER_S * seconds
    )


def signs(folders: Mapping[str, Path]) -> dict[str, Sign]:
    """All of them in one look at the machine's processes."""
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    #: By member: a container's processes are nobody's children here.
    marked: dict[str, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 (thousands of them)
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                text = Path("/proc", name, "stat").read_bytes()
                fields = text[text.rindex(b")") + 2 :].split()
                children.setdefault(int(fields[1]), []).append(int(name))
                # Its own time, and that of children who have ended.
                used[int(name)] = sum(map(int, fields[11:15])) / _TICKS
                _, _, rest = environment(int(name)).partition(_MARK)
                if rest:
                    member = rest[:_MEMBER_BYTES].partition(b"\0")[0].decode("ascii", "replace")
                    marked.setdefault(member, []).append(int(name))
    host = Path("/proc/self/ns/net").stat().st_ino
    found: dict[str, Sign] = {}
    for member, folder in folders.items():
        shim = pid_in(folder / "shim.json")
        below, todo = list(marked.get(member, ())), [shim] if shim else []
        while todo:
            some = children.get(todo.pop(), [])
            below += some
            todo += some
        with suppress(OSError):
            found[member] = Sign(
                (folder / "log").stat().st_size, sum(used.get(pid, 0.0) for pid in set(below)), _sent(below, host)
            )
    return found


def _sent(pids: Collection[int], host: int) -> int:
    """Bytes in both directions in a network that is the member's own; 0 in the host's, which it shares."""
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            if Path(f"/proc/{pid}/ns/net").stat().st_ino == host:
                return 0
            lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
            fields = [line.partition(":")[2].split() for line in lines if not line.strip().startswith("lo:")]
            return sum(int(one[0]) + int(one[8]) for one in fields)
    return 0
