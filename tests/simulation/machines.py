"""A machine with an agent: the shipped agent core, a journal that may lose what was not synced, and processes."""

from collections.abc import Sequence
from dataclasses import dataclass

from quorate.agent.core import Core
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
from quorate.agent.journal import Lease, Memory, MemoryJournal
from quorate.model.messages import AllocationSpec, ExitStatus, Feature, MasterMessage, SlotInfo

from .invariants import Invariants
from .wire import Quality, Wire
from .world import Token, World


class DiskJournal(MemoryJournal):
    """Survives the agent's process; a machine that goes down keeps only what the journal promises is durable."""

    def __init__(self) -> None:
        super().__init__()
        self._synced = self._copy()

    def _copy(self) -> Memory:
        held = self._memory
        return Memory(dict(held.intents), dict(held.outcomes), held.seen, held.lease)

    def record_intents(self, members: Sequence[str], specs: Sequence[AllocationSpec]) -> None:
        super().record_intents(members, specs)
        self._synced = self._copy()

    def save_plan(self, lease: Lease) -> None:
        super().save_plan(lease)
        self._synced.lease = lease

    def lose_unsynced(self) -> None:
        """The power went."""
        self._memory = self._synced
        self._synced = self._copy()


@dataclass
class Process:
    """A member as the operating system has it; it knows nothing of agents."""

    member: str
    spec: AllocationSpec
    since: float | None = None
    exit: ExitStatus | None = None
    failed: bool = False
    reason: str = ""
    echo: bool = False
    log_bytes: int = 0
    #: Killed together with its shim: nobody wrote down how it ended.
    unknown: bool = False

    @property
    def alive(self) -> bool:
        return self.exit is None and not self.failed and not self.unknown

    def event(self) -> Event | None:
        """What its shim tells of it; None while it is being started, or if the shim is gone."""
        if self.unknown:
            return None
        if self.failed:
            return Failed(self.member, self.reason, "", self.echo, self.log_bytes)
        if self.exit is not None:
            return Ended(self.member, self.exit, self.reason, "", self.echo, self.log_bytes)
        return Running(self.member, self.since) if self.since is not None else None


class Machine:
    """One machine. What happens to it is decided by the story; how it reacts is the shipped agent's."""

    def __init__(self, world: World, invariants: Invariants, name: str, slots: int, host: str = "") -> None:
        #: Whether it gives members networks of their own, and its address where the others reach it.
        self.sandbox = False
        self.address = f"10.0.0.{ord(name[0])}"
        self.world = world
        self.name = name
        self.slots = slots
        self.boots = 1
        self.journal = DiskJournal()
        self.processes: dict[str, Process] = {}
        self.wire: Wire | None = None
        self.gave_up = False
        #: The network between it and the master is down.
        self.cut_off = False
        self.frozen = False
        #: The whole machine is paused, members included.
        self.paused = False
        self.quality = Quality()
        self.failure_rate = 0.0
        self.mean_run_s = 30.0
        #: Until then two gangs of one job may overlap here: the documented case of a pause beyond every timer.
        self.excused_until = 0.0
        self._invariants = invariants
        self._shared_host = host
        self._instances = 0
        self._core: Core | None = None
        self._tick: Token | None = None
        self._held_up: list[Event] = []
        self._offset = world.random.uniform(0, 5000)
        self._find_master = lambda: None

    # --- what the story does to it ---------------------------------------------------------------------------------

    def switch_on(self, find_master: object) -> None:
        """Starts the agent; `find_master()` gives the master that answers, if any."""
        self._find_master = find_master  # type: ignore[assignment]
        self.start_agent()

    def start_agent(self) -> None:
        """A new process of the agent, on what the last one left."""
        if self._core is not None or self.frozen:
            return
        self._instances += 1
        boot = f"{self.name}-boot{self.boots}"
        identity = Identity(
            agent=self.name,
            version="sim",
            boot=boot,
            host=self.host,
            address=self.address,
            features=(Feature.SANDBOX,) if self.sandbox else (),
            mtu=1500,
            slots=tuple(SlotInfo(i) for i in range(self.slots)),
            instance=f"{boot}-{self._instances}",
        )
        self._core = Core(identity, self.journal)
        known = self.journal.load().intents
        # The daemon removes folders that the journal no longer knows: it died between forgetting and removing.
        self.processes = {m: p for m, p in self.processes.items() if m in known or p.alive}
        observed = [event for p in self.processes.values() if (event := p.event()) is not None]
        starting = tuple(p.member for p in self.processes.values() if p.alive and p.since is None)
        self.world.tell(self.name, f"agent starts; finds {len(observed)} members")
        self._handle(Recovered(tuple(observed), starting))  # type: ignore[arg-type]
        for member in sorted({*self.processes, *self.journal.load().outcomes}):
            self.world.after(self.world.random.random() * 5, self._observe, Shipped(member, 0, whole=True))
        self._dial(self.world.random.random() * 2)

    def kill_agent(self, *, link_noticed: bool = True) -> None:
        """kill -9 of the agent alone."""
        self.world.tell(self.name, "agent killed")
        self._core = None
        self._held_up.clear()
        if self._tick is not None:
            self._tick.cancelled = True
        if self.wire is not None:
            self.wire.cut(agent_notices=None, master_notices=0.0 if link_noticed else None)
            self.wire = None

    def reboot(self) -> None:
        """The machine loses its power and comes back without any process."""
        self.world.tell(self.name, "reboots")
        self.kill_agent(link_noticed=self.world.chance(0.5))
        for process in self.processes.values():
            process.unknown = True
        self.processes.clear()
        self.journal.lose_unsynced()
        self.boots += 1
        self._offset = -self.world.now
        self.frozen = self.paused = False

    def kill_shim(self, member: str) -> None:
        """kill -9 of a shim and its member."""
        process = self.processes.get(member)
        if process is None or not process.alive:
            return
        self.world.tell(self.name, f"shim of {member} killed")
        process.unknown = True
        self._observe(SupervisorLost(member))

    def freeze(self, whole: bool) -> None:
        """SIGSTOP of the agent, or a pause of the whole machine."""
        self.world.tell(self.name, "paused" if whole else "agent stopped")
        self.frozen, self.paused = True, whole
        self.excused_until = float("inf")

    def thaw(self) -> None:
        """Everything that came meanwhile comes now, after the timers."""
        if not self.frozen:
            return
        self.world.tell(self.name, "thawed")
        self.frozen = self.paused = False
        self.excused_until = self.world.now + 30.0
        if self._core is None:
            # It was to be started while nothing could be: systemd makes up for it.
            self.start_agent()
            return
        waiting, self._held_up = self._held_up, []
        for event in (Ticked(), *waiting):
            self._handle(event)

    def cut(self) -> None:
        """Nothing passes between it and any master; how soon the ends notice is chance."""
        self.world.tell(self.name, "cut off")
        self.cut_off = True
        if self.wire is not None:
            self.wire.silent = True

    def mend(self) -> None:
        """The network is back; the old link may be dead without anybody having noticed."""
        self.cut_off = False
        if self.wire is not None:
            if self.world.chance(0.5):
                self.wire.heal()
            else:
                self.wire.cut(
                    agent_notices=self.world.random.random() * 5, master_notices=self.world.random.random() * 5
                )

    @property
    def host(self) -> str:
        """Boot id and network namespace, as the agent says it."""
        return self._shared_host or f"{self.name}-boot{self.boots}"

    @property
    def excused(self) -> bool:
        """A pause beyond every timer lets two gangs overlap for a moment: said in the docs."""
        return self.world.now < self.excused_until

    @property
    def quiet(self) -> bool:
        """Whether nothing of any member is left."""
        memory = self.journal.load()
        return not self.processes and not memory.intents and not memory.outcomes

    # --- the link --------------------------------------------------------------------------------------------------

    def receive(self, wire: Wire, message: MasterMessage) -> None:
        if wire is self.wire:
            self._observe(Received(message))

    def link_lost(self, wire: Wire) -> None:
        if wire is self.wire:
            self._observe(LinkDown())
            self.wire = None
            self._dial(self.world.random.random() * 3)

    def _dial(self, delay: float) -> None:
        self.world.after(delay, self._connect, self._instances)

    def _connect(self, instance: int) -> None:
        if self._core is None or instance != self._instances or self.wire is not None or self.gave_up:
            return
        master = self._find_master()
        if self.cut_off or self.frozen or master is None:
            self._dial(1 + self.world.random.random() * 4)
            return
        self.wire = Wire(self.world, self.quality, self, master, self.name)
        self._handle(LinkUp())

    # --- the core --------------------------------------------------------------------------------------------------

    def _clock(self) -> float:
        return self.world.now + self._offset

    def _observe(self, event: Event) -> None:
        if self.frozen:
            if self._core is not None:
                self._held_up.append(event)
        else:
            self._handle(event)

    def _handle(self, event: Event) -> None:
        core = self._core
        if core is None:
            return
        for action in core.handle(event, self._clock()):
            if self._core is not core:
                return
            self._do(action)
        self._schedule_tick(core)

    def _schedule_tick(self, core: Core) -> None:
        if self._core is not core:
            return
        if self._tick is not None:
            self._tick.cancelled = True
        due = core.next_tick(self._clock())
        if due is not None:
            self._tick = self.world.after(due - self._clock() + 1e-6, self._ticks, core)

    def _ticks(self, core: Core) -> None:
        if self._core is core and not self.frozen:
            self._handle(Ticked())

    def _do(self, action: Action) -> None:
        match action:
            case Send(message):
                if self.wire is not None:
                    self.wire.to_master(message)
            case CloseLink():
                if self.wire is not None:
                    self.wire.cut(agent_notices=None)
                    self.wire = None
                self._dial(1 + self.world.random.random() * 4)
            case GiveUp():
                self.gave_up = True
            case Start(member, spec):
                # The intent is durable: the agent may die before, or after, it asks for the process.
                if self.world.chance(0.01):
                    self.kill_agent()
                    self.world.after(5, self.start_agent)
                    return
                self._start(member, spec)
            case Stop(member, reason, echo, grace):
                self._stop(member, reason, echo, grace)
            case Sweep(member):
                swept = self.processes.pop(member, None)
                if swept is not None:
                    swept.unknown = True
                self.world.after(0.1, self._observe, Swept(member))
            case Forget(member):
                self.processes.pop(member, None)

    # --- processes -------------------------------------------------------------------------------------------------

    def _start(self, member: str, spec: AllocationSpec) -> None:
        self.world.tell(self.name, f"starts {member}")
        process = self.processes[member] = Process(member, spec)
        self._invariants.started(self, process)
        self.world.after(self.world.random.random() * 2, self._begin, process)

    def _begin(self, process: Process) -> None:
        if self.paused:
            self.world.after(1.0, self._begin, process)
            return
        if not process.alive:
            return
        if self.world.chance(self.failure_rate / 4):
            process.failed, process.reason = True, "no such program"
            self._told(process)
            return
        process.since = self._clock()
        self._invariants.runs(process)
        self._told(process)
        # Without the long tail: a history has to settle within a bound.
        duration = min(self.world.random.expovariate(1 / self.mean_run_s), 3 * self.mean_run_s)
        code = 0 if not self.world.chance(self.failure_rate) else self.world.random.randint(1, 255)
        self.world.after(duration, self._finish, process, ExitStatus(code=code), "", False)

    def _finish(self, process: Process, status: ExitStatus, reason: str, echo: bool) -> None:
        if self.paused:
            self.world.after(1.0, self._finish, process, status, reason, echo)
            return
        if not process.alive:
            return
        process.exit, process.reason, process.echo = status, reason, echo
        process.log_bytes = self.world.random.choice((0, 0, 100))
        self._invariants.ended(process)
        self._told(process)
        if process.log_bytes:
            self.world.after(self.world.random.random() * 5, self._observe, Shipped(process.member, 0, whole=True))

    def _told(self, process: Process) -> None:
        event = process.event()
        if event is not None and self._core is not None:
            self._observe(event)

    def _stop(self, member: str, reason: str, echo: bool, grace: float) -> None:
        process = self.processes.get(member)
        if process is None or not process.alive:
            return
        self.world.tell(self.name, f"stops {member}: {reason}")
        # One that ends by itself meanwhile has its own exit code and still the platform's words.
        delay = self.world.random.random() * grace
        self.world.after(delay, self._finish, process, ExitStatus(signal=15), reason, echo)
