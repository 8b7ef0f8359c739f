"""Real agents on the lab's hosts, each with a master of its own that says what it should run."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.agent.conftest import Agent, new_agent
from tests.agent.peer import JOB, Peer
from tests.sandbox.hosts import Host, Lab
from websockets.asyncio.server import serve

from quorate.agent.sandbox import namespaces
from quorate.model.messages import AllocationSpec, NetworkSpec, PlannedMember

#: The interpreter of the machine, which every user may run.
PYTHON = "/usr/bin/python3"


@dataclass
class Machine:
    """A host, its agent, and what the agent's master knows."""

    host: Host
    agent: Agent
    peer: Peer = field(default_factory=Peer)
    #: HOST:PORT of its master.
    master: str = ""
    within: tuple[str, ...] = ()

    def start(self, **settings: Any) -> None:
        """The agent's next life, as root, with a user for each allocation."""
        master = f"http://{self.master}"
        kept = {"agent": self.agent.name, "key": "qa1.x", "master": master, "authority": "", "joined": True}
        (self.agent.state / "membership.json").write_text(json.dumps(kept))
        self.agent.within = ("nsenter", f"--net={self.host.namespace}", *self.within)
        self.agent.settings = {
            "advertise_address": self.host.address, "members_as": "users", "slots": 4, "sandboxes": True,
            "helper": str(self.agent.state / "none.sock"), **settings,
        }  # fmt: skip
        self.agent.come_back(master)

    def helper(self) -> int:
        """The pid of the agent's helper of the moment; 0 while there is none."""
        return self.child("quorate.agent.helper")

    def child(self, module: str) -> int:
        """The pid of the agent's own process that runs the module; 0 while there is none."""
        assert self.agent.process is not None
        found = subprocess.run(
            ["pgrep", "-P", str(self.agent.process.pid), "-f", module], capture_output=True, text=True
        )
        return int(found.stdout.split()[0]) if found.stdout else 0

    @property
    def network(self) -> Path:
        """Where its helper keeps namespaces."""
        return self.agent.state / "network"

    def left(self) -> list[str]:
        """Everything of private networks that is on the host."""
        files = [str(path) for folder in ("namespaces", "rules") for path in (self.network / folder).glob("*")]
        # The host's table stays for members in the host's network, without anything about private ones.
        tables = set(self.host.run("nft", "list", "tables").splitlines()) - {"table inet quorate"}
        vxlan = [line for line in self.host.run("nft", "list", "ruleset").splitlines() if "VXLAN" in line]
        kept = {str(self.network / "rules" / "host")}
        return [*sorted(self.host.links() - {"lo", "u0"}), *tables, *vxlan, *(set(files) - kept)]


@asynccontextmanager
async def machines(lab: Lab, **settings: Any) -> AsyncIterator[list[Machine]]:
    """An agent on each host, connected; the masters listen at the neighbour."""
    async with AsyncExitStack() as stack:
        made = []
        for host, name in zip(lab.hosts, ("alpha", "beta", "gamma"), strict=False):
            machine = Machine(host, new_agent(name))
            with namespaces.entered(lab.neighbour.namespace):
                listener = socket.create_server((lab.neighbour.address, 0))
            machine.master = f"{lab.neighbour.address}:{listener.getsockname()[1]}"
            await stack.enter_async_context(
                serve(machine.peer.serve_link, sock=listener, compression=None, max_size=None)
            )
            stack.push_async_callback(asyncio.to_thread, _remove, machine)
            machine.start(**settings)
            made.append(machine)
        for machine in made:
            await machine.peer.until(lambda m=machine: m.peer.control is not None)
        yield made


@contextmanager
def standing_helper(host: Host, path: Path, folder: Path) -> Iterator[None]:
    """A helper on the host that is no agent's child, as a service's is."""
    with namespaces.entered(host.namespace):
        helper = subprocess.Popen(
            [sys.executable, "-m", "quorate.agent.helper", "--socket", path, "--user", "0", "--folder", folder]
        )
    try:
        yield
    finally:
        helper.terminate()
        helper.wait()


def _remove(machine: Machine) -> None:
    with namespaces.entered(machine.host.namespace):
        machine.agent.remove()


def across(
    *placed: Machine,
    script: str,
    number: int = 1,
    subnet: str = "10.128.0.0/24",
    timeout_s: float = 30.0,
    **network: Any,
) -> AllocationSpec:
    """An allocation whose rank N lives on the Nth machine; each member runs the script with Python."""
    base = subnet.removesuffix("0/24")
    members = tuple(
        PlannedMember(
            rank, "main" if rank == 0 else "sub", max(1, rank), "main1" if rank == 0 else f"sub{rank}",
            machine.agent.name, f"{base}{2 + rank}", (0,), {"rendezvous": 1734, "watch": 1750, "main": 29500},
            underlay=machine.host.address,
        )
        for rank, machine in enumerate(placed)
    )  # fmt: skip
    mode = "overlay" if len({machine.agent.name for machine in placed}) > 1 else "bridge"
    told = NetworkSpec(network.pop("mode", mode), 100 + number, subnet, f"{base}1", **network)
    allocation = f"{JOB}-{number}"
    return AllocationSpec(
        allocation=allocation, job=JOB, attempt=number, nonce="ab" * 32, name="test", owner="ann",
        entrypoint=(PYTHON, "-u", "-c", script), launcher="none", environment={}, members=members, grace_s=5.0,
        start_timeout_s=timeout_s, network=told, preflight="off",
    )  # fmt: skip


async def run(spec: AllocationSpec, *placed: Machine) -> None:
    """Tells every machine which members of the allocation it should have, besides those that it has."""
    for machine in {machine.agent.name: machine for machine in placed}.values():
        members = [f"{spec.allocation}.{m.rank}.1" for m in spec.members if m.agent == machine.agent.name]
        await machine.peer.want((*machine.peer.wanted, *members), spec)
