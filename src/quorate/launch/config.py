"""What a companion is told about its allocation: the members in rank order, which of them it serves, secrets, timeouts.

It arrives as JSON over a socketpair, never over argv or the environment, because the nonce is a secret.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import json
import re
from typing import Any, Dict, Mapping, Tuple

from quorate.launch.fields import ConfigurationError, Fields

__all__ = ["Configuration", "ConfigurationError", "Member", "Network", "Preflight", "ProbeFlow", "Purpose", "Timeouts"]

#: The most that `from_json` reads: a gang of 4096 members stays well below.
MAX_BYTES = 8 * 1024 * 1024
MAX_MEMBERS = 4096

_ALLOCATION = re.compile(r"[a-z0-9]{4,16}-[0-9]{1,6}")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NONCE = re.compile(r"([0-9a-f]{2}){16,64}")


class Network(enum.Enum):
    """How the members of the allocation reach each other."""

    #: They share their hosts' networks: names do not resolve, ports are leased.
    HOST = "host"
    #: One private network on one agent.
    BRIDGE = "bridge"
    #: One private network across agents.
    OVERLAY = "overlay"


class Preflight(enum.Enum):
    """What becomes of a planned flow that does not work, before any command starts."""

    OFF = "off"
    #: It is mentioned, and the members start.
    WARN = "warn"
    #: The allocation ends with it.
    REQUIRE = "require"


class Purpose:
    """The purposes for which launch looks up a member's ports; others pass through untouched."""

    RENDEZVOUS = "rendezvous"
    WATCH = "watch"
    #: torchrun's store at the first member.
    TORCH = "torch"
    #: MASTER_PORT as every member sees it.
    MAIN = "main"
    #: A member's own in TF_CONFIG, where it is not MASTER_PORT + rank.
    TENSORFLOW = "tensorflow"


@dataclasses.dataclass(frozen=True)
class Member:
    """One member of the allocation, as all its members see it."""

    rank: int
    role: str
    #: In its role, from 1.
    index: int
    #: Role and index: `main1`.
    name: str
    address: str
    #: The agent on which it lives, for sentences to people.
    agent: str = ""
    #: Indices of its slots on that agent; empty for a member that needs none.
    slots: Tuple[int, ...] = ()
    #: Purpose to port, for the listeners of this member.
    ports: Mapping[str, int] = dataclasses.field(default_factory=dict)
    #: The agent's own address, where `address` is one of a private network.
    underlay: str = ""

    def port(self, purpose: str) -> int:
        """The port for a purpose. Raises ConfigurationError where the member has none."""
        try:
            return self.ports[purpose]
        except KeyError:
            raise ConfigurationError(f"member {self.name} has no port for {purpose}") from None

    def described(self) -> str:
        """For sentences to people: `sub1 (agent b, 10.0.0.7)`."""
        return f"{self.name} (agent {self.agent}, {self.address})" if self.agent else f"{self.name} ({self.address})"


@dataclasses.dataclass(frozen=True)
class ProbeFlow:
    """A planned flow between members, for the preflight to try."""

    #: Its id in the catalogue.
    flow: str
    #: First and last. A range is a promise about each of its ports; some are tried.
    ports: Tuple[int, int]
    purpose: str = ""
    transport: str = "tcp"
    #: Ranks; empty for all members.
    sources: Tuple[int, ...] = ()
    #: Ranks of those that listen; empty for all members.
    destinations: Tuple[int, ...] = ()
    #: Each rank listens as many ports further as its rank says.
    per_rank: bool = False
    #: A command that mends it, with `{source}` and `{destination}` (addresses) to be filled in.
    remedy: str = ""

    def ports_of(self, rank: int) -> Tuple[int, int]:
        """Where the member of this rank listens, if it does."""
        further = rank if self.per_rank else 0
        return self.ports[0] + further, self.ports[1] + further


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """Seconds, each from the moment at which the companion began with what it bounds."""

    #: All members must have come to the barrier. Below the job's start timeout, so that its sentence is heard in time.
    rendezvous_s: float = 300.0
    #: A peer's broken watch connection is mentioned after this; it never stops anything (see watch.py).
    watch_grace_s: float = 30.0


@dataclasses.dataclass(frozen=True)
class Configuration:
    """The allocation, and which member of it is meant."""

    allocation: str
    #: In rank order: `members[rank].rank == rank`.
    members: Tuple[Member, ...]
    #: Of the member that is served.
    rank: int
    #: Hex; proves to the other members that one belongs to this allocation. Empty only with a single member.
    nonce: str = dataclasses.field(default="", repr=False)
    #: Which start of that member it is, from 1.
    incarnation: int = 1
    network: Network = Network.HOST
    timeouts: Timeouts = Timeouts()
    #: What the preflight tries.
    flows: Tuple[ProbeFlow, ...] = ()
    #: Between agents' own addresses, what carries all other flows: the overlay's VXLAN. Blamed where nothing passes.
    carrier: ProbeFlow | None = None
    preflight: Preflight = Preflight.OFF
    #: What joins the pool's machines for the members' own traffic: `ib`, `roce`, `efa` pass beside the kernel's TCP.
    fabric: str = ""

    @property
    def job(self) -> str:
        return self.allocation.rsplit("-", 1)[0]

    @property
    def attempt(self) -> int:
        return int(self.allocation.rsplit("-", 1)[1])

    @property
    def own(self) -> Member:
        return self.members[self.rank]

    @property
    def first(self) -> Member:
        """Rank 0, at which the others meet."""
        return self.members[0]

    @property
    def size(self) -> int:
        return len(self.members)

    @property
    def member_id(self) -> str:
        return f"{self.allocation}.{self.rank}.{self.incarnation}"

    @property
    def secret(self) -> bytes:
        """The nonce as a key."""
        return bytes.fromhex(self.nonce)

    def to_json(self) -> str:
        """One line that `from_json` reads back."""
        return json.dumps(_plain(self), separators=(",", ":"), sort_keys=True)

    @staticmethod
    def from_json(text: str | bytes) -> Configuration:
        """Raises ConfigurationError, naming the field, for anything that is not a whole and consistent configuration.

        Unknown fields are ignored, so that an older companion understands a newer shim.
        """
        if len(text) > MAX_BYTES:
            raise ConfigurationError(f"the configuration is larger than {MAX_BYTES} bytes")
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"the configuration is not JSON: {error}") from None
        return Configuration.from_object(data)

    @staticmethod
    def from_object(data: Any) -> Configuration:
        """The same for JSON that has been decoded."""
        configuration = _configuration(Fields(data, "configuration"))
        check(configuration)
        return configuration


def check(configuration: Configuration) -> None:
    """Raises ConfigurationError for the first contradiction. `from_json` has done so already."""
    if not _ALLOCATION.fullmatch(configuration.allocation):
        raise ConfigurationError(f"allocation: {configuration.allocation!r} is not <job>-<attempt>")
    if not 1 <= configuration.size <= MAX_MEMBERS:
        raise ConfigurationError(f"members: between 1 and {MAX_MEMBERS} are possible, not {configuration.size}")
    if not 0 <= configuration.rank < configuration.size:
        raise ConfigurationError(f"rank: {configuration.rank} is none of {configuration.size} members")
    if configuration.incarnation < 1:
        raise ConfigurationError("incarnation: counts from 1")
    if configuration.size > 1 and not _NONCE.fullmatch(configuration.nonce):
        raise ConfigurationError("nonce: must be 16 to 64 bytes in hex")
    names = set()
    for position, member in enumerate(configuration.members):
        where = f"members[{position}]"
        if member.rank != position:
            raise ConfigurationError(f"{where}.rank: is {member.rank}; members must be in rank order")
        if not _NAME.fullmatch(member.name):
            raise ConfigurationError(f"{where}.name: {member.name!r} is no host name")
        if member.name in names:
            raise ConfigurationError(f"{where}.name: {member.name} is there twice")
        names.add(member.name)
        if member.index < 1:
            raise ConfigurationError(f"{where}.index: counts from 1")
        try:
            ipaddress.ip_address(member.address)
        except ValueError:
            raise ConfigurationError(f"{where}.address: {member.address!r} is no IP address") from None
        for purpose, port in member.ports.items():
            if not 0 < port < 65536:
                raise ConfigurationError(f"{where}.ports.{purpose}: {port} is no port")
    for position, flow in enumerate(configuration.flows):
        _check_flow(configuration, flow, f"flows[{position}]")
    for field in dataclasses.fields(configuration.timeouts):
        if not 0 < getattr(configuration.timeouts, field.name) < float("inf"):
            raise ConfigurationError(f"timeouts.{field.name}: must be above 0 seconds")


def _check_flow(configuration: Configuration, flow: ProbeFlow, where: str) -> None:
    if flow.transport not in ("tcp", "udp"):
        raise ConfigurationError(f"{where}.transport: {flow.transport!r} is neither tcp nor udp")
    ranks = (*flow.sources, *flow.destinations)
    if not all(0 <= rank < configuration.size for rank in ranks):
        raise ConfigurationError(f"{where}: names a rank that is none of {configuration.size} members")
    highest = max(flow.destinations, default=configuration.size - 1)
    first, last = flow.ports_of(highest)
    if not 0 <= flow.ports[0] <= flow.ports[1] or not first <= last < 65536:
        raise ConfigurationError(f"{where}.ports: {first}-{last} are no ports")


def _configuration(data: Fields) -> Configuration:
    try:
        network = Network(data.text("network", Network.HOST.value))
    except ValueError as error:
        raise ConfigurationError(f"configuration.network: {error}") from None
    try:
        preflight = Preflight(data.text("preflight", Preflight.OFF.value))
    except ValueError as error:
        raise ConfigurationError(f"configuration.preflight: {error}") from None
    timeouts = data.object("timeouts")
    return Configuration(
        allocation=data.text("allocation"),
        members=tuple(_member(item) for item in data.objects("members")),
        rank=data.integer("rank"),
        nonce=data.text("nonce", ""),
        incarnation=data.integer("incarnation", 1),
        network=network,
        timeouts=Timeouts(
            rendezvous_s=timeouts.seconds("rendezvous_s", Timeouts.rendezvous_s),
            watch_grace_s=timeouts.seconds("watch_grace_s", Timeouts.watch_grace_s),
        ),
        flows=tuple(_flow(item) for item in data.objects("flows", [])),
        carrier=_flow(data.object("carrier")) if "carrier" in data else None,
        preflight=preflight,
        fabric=data.text("fabric", ""),
    )


def _flow(data: Fields) -> ProbeFlow:
    return ProbeFlow(
        flow=data.text("flow"),
        ports=data.range("ports"),
        purpose=data.text("purpose", ""),
        transport=data.text("transport", "tcp"),
        sources=data.integers("sources"),
        destinations=data.integers("destinations"),
        per_rank=data.flag("per_rank"),
        remedy=data.text("remedy", ""),
    )


def _member(data: Fields) -> Member:
    return Member(
        rank=data.integer("rank"),
        role=data.text("role"),
        index=data.integer("index"),
        name=data.text("name"),
        address=data.text("address"),
        agent=data.text("agent", ""),
        slots=data.integers("slots"),
        ports=data.ports("ports"),
        underlay=data.text("underlay", ""),
    )


def _plain(configuration: Configuration) -> Dict[str, Any]:
    data = dataclasses.asdict(configuration)
    data["network"] = configuration.network.value
    data["preflight"] = configuration.preflight.value
    if configuration.carrier is None:
        del data["carrier"]
    return data
