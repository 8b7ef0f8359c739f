"""What `quorate net --cluster` asks a running master: where its agents are, and which ports their members hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from quorate.cli.session import connect
from quorate.model.clusterfile import ClusterFile, MasterSection, PoolSection, Where
from quorate.model.views import AgentView
from quorate.network.settings import LIVE_MODES


@dataclass(frozen=True, slots=True, order=True)
class LiveLease:
    """A port that a member holds on its agent's address."""

    agent: str
    address: str
    port: int
    purpose: str
    member: str

    def to_dict(self) -> dict[str, str | int]:
        """Return it for `--json`."""
        return asdict(self)


def live_cluster(file: ClusterFile, master: str | None, token: str | None) -> ClusterFile:
    """Return the cluster with the master and the agents that are there; what the file says about places stands.

    Network modes are those that agents have today, whatever modes the file will allow jobs once they have more.
    """
    with connect(master, token) as client:
        url = client.settings.master
        agents = list(client.agents())
    by_pool: dict[str, list[AgentView]] = {}
    for agent in agents:
        by_pool.setdefault(agent.pool, []).append(agent)
    pools = [
        section.model_copy(update={"where": _of_agents(section.where, by_pool.pop(section.name, []))})
        for section in file.pools
        if section.name in by_pool or "pools" in file.model_fields_set
    ]
    pools += [PoolSection(name=name, where=_of_agents(Where(), found)) for name, found in sorted(by_pool.items())]
    pools = [_joined_as_today(section) for section in pools or file.pools]
    return file.model_copy(update={"master": _of_url(file.master, url), "pools": tuple(pools)})


def live_leases(master: str | None, token: str | None) -> list[LiveLease]:
    """Return the ports that members of running jobs hold, by agent and port."""
    with connect(master, token) as client:
        jobs = [client.job(job.id) for job in client.jobs(state="running", limit=1000)]
    return sorted(
        LiveLease(member.agent, member.address, port, purpose, member.id)
        for job in jobs
        for member in job.members
        for purpose, port in member.ports.items()
    )


def _of_url(section: MasterSection, url: str) -> MasterSection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    known = {"port": parts.port, "tls": parts.scheme == "https"}
    unset = {name: value for name, value in known.items() if name not in section.model_fields_set}
    where = section.where
    if not where.addresses and (literal := _literal(host)):
        where = Where.model_validate({**where.model_dump(), "addresses": [literal]})
    names = section.names or (() if _literal(host) else (host,))
    return section.model_copy(update={**unset, "where": where, "names": names})


def _joined_as_today(section: PoolSection) -> PoolSection:
    return section.model_copy(update={"network": section.network.model_copy(update={"modes": LIVE_MODES})})


def _of_agents(where: Where, agents: list[AgentView]) -> Where:
    """Return where a pool is: what the file says stands; the addresses of its agents where it says none."""
    found = {literal for agent in agents if (literal := _literal(agent.address))}
    return where if where.addresses else Where.model_validate({**where.model_dump(), "addresses": sorted(found)})


def _literal(host: str) -> str | None:
    """Return an address as text; None for a name, whose addresses the file has to say."""
    try:
        return str(ip_address(host))
    except ValueError:
        return None
