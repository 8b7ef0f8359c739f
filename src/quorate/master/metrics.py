"""What Prometheus scrapes: read from the state at the moment of the scrape, so that nothing is counted twice."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from quorate import __version__
from quorate.master.api.render import pool_views
from quorate.master.services import Services
from quorate.master.standing import agent_state

MEDIA_TYPE = CONTENT_TYPE_LATEST


def exposition(master: Services) -> bytes:
    """The metrics in Prometheus' text format. To be called on the event loop; costs a look at all jobs and agents."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Master(master))
    return generate_latest(registry)


class _Master(Collector):
    def __init__(self, master: Services) -> None:
        self._master = master

    def collect(self) -> Iterator[Metric]:
        """All metrics of one master."""
        master, state = self._master, self._master.state
        yield _gauge(
            "quorate_master_info", "What runs.", [((__version__, state.identity.cluster), 1)], ("version", "cluster")
        )
        yield _gauge("quorate_epoch", "Starts of a master on this store.", [((), state.identity.epoch)])
        yield _counter("quorate_generation", "Commits of this store.", state.generation)
        jobs = Counter(job.state.value for job in state.jobs.values())
        yield _gauge("quorate_jobs", "Jobs that are remembered, by state.", _labelled(jobs), ("state",))
        agents = Counter((agent.pool, agent_state(state, agent).value) for agent in state.agents.values())
        yield _gauge("quorate_agents", "Agents by pool and state.", list(agents.items()), ("pool", "state"))
        pools = pool_views(state)
        yield _gauge("quorate_slots", "Slots by pool.", [((pool.name,), pool.slots) for pool in pools], ("pool",))
        yield _gauge(
            "quorate_slots_free",
            "Free slots of ready agents.",
            [((pool.name,), pool.free) for pool in pools],
            ("pool",),
        )
        yield _gauge("quorate_queue", "Jobs that wait.", [((pool.name,), pool.queued) for pool in pools], ("pool",))
        yield _gauge("quorate_links", "Control links of agents.", [((), master.links.connected)])
        yield _gauge("quorate_streams", "Streams and waits of clients.", [((), master.notices.watchers)])
        yield _counter("quorate_commits", "Commits of this process.", master.writer.commits)
        yield _gauge("quorate_commit_seconds", "How long the last commit took.", [((), master.writer.commit_s)])
        yield _counter("quorate_log_bytes", "Bytes of members' logs that were made durable.", master.logs.bytes_written)
        yield _gauge(
            "quorate_disk_full", "Whether logs wait for room on the disk.", [((), float(bool(master.logs.full)))]
        )
        yield _gauge("quorate_loop_lag_seconds", "How late the event loop was.", [((), master.lag.seconds)])


def _gauge(
    name: str, text: str, values: list[tuple[tuple[str, ...], float]], labels: tuple[str, ...] = ()
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


def _labelled(counts: Counter[str]) -> list[tuple[tuple[str, ...], float]]:
    return [((label,), count) for label, count in counts.items()]
