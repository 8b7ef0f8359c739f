"""What the shell offers for names that only the master knows; silent when it does not answer at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

#: Seconds that a person would wait for a key.
PATIENCE = 1.0
#: Jobs that are offered, the newest first.
OFFERED = 50
#: Jobs whose members are offered: each is a question of its own.
LOOKED_INTO = 5

Offer = tuple[str, str]


def jobs(incomplete: str) -> list[Offer]:
    """Ids of recent jobs with their names and states; their names too, once one is begun."""
    return _offers(incomplete, f"jobs?limit={OFFERED}", lambda found: _named(found, by_name=bool(incomplete)))


def clusters(incomplete: str) -> list[Offer]:
    """The same of clusters."""
    path = f"jobs?kind=cluster&limit={OFFERED}"
    return _offers(incomplete, path, lambda found: _named(found, by_name=bool(incomplete)))


def _named(found: list[Any], *, by_name: bool) -> Iterator[Offer]:
    told = set()
    for job in found:
        name = job["spec"].get("name", "job")
        yield job["id"], f"{name}, {job['state']}"
        if by_name and name not in told:
            told.add(name)
            yield name, f"{job['id']}, {job['state']}"


def members(incomplete: str) -> list[Offer]:
    """`ID/MEMBER` of the jobs that run; of the cluster that runs alone also `MEMBER`."""

    def offers(running: list[Any]) -> Iterator[Offer]:
        clusters = [job["id"] for job in running if job["spec"].get("kind") == "cluster"]
        job_id, slash, _ = incomplete.partition("/")
        for job in [job for job in running if not slash or job["id"] == job_id][:LOOKED_INTO]:
            name = job["spec"].get("name", "job")
            for member in _asked(f"jobs/{job['id']}")["members"]:
                if clusters == [job["id"]]:
                    yield member["name"], f"{name}, on {member['agent']}"
                yield f"{job['id']}/{member['name']}", f"{name}, on {member['agent']}"

    return _offers(incomplete, f"jobs?state=running&limit={OFFERED}", offers)


def agents(incomplete: str) -> list[Offer]:
    """Agents with their pool and state."""
    return _offers(incomplete, "agents", lambda found: ((one["id"], f"{one['pool']}, {one['state']}") for one in found))


def pools(incomplete: str) -> list[Offer]:
    """Pools with how much is free."""
    about = "{free} of {slots} slots free".format_map
    return _offers(incomplete, "pools", lambda found: ((one["name"], about(one)) for one in found))


def words(*known: str) -> Callable[[str], list[str]]:
    """Words that never change."""
    return lambda incomplete: [word for word in known if word.startswith(incomplete)]


def _offers(incomplete: str, path: str, offers: Callable[[list[Any]], Iterable[Offer]]) -> list[Offer]:
    from quorate.model.problem import QuorateError

    try:
        found = offers(_asked(path)["items"])
        return [(name, about) for name, about in found if name.startswith(incomplete)]
    # Whatever is wrong with the master or the settings: a key that is pressed is no place to tell it.
    except (QuorateError, OSError, ValueError, KeyError, TypeError):
        return []


def _asked(path: str) -> Any:
    """What the API says, as it comes: to import the client's models takes as long as all the rest. Raises OSError."""
    import http.client
    from urllib.parse import urlsplit

    from quorate.client.settings import resolve

    settings = resolve()
    parts = urlsplit(settings.master)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        import ssl

        trusted = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=trusted)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    headers = {"Accept": "application/json", "Authorization": f"Bearer {settings.token}"}
    try:
        connection.request("GET", f"{parts.path}/api/v1/{path}", headers=headers)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise OSError(f"{path} was answered with {answer.status}")
        return json.loads(answer.read())
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP is spoken there: {error}") from None
    finally:
        connection.close()
