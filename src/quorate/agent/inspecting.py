"""What this agent can see of its members from outside: processes, sockets against the plan, stacks, collectives."""

import json
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from quorate.agent import flightrecorder, planning, processes, sockets, stacks
from quorate.agent.answers import Answers, CannotAnswer, asked
from quorate.agent.reconcile import allocation_of
from quorate.agent.sandbox import namespaces
from quorate.launch import probe
from quorate.model import asks
from quorate.model.ids import MemberId, split_member
from quorate.model.logframes import FrameError, Stream, decode_frames
from quorate.model.messages import AllocationSpec
from quorate.network.fabric import telling
from quorate.network.flows import Role
from quorate.network.plan import Plan
from quorate.network.remedies import Platform

#: Between two looks at a process's time on the processors.
_SAMPLE_S: Final = 0.5
#: Processes of a member that are told, the busiest first, and whose Python stacks are read.
_MOST: Final = 32
_STACKS: Final = 16
_MOST_PLACES: Final = 512
#: Of a process's environment these alone are read: they hold no secret, and say which device a framework takes.
_DEVICES: Final = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "UCX_NET_DEVICES")
_RANK: Final = "RANK"
#: Bytes of a member's log in which NCCL's first words are looked for.
_BEGINNING: Final = 8 * 1024 * 1024

#: The members that run here, with their allocations.
Running = Callable[[], Mapping[str, AllocationSpec]]


class Pids(NamedTuple):
    """The processes of a member: the user's own, and Quorate's beside them."""

    own: tuple[int, ...]
    beside: tuple[int, ...] = ()


class Inspecting:
    """Answers questions about members that run."""

    def __init__(
        self, running: Running, folder: Callable[[str], Path], answers: Answers, platform: Platform = Platform.NFTABLES
    ) -> None:
        """`folder`: the member's own folder. `platform`: whose firewall stands before this machine."""
        self._platform = platform
        self._running = running
        self._folder = folder
        self._in_thread = answers.in_thread
        answers.register(asks.INSPECT, self._inspect)
        answers.register(asks.REACH, self._reach)

    async def _inspect(self, body: Any) -> asks.Seen:
        allocation = asked(asks.OfAllocation, body).allocation
        here = {member: spec for member, spec in self._running().items() if allocation_of(member) == allocation}
        seen = [await self._in_thread(self._member, member, spec) for member, spec in here.items()]
        return asks.Seen(tuple(seen), self._platform.value)

    async def _reach(self, body: Any) -> asks.Probed:
        wanted: asks.Reach = asked(asks.Reach, body)
        if wanted.member not in self._running():
            raise CannotAnswer(f"member {wanted.member} does not run here")
        if len(wanted.places) > _MOST_PLACES:
            raise CannotAnswer(f"{len(wanted.places)} places are more than {_MOST_PLACES}")
        for address, _ in wanted.places:
            try:
                ip_address(address)
            except ValueError:
                raise CannotAnswer(f"{address!r} is no IP address") from None
        return await self._in_thread(_connect, self._pids(wanted.member), wanted.places)

    def _pids(self, member: str) -> Pids:
        shim = pid_in(self._folder(member) / "shim.json")
        return pids_of(member, shim)

    def _member(self, member: str, spec: AllocationSpec) -> asks.MemberSeen:
        rank = split_member(MemberId(member))[1]
        pids = self._pids(member)
        notes: list[str] = []
        device, mtu = _way(pids, [m.address for m in spec.members if m.rank != rank] or [spec.members[rank].address])
        work = self._folder(member) / "work"
        flightrecorder.ask_for_dumps(work)
        # The dumps first: a stack is looked at in a moment, and py-spy holds the process meanwhile.
        collectives = flightrecorder.read(work)
        return asks.MemberSeen(
            member=member,
            rank=rank,
            device=device,
            mtu=mtu,
            devices_set=_environment(pids.own, _DEVICES),
            quiet_s=_quiet(self._folder(member) / "log"),
            processes=tuple(_processes(pids.own, notes)),
            sockets=tuple(_sockets(pids, spec, rank)),
            collectives=collectives,
            fabric=spec.fabric,
            nccl=_nccl(self._folder(member) / "log"),
            notes=tuple(notes),
        )


def pids_of(member: str, shim: int) -> Pids:
    """Every process of the member, and beside them the companion and the SSH server."""
    marked = set(processes.marked(member))
    below = set(processes.descendants(shim)) if shim else set()
    grouped = {pid for group in processes.Cgroup.find(member) for pid in group.pids()}
    beside = {pid for pid in processes.children(shim) if pid not in marked} if shim else set()
    beside |= {pid for pid in marked | below if processes.serves(pid)}
    own = (marked | below | grouped) - beside - {shim}
    return Pids(tuple(sorted(own)), tuple(sorted(beside)))


# --- processes ---------------------------------------------------------------------------------------------------


def _processes(pids: Sequence[int], notes: list[str]) -> Iterator[asks.ProcessSeen]:
    before = {pid: _time_used(pid) for pid in pids}
    began = time.monotonic()
    time.sleep(_SAMPLE_S)
    took = time.monotonic() - began
    used = {pid: max(0.0, _time_used(pid) - before[pid]) / took for pid in pids}
    # Ranks first, whatever they do; then whoever is busy.
    ranks = {pid: _rank(pid) for pid in pids}
    order = sorted(pids, key=lambda pid: (ranks[pid] is None, -used[pid], pid))[:_MOST]
    if len(pids) > _MOST:
        notes.append(f"{len(pids) - _MOST} more processes are not shown")
    python = [pid for pid in order if stacks.is_python(pid)][:_STACKS]
    py_spy = stacks.find() if python else None
    if python and py_spy is None:
        notes.append(stacks.MISSING)
    for pid in order:
        stack = stacks.Stack()
        if py_spy is not None and pid in python:
            stack = stacks.of_process(py_spy, pid)
            notes += [stack.why] if stack.why else []
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            yield asks.ProcessSeen(
                pid=pid,
                # psutil would look into its command line for more of it, which may be as long as its memory.
                name=Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n"),
                state=_STATES.get(process.status(), "?"),
                cpu=round(used[pid], 3),
                waits_in=_waits_in(pid),
                rank=ranks[pid],
                stack=stack.frames,
                at=stack.at,
            )


_STATES: Final = {
    psutil.STATUS_RUNNING: "R",
    psutil.STATUS_SLEEPING: "S",
    psutil.STATUS_IDLE: "S",
    psutil.STATUS_DISK_SLEEP: "D",
    psutil.STATUS_STOPPED: "T",
    psutil.STATUS_TRACING_STOP: "T",
    psutil.STATUS_ZOMBIE: "Z",
}


def _time_used(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _waits_in(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return ""
    return "" if text == "0" else text[:64]


def _rank(pid: int) -> int | None:
    text = _environment((pid,), (_RANK,)).get(_RANK, "")
    return int(text) if text.isdigit() and len(text) < 7 else None


def _environment(pids: Iterable[int], names: Collection[str]) -> dict[str, str]:
    """These variables of the processes, and no others."""
    found: dict[str, str] = {}
    for pid in pids:
        with suppress(OSError):
            for pair in processes.environment(pid).split(b"\0"):
                name, _, value = pair.partition(b"=")
                if (known := name.decode(errors="replace")) in names:
                    found.setdefault(known, value.decode(errors="replace")[:64])
    return found


def pid_in(path: Path) -> int:
    """The process that a member's shim.json names; 0 for none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(path.read_text())["pid"])
    return 0


def _quiet(log: Path) -> float | None:
    try:
        status = log.stat()
    except OSError:
        return None
    return max(0.0, time.time() - status.st_mtime) if status.st_size else None


def _nccl(log: Path) -> tuple[str, ...]:
    """What NCCL said about its network when it began, which is near the beginning of the log."""
    output: dict[Stream, list[bytes]] = defaultdict(list)
    with suppress(OSError, FrameError), log.open("rb") as file:
        for frame in decode_frames(file.read(_BEGINNING)):
            output[frame.stream].append(frame.data)
    lines = (line for stream in (Stream.STDOUT, Stream.STDERR) for line in b"".join(output[stream]).splitlines())
    return telling(line.decode(errors="replace") for line in lines if b"NCCL" in line)


# --- the network -------------------------------------------------------------------------------------------------


def _sockets(pids: Pids, spec: AllocationSpec, rank: int) -> Iterator[asks.SocketSeen]:
    names = {member.address: member.name for member in spec.members}
    own = spec.members[rank].address
    try:
        plan: Plan | None = planning.plan_of(spec)
    except ValueError:
        plan = None
    found = sockets.of_processes((*pids.own, *pids.beside))
    listening = {entry.local_port for entry in found if entry.state == "LISTEN"}
    for entry in found:
        # Of a connection that came in, what was planned is the port here.
        here = entry.state == "LISTEN" or entry.local_port in listening
        place = (own, entry.local_port) if here else (entry.remote, entry.remote_port)
        yield asks.SocketSeen(
            entry.transport, entry.state, entry.local, entry.local_port, entry.remote, entry.remote_port, entry.unsent,
            entry.unread, entry.retransmits, entry.pid, _flow(plan, entry.transport, *place) if plan else "",
            names.get(entry.remote, ""),
        )  # fmt: skip


def _flow(plan: Plan, transport: str, address: str, port: int) -> str:
    """The planned flow to that place; of several the narrowest, and a member's own rather than everybody's."""
    there = ip_address(address) if address else None
    found = [
        (len(ports), len(flow.destination.addresses), flow.flow)
        for flow in plan.flows
        if flow.transport.value == transport and flow.destination.role is Role.MEMBER
        for ports in flow.ports
        if port in ports
        and there is not None
        and any(there in network for network in flow.destination.addresses if network.version == there.version)
    ]
    return min(found)[2] if found else ""


def _network_of(pids: Pids) -> AbstractContextManager[object]:
    """The network namespace of the member, for this thread; raises OSError where this agent may not enter it."""
    for pid in (*pids.own, *pids.beside):
        path = Path(f"/proc/{pid}/ns/net")
        with suppress(FileNotFoundError):
            if path.stat().st_ino == Path("/proc/self/ns/net").stat().st_ino:
                return nullcontext()
            return namespaces.entered(path)
    return nullcontext()


def _way(pids: Pids, peers: Sequence[str]) -> tuple[str, int]:
    """The device that routes to the first of the peers, and its MTU; empty and 0 where that cannot be seen."""
    with suppress(OSError), _network_of(pids):
        family = socket.AF_INET6 if ":" in peers[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            # Sends nothing: it only asks the kernel for the route.
            asking.connect((peers[0], 9))
            own = str(asking.getsockname()[0])
        for device, entries in psutil.net_if_addrs().items():
            if any(entry.address.partition("%")[0] == own for entry in entries):
                return device, psutil.net_if_stats()[device].mtu
    return "", 0


def _connect(pids: Pids, places: Sequence[tuple[str, int]]) -> asks.Probed:
    targets = [probe.Target(probe.Place(address, port), "", quiet=True) for address, port in places]
    try:
        with _network_of(pids):
            found = probe.probe(targets, os.urandom(16))
    except OSError as error:
        raise CannotAnswer(
            f"the member's network cannot be entered: {(error.strerror or str(error)).lower()}"
        ) from None
    return asks.Probed(tuple(asks.Result(one.outcome.value, one.evidence, one.round_trip_s) for one in found))
