"""What `quorate net --cluster` asks a running master: where its agents are, and which ports their members hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from quorate.cli.session import connect
from quorate.model.clusterfile import ClusterFile, MasterSection, Mode, PoolSection, Where
from quorate.model.messages import Feature
from quorate.model.views import AgentView
from quorate.network.joining import BESIDE_THE_KERNEL


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

    Network modes are those that the agents there are can have, of those that the file allows.
    """
    with connect(master, token) as client:
        url = client.settings.master
        agents = list(client.agents())
    by_pool: dict[str, list[AgentView]] = {}
    for agent in agents:
        by_pool.setdefault(agent.pool, []).append(agent)
    listed = [pool for pool in file.pools if pool.name in by_pool or "pools" in file.model_fields_set]
    listed += [PoolSection(name=name) for name in sorted(by_pool.keys() - {pool.name for pool in listed})]
    pools = [_as_it_is(file, pool, by_pool.get(pool.name, [])) for pool in listed or file.pools]
    return file.model_copy(update={"master": _of_url(file.master, url), "pools": tuple(pools)})


def live_leases(master: str | None, token: str | None) -> list[LiveLease]:
    """Return the ports that members of running jobs hold, by agent and port."""
    with connect(master, token) as client:
        jobs = [client.job(job.id) for job in client.jobs(state="running", limit=1000)]
    return sorted(
        LiveLease(member.agent, member.address, port, purpose, member.id)
        for job in jobs
        for member in job.members
        if not member.underlay
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


def _as_it_is(file: ClusterFile, section: PoolSection, agents: list[AgentView]) -> PoolSection:
    modes = _modes_of(section, agents, file.settings(section).modes)
    network = section.network.model_copy(update={"modes": modes})
    return section.model_copy(update={"where": _of_agents(section.where, agents), "network": network})


def _modes_of(section: PoolSection, agents: list[AgentView], allowed: tuple[Mode, ...] | None) -> tuple[Mode, ...]:
    """Return how members may be joined: by what the agents can do, within what the file allows."""
    able = [agent for agent in agents if Feature.SANDBOX in agent.features]
    found: list[Mode] = ["bridge", "overlay"] if able else []
    if len(able) < len(agents) or not agents or section.fabric in BESIDE_THE_KERNEL:
        found.append("host")
    return tuple(mode for mode in found if allowed is None or mode in allowed) or tuple(found)


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
