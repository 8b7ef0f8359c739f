"""What a machine's private networks should be: hubs, sandboxes and rules as values, checked where they come in."""

import hashlib
import re
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from typing import Final

import msgspec

from quorate.model.ids import ALLOCATION_ID, AllocationId, MemberId, split_member
from quorate.model.ports import LAST_PORT
from quorate.network import catalogue
from quorate.network.flows import Direction, Transport
from quorate.network.overlays import LEAST_MTU, MOST_MTU

#: 24 bits, and 0 is nobody's (RFC 7348, section 5).
LAST_VNI: Final = 2**24 - 1
#: The last one is nobody's: it stands for no user (credentials(7)).
LAST_UID: Final = 2**32 - 2
#: Ranks fill two bytes of a MAC; the last number is the gateway's.
MAX_PEERS: Final = 16_384
MAX_RULES: Final = 100_000

_FLOW_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class SpecError(ValueError):
    """A value that describes no network; the text says which and why."""


class Mode(StrEnum):
    """What becomes of a connection that is not in the plan."""

    ENFORCE = "enforce"
    #: It passes, and is counted as one that would have been refused.
    OBSERVE = "observe"
    #: The member's namespace has no rules; the hub keeps allocations apart all the same.
    OFF = "off"


class Egress(StrEnum):
    """Where members may go outside their allocation."""

    ALL = "all"
    #: To what `HubSpec.allowed` holds, and to what the allocation's resolver has let in.
    NAMED = "named"
    NONE = "none"


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Peer(_Value, frozen=True):
    """One member of the allocation as the network sees it: its agent's underlay address, and its own."""

    agent: str
    address: str


class FlowRule(_Value, frozen=True):
    """One planned flow as one member sees it; `peers` are networks, `ports` (first, last) of the destination."""

    flow: str
    direction: Direction
    transport: Transport
    peers: tuple[str, ...]
    ports: tuple[tuple[int, int], ...]
    purpose: str = ""

    def __post_init__(self) -> None:
        if not _FLOW_ID.fullmatch(self.flow):
            raise SpecError(f"{self.flow!r} is no id of a flow")
        for peer in self.peers:
            _network(peer)
        for first, last in self.ports:
            if not 0 <= first <= last <= LAST_PORT:
                raise SpecError(f"{self.flow}: {first}-{last} is no range of ports")
        if not self.peers or not self.ports:
            raise SpecError(f"{self.flow}: a rule needs peers and ports")


class HubSpec(_Value, frozen=True):
    """The network of one allocation on this machine.

    `peers` holds every member in rank order, those of other agents too; those with `underlay` as their agent live here.
    `mtu` is the members'. `gateway` is the hub's own address, the same on every agent.
    """

    allocation: str
    vni: int
    subnet: str
    gateway: str
    underlay: str
    peers: tuple[Peer, ...]
    mtu: int = 1450
    egress: Egress = Egress.ALL
    #: Networks that members never reach: agents, master, overlays of others. The agents of the members are always
    #: among them, and so are metadata addresses but where `metadata` is true.
    forbidden: tuple[str, ...] = ()
    metadata: bool = False
    #: Networks and TCP ports that members reach all the same, whatever their egress but none: the master's API.
    api: tuple[tuple[str, int], ...] = ()
    #: Networks that members reach with egress to named hosts, without having asked for a name.
    allowed: tuple[str, ...] = ()
    vxlan_port: int = catalogue.port("vxlan")

    def __post_init__(self) -> None:
        if not ALLOCATION_ID.fullmatch(self.allocation):
            raise SpecError(f"{self.allocation!r} is no allocation id")
        if not 1 <= self.vni <= LAST_VNI:
            raise SpecError(f"{self.allocation}: VNI {self.vni} is not between 1 and {LAST_VNI}")
        if not LEAST_MTU <= self.mtu <= MOST_MTU:
            raise SpecError(f"{self.allocation}: an MTU of {self.mtu} is not between {LEAST_MTU} and {MOST_MTU}")
        if not 1 <= len(self.peers) <= MAX_PEERS:
            raise SpecError(f"{self.allocation}: {len(self.peers)} members; 1 to {MAX_PEERS} are possible")
        subnet, own = _network(self.subnet), _host(self.underlay)
        hosts = [self.gateway, *(peer.address for peer in self.peers)]
        for host in hosts:
            if _v4(host) not in subnet:
                raise SpecError(f"{self.allocation}: {host} is not in {subnet}")
        if len(set(hosts)) != len(hosts):
            raise SpecError(f"{self.allocation}: two members, or a member and the gateway, have one address")
        families = {_host(peer.agent).version for peer in self.peers} | {own.version}
        if len(families) != 1:
            raise SpecError(f"{self.allocation}: its agents have IPv4 and IPv6 addresses; an overlay has one family")
        for network in (*self.forbidden, *self.allowed):
            _network(network)
        for network, port in self.api:
            _network(network)
            if not 1 <= port <= LAST_PORT:
                raise SpecError(f"{self.allocation}: {port} is no port of an API")
        if not 1 <= self.vxlan_port <= LAST_PORT:
            raise SpecError(f"{self.vxlan_port} is no port for VXLAN")

    @property
    def local(self) -> dict[int, Peer]:
        """The members on this machine, by rank."""
        return {rank: peer for rank, peer in enumerate(self.peers) if peer.agent == self.underlay}

    @property
    def remote(self) -> dict[int, Peer]:
        """The members on other machines, by rank."""
        return {rank: peer for rank, peer in enumerate(self.peers) if peer.agent != self.underlay}

    @property
    def prefix(self) -> int:
        """Length of the subnet's prefix."""
        return _network(self.subnet).prefixlen

    @property
    def unreachable(self) -> tuple[str, ...]:
        """Everything that members never reach, as IPv4 networks; there is no IPv6 in a hub."""
        metadata = [address for address in catalogue.METADATA_ADDRESSES if ":" not in address and not self.metadata]
        agents = [peer.agent for peer in self.peers if ":" not in peer.agent]
        return tuple(dict.fromkeys([*metadata, *agents, *self.forbidden]))


class SandboxSpec(_Value, frozen=True):
    """The network of one member. Its address, subnet and MTU are those of its rank in its allocation's hub."""

    member: str
    rules: tuple[FlowRule, ...] = ()
    mode: Mode = Mode.ENFORCE
    #: First and last of its ephemeral ports; None leaves the kernel's.
    window: tuple[int, int] | None = None
    #: A process whose network namespace becomes the sandbox, such as a pause container's; else one is made.
    container: int | None = None

    def __post_init__(self) -> None:
        split_member(MemberId(self.member))
        if len(self.rules) > MAX_RULES:
            raise SpecError(f"{self.member}: {len(self.rules)} rules; at most {MAX_RULES} are possible")
        if self.window is not None and not 1024 <= self.window[0] < self.window[1] <= LAST_PORT:
            raise SpecError(f"{self.member}: {self.window[0]}-{self.window[1]} is no window above port 1023")
        if self.container is not None and self.container < 2:
            raise SpecError(f"{self.member}: {self.container} is no container's process")

    @property
    def allocation(self) -> AllocationId:
        """Whose hub it is plugged into."""
        return split_member(MemberId(self.member))[0]

    @property
    def rank(self) -> int:
        """Its rank in the allocation."""
        return split_member(MemberId(self.member))[1]


class HostMembers(_Value, frozen=True):
    """The members of one allocation that share this machine's network, and what they may do there."""

    allocation: str
    mode: Mode
    #: UIDs that nobody else has here: what these open is filtered.
    users: tuple[int, ...] = ()
    #: TCP ports here that are leased to them, reached from the allocation's machines alone.
    leased: tuple[int, ...] = ()
    #: Addresses of the allocation's machines, IPv4 and IPv6.
    machines: tuple[str, ...] = ()
    #: Addresses and TCP ports of other members that they may open.
    flows: tuple[tuple[str, int], ...] = ()
    #: First and last ports that they may open on any of their machines.
    ranges: tuple[tuple[Transport, int, int], ...] = ()
    #: Networks of which they reach nothing else: other machines of the cluster.
    forbidden: tuple[str, ...] = ()
    #: As in HubSpec, and IPv6, too.
    api: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if not ALLOCATION_ID.fullmatch(self.allocation):
            raise SpecError(f"{self.allocation!r} is no allocation id")
        if odd := [uid for uid in self.users if not 1 <= uid <= LAST_UID]:
            raise SpecError(f"{self.allocation}: {odd[0]} is the UID of no member")
        for address in (*self.machines, *(address for address, _ in self.flows)):
            _host(address)
        for network in (*self.forbidden, *(network for network, _ in self.api)):
            _any_network(network)
        for port in (*self.leased, *(port for _, port in (*self.flows, *self.api))):
            if not 1 <= port <= LAST_PORT:
                raise SpecError(f"{self.allocation}: {port} is no port")
        for _, first, last in self.ranges:
            if not 1 <= first <= last <= LAST_PORT:
                raise SpecError(f"{self.allocation}: {first}-{last} is no range of ports")


class HostSpec(_Value, frozen=True):
    """The machine's own part of all its private networks."""

    #: 0 where there is no hub, and so no VXLAN.
    vxlan_port: int = 0
    #: The other agents whose VXLAN packets are taken.
    agents: tuple[str, ...] = ()
    #: Whether packets of uplinks are passed on.
    forward: bool = False
    #: As in Desired.
    users: tuple[int, int] | None = None
    chosen: tuple[int, ...] = ()
    members: tuple[HostMembers, ...] = ()


class Desired(_Value, frozen=True):
    """Everything that should be on this machine; whatever else is ours goes."""

    hubs: tuple[HubSpec, ...] = ()
    sandboxes: tuple[SandboxSpec, ...] = ()
    #: First and last UID of members that share the host's network: they do not reach the cloud's metadata.
    users: tuple[int, int] | None = None
    #: UIDs besides those, in order, that members of the host's network have now: the operator's or a job's choice.
    chosen: tuple[int, ...] = ()
    #: Of members that share the host's network, by allocation.
    on_host: tuple[HostMembers, ...] = ()

    def __post_init__(self) -> None:
        users = [uid for members in self.on_host for uid in members.users]
        if len(set(users)) != len(users):
            raise SpecError("two allocations in the host's network have one user")
        if len({members.allocation for members in self.on_host}) != len(self.on_host):
            raise SpecError("an allocation is twice in the host's network")
        leased = [port for members in self.on_host for port in members.leased]
        if len(set(leased)) != len(leased):
            raise SpecError("one port is leased twice on this machine")
        if any(not 1 <= uid <= LAST_UID for uid in self.chosen):
            raise SpecError(f"of the UIDs {', '.join(map(str, self.chosen))} one cannot be a member's in these rules")
        if self.users is not None and not 1 <= self.users[0] <= self.users[1] <= LAST_UID:
            raise SpecError(f"{self.users[0]}-{self.users[1]} is no range of users of members")
        hubs = {hub.allocation: hub for hub in self.hubs}
        if len(hubs) != len(self.hubs):
            raise SpecError("two hubs are of one allocation")
        if len({hub.vni for hub in self.hubs}) != len(self.hubs):
            raise SpecError("two allocations have one VNI")
        # Looked up once a hub: it may have thousands of members.
        local = {hub.allocation: hub.local.keys() for hub in self.hubs}
        places = set()
        for sandbox in self.sandboxes:
            hub = hubs.get(sandbox.allocation)
            if hub is None:
                raise SpecError(f"{sandbox.member}: its allocation has no hub here")
            if sandbox.rank not in local[hub.allocation]:
                raise SpecError(f"{sandbox.member}: rank {sandbox.rank} of {hub.allocation} is not on this machine")
            if (hub.allocation, sandbox.rank) in places:
                raise SpecError(f"{sandbox.member}: rank {sandbox.rank} has two sandboxes; an incarnation ends first")
            places.add((hub.allocation, sandbox.rank))
        if len({hub.vxlan_port for hub in self.hubs}) > 1:
            raise SpecError("two allocations have different ports for VXLAN; a machine has one")

    @property
    def host(self) -> HostSpec | None:
        """The machine's own part; None where it needs none."""
        if not self.hubs and self.users is None and not self.chosen and not self.on_host:
            return None
        # Those with a member of an allocation that is here.
        agents = {str(_host(peer.agent)) for hub in self.hubs for peer in hub.remote.values()}
        port = self.hubs[0].vxlan_port if self.hubs else 0
        forward = any(hub.egress is not Egress.NONE for hub in self.hubs)
        return HostSpec(port, tuple(sorted(agents)), forward, self.users, self.chosen, self.on_host)

    def hub(self, allocation: str) -> HubSpec:
        """The hub of that allocation; raises KeyError."""
        return next(hub for hub in self.hubs if hub.allocation == allocation)


def digest(*values: msgspec.Struct | str | int) -> str:
    """Names what was asked for, so that what is there can be compared with it; 16 hex digits."""
    return hashlib.blake2b(msgspec.json.encode(values, order="deterministic"), digest_size=8).hexdigest()


def _network(text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise SpecError(f"{text!r} is no IPv4 network: {error}") from error


def _any_network(text: str) -> None:
    _host(text.partition("/")[0])
    try:
        ip_network(text)
    except ValueError as error:
        raise SpecError(f"{text!r} is no network: {error}") from error


def _v4(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise SpecError(f"{text!r} is no IPv4 address") from error


def _host(text: str) -> IPv4Address | IPv6Address:
    try:
        found = ip_address(text)
    except ValueError as error:
        raise SpecError(f"{text!r} is no address") from error
    # What follows a % is any text, and ours is of no other machine.
    if isinstance(found, IPv6Address) and found.scope_id is not None:
        raise SpecError(f"{text!r} is an address of one link, on which other agents are not found")
    return found
