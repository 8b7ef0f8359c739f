"""Members in this machine's network: what their allocations may do there, as rules of their users and leases; pure."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from msgspec import structs

from quorate.agent.helper.protocol import size_of
from quorate.agent.planning import plan_of
from quorate.agent.sandbox.counters import Counters, Refusal
from quorate.agent.sandbox.spec import LAST_UID, HostMembers, Mode, SpecError
from quorate.model.asks import RefusedBy
from quorate.model.messages import AllocationSpec, Finding, HostsSpec
from quorate.model.ports import LAST_PORT
from quorate.network.flows import Direction, Role, Transport
from quorate.network.jobplan import Openness
from quorate.network.plan import PlannedFlow

#: Below, machines' own services listen, and no member can.
_FIRST_PORT = 1024


@dataclass(frozen=True)
class _Held:
    """A member: whom it runs as, and what its allocation may do."""

    uid: int
    members: HostMembers
    #: Of those in a message to the helper, in bytes.
    size: int
    #: Whether the master has said what they may do.
    told: bool
    #: Those that it leases itself.
    ports: frozenset[int]


@dataclass
class OnHost:
    """The members in this machine's network. `users`: first and last UID of allocations; each has one of its own."""

    users: tuple[int, int] | None = None
    _held: dict[str, _Held] = field(default_factory=dict)

    def hold(self, member: str, uid: int, members: HostMembers, *, told: bool, ports: Collection[int] = ()) -> None:
        """The member runs as this user, from now on, and has leased these ports.

        Raises SpecError for a UID that no rule can name.
        """
        if not 0 <= uid <= LAST_UID:
            raise SpecError(f"{member}: {uid} is the UID of nobody; the last one is {LAST_UID}")
        self._held[member] = _Held(uid, members, size_of(members), told, frozenset(ports))

    def release(self, member: str) -> bool:
        """It runs no more; whether it was here."""
        return self._held.pop(member, None) is not None

    def only(self, members: Collection[str]) -> None:
        """Nobody else is left."""
        self._held = {member: held for member, held in self._held.items() if member in members}

    def known(self, allocation: str) -> HostMembers | None:
        """What an allocation may do that has a member here."""
        return next((held.members for held in self._held.values() if held.members.allocation == allocation), None)

    @property
    def size(self) -> int:
        """Of all allocations in a message to the helper, in bytes, at most."""
        return sum({held.members.allocation: held.size for held in self._held.values()}.values())

    @property
    def chosen(self) -> tuple[int, ...]:
        """The UIDs of members that are not of the allocations' own: the operator's or a job's choice, but for root."""
        return tuple(sorted({held.uid for held in self._held.values() if held.uid and not self._is_own(held.uid)}))

    def members(self) -> tuple[HostMembers, ...]:
        """By allocation, with the users that are its own; what two claim is the later one's."""
        allocations = dict.fromkeys(held.members.allocation for held in self._held.values())
        users = {allocation: self._users(allocation) for allocation in allocations}
        taken: set[int] = set()
        found: list[HostMembers] = []
        for allocation in reversed(allocations):
            own = self.known(allocation)
            assert own is not None
            others = {uid for other in allocations if other != allocation for uid in users[other]}
            found.append(
                structs.replace(
                    own,
                    users=tuple(sorted(users[allocation] - others)),
                    leased=tuple(port for port in own.leased if port not in taken),
                    # All machines of the cluster, for everybody: the latest knows best.
                    forbidden=own.forbidden if not found else (),
                )
            )
            taken |= set(own.leased)
        return tuple(reversed(found))

    def unfiltered(self) -> tuple[Finding, ...]:
        """Members of whom no rule can tell what they open."""
        found, own = [], {uid for members in self.members() for uid in members.users}
        for member, held in self._held.items():
            if not held.told:
                found.append(_unfiltered(member, "the master is older and does not say what it may do"))
            elif held.members.mode is not Mode.OFF and held.uid not in own:
                who = f"user {held.uid}, who is not its allocation's alone" if held.uid else "root"
                found.append(_unfiltered(member, f"it runs as {who}; its ports are held, what it opens is not"))
        return tuple(found)

    def attributed(self, allocation: str, counted: Counters, address: str) -> Counters:
        """What was counted of an allocation here, with who was refused and why, as far as that shows.

        Rules know whose port it was, but of several members with one user not who opens a connection: `member` stays
        empty then. `address`: the machine's own.
        """
        here = {member: held for member, held in self._held.items() if held.members.allocation == allocation}
        alone = next(iter(here)) if len(here) == 1 else ""
        by_port = {port: member for member, held in here.items() for port in held.ports}
        others = {port for held in self._held.values() if held.members.allocation != allocation for port in held.ports}
        own = next((held.members for held in here.values()), None)
        machines = {ip_address(machine) for machine in own.machines} if own is not None else set()

        def why(refusal: Refusal) -> RefusedBy:
            if refusal.direction is Direction.INGRESS:
                return RefusedBy.PLAN
            peer = ip_address(refusal.peer)
            near = peer.is_loopback or peer == ip_address(address)
            if near and (refusal.port < _FIRST_PORT or refusal.port in others):
                return RefusedBy.FORBIDDEN
            return RefusedBy.PLAN if near or peer in machines else RefusedBy.FORBIDDEN

        def whose(refusal: Refusal) -> str:
            return by_port.get(refusal.port, alone) if refusal.direction is Direction.INGRESS else alone

        refused = tuple(structs.replace(one, member=whose(one), by=why(one)) for one in counted.refused)
        return structs.replace(counted, refused=refused, unlisted=(alone,) if counted.unlisted else ())

    def _users(self, allocation: str) -> set[int]:
        uids = {held.uid for held in self._held.values() if held.members.allocation == allocation}
        return {uid for uid in uids if self._is_own(uid)}

    def _is_own(self, uid: int) -> bool:
        return self.users is not None and self.users[0] <= uid <= self.users[1]


def host_members(spec: AllocationSpec, agent: str, ephemeral: tuple[int, int]) -> HostMembers:
    """What the allocation's members on this agent may do, without their users.

    `ephemeral`: first and last port that this machine's kernel picks, as the others' do. Raises ValueError.
    """
    told = spec.hosts or HostsSpec(enforcement=Mode.OFF.value)
    try:
        mode, openness = Mode(told.enforcement), Openness(told.members)
    except ValueError as error:
        raise SpecError(f"{spec.allocation}: {error}") from None
    flows: set[tuple[str, int]] = set()
    ranges: set[tuple[Transport, int, int]] = set()
    if openness is Openness.OPEN:
        ranges |= {(transport, _FIRST_PORT, LAST_PORT) for transport in Transport}
    for flow in _between_members(spec):
        for ports in flow.ports:
            if len(ports) == 1 and flow.transport is Transport.TCP:
                flows |= {(str(host), ports.first) for network in flow.destination.addresses for host in network}
            elif openness is Openness.PLANNED and ports.last >= _FIRST_PORT:
                ranges.add((flow.transport, max(_FIRST_PORT, ports.first), ports.last))
                ranges.add((flow.transport, max(_FIRST_PORT, ephemeral[0]), ephemeral[1]))
    return HostMembers(
        allocation=spec.allocation,
        mode=mode,
        leased=tuple(sorted({port for one in spec.members if one.agent == agent for port in one.ports.values()})),
        machines=told.addresses,
        flows=tuple(sorted(flows)),
        ranges=tuple(sorted(ranges)),
        forbidden=told.forbidden,
        api=told.api,
    )


def _between_members(spec: AllocationSpec) -> Iterator[PlannedFlow]:
    for flow in plan_of(spec).flows:
        if flow.source.role is Role.MEMBER and flow.destination.role is Role.MEMBER:
            yield flow


def _unfiltered(member: str, why: str) -> Finding:
    return Finding(
        "NET-UNFILTERED", "warning", "A member in its host's network is not filtered", f"{member}: {why}",
        "network: {mode: bridge} or {mode: overlay} in the job, on agents that make private networks", member,
    )  # fmt: skip
