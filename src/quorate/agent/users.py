"""Which user on this machine a member runs as: one of its own for each allocation, or the operator's choice."""

from collections.abc import Mapping

from quorate.agent.command import User


class NoUserLeft(Exception):
    """Every UID of the range is in use; the text says which range."""


class UserPool:
    """UIDs of allocations that are on this machine. Members of one allocation share one: they trust each other."""

    def __init__(self, first: int, last: int, owners: Mapping[str, User]) -> None:
        self._first, self._last = first, last
        self._owners = dict(owners)
        self._taken: dict[str, int] = {}

    def user(self, allocation: str, owner: str) -> User:
        """The same one for each call until the allocation is released. Raises NoUserLeft."""
        if owner in self._owners:
            return self._owners[owner]
        uid = self._taken.get(allocation)
        if uid is None:
            used = set(self._taken.values())
            uid = next((uid for uid in range(self._first, self._last + 1) if uid not in used), None)
            if uid is None:
                raise NoUserLeft(f"all users from {self._first} to {self._last} are in use by allocations")
            self._taken[allocation] = uid
        return User(uid, uid)

    def restore(self, allocation: str, uid: int) -> None:
        """An earlier life of the agent gave it this one."""
        if self._first <= uid <= self._last:
            self._taken[allocation] = uid

    def release(self, allocation: str) -> None:
        """No process and no file of the allocation is left."""
        self._taken.pop(allocation, None)
