"""The members that an agent knows: what becomes of each is made durable, and told until nobody wants to hear of it.

A part of the core (core.py): no I/O but the journal, no clock.
"""

from collections.abc import Iterator

from quorate.agent.events import Action, Stop
from quorate.agent.journal import Journal, Memory
from quorate.agent.lease import LeaseKeeper
from quorate.agent.member import Member
from quorate.agent.reporting import Reporting
from quorate.model.duration import format_duration
from quorate.model.messages import AllocationSpec, ExitStatus, MemberStatus
from quorate.model.state import MemberState


class KnownMembers:
    """By their ids, in the order in which they came."""

    def __init__(self, memory: Memory, journal: Journal, reporting: Reporting, lease: LeaseKeeper) -> None:
        self._journal = journal
        self._reporting = reporting
        self._lease = lease
        self.by_id: dict[str, Member] = {m: Member(m, spec) for m, spec in memory.intents.items()}
        for member, outcome in memory.outcomes.items():
            self.by_id[member] = Member(
                member,
                memory.intents.get(member),
                MemberState(outcome.state),
                outcome.exit,
                outcome.reason,
                outcome.code,
                outcome.echo,
                log_bytes=outcome.log_bytes,
                ran_s=outcome.running_s,
            )

    # --- for those who look on ---------------------------------------------------------------------------------

    @property
    def ended(self) -> tuple[str, ...]:
        """Members that have ended and are still wanted as records."""
        return tuple(m.member for m in self.by_id.values() if m.state.final)

    @property
    def live(self) -> tuple[str, ...]:
        """Members that have not ended."""
        return tuple(m.member for m in self.by_id.values() if not m.state.final)

    @property
    def allocated(self) -> dict[str, AllocationSpec]:
        """Members that have not ended, with their allocations."""
        return {m.member: m.spec for m in self.by_id.values() if m.spec and not m.state.final}

    @property
    def networked(self) -> dict[str, AllocationSpec]:
        """Members that have not ended and live in a private network, with their allocations."""
        return {m.member: m.spec for m in self.by_id.values() if m.spec and m.spec.network and not m.state.final}

    def statuses(self, now: float) -> tuple[MemberStatus, ...]:
        """All members as the master is told of them."""
        return tuple(m.status(now) for m in self.by_id.values())

    # --- what becomes of them ----------------------------------------------------------------------------------

    def progressed(self, member: str, sentence: str) -> None:
        m = self.by_id.get(member)
        if m is not None and m.state is MemberState.STARTING:
            m.reason = sentence
            self._reporting.changed(member)

    def ran(self, member: str, since: float) -> None:
        m = self.by_id.get(member)
        if m is None or m.state.final:
            return
        m.since = since
        if m.state is MemberState.STARTING:
            m.state, m.reason = MemberState.RUNNING, ""
            self._reporting.changed(member)

    def end(
        self,
        member: str,
        now: float,
        state: MemberState,
        status: ExitStatus | None,
        reason: str,
        code: str = "",
        echo: bool = False,
        log_bytes: int = 0,
        ran_s: float = 0.0,
    ) -> None:
        m = self.by_id.get(member)
        if m is None or m.state.final:
            return
        m.ended(state, status, reason, code, echo, log_bytes, ran_s)
        self._reporting.changed(member, urgent=True)
        self._journal.record_outcome(m.status(now))

    def stop(self, m: Member, reason: str, echo: bool) -> Iterator[Action]:
        m.state = MemberState.STOPPING
        m.reason, m.echo = reason, echo
        self._reporting.changed(m.member)
        yield Stop(m.member, reason, echo, m.spec.grace_s if m.spec else 0.0)

    def stop_all(self, reason: str) -> Iterator[Action]:
        for m in self.by_id.values():
            if not m.state.final and m.state is not MemberState.STOPPING:
                yield from self.stop(m, reason, echo=False)

    def forget(self, member: str) -> None:
        """Nobody wants the record any more."""
        del self.by_id[member]
        self._reporting.forgotten(member)
        self._journal.forget((member,))

    # --- when they are cut off ---------------------------------------------------------------------------------

    def cut_off_at(self, m: Member) -> float | None:
        """When a member that may be started elsewhere has to end for want of a word from the master."""
        if m.spec is None or m.spec.stop_after_s is None or m.state.final or m.state is MemberState.STOPPING:
            return None
        return self._lease.ends(m.spec.stop_after_s)

    def stop_where_cut_off(self, now: float) -> Iterator[Action]:
        for m in self.by_id.values():
            deadline = self.cut_off_at(m)
            if deadline is not None and now >= deadline:
                assert m.spec is not None
                silent = format_duration(round(self._lease.silence(now)))
                yield from self.stop(m, f"its agent heard nothing from the master for {silent}", echo=False)
