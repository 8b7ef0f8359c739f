"""How the members of a gang are joined on the agents chosen for it: the hosts' network, a bridge, or an overlay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from quorate.model.jobnetwork import NetworkWish
from quorate.network.flows import NetworkMode
from quorate.network.overlays import Refusal

#: Fabrics whose traffic passes beside the kernel's network, where no bridge, overlay or rule reaches it.
BESIDE_THE_KERNEL = frozenset({"ib", "roce", "efa"})


@dataclass(frozen=True, slots=True)
class AgentSide:
    """One agent of a gang, as far as a network asks."""

    id: str
    #: Its own address; a name, or nothing, where it is none.
    address: str
    sandbox: bool


@dataclass(frozen=True, slots=True)
class Joining:
    """The answer, and the reason for it in words for people."""

    mode: NetworkMode
    because: str


def join(
    wish: NetworkWish, agents: Sequence[AgentSide], allowed: Collection[NetworkMode], fabric: str | None = None
) -> Joining | Refusal:
    """How a gang on these agents (each once) is joined; a Refusal where no allowed mode joins them."""
    if wish is NetworkWish.HOST:
        found: Joining | Refusal = Joining(NetworkMode.HOST, "the job asks for it")
    elif wish is NetworkWish.AUTO:
        found = _automatic(agents, allowed, fabric)
    else:
        mode = NetworkMode(wish.value)
        cause = _obstacle(mode, agents)
        found = Refusal(f"mode {mode} is impossible: {cause}") if cause else Joining(mode, "the job asks for it")
    if isinstance(found, Joining) and found.mode not in allowed:
        named = ", ".join(sorted(allowed))
        return Refusal(f"members would share the network by mode {found.mode} ({found.because}), "
                       f"but network.modes in master.yaml allows {named} alone")  # fmt: skip
    return found


def _automatic(agents: Sequence[AgentSide], allowed: Collection[NetworkMode], fabric: str | None) -> Joining:
    if set(allowed) == {NetworkMode.HOST}:
        return Joining(NetworkMode.HOST, "network.modes in master.yaml allows nothing else")
    mode = NetworkMode.BRIDGE if len(agents) == 1 else NetworkMode.OVERLAY
    if mode is NetworkMode.OVERLAY and fabric in BESIDE_THE_KERNEL:
        return Joining(NetworkMode.HOST, f"the pool has fabric {fabric}, which no overlay carries")
    cause = _obstacle(mode, agents)
    if cause:
        return Joining(NetworkMode.HOST, cause)
    return Joining(
        mode, "all members are on one agent" if mode is NetworkMode.BRIDGE else "members are on several agents"
    )


def _obstacle(mode: NetworkMode, agents: Sequence[AgentSide]) -> str:
    """Why the agents cannot be joined so; empty where they can."""
    without = [agent.id for agent in agents if not agent.sandbox]
    if without:
        return f"agent {without[0]} makes no private networks"
    addresses: dict[IPv4Address | IPv6Address, str] = {}
    for agent in agents:
        try:
            address = ip_address(agent.address)
        except ValueError:
            return f"agent {agent.id} has no address of its own"
        if address in addresses:
            return f"agents {addresses[address]} and {agent.id} share the address {address}"
        if mode is NetworkMode.OVERLAY and len(agents) > 1 and address.is_loopback:
            return f"agent {agent.id} is known by {address}, where no other machine reaches it"
        addresses[address] = agent.id
    if mode is NetworkMode.BRIDGE and len(agents) > 1:
        return "a bridge joins members of one agent"
    if len({address.version for address in addresses}) > 1:
        return "some of its agents have IPv4 and some IPv6 addresses"
    return ""
