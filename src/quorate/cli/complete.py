"""What the shell offers for names that only the master knows; silent when it does not answer at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quorate.client.api import Client


def jobs(incomplete: str) -> list[tuple[str, str]]:
    """Ids of recent jobs with their names and states."""
    return _offers(incomplete, lambda client: ((j.id, f"{j.spec.name}, {j.state}") for j in client.jobs(limit=50)))


def agents(incomplete: str) -> list[tuple[str, str]]:
    """Agents with their pool and state."""
    return _offers(incomplete, lambda client: ((a.id, f"{a.pool}, {a.state}") for a in client.agents()))


def pools(incomplete: str) -> list[tuple[str, str]]:
    """Pools with how much is free."""
    return _offers(incomplete, lambda client: ((p.name, f"{p.free} of {p.slots} slots free") for p in client.pools()))


def _offers(incomplete: str, find: Callable[[Client], Iterable[tuple[str, str]]]) -> list[tuple[str, str]]:
    from quorate.cli.session import connect
    from quorate.model.problem import QuorateError

    try:
        with connect() as client:
            return [(name, about) for name, about in find(client) if name.startswith(incomplete)]
    except QuorateError:
        return []
