"""What allocations hold of VNIs and subnets, and what no member may reach: indexes of the state, like its slots."""

from collections.abc import Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network, collapse_addresses, ip_address

from quorate.master.records import AgentRecord, AllocationRecord
from quorate.master.settings import Settings
from quorate.network.overlays import Taken, around


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
        self._forbidden = None

    def underlay(self, agents: Mapping[str, AgentRecord]) -> Taken:
        """What no subnet may overlap: networks round the agents, and the master."""
        if self._underlay is None:
            self._underlay = Taken([*map(around, _addresses(agents)), *self._masters()])
        return self._underlay

    def forbidden(self, agents: Mapping[str, AgentRecord]) -> tuple[str, ...]:
        """What no member reaches, as few networks as can be: all subnets, given or not, and all addresses of agents and
        master, not only those by which they are known: each leads to the same machine.
        """
        if self._forbidden is None:
            found = [IPv4Network(address) for address in _addresses(agents, further=True)]
            found += self._masters()
            found += [*self._ranges(), *self._earlier]
            self._forbidden = tuple(map(str, collapse_addresses(found)))
        return self._forbidden

    def api(self) -> tuple[tuple[str, int], ...]:
        """Where members with a token of their job may ask the master, and nothing else on its machine."""
        port = self._settings.api_port
        return tuple((str(network), port) for network in self._masters()) if port else ()

    def _masters(self) -> list[IPv4Network]:
        return [network for text in self._settings.own_addresses if (network := _v4_network(text))]

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


def _addresses(agents: Mapping[str, AgentRecord], *, further: bool = False) -> list[IPv4Address]:
    """Addresses at which another machine could find agents: those that they are known by, or all that they have.

    There is no IPv6 in private networks.
    """
    found = []
    for agent in agents.values():
        for text in (agent.address, *(agent.addresses if further else ())):
            try:
                address = IPv4Address(text)
            except AddressValueError:
                continue
            if not agent.revoked and not address.is_loopback:
                found.append(address)
    return found


def _v4_network(text: str) -> IPv4Network | None:
    try:
        return IPv4Network(text)
    except ValueError:
        return None
