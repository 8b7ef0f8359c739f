"""Which user on this machine a member runs as: one of its own for each allocation, or the operator's choice."""

from collections.abc import Mapping
from itertools import chain

from quorate.agent.command import User


class NoUserLeft(Exception):
    """Every UID of the range is in use; the text says which range."""


class UserPool:
    """UIDs of allocations that are on this machine. Members of one allocation share one: they trust each other.

    The one that is given out is that which nobody has had for longest.
    """

    def __init__(self, first: int, last: int, owners: Mapping[str, User]) -> None:
        self._first, self._last = first, last
        self._owners = dict(owners)
        self._taken: dict[str, int] = {}
        self._retired: set[int] = set()
        self._next = first

    def user(self, allocation: str, owner: str) -> User:
        """The same one for each call until the allocation's is retired. Raises NoUserLeft."""
        if owner in self._owners:
            return self._owners[owner]
        uid = self._taken.get(allocation)
        if uid is None:
            used = {*self._taken.values(), *self._retired}
            around = chain(range(self._next, self._last + 1), range(self._first, self._next))
            uid = next((uid for uid in around if uid not in used), None)
            if uid is None:
                raise NoUserLeft(f"all users from {self._first} to {self._last} are in use by allocations")
            self._taken[allocation] = uid
            self._next = uid + 1
        return User(uid, uid)

    def restore(self, allocation: str, uid: int) -> None:
        """An earlier life of the agent gave it this one."""
        if self._first <= uid <= self._last:
            self._taken[allocation] = uid
            self._next = max(self._next, uid + 1)

    def retire(self, allocation: str) -> int | None:
        """Takes the allocation's, if it has one, whose members and folders are gone; nobody has it before `free`."""
        uid = self._taken.pop(allocation, None)
        if uid is not None:
            self._retired.add(uid)
        return uid

    def free(self, uid: int) -> None:
        """No process and no file of this user is left."""
        self._retired.discard(uid)
