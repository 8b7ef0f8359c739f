"""The agent's decisions, told as stories between a master's messages and what the machine reports."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from quorate.agent.core import REVOKED, Core, Settings
from quorate.agent.events import (
    Action,
    CloseLink,
    Ended,
    Event,
    Failed,
    Forget,
    GiveUp,
    LinkDown,
    LinkUp,
    Received,
    Recovered,
    Running,
    Send,
    Shipped,
    Start,
    Stop,
    SupervisorLost,
    Sweep,
    Swept,
    Ticked,
)
from quorate.agent.identity import Identity
from quorate.agent.journal import Journal, JournalFull, MemoryJournal
from quorate.model.messages import (
    AllocationSpec,
    Desired,
    EpochMark,
    ExitStatus,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Lease,
    LeaseHeld,
    MasterMessage,
    PlannedMember,
    Refuse,
    Regressed,
    Report,
    ReportAck,
    Seen,
    Welcome,
)

ME = "alpha"
DONE = ExitStatus(code=0)


def allocation(
    name: str = "job1-1", agents: tuple[str, ...] = (ME, ME), stop_after: float | None = None
) -> AllocationSpec:
    planned = tuple(
        PlannedMember(rank, "main" if rank == 0 else "sub", max(rank, 1), f"m{rank}", agent, "127.0.0.1")
        for rank, agent in enumerate(agents)
    )
    return AllocationSpec(
        allocation=name,
        job=name.split("-")[0],
        attempt=1,
        nonce="00",
        name="test",
        owner="ann",
        entrypoint=("true",),
        launcher="none",
        environment={},
        members=planned,
        grace_s=30.0,
        start_timeout_s=600.0,
        stop_after_s=stop_after,
    )


def welcome(epoch: int = 1, mark: str = "m1", generation: int = 10, cluster: str = "c", adopt: bool = False) -> Welcome:
    history = tuple(EpochMark(e, f"m{e}", e * 10) for e in range(1, epoch + 1))
    return Welcome(1, "0", cluster, epoch, mark, generation, history, heartbeat_s=10.0, adopt=adopt)


@dataclass
class Life:
    """One process of an agent: its core, a clock that the test moves, and all that the core asked for."""

    journal: Journal = field(default_factory=MemoryJournal)
    now: float = 1000.0
    boot: str = "boot"
    gather_s: float = 0.0

    def __post_init__(self) -> None:
        identity = Identity(ME, "0", self.boot, "host", "127.0.0.1", (), "instance")
        self.core = Core(identity, self.journal, Settings(gather_s=self.gather_s))

    def tell(self, event: Event, after: float = 0.0) -> list[Action]:
        self.now += after
        return self.core.handle(event, self.now)

    def hear(self, message: MasterMessage, after: float = 0.0) -> list[Action]:
        return self.tell(Received(message), after)

    def connect(self, message: Welcome | None = None) -> list[Action]:
        self.tell(LinkUp())
        seen = self.core.seen
        return self.hear(message or welcome(generation=max(10, seen.generation if seen else 0)))

    def reborn(
        self, *observed: Running | Ended | Failed, starting: tuple[str, ...] = ()
    ) -> "tuple[Life, list[Action]]":
        """The process was killed; the next one finds what is left."""
        life = Life(self.journal, self.now, self.boot)
        return life, life.tell(Recovered(observed, starting))


@pytest.fixture
def life() -> Life:
    life = Life()
    life.tell(Recovered())
    return life


def of(kind: type, actions: list[Action]) -> list:
    return [a for a in actions if isinstance(a, kind)]


def messages(kind: type, actions: list[Action]) -> list:
    return [a.message for a in of(Send, actions) if isinstance(a.message, kind)]


def states(actions: list[Action]) -> dict[str, str]:
    return {s.member: s.state for report in messages(Report, actions) for s in report.members}


A0, A1 = "job1-1.0.1", "job1-1.1.1"


def desired(
    *members: str, generation: int = 11, epoch: int = 1, spec: AllocationSpec | None = None, **stop: str
) -> Desired:
    return Desired(
        epoch, generation, members, (spec,) if spec else (), dict.fromkeys(stop.get("stop", "").split(), "cancelled")
    )


def running(life: Life, *members: str, spec: AllocationSpec | None = None) -> None:
    life.connect()
    life.hear(desired(*members, spec=spec or allocation()))
    for member in members:
        life.tell(Running(member, life.now))


def test_a_desired_member_is_started_after_its_intent_is_recorded(life: Life) -> None:
    life.connect()
    actions = life.hear(desired(A0, A1, spec=allocation()))
    assert [a.member for a in of(Start, actions)] == [A0, A1]
    assert set(life.journal.load().intents) == {A0, A1}
    assert states(actions) == {A0: "starting", A1: "starting"}


def test_a_repeated_or_overtaken_desired_set_starts_nothing_twice(life: Life) -> None:
    life.connect()
    first = desired(A0, spec=allocation())
    life.hear(first)
    assert not of(Start, life.hear(first))
    assert not of(Stop, life.hear(desired(generation=9)))
    life.hear(desired(generation=12))
    assert not of(Start, life.hear(first))


def test_the_spec_of_an_overtaken_set_is_still_learnt(life: Life) -> None:
    life.connect()
    assert not of(Start, life.hear(desired(A0, A1, generation=12)))
    late = life.hear(desired(A0, generation=11, spec=allocation()))
    assert [a.member for a in of(Start, late)] == [A0, A1]


def test_an_intent_without_an_outcome_is_failed_and_never_started_again(life: Life) -> None:
    life.connect()
    life.hear(desired(A0, spec=allocation()))
    life, actions = life.reborn()
    assert of(Sweep, actions) == [Sweep(A0)]
    life.tell(Swept(A0))
    hello = messages(Hello, life.tell(LinkUp()))[0]
    assert [(s.member, s.state) for s in hello.members] == [(A0, "failed")]
    life.hear(welcome())
    assert not of(Start, life.hear(desired(A0, generation=11, spec=allocation())))


def test_a_restarted_agent_finds_its_members_running_starting_and_ended(life: Life) -> None:
    running(life, A0, A1, "job1-1.2.1", spec=allocation(agents=(ME, ME, ME)))
    life, actions = life.reborn(Running(A0, 1000.0), Ended(A1, DONE, log_bytes=7), starting=("job1-1.2.1",))
    assert not of(Sweep, actions)
    hello = messages(Hello, life.tell(LinkUp()))[0]
    assert [s.state for s in hello.members] == ["running", "exited", "starting"]
    assert hello.members[1].exit == DONE
    assert hello.members[1].log_bytes == 7


def test_how_long_a_member_ran_is_said_however_late_its_end_is_heard_of(life: Life) -> None:
    running(life, A0)
    life.tell(Ended(A0, DONE, ran_s=12.5))
    life, _ = life.reborn()
    assert [s.running_s for s in messages(Hello, life.tell(LinkUp(), after=60.0))[0].members] == [12.5]


def test_what_has_ended_stays_until_the_cluster_drops_it_and_its_log_is_safe(life: Life) -> None:
    running(life, A0)
    assert states(life.tell(Ended(A0, DONE, log_bytes=100))) == {A0: "exited"}
    assert not of(Forget, life.hear(desired(A0, generation=12)))
    assert not of(Forget, life.hear(desired(generation=13)))
    assert not of(Forget, life.tell(Shipped(A0, 99)))
    assert of(Forget, life.tell(Shipped(A0, 100))) == [Forget(A0)]
    assert not life.journal.load().intents


def test_a_log_that_the_master_refuses_for_good_does_not_keep_the_member(life: Life) -> None:
    running(life, A0)
    life.tell(Ended(A0, DONE, log_bytes=100))
    life.hear(desired(generation=13))
    assert of(Forget, life.tell(Shipped(A0, 0, whole=True))) == [Forget(A0)]


def test_a_dropped_member_is_stopped_once_and_then_forgotten(life: Life) -> None:
    running(life, A0)
    assert [a.member for a in of(Stop, life.hear(desired(generation=12)))] == [A0]
    assert not of(Stop, life.hear(desired(generation=13)))
    assert of(Forget, life.tell(Ended(A0, ExitStatus(signal=15)))) == [Forget(A0)]


def test_a_member_to_be_stopped_is_kept_for_its_outcome_with_the_masters_reason(life: Life) -> None:
    running(life, A0)
    actions = life.hear(desired(A0, generation=12, stop=A0))
    assert of(Stop, actions) == [Stop(A0, "cancelled", True, 30.0)]
    assert states(actions) == {A0: "stopping"}
    ended = life.tell(Ended(A0, ExitStatus(signal=15), "cancelled", echo=True))
    status = messages(Report, ended)[0].members[0]
    assert (status.state, status.reason, status.echo) == ("exited", "cancelled", True)


def test_a_master_that_wants_an_ended_member_to_end_is_told_again_that_it_has(life: Life) -> None:
    running(life, A0)
    life.hear(ReportAck(messages(Report, life.tell(Ended(A0, DONE)))[0].sequence))
    assert states(life.hear(desired(A0, generation=12, stop=A0))) == {A0: "exited"}


def test_a_member_stopped_before_it_began_never_begins(life: Life) -> None:
    life.connect()
    actions = life.hear(desired(A0, spec=allocation(), stop=A0))
    assert not of(Start, actions)
    assert states(actions) == {A0: "failed"}
    life, _ = life.reborn()
    life.connect()
    assert not of(Start, life.hear(desired(A0, generation=12, spec=allocation())))


def test_a_member_planned_for_another_agent_is_refused(life: Life) -> None:
    life.connect()
    actions = life.hear(desired(A0, spec=allocation(agents=("beta",))))
    assert not of(Start, actions)
    assert messages(Report, actions)[0].members[0].code == "MEMBER-MISPLACED"


def test_a_malformed_member_id_ends_the_link_and_touches_nothing(life: Life) -> None:
    running(life, A0)
    actions = life.hear(desired("../../etc", generation=12))
    assert of(CloseLink, actions)
    assert not of(Stop, actions)


def test_reports_are_repeated_until_acknowledged(life: Life) -> None:
    running(life, A0)
    life.tell(Ended(A0, DONE))
    again = life.tell(Ticked(), after=6)
    assert states(again) == {A0: "exited"}
    life.hear(ReportAck(messages(Report, again)[0].sequence))
    assert not messages(Report, life.tell(Ticked(), after=6))


def test_what_was_not_acknowledged_is_reported_again_on_the_next_link(life: Life) -> None:
    running(life, A0)
    life.tell(Ended(A0, DONE))
    life.tell(LinkDown())
    assert states(life.connect()) == {A0: "exited"}


def test_nothing_is_changed_for_a_store_that_has_gone_back(life: Life) -> None:
    running(life, A0)
    life.tell(LinkDown())
    actions = life.connect(welcome(generation=9))
    assert messages(Regressed, actions)[0].seen == Seen("c", 1, "m1", 11)
    assert not life.hear(desired(generation=12))
    assert not life.hear(Lease(1, 3600))
    assert life.core.members.live == (A0,)


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (welcome(cluster="other"), "cluster other"),
        (welcome(epoch=2, mark="m2", generation=30, cluster="c"), None),
        (Welcome(1, "0", "c", 2, "x2", 50, (EpochMark(1, "x1", 1), EpochMark(2, "x2", 40)), 10.0), "never been in it"),
        (
            Welcome(1, "0", "c", 2, "m2", 50, (EpochMark(1, "m1", 1), EpochMark(2, "m2", 11)), 10.0),
            "before generation 11",
        ),
        (Welcome(1, "0", "c", 2, "m2", 50, (EpochMark(1, "m1", 1), EpochMark(2, "m2", 12)), 10.0), None),
    ],
)
def test_a_store_is_known_by_its_cluster_and_the_marks_of_its_epochs(
    life: Life, message: Welcome, word: str | None
) -> None:
    running(life, A0)
    life.tell(LinkDown())
    regressed = messages(Regressed, life.connect(message))
    assert [word in r.evidence for r in regressed] == ([True] if word else [])


def test_an_adopted_store_is_taken_at_its_word(life: Life) -> None:
    running(life, A0)
    life.tell(LinkDown())
    assert messages(Regressed, life.connect(welcome(generation=5)))
    assert not messages(Regressed, life.hear(welcome(generation=5, adopt=True)))
    assert of(Stop, life.hear(desired(generation=5)))
    assert life.core.seen == Seen("c", 1, "m1", 5)


def beat(life: Life, after: float = 10.0, answered: bool = True) -> list[Action]:
    actions = life.tell(Ticked(), after)
    for heartbeat in messages(Heartbeat, actions):
        if answered:
            life.hear(HeartbeatAck(heartbeat.sequence, heartbeat.sent), after=1)
    return actions


def test_a_cut_off_agent_stops_what_may_be_started_elsewhere_counted_from_the_sending(life: Life) -> None:
    running(life, A0, spec=allocation(stop_after=900))
    running(life, A0, "job2-1.0.1", spec=allocation("job2-1"))
    sent = life.now + 10
    beat(life)
    life.tell(LinkDown())
    assert life.core.next_tick(life.now) == sent + 900
    assert not of(Stop, life.tell(Ticked(), after=898.9))
    stopped = of(Stop, life.tell(Ticked(), after=0.2))
    assert [(a.member, a.echo) for a in stopped] == [(A0, False)]
    assert "15m" in stopped[0].reason


def test_a_restart_of_the_agent_does_not_lengthen_its_lease(life: Life) -> None:
    running(life, A0, spec=allocation(stop_after=900))
    beat(life)
    life.now += 1000
    _, actions = life.reborn(Running(A0, 1000.0))
    assert [a.member for a in of(Stop, actions)] == [A0]


def test_a_planned_maintenance_lengthens_the_lease_also_across_a_restart(life: Life) -> None:
    running(life, A0, spec=allocation(stop_after=900))
    assert messages(LeaseHeld, life.hear(Lease(7, 7200))) == [LeaseHeld(7)]
    life.now += 7200
    life, actions = life.reborn(Running(A0, 1000.0))
    assert not of(Stop, actions)
    assert of(Stop, life.tell(Ticked(), after=901))


def test_acknowledgements_of_a_regressed_store_renew_nothing(life: Life) -> None:
    running(life, A0, spec=allocation(stop_after=25))
    life.tell(LinkDown())
    life.connect(welcome(generation=5))
    beat(life)
    beat(life)
    assert of(Stop, life.tell(Ticked(), after=10))


def test_a_link_without_answers_is_given_up(life: Life) -> None:
    life.connect()
    actions = [a for _ in range(4) for a in beat(life, answered=False)]
    assert len(of(CloseLink, actions)) == 1
    life.tell(LinkUp())
    assert of(CloseLink, life.tell(Ticked(), after=21))


def test_a_lost_supervisor_is_swept_up_before_the_slots_are_given_back(life: Life) -> None:
    running(life, A0)
    actions = life.tell(SupervisorLost(A0))
    assert of(Sweep, actions) == [Sweep(A0)]
    assert not states(actions)
    assert states(life.tell(Swept(A0))) == {A0: "failed"}


@pytest.mark.parametrize(("unbegun", "code"), [(False, "MEMBER-LOST"), (True, "START-INTERRUPTED")])
def test_only_what_certainly_never_began_is_told_as_such(life: Life, unbegun: bool, code: str) -> None:
    running(life, A0)
    life.tell(SupervisorLost(A0))
    life.tell(Swept(A0, 0, unbegun))
    assert [status.code for status in life.core.members.statuses(life.now)] == [code]


def test_a_revoked_agent_ends_its_members_and_gives_up(life: Life) -> None:
    running(life, A0)
    actions = life.hear(Refuse(REVOKED, "the key of alpha was revoked", final=True))
    assert of(Stop, actions)
    assert of(GiveUp, actions)


def test_another_refusal_leaves_members_alone(life: Life) -> None:
    running(life, A0)
    actions = life.hear(Refuse("PROTOCOL-UNKNOWN", "upgrade the agent", final=True))
    assert not of(Stop, actions)
    assert of(GiveUp, actions)


def test_ticks_are_due_in_the_future_once_handled(life: Life) -> None:
    """A core that asked for a tick at once, again and again, would keep a processor busy."""
    running(life, A0, spec=allocation(stop_after=40))
    for _ in range(30):
        due = life.core.next_tick(life.now)
        if due is None:
            break
        life.now = due
        life.tell(Ticked())
        following = life.core.next_tick(life.now)
        assert following is None or following > life.now


class FullJournal(MemoryJournal):
    """A journal on a disk that may be full."""

    full = True

    def record_intents(self, members: Sequence[str], specs: Sequence[AllocationSpec]) -> None:
        if self.full:
            raise JournalFull("journal: No space left on device")
        super().record_intents(members, specs)


def test_without_room_for_an_intent_nothing_begins_until_there_is() -> None:
    journal = FullJournal()
    life = Life(journal)
    life.tell(Recovered())
    life.connect()
    actions = life.hear(desired(A0, spec=allocation()))
    assert not of(Start, actions)
    assert [f.code for f in messages(Report, actions)[0].findings] == ["DISK-FULL"]
    assert not of(Start, life.tell(Ticked(), after=1.1))
    journal.full = False
    actions = life.tell(Ticked(), after=1.1)
    assert of(Start, actions)
    assert messages(Report, actions)[0].findings == ()


def test_a_beginning_waits_a_moment_for_company_and_an_end_does_not() -> None:
    life = Life(gather_s=0.01)
    life.tell(Recovered())
    life.connect()
    assert not messages(Report, life.hear(desired(A0, A1, spec=allocation())))
    assert life.core.next_tick(life.now) == life.now + 0.01
    assert not messages(Report, life.tell(Running(A0, life.now), after=0.005))
    assert states(life.tell(Ended(A0, DONE), after=0.001)) == {A0: "exited", A1: "starting"}
    assert not messages(Report, life.tell(Running(A1, life.now), after=0.001))
    assert states(life.tell(Ticked(), after=0.01)) == {A1: "running"}
