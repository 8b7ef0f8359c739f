"""What passed between the members of a job and what was refused: asked of its agents, and put together."""

import asyncio
from collections.abc import Mapping

import msgspec

from quorate.master.asks import AskError, Asks
from quorate.master.records import AllocationRecord, JobRecord
from quorate.master.state import State
from quorate.model.asks import NETWORK, Counters, OfAllocation
from quorate.model.ids import MemberId, allocation_id, split_member
from quorate.model.views import FlowCountView, JobNetworkView, RefusalView
from quorate.network.flows import NetworkMode

_TIMEOUT_S = 15.0
_UNCOUNTED = (
    "its members share their hosts' network: what passes there is not told apart by job, what is refused is; "
    "network.mode bridge or overlay gives them one of their own"
)


async def job_network(asks: Asks, state: State, job: JobRecord) -> JobNetworkView:
    """Of the newest allocation; says in a sentence why there is nothing, where there is nothing."""
    allocation = state.allocations.get(allocation_id(job.id, job.attempt)) if job.attempt else None
    if allocation is None:
        nothing = f"job {job.id} has no members yet: nothing has passed"
        return JobNetworkView(job=job.id, attempt=job.attempt, mode="", nothing=nothing)
    answers, missing = await _ask_all(asks, allocation)
    counted = answers.values()
    nothing = "" if counted else f"no agent could say what passed or was refused: {missing[0]}"
    if job.state.final and not any(counters.flows or counters.refused for counters in counted):
        nothing = f"job {job.id} has ended, and its counters with the network that it had"
    network = allocation.network
    return JobNetworkView(
        job=job.id,
        attempt=job.attempt,
        mode=network.mode if network else NetworkMode.HOST.value,
        subnet=network.subnet if network else "",
        enforcement=network.enforcement if network else "",
        nothing=nothing,
        uncounted="" if network else _UNCOUNTED,
        flows=tuple(view for counters in counted for view in _flows(allocation, counters)),
        refused=_all_refused(allocation, answers),
        unlisted=tuple(_name(allocation, agent, one) for agent, found in answers.items() for one in found.unlisted),
        spoofed=sum(counters.spoofed for counters in counted),
        crowded=sum(counters.crowded for counters in counted),
        hasty=sum(counters.hasty for counters in counted),
        missing=missing,
    )


async def refusals(asks: Asks, allocation: AllocationRecord) -> list[RefusalView]:
    """What its rules refused so far, as far as its agents could say; nothing where it has no network of its own."""
    answers, _ = await _ask_all(asks, allocation) if allocation.network is not None else ({}, ())
    return list(_all_refused(allocation, answers))


async def _ask_all(asks: Asks, allocation: AllocationRecord) -> tuple[dict[str, Counters], tuple[str, ...]]:
    """What its agents counted, each, and why others of them said nothing."""
    agents = sorted({member.agent for member in allocation.members})
    body = msgspec.json.encode(OfAllocation(allocation.id))
    answers = await asyncio.gather(*(_counters(asks, agent, body) for agent in agents))
    counted = {agent: one for agent, one in zip(agents, answers, strict=True) if isinstance(one, Counters)}
    return counted, tuple(answer for answer in answers if isinstance(answer, str))


async def _counters(asks: Asks, agent: str, body: bytes) -> Counters | str:
    try:
        return msgspec.json.decode(await asks.ask(agent, NETWORK, body, _TIMEOUT_S), type=Counters)
    except AskError as error:
        return str(error)
    except msgspec.MsgspecError as error:
        return f"agent {agent} answered what is not understood: {error}"


def _flows(allocation: AllocationRecord, counters: Counters) -> list[FlowCountView]:
    return [
        FlowCountView(
            member=_member_name(allocation, each.member),
            flow=each.flow,
            direction=each.direction,
            packets=each.packets,
            bytes=each.bytes,
        )
        for each in counters.flows
    ]


def _all_refused(allocation: AllocationRecord, answers: Mapping[str, Counters]) -> tuple[RefusalView, ...]:
    names = {member.address: member.name for member in allocation.members}
    return tuple(
        RefusalView(
            member=_name(allocation, agent, each.member),
            direction=each.direction,
            peer=each.peer,
            peer_name=names.get(each.peer, ""),
            transport=each.transport,
            port=each.port,
            packets=each.packets,
            by=each.by,
        )
        for agent, counters in answers.items()
        for each in counters.refused
    )


def _name(allocation: AllocationRecord, agent: str, member: str) -> str:
    """All on that agent where it could not tell which of them it was."""
    if member:
        return _member_name(allocation, member)
    return " or ".join(one.name for one in allocation.members if one.agent == agent)


def _member_name(allocation: AllocationRecord, member: str) -> str:
    rank = split_member(MemberId(member))[1]
    return allocation.members[rank].name if rank < len(allocation.members) else member
