"""Batches: nothing is shown before it is durable, the next one gathers meanwhile, a failing event leaves no trace."""

from typing import Any

import pytest

from quorate.master import effects as fx
from quorate.master import events as ev
from quorate.master import transitions
from quorate.master.settings import Settings
from quorate.master.store import StoreFenced
from quorate.master.transitions import timers
from quorate.model.job import JobSpec
from quorate.model.messages import Desired
from quorate.model.state import JobState

from .cluster import Cluster, fresh_entropy, running


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def _submit(cluster: Cluster) -> Any:
    return cluster.apply(ev.JobSubmitted, owner="ann", spec=JobSpec(entrypoint=("true",)), entropy=fresh_entropy())


def _seal(cluster: Cluster) -> Any:
    return cluster.core.seal(now=cluster.now, wall=cluster.now + 1e9, entropy=fresh_entropy())


def _desired(batch: Any) -> list[Desired]:
    return [e.message for e in batch.effects if isinstance(e, fx.SendTo) and isinstance(e.message, Desired)]


def test_the_next_batch_gathers_while_one_is_being_committed(cluster: Cluster) -> None:
    cluster.agent("a", slots=2)
    first = _submit(cluster).job
    one = _seal(cluster)
    second = _submit(cluster).job
    cluster.core.commit(one)
    two = _seal(cluster)
    cluster.core.commit(two)
    assert two.generation == one.generation + 1
    assert _desired(one)[-1].members == (f"{first}-1.0.1",)
    assert set(_desired(two)[-1].members) == {f"{first}-1.0.1", f"{second}-1.0.1"}


def test_a_desired_set_is_that_of_its_own_batch_whatever_came_after(cluster: Cluster) -> None:
    cluster.agent("a")
    job = _submit(cluster).job
    batch = _seal(cluster)
    cluster.apply(ev.JobCancelRequested, job=job, by="ann")
    assert _desired(batch)[-1].stop == {}


def test_a_heartbeat_writes_nothing(cluster: Cluster) -> None:
    a = cluster.agent("a")
    before = cluster.state.generation
    a.beat()
    assert cluster.state.generation == before


def test_a_master_that_only_hears_heartbeats_notices_within_seconds_that_it_is_fenced() -> None:
    cluster = Cluster(Settings(fence_check_s=5.0))
    a = cluster.agent("a")
    old, old_agents = cluster.core, dict(cluster.agents_by_link)
    cluster.restart()
    new, cluster.core = cluster.core, old
    cluster.agents_by_link.update(old_agents)
    cluster.now += 6
    with pytest.raises(StoreFenced):
        a.beat()
    assert new.state.identity.epoch == old.state.identity.epoch + 1


def test_an_event_that_cannot_be_handled_leaves_everything_as_it_was(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = cluster.agent("a")
    job = cluster.submit()
    tables = {kind: dict(cluster.state.table(kind)) for kind in cluster.state._tables}
    used = {agent: dict(slots) for agent, slots in cluster.state.slots_used.items()}
    handler = transitions._HANDLERS[ev.AgentReported]

    def breaks(draft: Any, event: Any) -> None:
        handler(draft, event)
        raise RuntimeError("a bug")

    monkeypatch.setitem(transitions._HANDLERS, ev.AgentReported, breaks)
    with pytest.raises(RuntimeError):
        a.says(running(f"{job}-1.0.1"))
    assert {kind: dict(cluster.state.table(kind)) for kind in cluster.state._tables} == tables
    assert cluster.state.slots_used == used
    assert _seal(cluster).changes == ()


def test_subscribers_hear_of_a_job_once_a_batch(cluster: Cluster) -> None:
    cluster.agent("a")
    job = _submit(cluster).job
    batch = _seal(cluster)
    assert [e for e in batch.effects if isinstance(e, fx.JobChanged)] == [fx.JobChanged(job)]


def test_an_idle_core_has_nothing_to_seal(cluster: Cluster) -> None:
    assert cluster.core.idle
    _submit(cluster)
    assert not cluster.core.idle
    cluster.turn()
    assert cluster.core.idle


def test_a_deadline_that_cannot_be_handled_does_not_hold_the_others_up(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = cluster.agent("a", slots=2)
    first, second = (cluster.submit(start_timeout=60.0) for _ in range(2))
    not_started = timers._not_started

    def breaks(draft: Any, key: str) -> None:
        if key == f"{first}-1":
            raise RuntimeError("a bug")
        not_started(draft, key)

    monkeypatch.setattr(timers, "_not_started", breaks)
    cluster.now += 80
    a.beat()
    with pytest.raises(RuntimeError):
        cluster.apply(ev.Ticked)
    assert cluster.job(second).state is JobState.STOPPING
    monkeypatch.undo()
    cluster.now += 40
    cluster.apply(ev.Ticked)
    assert cluster.job(first).state is JobState.STOPPING
