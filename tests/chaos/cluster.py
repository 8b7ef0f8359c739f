"""The vocabulary of accidents: a real cluster, jobs that count aloud, and ways to find and kill anybody."""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
from tests.agent.conftest import Agent, new_agent
from tests.master.serving import MasterProcess

from quorate.agent import daemon
from quorate.agent.processes import MARKER
from quorate.client.api import Client
from quorate.client.errors import ClientError
from quorate.client.settings import Settings
from quorate.model.job import JobSpec
from quorate.model.state import JobState
from quorate.model.views import JobDetail, MemberView

Value = TypeVar("Value")

#: Bounds a hang on a loaded machine; nothing here takes a quarter of it.
PATIENCE_S = 60.0
#: Heartbeats in a rhythm that a test can wait for; nobody is given up while a test kills and restarts.
TIMERS = {"heartbeat_s": 0.5, "unreachable_s": 20.0, "margin_s": 1.0}

#: For agents that are given up: a lease of two seconds, the grace of one, and the margin; so soon a silent agent's job
#: may be placed again.
IMPATIENT = {"unreachable_s": 2.0, "replace_after_s": 3.0, "margin_s": 12.0}
STOP_AFTER_S = 2.0

#: How a shim and its companion are called.
_SHIM = "quorate-shim"

#: Prints numbered lines until the gate opens, then how many there were: what is lost or doubled shows.
COUNTING = """
echo "$QUORATE_MEMBER" >> "$CHAOS/starts"
i=0
while [ ! -e "$CHAOS/gate" ]; do echo "line $i"; i=$((i + 1)); sleep 0.02; done
echo "last $i"
"""
#: The same of a member that takes its time to end.
STUBBORN = f"trap 'touch $CHAOS/asked; while [ ! -e $CHAOS/gate ]; do sleep 0.02; done; exit 0' TERM\n{COUNTING}"


def until(condition: Callable[[], Value], what: object, patience_s: float = PATIENCE_S) -> Value:
    """Waits for what nobody announces; what the condition gave. `what` is told where it does not come about."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what}"
        time.sleep(0.05)
    return value


class Told:
    """Words that are made when they are needed: the state of things when a wait was in vain."""

    def __init__(self, words: Callable[[], str]) -> None:
        self._words = words

    def __str__(self) -> str:
        return self._words()


def kill(*processes: psutil.Process, number: int = signal.SIGKILL) -> None:
    """Signals all of them, as much in one moment as one process can."""
    for process in processes:
        process.send_signal(number)


@dataclass
class Work:
    """One job and what it was seen to do."""

    cluster: "Cluster"
    id: str
    folder: Path
    _seen: dict[str, list[str]] = field(default_factory=dict)

    def view(self) -> JobDetail:
        """The job. Its attempts are counted from the first that began: others on this machine may have its ports."""
        view = self.cluster.client.job(self.id)
        return view.model_copy(update={"attempt": view.attempt - _unbegun(view)})

    def until_state(self, state: JobState, attempt: int = 1) -> JobDetail:
        def reached() -> JobDetail | None:
            view = self.view()
            return view if view.state is state and view.attempt >= attempt else None

        return until(reached, f"job {self.id} {state} in attempt {attempt}")

    def member(self, name: str = "sub1") -> MemberView:
        return next(member for member in self.view().members if member.name == name)

    def on(self, agent: str) -> MemberView:
        """The member on that agent: equally free agents may get either."""
        return next(member for member in self.view().members if member.agent == agent)

    def until_counting(self, lines: int = 10, attempt: int = 1) -> None:
        """Every member of the attempt has that many lines acknowledged: the master shows them."""
        nodes = self.view().spec.resources.nodes

        def counted() -> bool:
            said = self.output(attempt)
            self._seen |= said
            return len(said) == nodes and all(len(lines_of) >= lines for lines_of in said.values())

        until(counted, Told(lambda: f"{lines} lines of each member of {self}"))

    def output(self, attempt: int | None = None) -> dict[str, list[str]]:
        """Lines by member, as the master has them."""
        found: dict[str, list[str]] = {}
        number = None if attempt is None else attempt + _unbegun(self.view())
        for line in self.cluster.client.logs(self.id, attempt=number):
            if line.text or line.end:
                found.setdefault(line.member, []).append(line.text)
        return found

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    def ended(self) -> JobDetail:
        """The job at its end, once nothing of it is left on any machine."""
        until(lambda: self.view().state.final, f"the end of job {self.id}")
        until(lambda: not self.left(), f"that nothing is left of job {self.id}")
        self.started_once()
        return self.view()

    def left(self) -> list[psutil.Process]:
        """Every process of every member there ever was: commands, shims and companions."""
        return [p for p in psutil.process_iter() if f"{self.id}-" in member_of(p)]

    def of_attempt(self, attempt: int) -> list[psutil.Process]:
        """Those of them that belong to one attempt."""
        return [process for process in self.left() if self.is_of(attempt, member_of(process))]

    def commands(self, attempt: int) -> list[psutil.Process]:
        """What runs of an attempt's own program: a shim and a companion may have a last word when that is over."""
        return [process for process in self.of_attempt(attempt) if _name(process) not in ("", _SHIM)]

    def started_once(self) -> None:
        starts = (self.folder / "starts").read_text().split()
        assert len(starts) == len(set(starts)), f"a member was started twice: {starts}"

    def counted_well(self, attempt: int = 1, *, complete: bool = True) -> None:
        """No line is lost or doubled, and none that was shown before the accident is missing."""
        log = self.output(attempt)
        for member, said in self._seen.items():
            if not self.is_of(attempt, member):
                continue
            assert log.get(member, [])[: len(said)] == said, f"{member} lost what was acknowledged"
        for member, said in log.items():
            lines = [line for line in said if not line.startswith("stopping: ")]
            count = len(lines) - 1 if complete else len([line for line in lines if line.startswith("line ")])
            expected = [f"line {i}" for i in range(count)] + ([f"last {count}"] if complete else [])
            assert lines == expected, f"{member}: {lines[-3:]} after {len(lines)} lines"

    def is_of(self, attempt: int, member: str) -> bool:
        """Whether the member is one of that attempt's."""
        return member.startswith(f"{self.id}-{attempt + _unbegun(self.view())}.")

    def __str__(self) -> str:
        view = self.view()
        members = [(member.name, member.agent, member.state.value) for member in view.members]
        happened = [entry.what for entry in view.history]
        lines = {member: len(said) for member, said in self.output().items()}
        return f"job {self.id}: {view.state.value}, {view.reason!r}, {members}, {happened}, lines {lines}"

    # --- whom to kill ------------------------------------------------------------------------------------------

    def shim(self, name: str = "sub1") -> psutil.Process:
        member = self.member(name)
        return psutil.Process(self.cluster.agents[member.agent].shim(member.id))

    def companion(self, name: str = "sub1") -> psutil.Process:
        return next(child for child in self.shim(name).children() if child.name() == _SHIM)

    def command(self, name: str = "sub1") -> psutil.Process:
        return next(child for child in self.shim(name).children() if child.name() != _SHIM)


def _unbegun(view: JobDetail) -> int:
    return sum("(PORT-TAKEN)" in entry.what for entry in view.history)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def member_of(process: psutil.Process) -> str:
    """The member that a process belongs to: by its mark, or by the folder where shims and companions live."""
    try:
        marked = process.environ().get(MARKER, "")
        if marked or process.name() != _SHIM or process.status() == psutil.STATUS_ZOMBIE:
            return marked
        return Path(process.cwd()).name
    except (psutil.Error, OSError):
        return ""


@dataclass
class Cluster:
    """A master and its agents, each as often killed and started again as a test likes."""

    folder: Path
    master: MasterProcess
    client: Client
    agents: dict[str, Agent]
    _jobs: int = 0

    def submit(self, script: str = COUNTING, nodes: int = 2, **spec: Any) -> Work:
        """A job whose members find their common folder in $CHAOS."""
        self._jobs += 1
        folder = self.folder / f"job{self._jobs}"
        folder.mkdir(mode=0o777)
        environment = {"CHAOS": str(folder), **spec.pop("environment", {})}
        fields = {"entrypoint": ("sh", "-c", script), "resources": {"nodes": nodes}, "grace": 2.0} | spec
        job = self.client.submit(JobSpec(environment=environment, **fields))
        return Work(self, job.id, folder)

    @property
    def path(self) -> str:
        """Where `python` is the interpreter of these tests, with everything that a training needs."""
        return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

    def agent_of(self, work: Work, name: str = "sub1") -> Agent:
        return self.agents[work.member(name).agent]

    # --- accidents ---------------------------------------------------------------------------------------------

    def kill_master(self) -> None:
        self.master.kill()

    def start_master(self) -> None:
        self.master.start()

    def kill_agent(self, agent: Agent) -> None:
        agent.kill()

    def start_agent(self, agent: Agent) -> None:
        agent.come_back(self.master.url)

    @contextmanager
    def stopped(self, agent: Agent) -> Iterator[None]:
        """The agent is stopped by SIGSTOP until the end of the block."""
        assert agent.process is not None
        process = psutil.Process(agent.process.pid)
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def zygote(self, agent: Agent) -> psutil.Process:
        """It comes a moment after its agent."""
        assert agent.process is not None
        parent = psutil.Process(agent.process.pid)

        def found() -> list[psutil.Process]:
            return [child for child in parent.children() if "quorate.agent.zygote" in child.cmdline()]

        return until(found, f"the zygote of agent {agent.name}")[0]

    def everybody(self, work: Work) -> list[psutil.Process]:
        """All processes of the cluster, and those of the job's members."""
        assert self.master.process is not None
        daemons = [psutil.Process(self.master.process.pid)]
        for agent in self.agents.values():
            assert agent.process is not None
            daemons += [psutil.Process(agent.process.pid), self.zygote(agent)]
        return daemons + [p for p in work.left() if p.name() == _SHIM]

    def until_ready(self, *names: str) -> None:
        """Those agents (all, if none is named) can take work."""
        wanted = set(names or self.agents)
        until(lambda: wanted <= {a.id for a in self._agents() if a.state == "ready"}, f"that {wanted} are ready")

    def _agents(self) -> list[Any]:
        try:
            return list(self.client.agents())
        except ClientError:
            return []


@contextmanager
def running(*names: str, slots: int = 8, timers: dict[str, float] | None = None, **master: Any) -> Iterator[Cluster]:
    """A cluster of these agents, of which nothing is left afterwards, whoever died meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="quorate-chaos-"))
    folder.chmod(0o755)
    server = MasterProcess(folder / "master", timers=TIMERS | (timers or {}), **master)
    agents = {name: new_agent(name) for name in names}
    try:
        server.start()
        with Client(Settings(server.url, server.token)) as client:
            cluster = Cluster(folder, server, client, agents)
            token = client.create_token(kind="join", pool="default").token
            for number, agent in enumerate(agents.values()):
                agent.settings = {"advertise_address": f"127.0.0.{11 + number}", "slots": slots}
                agent.join(server.url, token)
            cluster.until_ready()
            yield cluster
    finally:
        for agent in agents.values():
            if agent.process is not None and agent.process.poll() is None:
                agent.process.send_signal(signal.SIGCONT)
                agent.kill()
            assert daemon.end(agent.state)
            shutil.rmtree(agent.state, ignore_errors=True)
        if server.process is not None and server.process.poll() is None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def until_placed_again(cluster: Cluster, work: Work) -> None:
    """Something of the job's second attempt runs, and at no moment anything of the first one beside it."""
    together = []

    def placed_again() -> bool:
        # The later one first: what of the former is seen after it was there beside it.
        if again := work.of_attempt(2):
            together.extend(work.of_attempt(1))
        return bool(again)

    until(
        placed_again,
        Told(lambda: f"the second attempt of {work}; {[(a.id, a.state, a.silent) for a in cluster.client.agents()]}"),
    )
    assert not together, "both attempts ran"


def is_root() -> bool:
    return os.geteuid() == 0
