"""Whatever happens in whatever order: the state agrees with itself, with its store, and with what an undo leaves."""

from ipaddress import IPv4Network
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from quorate.master import effects as fx
from quorate.master import events as ev
from quorate.master import transitions
from quorate.master.settings import PoolNetwork, Settings
from quorate.master.state import State
from quorate.model.job import JobSpec
from quorate.model.messages import Desired, Feature, Heartbeat, Report
from quorate.model.state import JobState, MemberState
from quorate.scheduling.types import PoolPolicy

from .cluster import Agent, Cluster, fresh_entropy, status

_SETTINGS = Settings(
    keep_jobs=4,
    keep_attempts=2,
    pools={"default": PoolPolicy(reserve_after_s=20.0)},
    network=PoolNetwork(overlays=(IPv4Network("10.200.0.0/26"),), vnis=(1, 5)),
)
_SAID = st.sampled_from(["starting", "running", "stopping", "exited", "failed"])


_ABLE = (Feature.SANDBOX, Feature.ROLES)


def _records(state: State) -> dict[type, dict[str, Any]]:
    return {kind: dict(table) for kind, table in state._tables.items() if kind.durable}


class AnythingHappens(RuleBasedStateMachine):
    """Events in any order, sensible or not, on a core whose store may be read back at any time."""

    @initialize(
        slots=st.lists(st.integers(1, 3), min_size=1, max_size=3),
        abilities=st.lists(st.sampled_from([(), _ABLE, _ABLE, _ABLE]), min_size=3, max_size=3),
    )
    def begin(self, slots: list[int], abilities: list[tuple[str, ...]]) -> None:
        self.cluster = Cluster(_SETTINGS)
        self.agents = [
            self.cluster.agent("abc"[i], count, features=able, address=f"10.0.0.{i + 1}")
            for i, (count, able) in enumerate(zip(slots, abilities, strict=False))
        ]
        self.finals: dict[str, JobState] = {}

    @rule(
        nodes=st.integers(1, 4),
        slots=st.integers(0, 2),
        restarts=st.integers(0, 2),
        elastic=st.booleans(),
        unequal=st.booleans(),
        limit=st.sampled_from([None, 30.0]),
        key=st.sampled_from(["", "k1", "k2"]),
    )
    def submit(
        self, nodes: int, slots: int, restarts: int, elastic: bool, unequal: bool, limit: float | None, key: str
    ) -> None:
        unequal = unequal and nodes > 1
        roles = {"main": {"slots": 1}, "worker": {"replicas": nodes - 1}} if unequal else {}
        resources = {"nodes": nodes, "slots": slots, "min_nodes": 1 if elastic and not unequal else None}
        spec = JobSpec.model_validate(
            {
                "entrypoint": ["true"],
                "resources": resources,
                "restarts": restarts,
                "max_runtime": limit,
                "roles": roles,
            }
        )
        self.cluster.apply(ev.JobSubmitted, owner="ann", spec=spec, idempotency=key, entropy=fresh_entropy())

    @rule(which=st.integers(0, 30))
    def cancel(self, which: int) -> None:
        jobs = list(self.cluster.state.jobs)
        if jobs:
            self.cluster.apply(ev.JobCancelRequested, job=jobs[which % len(jobs)], by="ann")

    @rule(
        which=st.integers(0, 30), said=_SAID, code=st.sampled_from([0, 0, 1]), echo=st.booleans(), by=st.integers(0, 5)
    )
    def report(self, which: int, said: str, code: int, echo: bool, by: int) -> None:
        members = list(self.cluster.state.members.values())
        if not members:
            return
        member = members[which % len(members)]
        # Mostly from its own agent, sometimes from one that has no business with it.
        agent = self.agents[by % len(self.agents)] if by == 5 else self._agent(member.agent)
        told = status(member.id, said, code if said == "exited" else None, echo=echo)
        self.cluster.apply(ev.AgentReported, link=agent.link, agent=agent.name, report=Report(1, (told,)))

    @rule(which=st.integers(0, 2))
    def heartbeat(self, which: int) -> None:
        agent = self.agents[which % len(self.agents)]
        beat = Heartbeat(1, self.cluster.now)
        self.cluster.apply(ev.AgentHeartbeat, link=agent.link, agent=agent.name, heartbeat=beat)

    @rule(which=st.integers(0, 2))
    def disconnect(self, which: int) -> None:
        agent = self.agents[which % len(self.agents)]
        self.cluster.apply(ev.AgentDisconnected, link=agent.link, agent=agent.name)

    @rule(which=st.integers(0, 2), reboots=st.booleans(), knows=st.booleans())
    def connect(self, which: int, reboots: bool, knows: bool) -> None:
        agent = self.agents[which % len(self.agents)]
        if reboots:
            agent.boot += "+"
            agent.host = agent.boot
        held = [m for m in self.cluster.state.held_by(agent.name) if m.state is not MemberState.ASSIGNED]
        agent.connect(*(status(m.id, m.state.value if not m.state.final else "running") for m in held if knows))

    @rule(seconds=st.sampled_from([1.0, 20.0, 70.0, 700.0, 1200.0, 90_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.cluster.now += seconds
        self.cluster.apply(ev.Ticked)

    @rule(which=st.integers(0, 2), what=st.sampled_from([ev.AgentDrainRequested, ev.AgentResumed, ev.AgentResumed]))
    def operate(self, which: int, what: type[ev.Event]) -> None:
        self.cluster.apply(what, agent=self.agents[which % len(self.agents)].name, by="operator")

    @precondition(lambda self: len(self.agents) > 1)
    @rule(gone=st.booleans())
    def revoke(self, gone: bool) -> None:
        self.cluster.apply(ev.AgentRevoked, agent=self.agents[-1].name, by="operator", gone=gone)

    @rule()
    def plan_a_stop(self) -> None:
        self.cluster.apply(ev.PlannedStop, for_s=600.0)

    @rule()
    def commit(self) -> None:
        self.cluster.turn()

    @rule()
    def restart(self) -> None:
        """What was committed is all that there is, and it is read back as it was."""
        self.cluster.turn()
        before = _records(self.cluster.state)
        opened = self.cluster.core
        self.cluster.restart()
        assert self.cluster.core is not opened
        after = _records(self.cluster.state)

        for kind, records in after.items():
            for key, record in records.items():
                assert before[kind].get(key) == record, (kind, key)

    @rule(which=st.integers(0, 30))
    def fail_and_undo(self, which: int) -> None:
        """A draft that is taken back leaves no trace."""
        jobs = list(self.cluster.state.jobs)
        if not jobs:
            return
        state = self.cluster.state
        before, queue, used = _records(state), dict(state.queue), {a: dict(s) for a, s in state.slots_used.items()}
        now = self.cluster.now
        draft, _ = transitions.apply(
            state, ev.JobCancelRequested(now=now, wall=now, job=jobs[which % len(jobs)], by="nobody")
        )
        draft.undo()
        assert _records(state) == before
        assert state.queue == queue
        assert {a: s for a, s in state.slots_used.items() if s} == {a: s for a, s in used.items() if s}

    def _agent(self, name: str) -> Agent:
        return next(agent for agent in self.agents if agent.name == name)

    # --- what always holds ---------------------------------------------------------------------------------------

    @invariant()
    def slots_and_ports_are_held_once(self) -> None:
        state = self.cluster.state
        held: set[tuple[str, int]] = set()
        ports: set[tuple[str, int]] = set()
        for member in state.members.values():
            if member.released:
                continue
            mine = {(member.agent, slot) for slot in member.slots}
            assert not mine & held
            held |= mine
            leased = {(member.host, port) for port in member.ports.values()}
            assert not leased & ports
            ports |= leased
        assert {(agent, slot) for agent, slots in state.slots_used.items() for slot in slots} == held

    @invariant()
    def networks_are_held_once_and_for_members_that_may_exist(self) -> None:
        state = self.cluster.state
        holders = {member.allocation for member in state.members.values() if not member.released}
        networks = [(key, found) for key in holders if (found := state.allocations[key].network) is not None]
        assert state.networks.vnis == {network.vni: key for key, network in networks}
        assert len(state.networks.vnis) == len(networks)
        subnets = [IPv4Network(network.subnet) for _, network in networks]
        assert not any(one.overlaps(other) for one in subnets for other in subnets if one is not other)
        assert len(state.networks.subnets) == sum(subnet.num_addresses for subnet in subnets)

    @invariant()
    def every_gang_is_whole(self) -> None:
        state = self.cluster.state
        for job in state.jobs.values():
            if job.state in (JobState.STARTING, JobState.RUNNING, JobState.STOPPING):
                allocation = state.allocation_of(job)
                assert allocation is not None
                assert len(list(state.members_of(allocation))) == len(allocation.members)

    @invariant()
    def only_one_attempt_of_a_job_is_not_over(self) -> None:
        state = self.cluster.state
        for job in state.jobs.values():
            open_attempts = [a.id for a in state.attempts_of(job) if a.ended is None]
            assert len(open_attempts) <= 1
            assert bool(open_attempts) == (job.state in (JobState.STARTING, JobState.RUNNING, JobState.STOPPING))

    @invariant()
    def a_job_in_line_has_no_member_that_may_run_unless_it_was_given_up(self) -> None:
        for member in self.cluster.state.members.values():
            job = self.cluster.job(member.job)
            if job.state is JobState.PENDING or job.state.final:
                assert member.state.final

    @invariant()
    def indexes_say_what_the_records_say(self) -> None:
        state = self.cluster.state
        assert state.queue.keys() == {j.id for j in state.jobs.values() if j.state is JobState.PENDING}
        assert state.unfinished.keys() == {j.id for j in state.jobs.values() if not j.state.final}
        assert state.final.keys() == {j.id for j in state.jobs.values() if j.state.final}
        assert state.specs.keys() == state.jobs.keys()

    @invariant()
    def what_is_final_stays_as_it_is(self) -> None:
        for job in self.cluster.state.jobs.values():
            assert self.finals.setdefault(job.id, job.state) is job.state if job.state.final else True

    @invariant()
    def nobody_is_told_of_a_member_that_is_not_held(self) -> None:
        for effect in self.cluster.effects:
            if isinstance(effect, fx.SendTo) and isinstance(effect.message, Desired):
                strays = {m for m, why in effect.message.stop.items() if "does not know" in why}
                known = {m for m in effect.message.members if m not in strays}
                assert all(self._ever_on(member, effect.agent) for member in known)
        self.cluster.effects.clear()

    def _ever_on(self, member: str, agent: str) -> bool:
        record = self.cluster.state.members.get(member)
        return record is None or record.agent == agent


TestAnythingHappens = AnythingHappens.TestCase
TestAnythingHappens.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
