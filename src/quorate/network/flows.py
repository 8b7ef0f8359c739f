"""What a flow is: who may open a connection to whom, on which transport and ports, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quorate.model.ports import ALL_PORTS, PortRange


class Role(StrEnum):
    """Who stands at an end of a flow."""

    USER = "user"
    #: Who runs the machines and logs in to them.
    OPERATOR = "operator"
    MASTER = "master"
    AGENT = "agent"
    MEMBER = "member"
    #: A member of another allocation.
    STRANGER = "stranger"
    #: Whoever is not named by the plan: the Internet, the rest of the network.
    ANYONE = "anyone"
    REGISTRY = "registry"
    PACKAGES = "packages"
    STORE = "store"
    CLOUD_API = "cloud-api"
    METADATA = "metadata"
    #: A cloud's own disks that machines reach by their network.
    VOLUMES = "volumes"
    PROXY = "proxy"
    DNS = "dns"
    NTP = "ntp"


class Transport(StrEnum):
    """What carries a flow."""

    TCP = "tcp"
    UDP = "udp"


class PortKind(StrEnum):
    """How the ports of a flow are known."""

    #: One port, or one for each rank from it upwards.
    FIXED = "fixed"
    #: One port out of a range, or several.
    RANGE = "range"
    #: The window of ephemeral ports of the member that listens.
    WINDOW = "window"
    #: What the master has leased to the allocation on the host's own address.
    LEASED = "leased"
    #: Every port of the transport.
    ALL = "all"
    #: What the job itself names.
    DECLARED = "declared"


class Encryption(StrEnum):
    """What protects a flow on its way."""

    NONE = "none"
    TLS = "tls"
    SSH = "ssh"
    #: By the user's own choice of framework or address.
    OPTIONAL = "optional"


class Listener(StrEnum):
    """Which members of an allocation listen on a flow between members."""

    FIRST = "first"
    EVERY = "every"


class NetworkMode(StrEnum):
    """How the members of an allocation are joined."""

    BRIDGE = "bridge"
    OVERLAY = "overlay"
    HOST = "host"


class Direction(StrEnum):
    """A flow as one of its ends sees it."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a flow, as far as the catalogue knows them."""

    kind: PortKind
    #: The fixed port, the range, or the default of a window or a lease range.
    default: PortRange
    #: Each rank listens on its own port, counted from the first.
    per_rank: bool = False
    #: The key of `master.yaml` that changes it, where one does.
    setting: str | None = None

    def __str__(self) -> str:
        match self.kind:
            case PortKind.FIXED:
                return f"{self.default} + rank" if self.per_rank else str(self.default)
            case PortKind.ALL | PortKind.DECLARED:
                return self.kind.value
            case PortKind.WINDOW | PortKind.LEASED:
                return f"{self.kind.value} ({self.default})"
            case PortKind.RANGE:
                return str(self.default)


@dataclass(frozen=True, slots=True)
class Context:
    """What a plan is made for: the launchers, kinds, modes and providers that it must serve, and its features."""

    launchers: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    modes: frozenset[NetworkMode] = frozenset()
    providers: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class When:
    """When a flow is in a plan: every condition that is not empty must hold; with none it always is."""

    launchers: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    modes: frozenset[NetworkMode] = frozenset()
    providers: frozenset[str] = frozenset()
    #: Words for what a cluster or job has: `tls`, `plain`, `apps`, `proxy`, `ssh`, `sdk`, `gpu`, `several-members`.
    features: frozenset[str] = frozenset()

    def holds(self, context: Context) -> bool:
        """Say whether every condition holds in `context`."""
        return (
            (not self.launchers or bool(self.launchers & context.launchers))
            and (not self.kinds or bool(self.kinds & context.kinds))
            and (not self.modes or bool(self.modes & context.modes))
            and (not self.providers or bool(self.providers & context.providers))
            and self.features <= context.features
        )

    def __str__(self) -> str:
        parts = [
            f"{name}: {', '.join(sorted(map(str, words)))}"
            for name, words in (
                ("launcher", self.launchers),
                ("kind", self.kinds),
                ("network", self.modes),
                ("provider", self.providers),
                ("with", self.features),
            )
            if words
        ]
        return "; ".join(parts) or "always"


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow that the platform or a framework uses."""

    #: Stable, in kebab case; rules, docs, findings and counters carry it.
    id: str
    source: Role
    destination: Role
    transport: Transport
    ports: Ports
    purpose: str
    #: The document or source code that states it.
    stated_by: str
    when: When = When()
    encryption: Encryption = Encryption.NONE
    listener: Listener = Listener.EVERY


@dataclass(frozen=True, slots=True)
class ForbiddenFlow:
    """A flow that must fail; audited and probed like the others. All its ports are forbidden."""

    id: str
    source: Role
    destination: Role
    #: What an attacker gains where it is possible.
    harm: str
    stated_by: str
    #: The code of the finding where it is possible.
    finding: str
    transports: tuple[Transport, ...] = (Transport.TCP, Transport.UDP)
    when: When = When()


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A default of another system that may run on the same machines; Quorate does not use it."""

    system: str
    purpose: str
    transport: Transport
    ports: PortRange
    stated_by: str


def fixed(port: int, *, per_rank: bool = False, setting: str | None = None) -> Ports:
    """Return one fixed port, or one for each rank from it upwards."""
    return Ports(PortKind.FIXED, PortRange.of(port), per_rank, setting)


def between(first: int, last: int, *, setting: str | None = None) -> Ports:
    """Return a range of which a flow uses one port or several."""
    return Ports(PortKind.RANGE, PortRange(first, last), setting=setting)


def window(default: PortRange, *, setting: str) -> Ports:
    """Return the window of ephemeral ports, with its default."""
    return Ports(PortKind.WINDOW, default, setting=setting)


def leased(first: int, last: int, *, setting: str) -> Ports:
    """Return the range out of which hosts lease ports, with its default."""
    return Ports(PortKind.LEASED, PortRange(first, last), setting=setting)


def declared() -> Ports:
    """Return the ports that a job names itself."""
    return Ports(PortKind.DECLARED, ALL_PORTS, setting="the job's `ports`")


def every_port() -> Ports:
    """Return all ports of the transport."""
    return Ports(PortKind.ALL, ALL_PORTS)
