"""Real agents for tests: processes of their own, with a state folder that other users may pass through."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from tests.agent.peer import DEADLINE_S

from quorate.agent import daemon

Value = TypeVar("Value")

#: An agent that has joined already: what `quorate agent` runs, without the command line around it.
_PROGRAM = """
import sys
from quorate.agent.config import AgentConfig
from quorate.agent import daemon
from tests.agent.peer import DEADLINE_S
daemon.log_to_stderr()
sys.exit(daemon.run(AgentConfig.model_validate_json(sys.argv[1])))
"""


@dataclass
class Agent:
    """One agent on this machine, through any number of lives."""

    state: Path
    name: str = "alpha"
    settings: dict = field(default_factory=dict)
    process: subprocess.Popen | None = None
    #: A command that runs the agent, such as one that takes something away from it.
    within: tuple[str, ...] = ()
    #: Python that runs in it first, such as what kills it at one point.
    first: str = ""

    def start(self, port: int) -> None:
        master = f"http://127.0.0.1:{port}"
        kept = {"agent": self.name, "key": "qa1.x", "master": master, "authority": "", "joined": True}
        (self.state / "membership.json").write_text(json.dumps(kept))
        self._run(master)

    def join(self, master: str, token: str) -> None:
        """Its first start, with a join token."""
        self._run(master, token=token)

    def come_back(self, master: str) -> None:
        """Its next life, with the key that it was given."""
        self._run(master)

    def _run(self, master: str, **more: str) -> None:
        # One agent of a machine makes private networks, and tests run side by side: those that want them say so.
        config = {
            "name": self.name, "master": master, "state_dir": str(self.state), "members_as": "self", "sandboxes": False,
        }  # fmt: skip
        config |= self.settings | more
        self.process = subprocess.Popen([*self.within, sys.executable, "-c", self.first + _PROGRAM, json.dumps(config)])

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def remove(self) -> None:
        """Ends it, all its members, and its folder."""
        if self.process is not None:
            self.kill()
        assert daemon.end(self.state)
        shutil.rmtree(self.state)

    def folder(self, member: str) -> Path:
        return self.state / "members" / member

    def shim(self, member: str) -> int:
        return int(json.loads((self.folder(member) / "shim.json").read_text())["pid"])


async def eventually(condition: Callable[[], object]) -> None:
    """Waits for what nobody announces: a file, a process."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 (a file has no event)
            await asyncio.sleep(0.01)


def until(condition: Callable[[], Value], patience_s: float = DEADLINE_S) -> Value:
    """The same where nothing else goes on meanwhile; returns what the condition gave."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.01)
    return value


def new_agent(name: str = "alpha") -> Agent:
    """With a folder that other users may pass through; pytest's own may be entered by nobody else."""
    state = Path(tempfile.mkdtemp(prefix="quorate-agent-"))
    state.chmod(0o711)
    return Agent(state, name)


#: No control groups, as on a machine where the agent has no rights to any.
WITHOUT_CGROUPS = ("unshare", "--mount", "sh", "-c", 'umount -R /sys/fs/cgroup && exec "$@"', "sh")


@pytest.fixture(params=[(), pytest.param(WITHOUT_CGROUPS, marks=pytest.mark.lab)], ids=["groups", "no-groups"])
def any_agent(agent: "Agent", request: pytest.FixtureRequest) -> "Agent":
    """An agent with control groups, and one that has to go by the tree of processes."""
    if request.param and os.geteuid() != 0:
        pytest.skip("only root may take control groups away")
    agent.within = request.param
    return agent


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = new_agent()
    try:
        yield agent
    finally:
        agent.remove()


@dataclass
class SmallDisk:
    """A disk of a few megabytes under the members of an agent."""

    path: Path

    def mount(self, size: str) -> None:
        options = f"{'remount,' if self.path.is_mount() else ''}size={size},mode=711"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)], check=True)


@pytest.fixture
def small_disk(agent: Agent) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk")
    disk = SmallDisk(agent.state / "members")
    disk.path.mkdir(mode=0o711)
    try:
        yield disk
    finally:
        if agent.process is not None:
            agent.kill()
        assert daemon.end(agent.state)
        subprocess.run(["umount", "-l", str(disk.path)], check=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
