"""What an agent has to do so that it has what it should have: a pure comparison."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from quorate.model.ids import MemberId, split_member
from quorate.model.state import MemberState


@dataclass(frozen=True)
class Wanted:
    """The newest desired set: members in the master's order, and of those the ones that are to end, with the reason."""

    members: tuple[str, ...] = ()
    stop: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """What the agent has of one member. `shipped`: the master holds its whole log, so that nothing is lost with it."""

    state: MemberState
    stopping: bool = False
    shipped: bool = True


@dataclass(frozen=True)
class Begin:
    """Record the intent, then start the member."""

    member: str


@dataclass(frozen=True)
class Decline:
    """The member is to end before it ever began: it is recorded as failed and never started."""

    member: str
    reason: str


@dataclass(frozen=True)
class End:
    """Stop the member; its outcome is awaited."""

    member: str
    reason: str


@dataclass(frozen=True)
class Drop:
    """Forget the member: it has ended, nobody wants the record, and its log is safe elsewhere."""

    member: str


def allocation_of(member: str) -> str:
    """The allocation of a member that is named as members are; raises ValueError for another text."""
    return split_member(MemberId(member))[0]


Step = Begin | Decline | End | Drop


def reconcile(wanted: Wanted, held: Mapping[str, Held], allocations: Collection[str]) -> Iterator[Step]:
    """The steps from what is held to what is wanted, in the master's order; none where both agree.

    `allocations` are those whose spec is known: a member of another one has to wait for it.
    """
    for member in wanted.members:
        have = held.get(member)
        reason = wanted.stop.get(member)
        if have is None:
            if reason is not None:
                yield Decline(member, reason)
            elif allocation_of(member) in allocations:
                yield Begin(member)
        elif reason is not None and not have.state.final and not have.stopping:
            yield End(member, reason)
    keep = set(wanted.members)
    for member, have in held.items():
        if member in keep:
            continue
        if have.state.final:
            if have.shipped:
                yield Drop(member)
        elif not have.stopping:
            yield End(member, "the cluster no longer wants it")
