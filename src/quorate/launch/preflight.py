"""The preflight of an allocation: before any command starts, its members try the planned flows among themselves.

It runs over the connections of the rendezvous (rendezvous.py), which every member keeps to the first one:

    member → first   {"ready": {"ports": [port of each of its doors, 0 where it has none], "findings": […]}}
    first → members  {"probe": {"ports": [those of every member],      once all are ready, so all listen
                                "within_s": seconds}}
    member → first   {"clock": seconds since 1970}, then {"report": …}
    first → members  {"go": true} or {"failed": {"code", "sentence"}}

What is in the way of the rendezvous itself is found there. A member's doors are those of preflightplan.py.
"""

from __future__ import annotations

import errno
import resource
import socket
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Set

from quorate.launch import devices, fabric, preflightjudge
from quorate.launch.config import Configuration, Network, Preflight
from quorate.launch.lines import Object
from quorate.launch.names import Finding
from quorate.launch.preflightjudge import Failed, Report
from quorate.launch.preflightplan import Attempt, Door, Pattern
from quorate.launch.probe import Outcome, Place, Probe, Probing, Target
from quorate.launch.probelisten import Answering
from quorate.launch.probesockets import endpoint, family
from quorate.launch.probevalues import Span
from quorate.launch.reactor import Reactor

#: From the moment at which all have come until there is a verdict, whatever happens.
LIMIT_S = 5.0
#: Of that, what is left for reports to travel. What was not tried by then is told, and stops nobody.
_REPORTS_S = 0.5
#: Of one attempt: the kernel sends again after 1 s and after 3 s, and on a lossy network the third may be the one.
_ATTEMPT_S = 3.2
#: Failures that a member reports; more would only say the same.
_MOST = 64
#: Peers of whom the kernel is asked by which device it reaches them.
_ROUTES = 64
#: Files and connections beside those to other ranks.
_FILES = 256
#: Connections that each rank keeps with each other one: its default group's, and a few of its own.
_PER_RANK = 4


def wanted(configuration: Configuration) -> bool:
    """Whether this allocation has anything to try."""
    return configuration.preflight is not Preflight.OFF and configuration.size > 1 and bool(configuration.flows)


class Part:
    """One member's part: it listens from the start, and tries the others when it is told to."""

    def __init__(self, reactor: Reactor, configuration: Configuration) -> None:
        self._reactor = reactor
        self._configuration = configuration
        self._pattern = Pattern(configuration)
        self._doors = self._pattern.doors(configuration.rank)
        self._own_address = configuration.own.address
        self._listens_at = _local(self._own_address)
        spans = {place: self._span(door) for place, door in enumerate(self._doors) if not door.own}
        # Single ports first, so that no range takes one of them.
        narrow = sorted(spans.values(), key=lambda span: span.last - span.first)
        self._answering = Answering(reactor, configuration.secret, configuration.own.name, narrow)
        at = {span: place.port for span, place in self._answering.at.items()}
        self.ports = [door.first if door.own else at.get(spans[place], 0) for place, door in enumerate(self._doors)]
        self._probing: Probing | None = None
        self.report: Report | None = None

    def ready(self) -> Object:
        """What it says to the first member."""
        return {"ready": {"ports": self.ports}}

    def findings(self) -> List[Finding]:
        """What is wrong here, whatever the others say."""
        own = self._configuration
        return [*self._taken(), *limits(own), *routes(own), *fabric.absent(own)]

    def try_all(self, ports: Sequence[Sequence[int]], within_s: float, done: Callable[[], None]) -> None:
        """Tries what is this member's to try; `done` comes once, when `report` is there: within so many seconds."""
        if self._probing is not None:
            return
        members = self._configuration.members
        attempts = []
        for attempt in self._pattern.attempts(self._configuration.rank):
            port, transport = _at(ports, attempt), self._pattern.doors(attempt.rank)[attempt.door].transport
            if port:
                attempts.append((attempt, Place(members[attempt.rank].address, port, transport)))
        source = own_source(self._own_address)
        targets = [Target(place, members[attempt.rank].name, source, full=attempt.full) for attempt, place in attempts]

        def finished(probes: List[Probe]) -> None:
            self.report = self._reported([attempt for attempt, _ in attempts], probes)
            done()

        self._probing = Probing(
            self._reactor, targets, self._configuration.secret, finished, timeout_s=_ATTEMPT_S, deadline_s=within_s
        )

    def close(self) -> None:
        """Frees the ports, for the member's command is next, and leaves off what is under way."""
        self._answering.close()
        if self._probing is not None:
            self._probing.stop()

    def _span(self, door: Door) -> Span:
        return Span(self._listens_at, door.first, door.last, door.transport)

    def _reported(self, attempts: Sequence[Attempt], probes: Sequence[Probe]) -> Report:
        own = self._configuration.rank
        failed = [
            Failed(own, attempt.rank, attempt.door, each.target.place.port, each.outcome.value, each.evidence)
            for attempt, each in zip(attempts, probes)  # noqa: B905 (Python 3.8)
            if each.tried and each.outcome is not Outcome.OPEN
        ][:_MOST]
        counted: Dict[int, int] = {each.destination: 0 for each in failed}
        for attempt in attempts:
            if attempt.rank in counted:
                counted[attempt.rank] += 1
        untried = sum(not each.tried for each in probes)
        return Report(tuple(failed), tuple(sorted(counted.items())), tuple(self.findings()), untried)

    def _taken(self) -> List[Finding]:
        """Ports that somebody else holds. In a network of their own, members have only what Quorate started there."""
        if self._configuration.network is not Network.HOST:
            return []
        own = self._configuration.own
        return [
            Finding(
                "PORT-TAKEN",
                f"port {span.first} of {own.described()}, for {self._names(span)}, is {why}; "
                f"who: ss -lpn 'sport = :{span.first}'",
                fatal=True,
            )
            for span, why in self._answering.failed.items()
            if isinstance(span, Span)
        ]

    def _names(self, span: Span) -> str:
        door = next(door for door in self._doors if self._span(door) == span)
        return " and ".join(self._configuration.flows[position].flow for position in door.flows)


class Trial:
    """The first member's side: waits until all are ready, has them try, and judges.

    `tell(rank, message)` sends to a member, to all others where the rank is none. `decide(findings)` comes once.
    """

    def __init__(
        self,
        reactor: Reactor,
        configuration: Configuration,
        part: Part,
        tell: Callable[[int | None, Object], None],
        decide: Callable[[List[Finding]], None],
    ) -> None:
        self._reactor = reactor
        self._configuration = configuration
        self._part = part
        self._tell = tell
        self._decide: Callable[[List[Finding]], None] | None = decide
        self._pattern = Pattern(configuration)
        self._ports: Dict[int, Sequence[int]] = {configuration.rank: part.ports}
        self._reports: Dict[int, Report] = {}
        self._clocks: List[Finding] = []
        self._timed: Set[int] = set()
        self._ends_at: float | None = None
        self._sent_at: float | None = None

    @property
    def began(self) -> bool:
        return self._sent_at is not None

    def hear(self, rank: int, message: Object) -> None:
        """A member has said something; what no member says is passed over."""
        ready, clock = message.get("ready"), message.get("clock")
        if isinstance(ready, dict) and _are_ports(ready.get("ports")):
            self._ports[rank] = ready["ports"]
            if self.began:
                # Its connection broke in between: it may not know yet.
                self._tell(rank, self._order())
        elif isinstance(clock, float) and rank not in self._timed:
            self._compare(rank, clock)
        elif "report" in message and self.began:
            try:
                self._reports[rank] = Report.of(self._pattern, rank, message["report"])
            except ValueError:
                return
            self._end_if_complete()

    def begin_if_ready(self) -> None:
        """To be called when all are there: from the first call on the limit runs, whoever is not ready yet."""
        if self._ends_at is None:
            self._ends_at = self._reactor.now() + LIMIT_S
            self._reactor.at_latest(LIMIT_S, self._end)
        if self.began or self._decide is None or len(self._ports) < self._configuration.size:
            return
        self._sent_at = self._reactor.now()
        self._sent_wall = time.time()
        self._tell(None, self._order())
        self._part.try_all(self._all_ports(), self._left_s(), self._tried)

    def _order(self) -> Object:
        return {"probe": {"ports": self._all_ports(), "within_s": self._left_s()}}

    def _left_s(self) -> float:
        """What is left for attempts."""
        assert self._ends_at is not None
        return max(0.0, self._ends_at - _REPORTS_S - self._reactor.now())

    def _all_ports(self) -> List[Sequence[int]]:
        return [self._ports[rank] for rank in range(self._configuration.size)]

    def _tried(self) -> None:
        assert self._part.report is not None
        self._reports[self._configuration.rank] = self._part.report
        self._end_if_complete()

    def _compare(self, rank: int, theirs: float) -> None:
        assert self._sent_at is not None
        self._timed.add(rank)
        half = (self._reactor.now() - self._sent_at) / 2
        member, first = self._configuration.members[rank], self._configuration.first
        self._clocks += preflightjudge.clock(member, first, theirs - (self._sent_wall + half), half)

    def _end_if_complete(self) -> None:
        if len(self._reports) == self._configuration.size:
            self._end()

    def _end(self) -> None:
        decide, self._decide = self._decide, None
        if decide is None:
            return
        reports = [self._reports.get(rank, Report()) for rank in range(self._configuration.size)]
        found = preflightjudge.judge(self._configuration, self._pattern, reports)
        decide([*found, *preflightjudge.left_open(self._configuration, self._reports, LIMIT_S), *self._clocks])


def limits(configuration: Configuration) -> List[Finding]:
    """What the kernel allows this member and the size of the job asks for."""
    own = configuration.own
    ranks = sum(max(1, len(member.slots)) for member in configuration.members)
    found = []
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES + _PER_RANK * ranks
    if hard != resource.RLIM_INFINITY and hard < needed:
        found.append(
            Finding(
                "LIMIT-FILES",
                f"{own.described()} may open {hard} files, and {ranks} ranks may need {needed}; raise its `ulimit -Hn`",
                fatal=False,
            )
        )
    waiting = _number("/proc/sys/net/core/somaxconn")
    if own.rank == configuration.first.rank and waiting is not None and waiting < ranks:
        found.append(
            Finding(
                "LIMIT-CONNECTIONS",
                f"{waiting} connections can wait at {own.described()}, and {ranks} ranks connect there at once; "
                f"sysctl -w net.core.somaxconn={2 * ranks}",
                fatal=False,
            )
        )
    return found


def routes(configuration: Configuration) -> List[Finding]:
    """A warning where the kernel reaches the others by another device than the one with the member's address."""
    own = configuration.own
    mine = devices.device_of(own.address)
    used = devices.devices_to([m.address for m in configuration.members if m.rank != own.rank][:_ROUTES])
    if mine is None or not used or set(used) == {mine}:
        return []
    other = next(m.address for m in configuration.members if m.rank != own.rank)
    sentence = (
        f"{own.described()} has its address on {mine}, but reaches other members by {', '.join(sorted(used))}; "
        f"ip route get {other} shows the way, --advertise-address of its agent chooses another address"
    )
    return [Finding("NET-DEVICE", sentence, fatal=False)]


def own_source(address: str) -> str:
    """From where to try others: that address, or the kernel's choice where only a NAT has it."""
    return address if _local(address) == address else ""


def _local(address: str) -> str:
    """Where to listen: the address by which others know this member may be one that only a NAT has."""
    with socket.socket(family(address), socket.SOCK_STREAM) as sock:
        try:
            sock.bind(endpoint(address, 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return "::" if ":" in address else "0.0.0.0"
    return address


def _at(ports: Sequence[Sequence[int]], attempt: Attempt) -> int:
    mine = ports[attempt.rank]
    return mine[attempt.door] if attempt.door < len(mine) else 0


def _are_ports(value: Any) -> bool:
    return isinstance(value, list) and all(type(port) is int and 0 <= port < 65536 for port in value)


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_bytes())
    except (OSError, ValueError):
        return None
