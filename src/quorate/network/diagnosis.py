"""Why a job hangs: from what its agents saw of every member to the most likely cause, in a sentence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from quorate.model.asks import MemberSeen, ProcessSeen
from quorate.model.ports import PortRange
from quorate.network import catalogue
from quorate.network.fabric import fell_back, mend
from quorate.network.findings import Finding, settle
from quorate.network.reach import CODES, Outcome
from quorate.network.remedies import Platform, opening

#: Of one core: a process that uses more is at work.
BUSY: Final = 0.5
#: So often sent again, over some seconds, is no chance.
_RETRANSMITS: Final = 3
#: Where PyTorch's collectives are, and what of it is no operation in which ranks wait for each other.
_COLLECTIVES: Final = "torch/distributed/distributed_c10d.py"
_NO_COLLECTIVE: Final = frozenset({"wrapper", "_new_process_group_helper", "new_group"})
#: Others in which a rank waits for the rest, by the name of the function and the beginning of its file.
_ALSO_WAIT: Final = {
    ("backward", "torch/"): "backward",
    ("_engine_run_backward", "torch/"): "backward",
    ("_create_c10d_store", "torch/"): "the rendezvous",
    ("_sync_module_states", "torch/"): "the first broadcast of DistributedDataParallel",
    ("_verify_param_shape_across_processes", "torch/"): "DistributedDataParallel's check of all models",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A member of the job, and what was seen of it; None where its agent could not say, for the reason in `missing`."""

    name: str
    rank: int
    agent: str
    address: str
    seen: MemberSeen | None = None
    missing: str = ""
    #: Whether that is because it has ended.
    ended: bool = False
    #: The agent's own address, and the port to which VXLAN goes there, where members are joined by an overlay.
    underlay: str = ""
    vxlan_port: int = catalogue.port("vxlan")
    #: Whose firewall stands before that agent.
    platform: Platform = Platform.NFTABLES


@dataclass(frozen=True, slots=True)
class Confines:
    """What the job's network lets its members do, as far as Quorate decides it."""

    #: The job's id, for commands.
    job: str = "JOB"
    #: Whether its members have a network of their own: then no firewall of a machine stands between them.
    private: bool = False
    #: Whether Quorate's own rules reject between members what the plan does not hold.
    planned: bool = False
    #: `all`, `none` or `named`; empty where members go outside as their hosts do.
    egress: str = ""


@dataclass(frozen=True, slots=True)
class Tried:
    """A connection that was tried from one member to a listener of another."""

    source: str
    destination: str
    port: int
    flow: str
    outcome: str
    evidence: str
    #: Whether the source has a connection of its own under way there.
    wanted: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The most likely cause, as a sentence without a full stop, and what was found on the way."""

    cause: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class _Hang:
    """All that is known."""

    subjects: dict[str, Subject]
    tried: Sequence[Tried]
    confines: Confines
    #: The platform for which remedies are wanted; None: for each agent's own.
    wanted: Platform | None
    #: The attempts by source and destination.
    ways: dict[tuple[str, str], list[Tried]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for one in self.tried:
            self.ways[one.source, one.destination].append(one)

    def is_gone(self, member: str) -> bool:
        """Whether a member of that name has ended."""
        return member in self.subjects and self.subjects[member].ended

    def platform(self, of: Subject) -> Platform:
        """Whose command opens a port of that agent's."""
        return self.wanted or of.platform

    def logs(self, member: str) -> str:
        """The command that shows what a member said last."""
        return f"quorate job logs {self.confines.job} --member {member} --tail 50"


@dataclass(frozen=True, slots=True)
class _Rank:
    """One process of the job's group: where it is."""

    rank: int
    member: str
    process: ProcessSeen

    @property
    def waits_in(self) -> str:
        """The operation in which it waits for others; empty where it is in none."""
        return operation(self.process.stack)

    @property
    def who(self) -> str:
        return f"rank {self.rank} ({self.member})"

    @property
    def where(self) -> str:
        return f" at {self.process.at}" if self.process.at else ""


def conclude(
    subjects: Sequence[Subject],
    tried: Sequence[Tried],
    confines: Confines = Confines(),
    platform: Platform | None = None,
) -> Diagnosis:
    """Return the cause that explains most: what is surely broken first, what is only slow last.

    Remedies are commands for the platform; where none is given, for that of each agent.
    """
    hang = _Hang({subject.name: subject for subject in subjects}, tried, confines, platform)
    findings: list[Finding] = []
    causes: list[str] = []
    for step in (_gone, _cut, _blocked, _lost, _outside):
        for cause, finding in step(hang):
            causes.append(cause)
            findings.append(finding)
    ranks = [_Rank(p.rank, s.name, p) for s in subjects if s.seen for p in s.seen.processes if p.rank is not None]
    for cause, finding in _collectives(hang, sorted(ranks, key=lambda one: one.rank)):
        causes.append(cause)
        findings.append(finding)
    for cause, finding in _fallen_back(hang):
        causes.append(cause)
        findings.append(finding)
    causes += _others(ranks, subjects)
    away = [f"nothing is known of {subject.name}: {subject.missing}" for subject in subjects if subject.missing]
    cause = causes[0] if causes else away[0] if away else "no cause could be seen from outside; the facts are above"
    return Diagnosis(cause, settle(findings))


def operation(stack: Sequence[str]) -> str:
    """The collective that the user's code called, from the frames of a rank, the innermost first; empty for none."""
    called = ""
    for frame in stack:
        name, _, place = frame.partition(" (")
        if place.startswith(_COLLECTIVES) and name not in _NO_COLLECTIVE and not name.startswith("_"):
            # An outer one is what was called; inside, it is put together from simpler ones.
            called = name
        elif not called:
            called = next(
                (what for (func, file), what in _ALSO_WAIT.items() if name == func and place.startswith(file)), ""
            )
    return called


# --- the network -------------------------------------------------------------------------------------------------

_Found = Iterator[tuple[str, Finding]]


def _gone(hang: _Hang) -> _Found:
    """Connections to a member that has ended, which nobody answers any more."""
    for subject in hang.subjects.values():
        waits = [
            one
            for one in (subject.seen.sockets if subject.seen else ())
            if hang.is_gone(one.peer) and (one.state == "SYN-SENT" or one.retransmits >= _RETRANSMITS)
        ]
        for one in waits[:1]:
            doing = "to connect to" if one.state == "SYN-SENT" else "for an answer of"
            cause = f"{subject.name} waits {doing} {one.peer} (tcp {one.remote_port}), which has ended"
            about = f"{subject.name} -> {one.peer}"
            yield cause, Finding("MEMBER-ENDED", about, cause, subject.name, one.peer, hang.logs(one.peer))


def _cut(hang: _Hang) -> _Found:
    """Pairs of members in an overlay between which nothing passes at all: then it is their agents that are cut off."""
    named: set[frozenset[str]] = set()
    for (source, destination), ones in hang.ways.items():
        here, there = hang.subjects[source], hang.subjects[destination]
        agents = frozenset({here.agent, there.agent})
        if there.ended or not _is_cut(here, there, ones) or agents in named:
            continue
        named.add(agents)
        ports = PortRange.of(there.vxlan_port)
        cause = (
            f"nothing passes between {source} and {destination}: VXLAN (udp {ports}) between agents {here.agent} "
            f"({here.underlay}) and {there.agent} ({there.underlay}) is dropped, at least one way"
        )
        v6 = ":" in there.underlay
        remedy = opening(hang.platform(there), "vxlan", "udp", ports, here.underlay, there.underlay, v6=v6)
        yield cause, Finding("NET-FILTERED", f"{source} -> {destination}", cause, here.agent, there.agent, remedy)


def _is_cut(here: Subject, there: Subject, tried: Sequence[Tried]) -> bool:
    overlaid = bool(here.underlay and there.underlay) and here.agent != there.agent
    return overlaid and all(one.outcome == Outcome.FILTERED for one in tried)


def _blocked(hang: _Hang) -> _Found:
    """Connections that do not come about although somebody listens, those that are being waited for first."""
    fine = (Outcome.OPEN, Outcome.UNDETERMINED)
    bad = [one for one in hang.tried if one.outcome not in fine and not hang.is_gone(one.destination)]
    groups: dict[tuple[str, str, str, bool], list[Tried]] = defaultdict(list)
    for one in sorted(bad, key=lambda one: (one.source == one.destination, not one.wanted, not one.flow)):
        # What nobody wants and nobody planned may well be closed.
        if one.wanted or one.flow:
            groups[one.source, one.destination, one.outcome, bool(one.flow)].append(one)
    for (source, destination, outcome, in_plan), ones in groups.items():
        first = ones[0]
        here, there = hang.subjects[source], hang.subjects[destination]
        if _is_cut(here, there, hang.ways[source, destination]):
            continue
        purpose = catalogue.FLOWS[first.flow].purpose if first.flow in catalogue.FLOWS else ""
        named = f"{first.flow}, {purpose}" if purpose else first.flow or "a port that is not in the plan"
        ports = ", ".join(sorted({str(one.port) for one in ones}, key=int)[:4]) + (", …" if len(ones) > 4 else "")
        forbidden = hang.confines.planned and not in_plan and Outcome(outcome) in _STOPPED
        what = {
            Outcome.REFUSED: "is refused, although it listens there: a firewall rejects it",
            Outcome.FILTERED: "gets no answer: a firewall drops it",
            Outcome.UNROUTABLE: "finds no way there",
        }.get(Outcome(outcome), f"ends otherwise than it should ({first.evidence})")
        if forbidden:
            what = "is rejected by the job's own rules, which let planned flows alone pass (network.members: planned)"
        if first.wanted:
            cause = f"{source} cannot connect to {destination} ({there.address}) on tcp {ports} ({named}): it {what}"
        else:
            cause = f"a connection from {source} to {destination} ({there.address}) on tcp {ports} ({named}) {what}"
        remedy = _remedy(hang, first, here, there, forbidden=forbidden)
        code = CODES[Outcome(outcome)]
        subject = f"{source} -> {destination}: {first.flow or first.port}"
        yield cause, Finding(code, subject, f"{cause} (tried again: {outcome})", source, destination, remedy)


#: What a rule brings about, whoever wrote it.
_STOPPED: Final = frozenset({Outcome.REFUSED, Outcome.FILTERED})


def _remedy(hang: _Hang, tried: Tried, here: Subject, there: Subject, *, forbidden: bool) -> str:
    confines = hang.confines
    if forbidden:
        return (
            "network: {members: open} in the job's file; or listen on a port of the plan: "
            f"quorate job network {confines.job} shows it, and what was refused"
        )
    if confines.private:
        # Between members of an own network there are no rules but Quorate's.
        return f"quorate job network {confines.job}"
    if Outcome(tried.outcome) in _STOPPED:
        flow, port, v6 = tried.flow or "declared", PortRange.of(tried.port), ":" in there.address
        return opening(hang.platform(there), flow, "tcp", port, here.address, there.address, v6=v6)
    return f"ip route get {there.address}  # on agent {here.agent}"


def _lost(hang: _Hang) -> _Found:
    """Connections that were open once, on which nothing is acknowledged any more."""
    for subject in hang.subjects.values():
        for one in subject.seen.sockets if subject.seen else ():
            lost = one.state == "ESTABLISHED" and one.retransmits >= _RETRANSMITS and one.peer
            if lost and not hang.is_gone(one.peer):
                cause = (
                    f"what {subject.name} sends to {one.peer} on tcp {one.remote_port} is not acknowledged: "
                    f"{one.unsent} bytes wait, sent again {one.retransmits} times; packets are lost on the way"
                )
                about = f"{subject.name} -> {one.peer}"
                yield cause, Finding("NET-LOSS", about, cause, subject.name, one.peer, "quorate net check")
                break


def _outside(hang: _Hang) -> _Found:
    """Connections to what is no member, whose first packet nobody has answered."""
    for subject in hang.subjects.values():
        for one in subject.seen.sockets if subject.seen else ():
            # Sent again: a connection that is only just being opened looks the same otherwise.
            if one.state != "SYN-SENT" or one.peer or not one.retransmits:
                continue
            address = f"[{one.remote}]" if ":" in one.remote else one.remote
            place = f"{address}:{one.remote_port}"
            egress = f"egress is {hang.confines.egress}" if hang.confines.private else "egress is that of its host"
            cause = f"{subject.name} waits for {place} outside, which has not answered; {egress}"
            remedy = f"nc -vzw 3 {one.remote} {one.remote_port}  # on agent {subject.agent}: is it closed there, too?"
            if hang.confines.egress == "named":
                remedy += f"; network: {{egress: {{hosts: [{one.remote}]}}}} in the job's file names it"
            yield cause, Finding("NET-FILTERED", f"{subject.name} -> {place}", cause, subject.name, place, remedy)


def _fallen_back(hang: _Hang) -> _Found:
    """Members whose NCCL uses TCP although the pool has RDMA: nothing fails, and all of it is slow."""
    for subject in hang.subjects.values():
        fabric = subject.seen.fabric if subject.seen else ""
        wrong = fell_back(fabric, subject.seen.nccl) if subject.seen else ""
        if wrong:
            cause = f"{subject.name} on agent {subject.agent} {wrong}"
            yield cause, Finding("NET-FABRIC-FALLBACK", subject.name, cause, subject.name, remedy=mend(fabric))


# --- collectives -------------------------------------------------------------------------------------------------


def _collectives(hang: _Hang, ranks: Sequence[_Rank]) -> _Found:
    yield from _recorded(hang)
    waiting = [one for one in ranks if one.waits_in]
    elsewhere = [one for one in ranks if not one.waits_in and one.process.stack]
    if not waiting:
        return
    by_place: dict[tuple[str, str], list[_Rank]] = defaultdict(list)
    for one in waiting:
        by_place[one.waits_in, one.process.at].append(one)
    first = waiting[0]
    if elsewhere:
        other = elsewhere[0]
        doing = "computes" if other.process.cpu >= BUSY else "waits"
        inner = other.process.stack[0].partition(" (")[0]
        inside = "" if inner.startswith("<") else f", in {inner}"
        cause = (
            f"{first.who} waits in {first.waits_in}{first.where} for {other.who}, which has not joined it: "
            f"that one {doing} elsewhere{other.where and ','}{other.where}{inside}"
        )
        remedy = hang.logs(other.member)
        yield cause, Finding("COLLECTIVE-MISSED", "collective", cause, first.member, other.member, remedy)
    elif len(by_place) > 1:
        (what, _), (that, _) = list(by_place)[:2]
        other = by_place[list(by_place)[1]][0]
        if what != that or first.process.at != other.process.at:
            cause = (
                f"ranks wait in different places: {first.who} in {first.waits_in}{first.where}, "
                f"{other.who} in {other.waits_in}{other.where}"
            )
            remedy = hang.logs(other.member)
            yield cause, Finding("COLLECTIVE-MIXED", "collective", cause, first.member, other.member, remedy)
    else:
        seen = {one.rank for one in ranks}
        alive = [(subject.name, subject.seen) for subject in hang.subjects.values() if subject.seen is not None]
        gone = [name for name, of in alive if not any(process.rank is not None for process in of.processes)]
        if gone and seen:
            cause = f"{first.who} waits in {first.waits_in}{first.where}, and {gone[0]} has no rank that runs"
            remedy = hang.logs(gone[0])
            yield cause, Finding("COLLECTIVE-MISSED", "collective", cause, first.member, gone[0], remedy)


def _recorded(hang: _Hang) -> _Found:
    """By the flight recorder: who is behind, or in another operation, in one process group."""
    groups: dict[str, dict[int, tuple[str, int, str, str]]] = defaultdict(dict)
    for subject in hang.subjects.values():
        for one in subject.seen.collectives if subject.seen else ():
            groups[one.group][one.rank] = (one.operation, one.sequence, one.state, subject.name)
    for group, by_rank in groups.items():
        newest = max(sequence for _, sequence, _, _ in by_rank.values())
        ahead = {rank: one for rank, one in by_rank.items() if one[1] == newest}
        behind = {rank: one for rank, one in by_rank.items() if one[1] < newest}
        rank, (what, _, _, member) = min(ahead.items())
        if behind:
            late, (last, number, _, other) = min(behind.items())
            cause = (
                f"rank {late} ({other}) has not joined {what} number {newest} of group {group}, in which rank {rank} "
                f"({member}) waits: its last one is {last} number {number}"
            )
            yield cause, Finding("COLLECTIVE-MISSED", "collective", cause, member, other, hang.logs(other))
        elif len({one[0] for one in ahead.values()}) > 1:
            other_rank, (other_what, _, _, other) = next(each for each in sorted(ahead.items()) if each[1][0] != what)
            cause = (
                f"ranks are in different collectives as number {newest} of group {group}: rank {rank} ({member}) in "
                f"{what}, rank {other_rank} ({other}) in {other_what}"
            )
            yield cause, Finding("COLLECTIVE-MIXED", "collective", cause, member, other, hang.logs(other))


# --- the rest ----------------------------------------------------------------------------------------------------


def _others(ranks: Sequence[_Rank], subjects: Sequence[Subject]) -> Iterator[str]:
    for subject in subjects:
        for process in subject.seen.processes if subject.seen else ():
            if process.state == "D":
                where = f" in {process.waits_in}" if process.waits_in else ""
                yield f"{process.name} of {subject.name} hangs in the kernel{where}: a disk or driver does not answer"
            if process.state == "T":
                yield f"{process.name} of {subject.name} was stopped (SIGSTOP), or a debugger holds it"
    waiting = [one for one in ranks if one.waits_in]
    if waiting and len({(one.waits_in, one.process.at) for one in waiting}) == 1 and len(waiting) == len(ranks):
        one = waiting[0]
        yield (
            f"all {len(ranks)} ranks wait in {one.waits_in}{one.where}, every connection is open, and none of them "
            "computes: the operation itself does not end"
        )
    busy = [
        (subject.name, process)
        for subject in subjects
        for process in (subject.seen.processes if subject.seen else ())
        if process.cpu >= BUSY
    ]
    if busy:
        name, process = busy[0]
        at = f" at {process.at}" if process.at else ""
        yield f"{name} computes ({process.name}, {100 * process.cpu:.0f} % of a core{at}): it is slow rather than stuck"
    idle = [process for subject in subjects if subject.seen for process in subject.seen.processes]
    if idle and not busy:
        place = next((f", the first at {process.at}" for process in idle if process.at), "")
        yield f"every member waits, and none of them in a collective{place}"
