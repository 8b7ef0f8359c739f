"""Tells which permission was meant by one that Quorate does not know; its table has gaps, so it claims no more."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache

from quorate.iam.gcp.permissions import PERMISSIONS
from quorate.iam.place import distance

# What a permission is called where the call has another name: https://cloud.google.com/compute/docs/access/iam
CALLS = {"insert": "create", "bulkInsert": "create", "aggregatedList": "list", "patch": "update"}
# A slip is of at most so many letters.
_MOST = 2


def is_known(permission: str) -> bool:
    return permission in _all()


def of_call(permission: str) -> str | None:
    """The permission for a call's name, such as `compute.instances.insert`; None where it is no call's."""
    resource, _, verb = permission.rpartition(".")
    meant = f"{resource}.{CALLS.get(verb, '')}"
    return meant if meant in _all() else None


def slip_of(permission: str) -> str | None:
    """The known permission of which this one is a slip of at most two letters, or None."""
    parts = permission.split(".")
    if len(parts) != 3:
        return None
    return min(_near(*parts), default=(0, None))[1]


def _near(service: str, resource: str, verb: str) -> Iterator[tuple[int, str]]:
    for first, one in _within(service, tuple(_tree())):
        for second, other in _within(resource, tuple(_tree()[one])):
            for third, last in _within(verb, _tree()[one][other]):
                if first + second + third <= _MOST:
                    yield first + second + third, f"{one}.{other}.{last}"


@lru_cache(maxsize=4096)
def _within(word: str, names: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
    """The names that are near to the word; a word of two or three letters is near to itself alone."""
    if word in names or len(word) < 4:
        return ((0, word),) if word in names else ()
    rated = ((distance(word.lower(), name.lower(), _MOST), name) for name in names)
    return tuple((far, name) for far, name in rated if far <= _MOST)


@cache
def _tree() -> dict[str, dict[str, tuple[str, ...]]]:
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for path, verbs in PERMISSIONS.items():
        service, resource = path.split(".")
        found.setdefault(service, {})[resource] = tuple(verbs.split())
    return found


@cache
def _all() -> frozenset[str]:
    return frozenset(f"{path}.{verb}" for path, verbs in PERMISSIONS.items() for verb in verbs.split())
