"""What passed between the members of a job and what was refused: asked of its agents, and put together."""

import asyncio

import msgspec

from quorate.master.asks import AskError, Asks
from quorate.master.records import AllocationRecord, JobRecord
from quorate.master.state import State
from quorate.model.asks import NETWORK, Counters, OfAllocation
from quorate.model.ids import MemberId, allocation_id, split_member
from quorate.model.views import FlowCountView, JobNetworkView, RefusalView

_TIMEOUT_S = 15.0


async def job_network(asks: Asks, state: State, job: JobRecord) -> JobNetworkView:
    """Of the newest allocation; says in a sentence why there is nothing, where there is nothing."""
    allocation = state.allocations.get(allocation_id(job.id, job.attempt)) if job.attempt else None
    if allocation is None:
        nothing = f"job {job.id} has no members yet: nothing has passed"
        return JobNetworkView(job=job.id, attempt=job.attempt, mode="", nothing=nothing)
    network = allocation.network
    if network is None:
        nothing = (
            "its members share their hosts' network: what passes there is not told apart by job; "
            "network.mode bridge or overlay gives them one of their own"
        )
        return JobNetworkView(job=job.id, attempt=job.attempt, mode="host", nothing=nothing)
    counted, missing = await _ask_all(asks, allocation)
    nothing = "" if counted else f"no agent could say what passed: {missing[0]}"
    if job.state.final and not any(counters.flows for counters in counted):
        nothing = f"job {job.id} has ended, and its counters with the network that it had"
    return JobNetworkView(
        job=job.id,
        attempt=job.attempt,
        mode=network.mode,
        subnet=network.subnet,
        enforcement=network.enforcement,
        nothing=nothing,
        flows=tuple(view for counters in counted for view in _flows(allocation, counters)),
        refused=tuple(view for counters in counted for view in _refused(allocation, counters)),
        unlisted=tuple(_name(allocation, member) for counters in counted for member in counters.unlisted),
        spoofed=sum(counters.spoofed for counters in counted),
        crowded=sum(counters.crowded for counters in counted),
        hasty=sum(counters.hasty for counters in counted),
        missing=missing,
    )


async def refusals(asks: Asks, allocation: AllocationRecord) -> list[RefusalView]:
    """What its rules refused so far, as far as its agents could say; nothing where it has no network of its own."""
    counted, _ = await _ask_all(asks, allocation) if allocation.network is not None else ([], ())
    return [view for counters in counted for view in _refused(allocation, counters)]


async def _ask_all(asks: Asks, allocation: AllocationRecord) -> tuple[list[Counters], tuple[str, ...]]:
    """What its agents counted, and why others of them said nothing."""
    agents = sorted({member.agent for member in allocation.members})
    body = msgspec.json.encode(OfAllocation(allocation.id))
    answers = await asyncio.gather(*(_counters(asks, agent, body) for agent in agents))
    counted = [answer for answer in answers if isinstance(answer, Counters)]
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
            member=_name(allocation, each.member),
            flow=each.flow,
            direction=each.direction,
            packets=each.packets,
            bytes=each.bytes,
        )
        for each in counters.flows
    ]


def _refused(allocation: AllocationRecord, counters: Counters) -> list[RefusalView]:
    names = {member.address: member.name for member in allocation.members}
    return [
        RefusalView(
            member=_name(allocation, each.member),
            direction=each.direction,
            peer=each.peer,
            peer_name=names.get(each.peer, ""),
            transport=each.transport,
            port=each.port,
            packets=each.packets,
            by=each.by,
        )
        for each in counters.refused
    ]


def _name(allocation: AllocationRecord, member: str) -> str:
    rank = split_member(MemberId(member))[1]
    return allocation.members[rank].name if rank < len(allocation.members) else member
