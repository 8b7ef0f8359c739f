"""The state of a cluster in memory: the records by key, and indexes so that no event needs to look at all of them.

`State` changes only through `put` and `drop`, which keep the indexes; transitions reach those through a Draft
(transitions/draft.py). Everything here can be rebuilt from the records.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple, cast

from quorate.master.features import needed_features
from quorate.master.networks import Networks
from quorate.master.records import (
    AgentRecord,
    AllocationRecord,
    Change,
    JobRecord,
    LiveRecord,
    MemberRecord,
    Put,
    Record,
    SettingRecord,
    SpecRecord,
    Stamp,
    TokenRecord,
)
from quorate.master.settings import Settings
from quorate.model.ids import allocation_id, member_id
from quorate.model.job import JobSpec, Placement
from quorate.model.messages import EpochMark
from quorate.model.state import JobState, MemberState
from quorate.scheduling.types import AgentView, Apart, Request, Reservation, Running, ability, labels_of

#: Why an agent takes nothing while its link is down for a moment.
RECONNECTING = "reconnecting"


class Identity(NamedTuple):
    """Which cluster this is and which start of a master on its store."""

    cluster: str
    epoch: int
    mark: str
    #: Marks of all epochs, newest (this one) last; at most 1000.
    history: tuple[EpochMark, ...]
    #: The store came from a backup and nobody has adopted it yet.
    restored: bool = False


class Deadline(NamedTuple):
    """Something to look at when its time comes. Only a hint: what happens is decided from the records then."""

    due: float
    order: int
    what: str
    key: str


class StateError(Exception):
    """The state contradicts itself: a bug of the master or a damaged store. Says which record and why."""


class State:
    """All records and what is derived from them. Read it freely; change it through transitions only."""

    def __init__(self, identity: Identity, settings: Settings, opened: Stamp) -> None:
        self.identity = identity
        self.settings = settings
        #: When this master's process took over: every agent has a full lease from here.
        self.opened = opened

        self.jobs: dict[str, JobRecord] = {}
        self.specs: dict[str, SpecRecord] = {}
        self.allocations: dict[str, AllocationRecord] = {}
        self.members: dict[str, MemberRecord] = {}
        self.agents: dict[str, AgentRecord] = {}
        self.tokens: dict[str, TokenRecord] = {}
        self.settings_kept: dict[str, SettingRecord] = {}
        #: One for each agent, made when the agent's record is.
        self.live: dict[str, LiveRecord] = {}
        self._tables: dict[type[Record], dict[str, Any]] = {
            JobRecord: self.jobs,
            SpecRecord: self.specs,
            AllocationRecord: self.allocations,
            MemberRecord: self.members,
            AgentRecord: self.agents,
            TokenRecord: self.tokens,
            SettingRecord: self.settings_kept,
            LiveRecord: self.live,
        }

        #: Pending jobs as the scheduler sees them.
        self.queue: dict[str, Request] = {}
        #: Allocations that hold slots, as the scheduler sees them, by job.
        self.running: dict[str, Running] = {}
        #: Jobs that are not final, in order of submission.
        self.unfinished: dict[str, None] = {}
        #: Final jobs, first ended first.
        self.final: dict[str, None] = {}
        self.by_idempotency: dict[tuple[str, str], str] = {}
        #: Oldest first.
        self.allocations_by_job: dict[str, dict[str, None]] = {}
        #: How many members of an allocation are in which state.
        self.tallies: dict[str, Counter[MemberState]] = {}
        #: Unreleased members, whose slots and ports are taken.
        self.held: dict[str, dict[str, None]] = {}
        self.slots_used: dict[str, dict[int, str]] = {}
        self.ports_used: dict[str, dict[int, str]] = {}
        self.networks = Networks(settings)
        #: Ports that rest, given back or found taken by a stranger, each with its end. Forgotten with the process.
        self.ports_resting: dict[str, dict[int, float]] = {}
        #: Why the last placement of a job found no port or no network.
        self.port_refusals: dict[str, str] = {}
        #: What `never_fits` said of requests by their shape, for the fleet as it is: slots, labels and pools of agents.
        self.never_fits: dict[tuple[object, ...], str | None] = {}
        self.agents_by_key: dict[str, str] = {}
        #: Those that open nothing any more: who still has one is told so.
        self.revoked_by_key: dict[str, str] = {}
        self.agents_by_pool: dict[str, dict[str, None]] = {}
        self.tokens_by_hash: dict[str, str] = {}
        #: Agents with a link that is too long silent (or that have none), not counting the lost and revoked.
        self.silent: set[str] = set()
        #: Agents that have seen a later state than this store holds.
        self.regressed: set[str] = set()
        #: Agents that are neither lost nor revoked.
        self.counted: set[str] = set()
        #: Agents of which an adopted store does not know what they run.
        self.unaccounted: set[str] = set()

        #: Of the scheduler's last pass, and whether another one could answer differently.
        self.reservations: tuple[Reservation, ...] = ()
        self.schedule_due = True
        #: Agents that were seen not to reach each other.
        self.apart: tuple[Apart, ...] = ()
        #: What changed since the last pass: pools to look at.
        self.pools_touched: set[str] = set()
        self.schedule_at: float | None = None
        #: Since when declarations of loss are paused; None while they are not.
        self.loss_paused: float | None = None
        #: A planned stop that waits for confirmations: (sequence, deadline, seconds of lease), else None.
        self.stopping: tuple[int, float, float] | None = None
        #: The operator took this store as it is (epoch-wide).
        self.adopted = False

        #: When each agent's silence is looked at next.
        self.watched: dict[str, float] = {}
        #: When the newest allocation of a job began to run, on this process's clock: what max_runtime is measured from.
        self.run_from: dict[str, float] = {}
        #: When a running allocation with an idle_timeout was used last, on this process's clock.
        self.used_at: dict[str, float] = {}
        #: The newest generation that was sealed.
        self.generation = 0

        self._agent_views: dict[str, AgentView] = {}
        self._stale_views: set[str] = set()
        self._deadlines: list[Deadline] = []
        self._order = count()

    # --- changing -----------------------------------------------------------------------------------------------

    def absorb(self, changes: Iterable[Change]) -> None:
        """Takes in changes as they come from the store or from a transition, in order."""
        for change in changes:
            if isinstance(change, Put):
                self.put(change.record)
            else:
                self.drop(change.kind, change.key)

    def put(self, record: Record) -> Record | None:
        """Takes the record in; returns the one whose place it takes."""
        table = self._tables[type(record)]
        before = cast(Record | None, table.get(record.key))
        table[record.key] = record
        try:
            self._reindex(before, record)
        except Exception:
            if before is None:
                del table[record.key]
            else:
                table[record.key] = before
            raise
        return before

    def drop(self, kind: type[Record], key: str) -> Record | None:
        """Takes the record away; returns it."""
        before = cast(Record | None, self._tables[kind].pop(key, None))
        if before is not None:
            self._reindex(before, None)
        return before

    def table(self, kind: type[Record]) -> dict[str, Any]:
        """The records of a kind by key."""
        return self._tables[kind]

    def set_apart(self, apart: tuple[Apart, ...]) -> None:
        """Takes in which agents do not reach each other; the scheduler looks again at those of which it is new."""
        for pair in set(apart) ^ set(self.apart):
            for agent in (pair.source, pair.destination):
                if agent in self.agents:
                    self._touch(agent)
        self.apart = apart

    def due(self, at: float, what: str, key: str = "") -> None:
        """Looks at it again at `at` (seconds of CLOCK_BOOTTIME)."""
        heapq.heappush(self._deadlines, Deadline(at, next(self._order), what, key))

    def watch(self, agent: str, at: float) -> None:
        """Looks at the agent's silence at `at`, unless that is due before: one look at a time for each agent."""
        if at < self.watched.get(agent, math.inf):
            self.watched[agent] = at
            self.due(at, "silence", agent)

    def take_due(self, now: float) -> Iterator[Deadline]:
        """The deadlines up to `now`, earliest first; those added meanwhile come too if they are due."""
        while self._deadlines and self._deadlines[0].due <= now:
            yield heapq.heappop(self._deadlines)

    def next_due(self) -> float | None:
        """When the next deadline is due; None without any."""
        return self._deadlines[0].due if self._deadlines else None

    # --- reading ------------------------------------------------------------------------------------------------

    def spec(self, job: str) -> SpecRecord:
        """The spec of a job that exists."""
        return self.specs[job]

    def allocation_of(self, job: JobRecord) -> AllocationRecord | None:
        """The newest allocation of the job; None before the first."""
        return self.allocations.get(allocation_id(job.id, job.attempt))

    def members_of(self, allocation: AllocationRecord) -> Iterator[MemberRecord]:
        """The members that are still remembered, in rank order."""
        for planned in allocation.members:
            record = self.members.get(member_id(allocation.id, planned.rank))
            if record is not None:
                yield record

    def attempts_of(self, job: JobRecord) -> Iterator[AllocationRecord]:
        """The allocations that are still remembered, oldest first."""
        return (self.allocations[key] for key in self.allocations_by_job.get(job.id, ()))

    def held_by(self, agent: str) -> Iterator[MemberRecord]:
        """Members that take slots of the agent, in no order."""
        return (self.members[member] for member in self.held.get(agent, ()))

    def agent_views(self) -> tuple[AgentView, ...]:
        """All agents as the scheduler sees them; only those that changed are made anew."""
        for agent in self._stale_views:
            record = self.agents.get(agent)
            if record is None or not record.boot:
                # One that joined and has never said hello: nobody knows what it has.
                self._agent_views.pop(agent, None)
            else:
                self._agent_views[agent] = self._view(record)
        self._stale_views.clear()
        return tuple(self._agent_views.values())

    def agent_view(self, agent: str) -> AgentView:
        """One agent as the scheduler sees it."""
        return self._view(self.agents[agent])

    def closed_because(self, agent: AgentRecord) -> str:
        """Why no new member may be placed on the agent, in words for people; empty where one may."""
        live = self.live[agent.id]
        if agent.revoked:
            return "revoked"
        if live.regressed:
            return "ahead of this store (STORE-REGRESSED)"
        if live.duplicate_until:
            return "claimed by two machines (AGENT-DUPLICATE)"
        if live.unreachable or agent.lost:
            return "unreachable"
        if live.link is None:
            return RECONNECTING if live.seen else "not back since the master started"
        if agent.drained:
            return "draining"
        if live.strays:
            return "ending members that this master does not know"
        return ""

    # --- indexes ------------------------------------------------------------------------------------------------

    def _reindex(self, before: Record | None, after: Record | None) -> None:
        match after if after is not None else before:
            case MemberRecord():
                self._reindex_member(cast(MemberRecord | None, before), cast(MemberRecord | None, after))
            case JobRecord():
                self._reindex_job(cast(JobRecord | None, before), cast(JobRecord | None, after))
            case LiveRecord(agent=agent):
                # A heartbeat is by far the most common event: it must not make the scheduler look again.
                if before is None or after is None or _standing(before) != _standing(after):
                    self._reindex_agent(agent)
            case AgentRecord(id=agent):
                self._reindex_keys(cast(AgentRecord | None, before), cast(AgentRecord | None, after))
                self._reindex_agent(agent)
            case AllocationRecord(id=allocation, job=job):
                if after is None:
                    self.allocations_by_job[job].pop(allocation)
                else:
                    self.allocations_by_job.setdefault(job, {})[allocation] = None
            case TokenRecord():
                if isinstance(before, TokenRecord):
                    self.tokens_by_hash.pop(before.hash, None)
                if isinstance(after, TokenRecord):
                    self.tokens_by_hash[after.hash] = after.id
            case _:
                pass

    def _reindex_member(self, before: MemberRecord | None, after: MemberRecord | None) -> None:
        if before is not None:
            tally = self.tallies[before.allocation]
            tally[before.state] -= 1
            if after is None and not +tally:
                del self.tallies[before.allocation]
        if after is not None:
            self.tallies.setdefault(after.allocation, Counter())[after.state] += 1
        had = before is not None and not before.released
        has = after is not None and not after.released
        if had and not has:
            assert before is not None
            self._free(before)
        elif has and not had:
            assert after is not None
            self._take(after)

    def _take(self, member: MemberRecord) -> None:
        used = self.slots_used.setdefault(member.agent, {})
        for slot in member.slots:
            if slot in used:
                raise StateError(f"slot {slot} of {member.agent} is given to {member.id} and held by {used[slot]}")
            used[slot] = member.id
        ports = self.ports_used.setdefault(member.host, {})
        for port in member.ports.values():
            if port in ports:
                raise StateError(f"port {port} of host {member.host} is given to {member.id}, held by {ports[port]}")
            ports[port] = member.id
        try:
            self.networks.hold(self.allocations[member.allocation])
        except ValueError as error:
            raise StateError(str(error)) from error
        self.held.setdefault(member.agent, {})[member.id] = None
        self._touch(member.agent)

    def _free(self, member: MemberRecord) -> None:
        for slot in member.slots:
            del self.slots_used[member.agent][slot]
        for port in member.ports.values():
            del self.ports_used[member.host][port]
        self.networks.release(self.allocations[member.allocation])
        del self.held[member.agent][member.id]
        self._touch(member.agent)

    def _reindex_job(self, before: JobRecord | None, after: JobRecord | None) -> None:
        job = after or before
        assert job is not None
        was_pending = before is not None and before.state is JobState.PENDING
        pending = after is not None and after.state is JobState.PENDING
        if pending != was_pending:
            pool = self.specs[job.id].spec.resources.pool
            self.pools_touched.add(pool)
            self.schedule_due = True
            if pending:
                self.queue[job.id] = self.request(job, self.specs[job.id].spec)
            else:
                self.queue.pop(job.id, None)
        if after is None:
            self.unfinished.pop(job.id, None)
            self.final.pop(job.id, None)
            self.running.pop(job.id, None)
            if job.idempotency:
                self.by_idempotency.pop((job.owner, job.idempotency), None)
            return
        if after.idempotency:
            self.by_idempotency[after.owner, after.idempotency] = after.id
        if after.state.final:
            self.unfinished.pop(after.id, None)
            self.final.setdefault(after.id, None)
        else:
            self.unfinished.setdefault(after.id, None)
            self.final.pop(after.id, None)
        if after.state in _PLACED:
            if before is None or before.state not in _PLACED or before.running != after.running:
                self.running[after.id] = self._running(after)
        else:
            self.running.pop(after.id, None)

    def _reindex_keys(self, before: AgentRecord | None, after: AgentRecord | None) -> None:
        if before is None or after is None or _fleet(before) != _fleet(after):
            self.never_fits.clear()
            self.networks.agents_changed()
        elif before.addresses != after.addresses:
            self.networks.agents_changed()
        if before is not None:
            self.agents_by_key.pop(before.key_hash, None)
            self.revoked_by_key.pop(before.key_hash, None)
            self.agents_by_pool[before.pool].pop(before.id, None)
        if after is not None:
            self.agents_by_pool.setdefault(after.pool, {})[after.id] = None
            (self.revoked_by_key if after.revoked else self.agents_by_key)[after.key_hash] = after.id
            if after.id not in self.live:
                self.live[after.id] = LiveRecord(
                    agent=after.id,
                    heard=self.opened.now,
                    planned_until=self.opened.now + after.extra_lease_s if after.extra_lease_s else 0.0,
                )
        elif before is not None:
            self.live.pop(before.id, None)

    def _reindex_agent(self, agent: str) -> None:
        record, live = self.agents.get(agent), self.live.get(agent)
        self._touch(agent)
        regressed = (
            record is not None and live is not None and bool(live.regressed) and not (record.revoked or record.lost)
        )
        (self.regressed.add if regressed else self.regressed.discard)(agent)
        unaccounted = record is not None and record.unaccounted
        (self.unaccounted.add if unaccounted else self.unaccounted.discard)(agent)
        if record is None or live is None or record.lost or record.revoked:
            self.counted.discard(agent)
            self.silent.discard(agent)
            return
        self.counted.add(agent)
        (self.silent.add if live.unreachable else self.silent.discard)(agent)

    def _touch(self, agent: str) -> None:
        self._stale_views.add(agent)
        record = self.agents.get(agent)
        if record is not None:
            self.pools_touched.add(record.pool)
        self.schedule_due = True

    # --- the scheduler's values -----------------------------------------------------------------------------------

    def _view(self, agent: AgentRecord) -> AgentView:
        because = self.closed_because(agent)
        return AgentView(
            id=agent.id,
            pool=agent.pool,
            total=len(agent.slots),
            free=len(agent.slots) - len(self.slots_used.get(agent.id, ())),
            open=not because,
            returning=because == RECONNECTING and not agent.drained,
            closed_because=because,
            labels=labels_of(agent.labels) | frozenset(map(ability, agent.features)),
            gpu=any(slot.kind != "cpu" for slot in agent.slots),
        )

    def request(self, job: JobRecord, spec: JobSpec) -> Request:
        """The job as the scheduler sees it in the queue."""
        needs = spec.resources
        sizes = tuple(spec.slots_of(role) for role, _ in spec.members()) if spec.roles else ()
        equal = len(set(sizes)) <= 1
        return Request(
            job=job.id,
            pool=needs.pool,
            nodes=needs.nodes,
            min_nodes=needs.min_nodes,
            slots=max(sizes, default=needs.slots),
            sizes=() if equal else sizes,
            placement=Placement.SINGLE if spec.one_agent else spec.placement,
            colocate=spec.colocate,
            labels=labels_of(needs.labels) | frozenset(map(ability, self._needed(spec))),
            network=spec.network.mode.value,
            priority=spec.priority,
            seq=job.seq,
            queued_at_s=self._clock(job.queued),
            max_runtime_s=None if spec.max_runtime is None else spec.start_timeout + self._longest(spec),
        )

    def _needed(self, spec: JobSpec) -> frozenset[str]:
        return frozenset(needed_features(spec, self.settings.network_of(spec.resources.pool)))

    def _longest(self, spec: JobSpec) -> float:
        """From when all members run until the slots are free again; only for a job that has a max_runtime."""
        assert spec.max_runtime is not None
        return spec.max_runtime + spec.grace + self.settings.margin_s

    def _running(self, job: JobRecord) -> Running:
        spec = self.specs[job.id].spec
        allocation = self.allocations[allocation_id(job.id, job.attempt)]
        ends = None
        if spec.max_runtime is not None:
            begun = job.running or job.placed
            starting = 0.0 if job.running else spec.start_timeout
            if begun is not None:
                ends = self._clock(begun) + starting + self._longest(spec)
        uses = tuple((planned.agent, len(planned.slots)) for planned in allocation.members)
        return Running(job=job.id, uses=uses, ends_by_s=ends)

    def _clock(self, stamp: Stamp) -> float:
        # Seconds of an earlier epoch may be of another boot: timers start anew with the master.
        return stamp.now if stamp.epoch == self.identity.epoch else self.opened.now


_PLACED = frozenset({JobState.STARTING, JobState.RUNNING, JobState.STOPPING})


def _fleet(agent: AgentRecord) -> tuple[object, ...]:
    """What of an agent decides which jobs can ever run on it."""
    return (agent.pool, agent.slots, agent.labels, bool(agent.boot), agent.revoked, agent.features, agent.address)


def _standing(record: Record) -> tuple[object, ...]:
    """What of an agent's link matters to placement."""
    assert isinstance(record, LiveRecord)
    live = record
    return (live.link, live.seen, live.unreachable, bool(live.duplicate_until), live.regressed, bool(live.strays))
