"""The numbers by which the master decides; every timer of the design stands here with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from quorate.model.clusterfile import NetworkSettings
from quorate.model.job import JobSpec
from quorate.model.jobnetwork import Enforcement
from quorate.network import catalogue
from quorate.network.flows import NetworkMode
from quorate.network.overlays import VNIS
from quorate.network.settings import DEFAULT_OVERLAYS, modes_of
from quorate.scheduling.types import PoolPolicy


@dataclass(frozen=True)
class PoolNetwork:
    """What jobs of one pool may have of private networks."""

    modes: frozenset[NetworkMode] = frozenset(NetworkMode)
    #: Modes whose flows `quorate net rules` opens between the agents.
    opened: frozenset[NetworkMode] = modes_of(NetworkSettings())
    #: Subnets come out of these.
    overlays: tuple[IPv4Network, ...] = tuple(map(IPv4Network, DEFAULT_OVERLAYS))
    vnis: tuple[int, int] = VNIS
    vxlan_port: int = catalogue.port("vxlan")
    #: What the operator asks for: a job may ask for more, not for less.
    enforcement: Enforcement | None = None
    window: tuple[int, int] | None = None
    fabric: str | None = None


@dataclass(frozen=True)
class Settings:
    """Seconds everywhere; the defaults are the design's."""

    heartbeat_s: float = 10.0
    #: Silent for so long: no new placement on the agent; its members run on.
    unreachable_s: float = 60.0
    #: The least time until a silent agent's job may be placed again; longer where the job's own timers need it.
    replace_after_s: float = 960.0
    #: A silent agent whose job may not be restarted is not told to stop it, so nothing is won by giving it up early.
    abandon_after_s: float = 86_400.0
    #: For clocks that drift, a stop under load, and a master that has not yet noticed that it was fenced.
    margin_s: float = 30.0
    #: The agents' own deadline of the rendezvous is start_timeout, and it can name who is missing: it comes first.
    start_margin_s: float = 15.0
    #: A master that hears nothing from more than this share of its agents is taken to be the one cut off ...
    loss_pause_share: float = 0.2
    #: ... but only with so many silent ones: of three agents any one may die without raising doubt about the master.
    loss_pause_least: int = 2
    #: Agents stop by themselves long before: a pause that lasted so long protects nobody any more.
    loss_pause_limit_s: float = 3600.0
    #: A second link with an agent's id within this time of the first one's last heartbeat is a duplicate.
    link_live_s: float = 25.0
    #: How long an agent gets no work after a duplicate knocked.
    duplicate_hold_s: float = 60.0
    #: The store's epoch is read at least so often, so that a fenced master does not renew leases for long.
    fence_check_s: float = 5.0
    #: Members that outlive their stop (after the grace): so long until the job is given up as failed.
    stop_limit_s: float = 600.0
    #: Failures of the platform in a row after which a job fails although restarts are left.
    platform_failures: int = 20
    #: The same where no command had begun: the next placement has other ports, but perhaps the same machines.
    unstarted_attempts: int = 5
    #: How often every agent tries a few others, so that the scheduler keeps gangs off those that do not reach each
    #: other; 0 for never.
    check_agents_s: float = 60.0
    #: A job none of whose members has made progress for so long is diagnosed once by itself; 0 for never.
    stalled_s: float = 600.0
    #: Final jobs beyond either are forgotten, oldest first.
    keep_jobs: int = 10_000
    keep_jobs_s: float = 30 * 86_400.0
    #: Attempts of one job that are still shown with their members.
    keep_attempts: int = 10
    queue_limit: int = 100_000
    #: Pools by name with their policy. A pool also exists once an agent has joined it.
    pools: Mapping[str, PoolPolicy] = field(default_factory=lambda: {"default": PoolPolicy()})

    #: Networks of jobs by pool; a pool that is not named has the cluster's.
    networks: Mapping[str, PoolNetwork] = field(default_factory=dict)
    network: PoolNetwork = PoolNetwork()
    #: The master's own addresses, which no member reaches but through its agent.
    own_addresses: tuple[str, ...] = ()
    #: The port of the API there, which members with a token of their job may ask; 0 where it is not known.
    api_port: int = 0

    def network_of(self, pool: str) -> PoolNetwork:
        """What jobs of the pool may have."""
        return self.networks.get(pool, self.network)

    def replace_after(self, spec: JobSpec) -> float:
        """Silence after which a member of this job is given up: never before its agent has surely stopped it."""
        if not spec.may_restart:
            return self.abandon_after_s
        return max(self.replace_after_s, spec.stop_after + spec.grace + self.margin_s)
