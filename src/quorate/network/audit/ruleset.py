"""What every platform's reader gives: a rule set that can be asked for its entries, and says how to change itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, summarize_address_range

from quorate.model.ports import PortRange
from quorate.network.audit.space import V6, Box, Entry, Intervals, Outcome, join
from quorate.network.catalogue import EPHEMERAL, EPHEMERAL_OF_PEOPLE
from quorate.network.flows import Direction, Role, Transport
from quorate.network.plan import Party, PlannedFlow

#: Whose machines have the operating systems of people.
_PEOPLE = (Role.USER, Role.OPERATOR)


#: Whoever rules name by a group, a tag or a selector that no party of the plan has; nobody knows their addresses.
OTHERS = Party(Role.ANYONE, "others")


class Unreadable(ValueError):
    """The text is not what the platform's tool prints; `place` says where, as far as it is known."""

    def __init__(self, why: str, place: str = "") -> None:
        super().__init__(f"{place}: {why}" if place else why)
        self.why, self.place = why, place


class Phase(StrEnum):
    """Which packets of a connection are asked about."""

    #: The first one.
    OPEN = "open"
    #: The answering ones: they go the other way round, and the service's port is their source.
    ANSWER = "answer"
    #: Those after it, in the first one's direction.
    GO_ON = "go-on"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a rule set is asked about: one end of a connection of one transport, seen from the machine `local`.

    A stateful rule that let the connection begin lets its other packets pass by themselves.
    """

    direction: Direction
    local: Party
    peer: Party
    transport: Transport
    phase: Phase = Phase.OPEN
    #: What `Ruleset.others` said of the plan's parties.
    others: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def answers(self) -> bool:
        """Whether the packets go from the service to who asked."""
        return self.phase is Phase.ANSWER


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as its author knows it."""

    #: Names it within the rule set, such as a firewall rule's name or `inet filter input handle 7`.
    id: str
    #: How it reads.
    text: str
    allows: bool
    #: Where it stands in the file, such as `line 12`.
    place: str = ""
    #: Which ports that do not exist its text names; it is read without them.
    clamped: str = ""
    #: Whom it holds for besides the plan's machines, where it was not limited to any.
    wide: str = ""
    #: It also matches what an audit does not ask about, such as ICMP, so that nothing says that it has no effect there.
    wider: bool = False


class Ruleset(ABC):
    """The rules of a platform, read from what its own tool prints."""

    rules: tuple[Rule, ...] = ()

    @abstractmethod
    def governs(self, local: Party) -> bool:
        """Say whether these rules hold for machines of that party."""

    @abstractmethod
    def entries(self, scene: Scene) -> tuple[list[Entry], Outcome]:
        """Return the entries that decide about a scene, in the order in which they are asked, and the default."""

    @abstractmethod
    def opening(self, flow: PlannedFlow, direction: Direction) -> str:
        """Return the exact command or edit that lets a flow pass at its end of that direction."""

    def others(self, parties: Iterable[Party]) -> Mapping[str, str]:
        """Return the rules that name peers whom no party of the plan is, each with who: `in the group X`."""
        return {}

    def among(self, local: Party) -> frozenset[str]:
        """Return the rules that let machines of a party do everything among themselves and no more: their group's."""
        return frozenset()

    def own_needs(self, scene: Scene) -> list[Box]:
        """Return what of a scene a machine needs for itself, whatever the plan: nothing, where no rules are asked."""
        return []

    def reopening(self, flow: PlannedFlow, direction: Direction, gone: Collection[str]) -> str:
        """Return what lets a flow pass once some rules are gone that it passes by now."""
        return self.opening(flow, direction)

    def closing(self, local: Party) -> str:
        """Return what closes a machine that is open without any rule; empty where none is."""
        return ""

    def naming(self, local: Party) -> str:
        """Return what tells whether these rules hold for a machine; empty where they hold for every one."""
        return ""

    def closing_egress(self, local: Party, flows: Sequence[PlannedFlow]) -> str:
        """Return what closes the way out of a machine that is open without any rule, but for some flows.

        Empty where it is closed without rules, or somebody's rule or policy opens it, which is said of that.
        """
        return ""

    @abstractmethod
    def removal(self, rule: Rule) -> str:
        """Return the exact command or edit that takes a rule away."""

    def removing(self, rule: Rule, gone: Collection[str]) -> str:
        """Return the same as it is needed where all of `gone` are to go, in whatever order, each command once."""
        return self.removal(rule)

    def stateful(self, scene: Scene) -> bool:
        """Say whether the other packets pass by themselves once the first was let through; so it is in most clouds."""
        return True


def of_networks(networks: Iterable[IPv4Network | IPv6Network]) -> Intervals:
    """Return networks as intervals of the address axis."""
    return join(
        (int(network.network_address) + shift, int(network.broadcast_address) + shift)
        for network in networks
        for shift in (V6 if network.version == 6 else 0,)
    )


def of_ports(ranges: Iterable[PortRange]) -> Intervals:
    """Return port ranges as intervals."""
    return join((ports.first, ports.last) for ports in ranges)


def source_ports(flow: PlannedFlow) -> Intervals:
    """Return the ports that connections of a flow may come from."""
    return of_ports((EPHEMERAL_OF_PEOPLE if flow.source.role in _PEOPLE else EPHEMERAL,))


def show_addresses(intervals: Intervals, most: int = 3) -> str:
    """Return the first few networks of some intervals, as people write them."""
    shown: list[str] = []
    for first, last in intervals:
        if first < V6:
            low, high = IPv4Address(first), IPv4Address(min(last, V6 - 1))
            shown += [_short(network) for network in summarize_address_range(low, high)]
        if last >= V6:
            low6, high6 = IPv6Address(max(first, V6) - V6), IPv6Address(last - V6)
            shown += [_short(network) for network in summarize_address_range(low6, high6)]
        if len(shown) > most:
            return ", ".join(shown[:most]) + ", …"
    return ", ".join(shown)


def _short(network: IPv4Network | IPv6Network) -> str:
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def show_ports(intervals: Intervals) -> str:
    """Return ports as people write them."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in intervals)
