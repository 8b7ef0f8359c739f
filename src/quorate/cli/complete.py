"""What the shell offers for names that only the master knows; silent when it does not answer at once."""

from __future__ import annotations

from typing import Any


def jobs(incomplete: str) -> list[tuple[str, str]]:
    """Ids of recent jobs with their names and states."""
    found = _items("/api/v1/jobs?limit=50")
    return [(i["id"], f"{i['spec'].get('name', 'job')}, {i['state']}") for i in found if i["id"].startswith(incomplete)]


def agents(incomplete: str) -> list[tuple[str, str]]:
    """Agents with their pool and state."""
    return [(i["id"], f"{i['pool']}, {i['state']}") for i in _items("/api/v1/agents") if i["id"].startswith(incomplete)]


def pools(incomplete: str) -> list[tuple[str, str]]:
    """Pools with how much is free."""
    found = _items("/api/v1/pools")
    return [(i["name"], f"{i['free']} of {i['slots']} slots free") for i in found if i["name"].startswith(incomplete)]


def _items(path: str) -> list[dict[str, Any]]:
    from quorate.cli.session import connect
    from quorate.model.problem import QuorateError

    try:
        with connect() as client:
            found = client.request("GET", path, timeout=1.0)["items"]
            return found if isinstance(found, list) else []
    except (QuorateError, KeyError, TypeError):
        return []
