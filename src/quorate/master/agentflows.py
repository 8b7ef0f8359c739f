"""Which flows the plan opens between two agents, and which jobs need them: what checks between agents try."""

from quorate.master.records import AgentRecord
from quorate.master.state import State
from quorate.model.jobnetwork import NetworkWish
from quorate.model.messages import Feature
from quorate.network.flows import NetworkMode
from quorate.network.joining import AgentSide, Joining, join

VXLAN, LEASED = "vxlan", "leased"


def vxlan_port_of(state: State, agent: str) -> int:
    """Where the agent takes VXLAN; 0 where none comes to it."""
    record = state.agents.get(agent)
    if record is None or Feature.SANDBOX not in record.features:
        return 0
    pool = state.settings.network_of(record.pool)
    return pool.vxlan_port if NetworkMode.OVERLAY in pool.modes else 0


def between(state: State, one: str, other: str) -> dict[str, frozenset[str]]:
    """By flow (`vxlan`, `leased`): the network modes of jobs that need it between the two agents."""
    first, second = state.agents.get(one), state.agents.get(other)
    # No gang spans two pools, so no plan has a flow between them.
    if first is None or second is None or first.pool != second.pool:
        return {}
    pool = state.settings.network_of(first.pool)
    sides = [_side(first), _side(second)]
    automatic = join(NetworkWish.AUTO, sides, pool.modes, pool.fabric)
    mode = automatic.mode if isinstance(automatic, Joining) else None
    flows: dict[str, frozenset[str]] = {}
    if isinstance(join(NetworkWish.OVERLAY, sides, pool.modes, pool.fabric), Joining):
        flows[VXLAN] = _modes(NetworkMode.OVERLAY, mode)
    # Where every job has a network of its own unless it asks for its hosts', the rules open the hosts' ports only for
    # an operator who has said so.
    if NetworkMode.HOST in pool.modes and (NetworkMode.HOST in pool.opened or mode is NetworkMode.HOST):
        flows[LEASED] = _modes(NetworkMode.HOST, mode)
    return flows


def _side(agent: AgentRecord) -> AgentSide:
    return AgentSide(agent.id, agent.address, Feature.SANDBOX in agent.features)


def _modes(mode: NetworkMode, automatic: NetworkMode | None) -> frozenset[str]:
    auto = {NetworkWish.AUTO.value} if mode is automatic else set()
    return frozenset({mode.value, *auto})
