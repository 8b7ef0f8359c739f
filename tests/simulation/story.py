"""One history: a cluster, its users and its accidents, all from one seed; then everything heals and must settle."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network

from quorate.master import effects as fx
from quorate.master import events as ev
from quorate.master.records import TokenKind, TokenRecord
from quorate.master.settings import PoolNetwork, Settings
from quorate.model.ids import AgentId, JobId
from quorate.model.job import JobSpec
from quorate.model.state import JobState
from quorate.scheduling.types import PoolPolicy

from .invariants import NOT_SETTLED, Broken, Invariants
from .machines import Machine
from .masters import Crash, Disk, Master
from .wire import Quality
from .world import World

#: The design's timers, a tenth as long, so that a history holds more of what they are for.
SETTINGS = Settings(
    heartbeat_s=10.0,
    unreachable_s=30.0,
    replace_after_s=90.0,
    abandon_after_s=240.0,
    margin_s=30.0,
    start_margin_s=5.0,
    loss_pause_limit_s=150.0,
    stop_limit_s=90.0,
    pools={"default": PoolPolicy(reserve_after_s=30.0)},
    # So few that jobs wait for each other's.
    network=PoolNetwork(overlays=(IPv4Network("10.200.0.0/25"),), vnis=(1, 8)),
)
STOP_AFTER = 45.0
GRACE = 5.0
#: Seconds of accidents, and how long the cluster may take to settle after them.
ACCIDENTS_S = 240.0
SETTLE_S = 1500.0
STEPS = 60_000


class Theme(StrEnum):
    """What kind of accidents a history is about; a seed picks one unless a test does."""

    MIXED = "mixed"
    #: Agents away for longer than every timer, under members that run on.
    LOSS = "loss"
    #: Agents and machines that are stopped and go on, with what came meanwhile in their sockets.
    FREEZE = "freeze"
    #: Masters that die, are usurped, and stop as planned.
    MASTER = "master"
    #: A backup takes the store's place.
    RESTORE = "restore"


#: Accidents by theme; the more often a word stands there, the likelier it is.
_ACCIDENTS = {
    theme: words.split()
    for theme, words in {
        Theme.MIXED: "kill dies usurp agent agent reboot freeze cut cut shim drain plan revoke restore",
        Theme.LOSS: "cut cut cut agent reboot shim kill revoke",
        Theme.FREEZE: "freeze freeze freeze cut agent kill",
        Theme.MASTER: "kill kill dies dies dies usurp usurp plan plan agent cut",
        Theme.RESTORE: "restore restore kill cut agent usurp freeze",
    }.items()
}
_LENGTHS = {
    Theme.LOSS: (60.0, 120.0, 200.0),
    Theme.FREEZE: (20.0, 100.0, 150.0),
}


@dataclass
class _Order:
    """A job as its user sees it."""

    key: str
    spec: JobSpec
    job: JobId | None = None
    cancel_wanted: bool = False
    cancel_done: bool = False


@dataclass
class _Backup:
    """A backup, and what had been promised when it was taken."""

    content: bytes
    accepted: set[str]
    cancelled: set[str]
    final: dict[str, JobState] = field(default_factory=dict)


class Story:
    """Runs one seed; `run` raises Broken if an invariant does."""

    def __init__(self, seed: int, verbose: bool = False, theme: Theme | None = None) -> None:
        world = self.world = World(seed, verbose)
        picked = world.random.choice(list(Theme))
        self.theme = theme or picked
        self.invariants = Invariants()
        self.settings = SETTINGS
        self.disk = Disk()
        self.healed = False
        self.master: Master | None = None
        self.orders: list[_Order] = []
        #: Machines that are no part of the cluster any more.
        self.revoked: set[str] = set()
        self._masters = 0
        self._adopting = False
        self._backup: _Backup | None = None
        rough = world.chance(0.15)
        quality = Quality(
            latency_s=world.random.choice((0.005, 0.02, 0.5)),
            repeat=0.02 if rough else 0.0,
            overtake=0.02 if rough else 0.0,
        )
        failures = world.random.choice((0.0, 0.05, 0.3))
        mean_run_s = world.random.choice((5.0, 30.0, 30.0, 150.0))
        sandboxes = world.chance(0.7)
        shared = "one-host" if world.chance(0.2) else ""
        for name in "abcd"[: world.random.randint(2, 4)]:
            machine = Machine(world, self.invariants, name, world.random.randint(1, 3), shared)
            machine.sandbox = sandboxes
            machine.quality, machine.failure_rate, machine.mean_run_s = quality, failures, mean_run_s
            self.invariants.machines.append(machine)

    # --- the whole of it ---------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Plays the history to its end; returns the number of steps."""
        world = self.world
        self._start_master()
        self._join()
        for machine in self.invariants.machines:
            machine.switch_on(self._answering)
        for _ in range(world.random.randint(2, 7)):
            world.after(world.random.random() * ACCIDENTS_S * 0.8, self._order)
        for _ in range(world.random.randint(0, 9)):
            world.after(world.random.random() * ACCIDENTS_S, self._accident)
        world.after(ACCIDENTS_S, self._heal)
        deadline = world.now + ACCIDENTS_S + SETTLE_S
        while not (self.healed and self._settled()):
            if not world.step() or world.now > deadline or world.steps > STEPS:
                raise Broken(NOT_SETTLED, self._unsettled())
        if self.master is not None:
            self.invariants.consistent(self.master.core.state)
        return world.steps

    def _settled(self) -> bool:
        master = self.master
        if master is None or not master.alive or not all(order.job for order in self.orders):
            return False
        state = master.core.state
        if state.unfinished or any(order.cancel_wanted and not order.cancel_done for order in self.orders):
            return False
        there = [machine for machine in self.invariants.machines if machine.name not in self.revoked]
        return not any(state.held.get(m.name) for m in there) and all(machine.quiet for machine in there)

    def _unsettled(self) -> str:
        state = self.master.core.state if self.master else None
        left = (
            [f"{j.id} {j.state} {j.reason}" for j in state.jobs.values() if not j.state.final]
            if state
            else ["no master"]
        )
        held = [f"{m.id} {m.state} on {m.agent}" for m in state.members.values() if not m.released] if state else []
        machines = [
            f"{m.name}: {sorted({*m.journal.load().intents, *m.journal.load().outcomes, *m.processes})}"
            for m in self.invariants.machines
            if not m.quiet
        ]
        orders = [o.key for o in self.orders if o.job is None or (o.cancel_wanted and not o.cancel_done)]
        return (
            f"at {self.world.now:.0f} after {self.world.steps} steps: jobs {left}; held {held}; machines {machines}; "
            f"orders {orders}"
        )

    # --- the master --------------------------------------------------------------------------------------------------

    def _answering(self) -> Master | None:
        return self.master if self.master is not None and self.master.alive else None

    def _start_master(self) -> None:
        if self._answering() is not None:
            return
        self._masters += 1
        try:
            self.master = Master(self.world, self.invariants, self.disk, self.settings, f"master{self._masters}")
        except Crash:
            self.world.tell(f"master{self._masters}", "dies while it starts")
            self.master = None
            return
        state = self.master.core.state
        for order in self.orders:
            if order.job is not None and order.job not in state.jobs:
                order.job = None

    def _ensure_master(self) -> None:
        """systemd: a master that died is started again; an operator who sees STORE-REGRESSED decides."""
        if self._answering() is None:
            self._start_master()
        self._watch_over()

    def _watch_over(self) -> None:
        self.world.after(1 + self.world.random.random() * 10, self._ensure_master)
        master = self._answering()
        if master is None:
            return
        state = master.core.state
        if (state.identity.restored or state.regressed) and not state.adopted and not self._adopting:
            self._adopting = True
            self.world.after(self.world.random.random() * 30, self._adopt)
        for machine in self.invariants.machines:
            if machine.name in state.unaccounted and machine.gave_up:
                self._say_it_is_off(machine)

    def _say_it_is_off(self, machine: Machine) -> None:
        """A restored store waits for an agent that was revoked in the time that was lost: it will never be back."""
        self.world.tell("operator", f"turns {machine.name} off")
        machine.reboot()
        self._ask_to_revoke(machine, gone=True)

    def _adopt(self) -> None:
        self._adopting = False
        self._feed(lambda now, wall: ev.Adopted(now=now, wall=wall, by="operator"))

    def _feed(
        self, make: Callable[[float, float], ev.Event], answered: Callable[[fx.Answer | None], None] | None = None
    ) -> bool:
        master = self._answering()
        if master is None:
            return False
        master.feed(make(self.world.now, self.world.wall), answered)
        return True

    def _join(self) -> None:
        token = TokenRecord(id="t", kind=TokenKind.JOIN, hash="t", created_wall=0.0, pool="default")
        self._feed(lambda now, wall: ev.TokenCreated(now=now, wall=wall, token=token))
        for machine in self.invariants.machines:
            self._feed(
                lambda now, wall, name=machine.name: ev.AgentJoined(
                    now=now, wall=wall, agent=AgentId(name), token_hash="t", key_hash=f"key-{name}"
                )
            )
        while self.master is not None and not self.master.core.idle:
            self.world.step()
        while self.master is not None and self.master._committing is not None:
            self.world.step()
        self._watch_over()

    # --- users -------------------------------------------------------------------------------------------------------

    def _order(self) -> None:
        random = self.world.random
        nodes = random.randint(1, len(self.invariants.machines))
        largest = max(machine.slots for machine in self.invariants.machines)
        unequal = nodes > 1 and self.world.chance(0.2)
        spec = JobSpec(
            name="sim",
            entrypoint=("true",),
            resources={  # type: ignore[arg-type]
                "nodes": nodes,
                "slots": random.choice((0, 1, 1, 1)),
                "min_nodes": None if unequal else random.choice((None, None, None, 1)),
            },
            roles={"worker": {"replicas": nodes - 1}, "main": {"slots": largest}} if unequal else {},  # type: ignore[dict-item]
            launcher=random.choice(("none", "torch")),  # type: ignore[arg-type]
            priority=random.choice((50, 50, 80)),
            restarts=random.choice((0, 1, 3)),
            max_runtime=random.choice((None, None, 40.0)),
            start_timeout=60.0,
            stop_after=STOP_AFTER,
            grace=GRACE,
        )
        order = _Order(f"order-{len(self.orders)}", spec)
        self.orders.append(order)
        self._submit(order)
        if self.world.chance(0.25):
            self.world.after(random.random() * 90, self._cancel, order)

    def _submit(self, order: _Order) -> None:
        """A client that repeats its request, with one Idempotency-Key, until it has an answer."""
        if order.job is None:

            def answered(answer: fx.Answer | None) -> None:
                if isinstance(answer, fx.Submitted):
                    order.job = answer.job
                    self.invariants.accepted.add(answer.job)
                elif isinstance(answer, fx.Refused):
                    raise AssertionError(answer)

            self._feed(
                lambda now, wall: ev.JobSubmitted(
                    now=now,
                    wall=wall,
                    owner="ann",
                    spec=order.spec,
                    idempotency=order.key,
                    entropy=self.world.entropy(),
                ),
                answered,
            )
        self.world.after(20.0, self._submit, order)

    def _cancel(self, order: _Order) -> None:
        order.cancel_wanted = True
        job = order.job
        if job is not None and not order.cancel_done:

            def answered(answer: fx.Answer | None) -> None:
                if isinstance(answer, fx.Done) and order.job == job:
                    order.cancel_done = True
                    self.invariants.cancelled.add(job)

            self._feed(lambda now, wall: ev.JobCancelRequested(now=now, wall=wall, job=job, by="ann"), answered)
        self.world.after(15.0, self._cancel, order)

    # --- accidents ---------------------------------------------------------------------------------------------------

    def _accident(self) -> None:
        if self.healed:
            return
        random = self.world.random
        machine = random.choice(self.invariants.machines)
        length = random.choice(_LENGTHS.get(self.theme, (2.0, 20.0, 60.0, 150.0))) * (0.5 + random.random())
        match random.choice(_ACCIDENTS[self.theme]):
            case "kill":
                self._kill_master(length / 4)
            case "dies":
                self.disk.dies_at = random.randint(0, 6)
            case "usurp":
                self._usurp()
            case "agent":
                machine.kill_agent(link_noticed=self.world.chance(0.7))
                # Only an agent stops what is cut off: one that is dead for longer than its timers is like a paused one.
                self.world.after(min(length / 4, 40.0), machine.start_agent)
            case "reboot":
                machine.reboot()
                self.world.after(length, machine.start_agent)
            case "freeze":
                machine.freeze(whole=self.world.chance(0.5))
                self.world.after(length, machine.thaw)
            case "cut":
                machine.cut()
                self.world.after(length, machine.mend)
            case "shim":
                if machine.processes:
                    machine.kill_shim(random.choice(sorted(machine.processes)))
            case "revoke":
                self._revoke(machine)
            case "drain":
                self._drain(machine, length)
            case "plan":
                self._planned_stop(length)
            case "restore":
                self._back_up_and_restore(length)

    def _kill_master(self, length: float) -> None:
        if self.master is not None:
            self.master.kill()
        self.world.after(length, self._start_master)

    def _usurp(self) -> None:
        """Another master on the same store: agents go over one by one, as their links to the first one break."""
        old = self._answering()
        if old is None:
            return
        self.world.tell(old.name, "is usurped")
        self.master = None
        self._start_master()
        for machine in self.invariants.machines:
            wire = machine.wire
            if wire is not None:
                self.world.after(
                    self.world.random.random() * 60,
                    lambda wire=wire: wire.cut(master_notices=self.world.random.random()),
                )

    def _drain(self, machine: Machine, length: float) -> None:
        name = AgentId(machine.name)
        self._feed(lambda now, wall: ev.AgentDrainRequested(now=now, wall=wall, agent=name, by="operator"))
        self.world.after(length, self._resume, name)

    def _revoke(self, machine: Machine) -> None:
        """The operator gives a machine up: because it burns, or although it may still be at work."""
        gone = self.world.chance(0.5)
        if self._ask_to_revoke(machine, gone) and gone:
            machine.reboot()
            machine.gave_up = True

    def _ask_to_revoke(self, machine: Machine, gone: bool) -> bool:
        """An operator who gets no answer, because the master died over it, asks again."""
        name = AgentId(machine.name)

        def answered(answer: fx.Answer | None) -> None:
            self.world.tell("operator", f"revokes {name}")
            self.revoked.add(name)

        def once_more() -> None:
            if name not in self.revoked:
                self._ask_to_revoke(machine, gone)

        asked = self._feed(
            lambda now, wall: ev.AgentRevoked(now=now, wall=wall, agent=name, by="operator", gone=gone), answered
        )
        if asked or machine.gave_up:
            self.world.after(20.0, once_more)
        return asked

    def _resume(self, name: AgentId) -> None:
        if not self._feed(lambda now, wall: ev.AgentResumed(now=now, wall=wall, agent=name, by="operator")):
            self.world.after(5.0, self._resume, name)

    def _planned_stop(self, length: float) -> None:
        master = self._answering()
        if master is None:
            return
        self._feed(lambda now, wall: ev.PlannedStop(now=now, wall=wall, for_s=length))
        self.world.after(1.0, self._stop_when_ready, master, length)

    def _stop_when_ready(self, master: Master, length: float) -> None:
        if self.healed or self.master is not master or not master.alive:
            return
        if master.stop_ready:
            master.kill("stops as planned")
            self.world.after(length * self.world.random.random(), self._start_master)
        else:
            self.world.after(1.0, self._stop_when_ready, master, length)

    def _back_up_and_restore(self, length: float) -> None:
        master = self._answering()
        if master is None or self._backup is not None:
            return
        know = self.invariants
        content = self.disk.backup(master.store)
        self._backup = _Backup(content, set(know.accepted), set(know.cancelled), dict(know.final))
        self.world.tell("operator", "takes a backup")
        self.world.after(length, self._restore)

    def _restore(self) -> None:
        if self.healed or self._backup is None:
            return
        self.world.tell("operator", "restores the backup")
        if self.master is not None:
            self.master.kill("killed for good")
        self.disk = Disk(self._backup.content)
        know, backup = self.invariants, self._backup
        # What was promised after the backup is lost with the old store; users ask again.
        know.accepted, know.cancelled, know.final = backup.accepted, backup.cancelled, backup.final
        # So is what ran meanwhile: a job that the backup has in line is in line again.
        know.ran.clear()
        for order in self.orders:
            order.cancel_done = order.cancel_done and order.job in know.cancelled
            if order.job not in know.accepted:
                order.job = None
        self._start_master()

    # --- the end -----------------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        self.world.tell("world", "heals")
        self.healed = True
        self.disk.dies_at = None
        if self.revoked:
            # What is left may be too small for some jobs: their users give up.
            for order in self.orders:
                self.world.after(300.0, self._cancel, order)
        for machine in self.invariants.machines:
            machine.thaw()
            machine.mend()
            machine.start_agent()
            # An operator who was not heard, because the master died over it, says it again.
            if machine.name not in self.revoked:
                self.world.after(60.0, self._resume, AgentId(machine.name))
        self._start_master()
