"""The agent's decisions: events in, actions out; no I/O but the journal, no clock, no randomness.

Its rules: an intent is durable before its member starts; what is known, even without an outcome, never starts again;
what has ended is told until the cluster no longer wants to know; nothing is changed for a store that has gone back.
"""

from collections.abc import Iterator

from quorate.agent.events import (
    Action,
    CloseLink,
    EndAll,
    Ended,
    Event,
    Failed,
    FindingsChanged,
    Forget,
    GiveUp,
    LinkDown,
    LinkUp,
    NetworkLost,
    Progressed,
    Received,
    Recovered,
    Running,
    Send,
    Shipped,
    Start,
    SupervisorLost,
    Sweep,
    Swept,
    Ticked,
)
from quorate.agent.identity import Identity
from quorate.agent.journal import Journal, JournalFull
from quorate.agent.knownmembers import KnownMembers
from quorate.agent.lease import LeaseKeeper
from quorate.agent.linkstate import LinkState, Settings
from quorate.agent.member import Member
from quorate.agent.reconcile import Begin, Decline, Drop, End, Wanted, allocation_of, reconcile
from quorate.agent.reporting import Reporting
from quorate.agent.trust import regression
from quorate.model.ids import MemberId, split_member
from quorate.model.messages import (
    AllocationSpec,
    Desired,
    Finding,
    HeartbeatAck,
    LeaseHeld,
    MasterMessage,
    Refuse,
    Regressed,
    ReportAck,
    Seen,
    Welcome,
)
from quorate.model.messages import Lease as LeaseOrder
from quorate.model.state import MemberState

#: The master's code for an agent whose key was revoked: the one refusal after which members are ended.
REVOKED = "AGENT-REVOKED"
_MAKE_ROOM = "free space where the agent keeps its state; the members start by themselves"
NETWORK_LOST_REASON = "what holds its network namespace has ended, as when its engine is restarted without live-restore"
UNBEGUN_REASON = "its agent ended while the member was prepared; nothing of it had begun"
LOST_REASON = "its supervisor died, so how it ended is not known; what was left of it was killed"


class Core:
    """One agent. `handle` events in the order in which they happen, Recovered first; do the actions in order."""

    def __init__(self, identity: Identity, journal: Journal, settings: Settings | None = None) -> None:
        self._identity = identity
        self._journal = journal
        self._settings = settings or Settings()
        memory = journal.load()
        self._seen: Seen | None = memory.seen
        self._lease = LeaseKeeper(journal, memory.lease, identity.boot)
        self._reporting = Reporting()
        #: Read them freely; they change by events alone.
        self.members = KnownMembers(memory, journal, self._reporting, self._lease)
        #: When the journal last had no room for an intent.
        self._full_at: float | None = None
        self._recovered = False
        self._ending = False
        self._link: LinkState | None = None
        self._specs: dict[str, AllocationSpec] = {}
        #: Allocations that a member, present or desired, has belonged to on this link.
        self._used: set[str] = set()
        self._desired: Desired | None = None
        #: A desired member is held back until a heartbeat is answered.
        self._waits_for_word = False
        #: By origin, in the order in which they are told.
        self._findings: dict[str, tuple[Finding, ...]] = {"members": (), "journal": ()}

    # --- for those who look on ---------------------------------------------------------------------------------

    @property
    def seen(self) -> Seen | None:
        """The newest state of the cluster that was acted on."""
        return self._seen

    @property
    def connected(self) -> bool:
        """Whether the master has welcomed this agent and is its own master."""
        return self._link is not None and self._link.connected

    @property
    def settled(self) -> bool:
        """Whether the master has acknowledged all that there is to report."""
        return not self._reporting.outstanding

    def next_tick(self, now: float) -> float | None:
        """When Ticked is due next, in seconds of CLOCK_BOOTTIME; None if nothing but an event can change anything."""
        due = [deadline for m in self.members.by_id.values() if (deadline := self.members.cut_off_at(m)) is not None]
        if self._link is not None:
            due += self._link.due(self._settings, unanswered=self._reporting.unanswered)
            if self._full_at is not None and self.connected:
                due.append(self._full_at + self._settings.full_again_s)
        return max(now, min(due)) if due else None

    # --- the machine -------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Action]:
        """Takes one event at `now` (seconds of CLOCK_BOOTTIME) and returns what is to be done, in order."""
        if not self._recovered and not isinstance(event, Recovered):
            raise RuntimeError(f"{type(event).__name__} came before Recovered")
        actions = list(self._apply(event, now))
        actions += self._report(now)
        return actions

    def _apply(self, event: Event, now: float) -> Iterator[Action]:
        match event:
            case Recovered():
                yield from self._recover(event, now)
            case LinkUp():
                yield from self._greet(now)
            case LinkDown():
                self._link = None
            case Received(message):
                yield from self._receive(message, now)
            case Progressed(member, sentence):
                self.members.progressed(member, sentence)
            case Running(member, since):
                self.members.ran(member, since)
            case Ended(member, exit_status, reason, code, echo, log_bytes, ran_s):
                self.members.end(member, now, MemberState.EXITED, exit_status, reason, code, echo, log_bytes, ran_s)
                yield from self._reconcile(now)
            case Failed(member, reason, code, echo, log_bytes):
                self.members.end(member, now, MemberState.FAILED, None, reason, code, echo, log_bytes)
                yield from self._reconcile(now)
            case NetworkLost(member):
                if (m := self.members.by_id.get(member)) and not m.state.final and not m.held().stopping:
                    yield from self.members.stop(m, NETWORK_LOST_REASON, echo=False)
            case SupervisorLost(member):
                if (m := self.members.by_id.get(member)) and not m.state.final:
                    yield Sweep(member)
            case Swept(member, log_bytes, unbegun):
                why, code = (UNBEGUN_REASON, "START-INTERRUPTED") if unbegun else (LOST_REASON, "MEMBER-LOST")
                self.members.end(member, now, MemberState.FAILED, None, why, code, log_bytes=log_bytes)
                yield from self._reconcile(now)
            case Shipped(member, offset, whole):
                if m := self.members.by_id.get(member):
                    m.shipped = max(m.shipped, offset)
                    m.log_refused = m.log_refused or whole
                    if m.state.final:
                        yield from self._reconcile(now)
            case FindingsChanged(findings, origin):
                self._find(origin, findings)
            case EndAll(reason):
                self._ending = True
                yield from self.members.stop_all(reason)
            case Ticked():
                yield from self._tick(now)

    # --- members -----------------------------------------------------------------------------------------------

    def _recover(self, event: Recovered, now: float) -> Iterator[Action]:
        self._recovered = True
        for observed in event.observed:
            yield from self._apply(observed, now)
        alive = {observed.member for observed in event.observed} | set(event.starting)
        for m in self.members.by_id.values():
            if not m.state.final and m.member not in alive:
                yield Sweep(m.member)
        yield from self.members.stop_where_cut_off(now)

    # --- the link ----------------------------------------------------------------------------------------------

    def _greet(self, now: float) -> Iterator[Action]:
        self._link = LinkState(hello_at=now)
        # A master knows on a new link only what it committed: specs come again, and so does what it did not confirm.
        self._specs = {m.spec.allocation: m.spec for m in self.members.by_id.values() if m.spec}
        self._used = set(self._specs)
        yield Send(self._identity.hello(self._seen, self.members.statuses(now)))

    def _receive(self, message: MasterMessage, now: float) -> Iterator[Action]:
        link = self._link
        if link is None:
            return
        match message:
            case Welcome():
                yield from self._welcome(link, message, now)
            case Refuse():
                yield from self._refused(message)
            case Desired() if self.connected:
                yield from self._desire(link, message, now)
            case HeartbeatAck(sequence=sequence, sent=sent):
                if link.answered < sequence <= link.heartbeat_sequence:
                    link.answered = sequence
                    if self.connected and sent <= now:
                        self._lease.renew(sent)
                        if self._waits_for_word:
                            yield from self._reconcile(now)
            case ReportAck(sequence=sequence):
                self._reporting.acknowledged(sequence)
            case LeaseOrder(sequence=sequence, for_s=for_s) if self.connected:
                if self._lease.plan(now, for_s):
                    yield Send(LeaseHeld(sequence))
            case _:
                pass

    def _welcome(self, link: LinkState, welcome: Welcome, now: float) -> Iterator[Action]:
        if link.welcome is not None and not (link.regressed and welcome.adopt):
            return  # Said before on this link; since then it has moved on.
        link.welcome = welcome
        link.next_heartbeat = now + welcome.heartbeat_s
        evidence = None if self._seen is None or welcome.adopt else regression(self._seen, welcome)
        link.regressed = evidence is not None
        if evidence is not None:
            assert self._seen is not None
            yield Send(Regressed(self._seen, evidence))
            return
        if welcome.adopt:
            self._desired = None
        self._see(welcome, max(welcome.generation, self._generation_in(welcome)))
        self._lease.renew(link.hello_at)
        self._reporting.renew()

    def _generation_in(self, welcome: Welcome) -> int:
        """The newest generation already seen of this very epoch."""
        return self._seen.generation if self._seen and self._seen.mark == welcome.mark and not welcome.adopt else 0

    def _refused(self, refusal: Refuse) -> Iterator[Action]:
        if refusal.code == REVOKED:
            yield from self.members.stop_all("this agent's key was revoked")
        if refusal.final:
            yield GiveUp(refusal.code, refusal.sentence)
        yield from self._close(f"{refusal.code}: {refusal.sentence}")

    def _close(self, reason: str) -> Iterator[Action]:
        self._link = None
        yield CloseLink(reason)

    def _see(self, welcome: Welcome, generation: int) -> None:
        seen = Seen(welcome.cluster, welcome.epoch, welcome.mark, generation)
        if seen != self._seen:
            self._journal.save_seen(seen)
            self._seen = seen

    # --- desired state -----------------------------------------------------------------------------------------

    def _desire(self, link: LinkState, desired: Desired, now: float) -> Iterator[Action]:
        welcome = link.welcome
        assert welcome is not None
        try:
            for member in desired.members:
                split_member(MemberId(member))
        except ValueError as error:
            yield from self._close(f"the desired set cannot be understood: {error}")
            return
        # Specs are learnt from overtaken sets too: each is sent only once on a link.
        for spec in desired.allocations:
            self._specs.setdefault(spec.allocation, spec)
        if desired.epoch != welcome.epoch:
            return
        newest = self._desired
        if newest is None or (desired.epoch, desired.generation) >= (newest.epoch, newest.generation):
            self._desired = desired
            self._see(welcome, max(desired.generation, self._generation_in(welcome)))
            for member in desired.stop:
                # A master that wants an ended member to end has missed that it has.
                if (m := self.members.by_id.get(member)) and m.state.final:
                    self._reporting.changed(member, urgent=True)
        yield from self._reconcile(now)
        self._forget_specs()

    def _reconcile(self, now: float) -> Iterator[Action]:
        if self._desired is None or not self.connected:
            return
        wanted = Wanted(self._desired.members, self._desired.stop)
        steps = list(reconcile(wanted, {m: have.held() for m, have in self.members.by_id.items()}, self._specs))
        if self._ending:
            steps = [step for step in steps if not isinstance(step, Begin)]
        late = {step for step in steps if isinstance(step, Begin) and self._is_late(step.member, now)}
        if late:
            # An agent that was stopped for long reads its old orders first: only a fresh word shows that they hold.
            steps = [step for step in steps if step not in late]
        self._waits_for_word = bool(late)
        begin = [step.member for step in steps if isinstance(step, Begin)]
        if begin and not self._intend(begin, now):
            steps = [step for step in steps if not isinstance(step, Begin)]
        for step in steps:
            match step:
                case Begin(member):
                    yield from self._begin(member, now)
                case Decline(member, reason):
                    self.members.by_id[member] = Member(member, None)
                    reason = reason or "it was stopped before it began"
                    self.members.end(member, now, MemberState.FAILED, None, reason, echo=True)
                case End(member, reason):
                    yield from self.members.stop(self.members.by_id[member], reason, echo=True)
                case Drop(member):
                    self.members.forget(member)
                    yield Forget(member)
        self._note_specless(now)

    def _intend(self, members: list[str], now: float) -> bool:
        """Makes the intents durable; False if there is no room for them: then nothing begins, and it is tried again."""
        try:
            self._journal.record_intents(members, [self._specs[allocation_of(member)] for member in members])
        except JournalFull as error:
            self._full_at = now
            full = Finding("DISK-FULL", "error", "Members wait: their start cannot be recorded", str(error), _MAKE_ROOM)
            self._find("journal", (full,))
            return False
        if self._full_at is not None:
            self._full_at = None
            self._find("journal", ())
        return True

    def _find(self, origin: str, findings: tuple[Finding, ...]) -> None:
        self._findings[origin] = findings
        self._reporting.findings = tuple(found for those in self._findings.values() for found in those)

    def _begin(self, member: str, now: float) -> Iterator[Action]:
        allocation, rank, _ = split_member(MemberId(member))
        spec = self._specs[allocation]
        self.members.by_id[member] = Member(member, spec)
        self._reporting.changed(member)
        planned = next((p for p in spec.members if p.rank == rank), None)
        if planned is None or planned.agent != self._identity.agent:
            reason = f"the master planned rank {rank} of {allocation} for {planned.agent if planned else 'no agent'}"
            self.members.end(member, now, MemberState.FAILED, None, reason, "MEMBER-MISPLACED")
            return
        yield Start(member, spec)

    def _forget_specs(self) -> None:
        assert self._desired is not None
        used = {allocation_of(m) for m in (*self.members.by_id, *self._desired.members)}
        # A spec comes once on a link, possibly before the set that names its members: only used ones that fell out go.
        for allocation in [a for a in self._specs if a not in used and a in self._used]:
            del self._specs[allocation]
        self._used = used

    def _note_specless(self, now: float) -> None:
        link, desired = self._link, self._desired
        assert link is not None
        assert desired is not None
        lacking = any(m not in self.members.by_id and allocation_of(m) not in self._specs for m in desired.members)
        if not lacking:
            link.specless_since = None
        elif link.specless_since is None:
            link.specless_since = now

    # --- time --------------------------------------------------------------------------------------------------

    def _is_late(self, member: str, now: float) -> bool:
        """Whether the master may have given the member up, or even started it elsewhere, by now."""
        spec = self._specs[allocation_of(member)]
        patience = spec.start_timeout_s if spec.stop_after_s is None else spec.stop_after_s
        return now >= self._lease.ends(patience)

    def _tick(self, now: float) -> Iterator[Action]:
        yield from self.members.stop_where_cut_off(now)
        if self._full_at is not None and now >= self._full_at + self._settings.full_again_s:
            yield from self._reconcile(now)
        link = self._link
        if link is None:
            return
        if why := link.given_up(self._settings, now):
            yield from self._close(why)
            return
        if link.welcome is None:
            return
        if heartbeat := link.heartbeat(now):
            yield Send(heartbeat)
        if self._reporting.unanswered and now >= link.reported_at + self._settings.report_again_s:
            self._reporting.again()

    def _report(self, now: float) -> Iterator[Action]:
        """One report of all that changed since the last one; a regressed master is told nothing."""
        if self._link is None or not self.connected:
            return
        if not self._reporting.waiting:
            self._link.report_at = None
            return
        if self._link.report_at is None:
            self._link.report_at = now + self._settings.gather_s
        if not self._reporting.urgent and now < self._link.report_at:
            return
        report = self._reporting.next(lambda member: self.members.by_id[member].status(now))
        if report is not None:
            self._link.reported_at, self._link.report_at = now, None
            yield Send(report)
