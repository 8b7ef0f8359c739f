"""From an allocation's spec to the hub and sandboxes that it should have here, and to its members' names; pure."""

from collections.abc import Mapping
from ipaddress import IPv4Network

from quorate.agent.sandbox.spec import Desired, Egress, FlowRule, HubSpec, Mode, Peer, SandboxSpec, SpecError
from quorate.model.ids import MemberId, split_member
from quorate.model.messages import AllocationSpec, NetworkSpec
from quorate.network import catalogue


def hub_of(spec: AllocationSpec, underlay: str) -> HubSpec:
    """The allocation's hub on the agent with that address. Raises SpecError for a spec that describes none."""
    network = network_of(spec)
    try:
        egress = Egress(network.egress)
    except ValueError:
        raise SpecError(f"{spec.allocation}: {network.egress!r} is no kind of egress") from None
    return HubSpec(
        allocation=spec.allocation,
        vni=network.vni,
        subnet=network.subnet,
        gateway=network.gateway,
        underlay=underlay,
        peers=tuple(Peer(member.underlay, member.address) for member in spec.members),
        mtu=network.mtu,
        egress=egress,
        forbidden=tuple(forbidden for forbidden in network.forbidden if ":" not in forbidden),
        metadata=network.metadata,
        api=network.api,
        vxlan_port=network.vxlan_port or catalogue.port("vxlan"),
        allowed=tuple(host for host in network.hosts if is_network(host)),
    )


def sandbox_of(
    spec: AllocationSpec, member: str, rules: tuple[FlowRule, ...], container: int | None = None
) -> SandboxSpec:
    """The sandbox of one member. Raises SpecError."""
    network = network_of(spec)
    try:
        mode = Mode(network.enforcement)
    except ValueError:
        raise SpecError(f"{spec.allocation}: {network.enforcement!r} is no kind of enforcement") from None
    return SandboxSpec(member, rules, mode, network.window, container)


def together(parts: Mapping[str, tuple[HubSpec, SandboxSpec]]) -> tuple[Desired, dict[str, str]]:
    """Everything that is wanted, and why a member is left out: one that does not go with those before it stays out."""
    hubs: dict[int, HubSpec] = {}
    sandboxes: list[SandboxSpec] = []
    refused: dict[str, str] = {}
    for allocation in dict.fromkeys(hub.allocation for hub, _ in parts.values()):
        own = [part for part in parts.values() if part[0].allocation == allocation]
        hub = own[0][0]
        other = hubs.setdefault(hub.vni, hub)
        port = next(iter(hubs.values())).vxlan_port
        why = ""
        if other is not hub:
            why = f"its VNI {hub.vni} is still {other.allocation}'s on this machine"
        elif hub.vxlan_port != port:
            del hubs[hub.vni]
            why = f"VXLAN is on port {hub.vxlan_port} there, and on {port} for others on this machine"
        if why:
            refused |= {sandbox.member: why for _, sandbox in own}
            continue
        kept = [sandbox for _, sandbox in own]
        try:
            Desired((hub,), tuple(kept))
        except SpecError:
            kept = []
            for _, sandbox in own:
                try:
                    Desired((hub,), (*(k for k in kept if k.rank == sandbox.rank), sandbox))
                    kept.append(sandbox)
                except SpecError as error:
                    refused[sandbox.member] = str(error)
        sandboxes += kept
    return Desired(tuple(hubs.values()), tuple(sandboxes)), refused


def hosts_file(spec: AllocationSpec) -> str:
    """/etc/hosts of every member: all members' names, no name at loopback but localhost. There is no IPv6 inside."""
    lines = ["127.0.0.1 localhost", *(f"{member.address} {member.name}" for member in spec.members)]
    return "\n".join([*lines, ""])


def resolv_file(spec: AllocationSpec, of_host: str) -> str:
    """/etc/resolv.conf of every member: the hub asks for it, with the host's own search list and options."""
    network = network_of(spec)
    if network.egress == Egress.NONE.value:
        return "# This job has no way out, so there is nobody to ask; members' names are in /etc/hosts.\n"
    kept = [line for line in of_host.splitlines() if line.split()[:1] in (["search"], ["domain"], ["options"])]
    return "\n".join([f"nameserver {network.gateway}", *kept, ""])


def named_hosts(network: NetworkSpec) -> tuple[str, ...]:
    """The names among the hosts of an egress to named hosts; the others are networks."""
    return tuple(host for host in network.hosts if not is_network(host))


def is_network(text: str) -> bool:
    """Whether a host of an egress is written as an IPv4 address or network."""
    try:
        IPv4Network(text)
    except ValueError:
        return False
    return True


def network_of(spec: AllocationSpec) -> NetworkSpec:
    """Its private network. Raises SpecError for an allocation without one."""
    if spec.network is None:
        raise SpecError(f"{spec.allocation} has no private network")
    return spec.network


def rank_of(spec: AllocationSpec, member: str) -> int:
    """The member's rank. Raises SpecError for one that the allocation does not have."""
    rank = split_member(MemberId(member))[1]
    if not 0 <= rank < len(spec.members):
        raise SpecError(f"{member}: {spec.allocation} has no rank {rank}")
    return rank
