"""What allocations hold of VNIs and subnets, and what no member may reach: indexes of the state, like its slots."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

from quorate.master.records import AgentRecord, AllocationRecord
from quorate.master.settings import Settings
from quorate.network.overlays import Taken, around

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Networks:
    """A network is held from when its first member is placed until its last one is released."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        #: By VNI, the allocation that has it.
        self.vnis: dict[int, str] = {}
        self.subnets = Taken()
        #: Held subnets outside of today's ranges: given before `network.overlays`, or its default, was changed.
        self._earlier: set[IPv4Network] = set()
        self._unreleased: dict[str, int] = {}
        self._underlay: Taken | None = None
        self._forbidden: tuple[str, ...] | None = None
        self._machines: tuple[str, ...] | None = None
        self._masters = tuple(_networks(settings.own_addresses))

    def hold(self, allocation: AllocationRecord) -> None:
        """One more of its members may exist. Raises ValueError where somebody else has its network."""
        count = self._unreleased.get(allocation.id, 0)
        network = allocation.network
        if count == 0 and network is not None:
            if network.vni in self.vnis:
                raise ValueError(f"VNI {network.vni} is given to {allocation.id}, held by {self.vnis[network.vni]}")
            subnet = IPv4Network(network.subnet)
            self.subnets.take(subnet)
            if not any(subnet.subnet_of(today) for today in self._ranges()):
                self._earlier.add(subnet)
                self._forbidden = None
            self.vnis[network.vni] = allocation.id
        self._unreleased[allocation.id] = count + 1

    def release(self, allocation: AllocationRecord) -> None:
        """One of its members is gone for certain."""
        self._unreleased[allocation.id] -= 1
        if self._unreleased[allocation.id]:
            return
        del self._unreleased[allocation.id]
        if allocation.network is not None:
            subnet = IPv4Network(allocation.network.subnet)
            self.subnets.free(subnet)
            if subnet in self._earlier:
                self._earlier.remove(subnet)
                self._forbidden = None
            del self.vnis[allocation.network.vni]

    def agents_changed(self) -> None:
        """What was derived from the agents' addresses is to be made anew."""
        self._underlay = None
        self._forbidden = self._machines = None

    def underlay(self, agents: Mapping[str, AgentRecord]) -> Taken:
        """What no subnet may overlap: networks round the agents, and the master."""
        if self._underlay is None:
            known = (address for agent in _in_use(agents) for address in _outward([agent.address]))
            rounds = [around(address) for address in known if isinstance(address, IPv4Address)]
            self._underlay = Taken([*rounds, *_v4(self._masters)])
        return self._underlay

    def forbidden(self, agents: Mapping[str, AgentRecord]) -> tuple[str, ...]:
        """What no member reaches from a private network, as few networks as can be: all subnets, given or not,
        and all addresses of agents and master, not only those by which they are known: each leads to the same machine.
        """
        if self._forbidden is None:
            found = [*_v4(map(ip_network, self.machines(agents))), *self._ranges(), *self._earlier]
            self._forbidden = tuple(map(str, collapse_addresses(found)))
        return self._forbidden

    def machines(self, agents: Mapping[str, AgentRecord]) -> tuple[str, ...]:
        """All addresses of agents and master, IPv4 and IPv6, as few networks as can be."""
        if self._machines is None:
            known = (address for agent in _in_use(agents) for address in _outward((agent.address, *agent.addresses)))
            found = [*map(ip_network, known), *self._masters]
            v6 = collapse_addresses(network for network in found if isinstance(network, IPv6Network))
            self._machines = tuple(map(str, (*collapse_addresses(_v4(found)), *v6)))
        return self._machines

    def addresses(self, agents: Mapping[str, AgentRecord]) -> tuple[str, ...]:
        """All addresses of these agents, loopback's, too, where that is how they are known."""
        known = (text for agent in agents.values() for text in (agent.address, *agent.addresses) if is_address(text))
        return tuple(dict.fromkeys(known))

    def api(self, *, v6: bool = False) -> tuple[tuple[str, int], ...]:
        """Where members with a token of their job may ask the master, and nothing else on its machine."""
        port = self._settings.api_port
        networks = self._masters if v6 else _v4(self._masters)
        return tuple((str(network), port) for network in networks) if port else ()

    def _ranges(self) -> Iterator[IPv4Network]:
        """Out of which subnets are given today, in any pool."""
        for pool in (self._settings.network, *self._settings.networks.values()):
            yield from pool.overlays


def is_address(text: str) -> bool:
    """Whether it is an address by which a machine is found, whoever asks: without the name of a device."""
    try:
        return not getattr(ip_address(text), "scope_id", None)
    except ValueError:
        return False


def _in_use(agents: Mapping[str, AgentRecord]) -> Iterator[AgentRecord]:
    return (agent for agent in agents.values() if not agent.revoked)


def _outward(texts: Iterable[str]) -> list[Address]:
    """Those at which another machine could find this one."""
    return [address for text in texts if is_address(text) and not (address := ip_address(text)).is_loopback]


def _v4(networks: Iterable[Network]) -> list[IPv4Network]:
    return [network for network in networks if isinstance(network, IPv4Network)]


def _networks(texts: Iterable[str]) -> Iterator[Network]:
    for text in texts:
        with suppress(ValueError):
            yield ip_network(text)
