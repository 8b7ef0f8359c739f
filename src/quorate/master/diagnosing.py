"""Diagnoses of jobs: what the agents see of every member, connections tried again, and the cause that explains most."""

import asyncio
import dataclasses
import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from quorate.master.asks import AskError, Asks
from quorate.master.jobcounters import refusals
from quorate.master.records import AllocationRecord, JobRecord
from quorate.model.asks import INSPECT, REACH, MemberSeen, OfAllocation, Probed, Reach, Seen
from quorate.model.jobnetwork import Enforcement
from quorate.model.messages import PlannedMember
from quorate.model.views import (
    CollectiveView,
    DiagnosisView,
    FindingView,
    MemberDiagnosisView,
    ProcessView,
    RefusalView,
    SocketView,
    TriedView,
)
from quorate.network.diagnosis import Confines, Subject, Tried, conclude
from quorate.network.flows import Direction, NetworkMode
from quorate.network.jobplan import Openness
from quorate.network.remedies import Platform

#: Stacks of sixteen processes and dumps take seconds.
_INSPECT_S: Final = 60.0
_REACH_S: Final = 20.0
#: Of a large job's members so many are compared with each other: what hangs one shows in its neighbours.
_MOST_MEMBERS: Final = 64
#: Connections tried from one member.
_MOST_PLACES: Final = 256
_PLATFORMS: Final = frozenset(Platform)
_ANYWHERE: Final = frozenset({"0.0.0.0", "::"})

Answer = TypeVar("Answer")


async def diagnose(
    asks: Asks,
    job: JobRecord,
    allocation: AllocationRecord,
    *,
    automatic: bool = False,
    platform: Platform | None = None,
) -> DiagnosisView:
    """Looks at every member and tries its connections; takes some seconds.

    Remedies are commands for the platform; where none is given, for that of each agent.
    """
    subjects = await _inspect(asks, allocation)
    confines = _confines(job, allocation)
    # Before anything is tried, which the rules would count as well.
    refused = await refusals(asks, allocation) if confines.planned else []
    wanted = _places(subjects, confines, refused)
    tried = [one for some in await asyncio.gather(*(_reach(asks, *each) for each in wanted)) for one in some]
    diagnosis = conclude(subjects, [one for one, _ in tried], confines, platform)
    return DiagnosisView(
        job=job.id,
        attempt=allocation.attempt,
        at=datetime.datetime.now(datetime.UTC),
        automatic=automatic,
        cause=diagnosis.cause,
        findings=tuple(
            FindingView(
                code=each.code, severity=each.severity, title=each.title, evidence=each.evidence, remedy=each.remedy
            )
            for each in diagnosis.findings
        ),
        members=tuple(map(_member_view, subjects)),
        tried=tuple(
            TriedView(
                source=one.source,
                destination=one.destination,
                port=one.port,
                flow=one.flow,
                outcome=one.outcome,
                evidence=one.evidence,
                rtt=rtt,
            )
            for one, rtt in tried
        ),
    )


def _confines(job: JobRecord, allocation: AllocationRecord) -> Confines:
    network = allocation.network
    if network is None:
        return Confines(job.id)
    planned = network.members == Openness.PLANNED and network.enforcement == Enforcement.ENFORCE
    return Confines(job.id, private=True, planned=planned, egress=network.egress)


async def _inspect(asks: Asks, allocation: AllocationRecord) -> list[Subject]:
    by_agent: dict[str, list[PlannedMember]] = defaultdict(list)
    for member in allocation.members[:_MOST_MEMBERS]:
        by_agent[member.agent].append(member)
    body = msgspec.json.encode(OfAllocation(allocation.id))
    found = await asyncio.gather(*(_asked(asks, agent, INSPECT, body, _INSPECT_S, Seen) for agent in by_agent))
    subjects = []
    network = allocation.network
    overlay = network if network is not None and network.mode == NetworkMode.OVERLAY else None
    for members, answer in zip(by_agent.values(), found, strict=True):
        seen = {one.rank: one for one in answer.members} if isinstance(answer, Seen) else {}
        for member in members:
            one = seen.get(member.rank)
            ended = one is None and not isinstance(answer, str)
            missing = answer if isinstance(answer, str) else "it does not run any more" if ended else ""
            subject = Subject(member.name, member.rank, member.agent, member.address, one, missing, ended)
            if isinstance(answer, Seen) and answer.platform in _PLATFORMS:
                subject = dataclasses.replace(subject, platform=Platform(answer.platform))
            if overlay is not None:
                port = overlay.vxlan_port or subject.vxlan_port
                subject = dataclasses.replace(subject, underlay=member.underlay, vxlan_port=port)
            subjects.append(subject)
    return sorted(subjects, key=lambda subject: subject.rank)


async def _asked(asks: Asks, agent: str, what: str, body: bytes, timeout_s: float, kind: type[Answer]) -> Answer | str:
    try:
        return msgspec.json.decode(await asks.ask(agent, what, body, timeout_s), type=kind)
    except AskError as error:
        return str(error)
    except msgspec.MsgspecError as error:
        return f"agent {agent} answered what is not understood: {error}"


def _places(
    subjects: Sequence[Subject], confines: Confines, refused: Iterable[RefusalView]
) -> list[tuple[Subject, dict[tuple[str, int], Tried]]]:
    """For each member what is to be tried from there: the others' listeners, and where it is trying to get itself.

    What our own rules reject is known without trying, and would be counted as refused: it is tried only where the
    member was refused there itself.
    """
    has_tried = {(one.member, one.peer, one.port) for one in refused if one.direction == Direction.EGRESS}
    seen = [(subject, subject.seen) for subject in subjects if subject.seen is not None]
    listeners = {subject.name: list(_listeners(subject, of)) for subject, of in seen}
    found = []
    for subject, of in seen:
        places: dict[tuple[str, int], Tried] = {}
        for socket in of.sockets:
            if socket.state == "SYN-SENT" and socket.peer:
                one = Tried(subject.name, socket.peer, socket.remote_port, socket.flow, "", "", wanted=True)
                places[socket.remote, socket.remote_port] = one
        for other, _ in seen:
            for port, flow in listeners[other.name] if other is not subject else ():
                place = (other.address, port)
                itself = not flow and (subject.name, *place) in has_tried
                if len(places) < _MOST_PLACES and (flow or itself or not confines.planned):
                    places.setdefault(place, Tried(subject.name, other.name, port, flow, "", "", wanted=itself))
        found.append((subject, places))
    return found


def _listeners(subject: Subject, seen: MemberSeen) -> Iterable[tuple[int, str]]:
    """Ports that the others can reach, each with its flow."""
    found = {
        socket.local_port: socket.flow
        for socket in seen.sockets
        if socket.transport == "tcp" and socket.state == "LISTEN" and socket.local in _ANYWHERE | {subject.address}
    }
    return sorted(found.items())


async def _reach(
    asks: Asks, subject: Subject, places: Mapping[tuple[str, int], Tried]
) -> list[tuple[Tried, float | None]]:
    if not places or subject.seen is None:
        return []
    body = msgspec.json.encode(Reach(subject.seen.member, tuple(places)))
    answer = await _asked(asks, subject.agent, REACH, body, _REACH_S, Probed)
    if isinstance(answer, str):
        return [(_came_out(one, "undetermined", answer), None) for one in places.values()]
    return [
        (_came_out(one, result.outcome, result.evidence), result.rtt_s)
        for one, result in zip(places.values(), answer.results, strict=False)
    ]


def _came_out(one: Tried, outcome: str, evidence: str) -> Tried:
    return dataclasses.replace(one, outcome=outcome, evidence=evidence)


def _member_view(subject: Subject) -> MemberDiagnosisView:
    seen = subject.seen
    if seen is None:
        return MemberDiagnosisView(
            name=subject.name, rank=subject.rank, agent=subject.agent, address=subject.address, missing=subject.missing
        )
    return MemberDiagnosisView(
        name=subject.name,
        rank=subject.rank,
        agent=subject.agent,
        address=subject.address,
        device=seen.device,
        mtu=seen.mtu,
        devices_set=seen.devices_set,
        quiet=seen.quiet_s,
        processes=tuple(ProcessView(**msgspec.structs.asdict(one)) for one in seen.processes),
        sockets=tuple(SocketView(**msgspec.structs.asdict(one)) for one in seen.sockets),
        collectives=tuple(CollectiveView(**msgspec.structs.asdict(one)) for one in seen.collectives),
        notes=seen.notes,
    )
