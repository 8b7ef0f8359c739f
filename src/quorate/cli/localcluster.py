"""A whole cluster on this machine: a master, agents on loopback addresses of their own, one folder for it all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import string
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from quorate.cli import daemons
from quorate.cli.errors import CommandError
from quorate.cli.output import counted
from quorate.cli.processes import MARK, Daemon, advertised_addresses, end, spawn, sweep, wait_for_word, wait_until
from quorate.client.api import Client
from quorate.client.settings import Settings
from quorate.model.problem import QuorateError
from quorate.model.state import AgentState
from quorate.network import catalogue

#: Hears what is being done, such as "starting the master".
Told = Callable[[str], None]

#: Agent n is 127.0.0.(10 + n): as good as a host of its own, for Linux routes all of 127.0.0.0/8 to itself. Another
#: local cluster on this machine takes 127.0.1.…, for the members of both want the same ports.
FIRST_ADDRESS = 11
#: Seconds that running jobs get to end when the cluster stops, beyond their own grace.
STOP_MARGIN = 10.0
#: Its name among the daemons.
_MASTER = "the master"


def default_folder() -> Path:
    """Where `quorate up` keeps its cluster: below the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "quorate" / "local"


@dataclass
class LocalCluster:
    """What is written down of a local cluster, in cluster.json."""

    folder: Path
    url: str
    #: Random; every process of the cluster has it in its environment.
    mark: str
    daemons: list[Daemon] = field(default_factory=list)
    #: What daemons and members find in their environment besides the user's own.
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def token_file(self) -> Path:
        """The operator's token, which the master leaves in its state folder."""
        return self.folder / "master" / "admin.token"

    def settings(self) -> Settings:
        """For a client as this cluster's operator."""
        return Settings(self.url, self.token_file.read_text().strip(), source="the local cluster")

    def running(self) -> list[Daemon]:
        """The daemons that run now."""
        return [daemon for daemon in self.daemons if daemon.process()]

    def save(self) -> None:
        """Writes cluster.json, whole or not at all."""
        data = {"url": self.url, "mark": self.mark, "daemons": [asdict(daemon) for daemon in self.daemons]}
        draft = self.folder / ".cluster.json"
        draft.write_text(json.dumps(data, indent=2))
        draft.replace(self.folder / "cluster.json")

    @classmethod
    def load(cls, folder: Path) -> LocalCluster | None:
        """The cluster of a folder; none where there is none."""
        try:
            data = json.loads((folder / "cluster.json").read_text())
            daemons = [Daemon(**{**known, "arguments": tuple(known.get("arguments", ()))}) for known in data["daemons"]]
            return cls(folder, data["url"], data["mark"], daemons)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(
                f"{folder / 'cluster.json'} cannot be read: {error}",
                hint="quorate up --dir FOLDER makes another one",
            ) from None

    @classmethod
    def broken(cls, folder: Path) -> LocalCluster | None:
        """The cluster of a folder if it was not stopped in order and a daemon of it has ended."""
        known = cls.load(folder)
        return known if known and len(known.running()) < len(known.daemons) else None

    # --- starting ----------------------------------------------------------------------------------------------

    def start(self, agents: int, slots: int | None, told: Told) -> None:
        """Starts the master, then the agents, and returns once all of them are ready for work."""
        told("starting the master")
        self._start_master()
        told(f"starting {counted(agents, 'agent')}")
        with Client(self.settings()) as client:
            join = client.create_token(kind="join", pool="default", uses=agents, description="quorate up")
            names = list(_names(agents))
            network = _free_network()
            for number, name in enumerate(names):
                self._start_agent(name, f"{network}.{FIRST_ADDRESS + number}", slots, join.token)
            self._wait_for_agents(client, set(names))

    def start_again(self, told: Told) -> list[str]:
        """Starts those of its daemons that have ended, as they were started first; returns their names.

        What runs is left alone: agents hold their members while the master is away, and members outlive their agent.
        """
        ended = [daemon for daemon in self.daemons if daemon.process() is None]
        self.daemons = self.running()
        for daemon in ended:
            told(f"starting {daemon.name} again")
            if daemon.name == _MASTER:
                self._start_master()
            else:
                self._spawn(daemon.name, list(daemon.arguments), {})
        with Client(self.settings()) as client:
            agents = {daemon.name.removeprefix("agent ") for daemon in self.daemons if daemon.name != _MASTER}
            self._wait_for_agents(client, agents)
        return [daemon.name for daemon in ended]

    def _start_master(self) -> None:
        state = self.folder / "master"
        state.mkdir(mode=0o700, exist_ok=True)
        port = self.url.rsplit(":", 1)[1]
        reader, writer = os.pipe()
        arguments = ["master", "--listen", "127.0.0.1", "--port", port, "--state-dir", str(state)]
        daemon = self._spawn(_MASTER, [*arguments, "--ready-fd", str(writer)], {}, keep=[writer])
        os.close(writer)
        wait_for_word(reader, daemon)

    def _start_agent(self, name: str, address: str, slots: int | None, token: str) -> None:
        state = self.folder / f"agent-{name}"
        state.mkdir(mode=0o700, exist_ok=True)
        arguments = ["agent", "--master", self.url, "--name", name, "--state-dir", str(state)]
        arguments += ["--advertise-address", address, "--members-as", "self"]
        if slots is not None:
            arguments += ["--slots", str(slots)]
        # In the environment, for the list of processes is open to everybody on the machine.
        self._spawn(f"agent {name}", arguments, {"QUORATE_TOKEN": token})

    def _spawn(self, name: str, arguments: list[str], environment: dict[str, str], keep: Sequence[int] = ()) -> Daemon:
        log = self.folder / f"{name.removeprefix('the ').replace(' ', '-')}.log"
        # Members find the interpreter that Quorate runs with as `python`, whether its environment is active or not.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        environment = {MARK: self.mark, "PATH": path, **self.environment, **environment}
        daemon = spawn(name, arguments, log, environment, keep)
        self.daemons.append(daemon)
        self.save()
        return daemon

    def _wait_for_agents(self, client: Client, names: set[str]) -> None:
        def ready() -> bool:
            found = {agent.id for agent in client.agents() if agent.state is AgentState.READY}
            return names <= found

        wait_until(ready, "the agents' start", self.daemons)

    # --- stopping ----------------------------------------------------------------------------------------------

    def stop(self, told: Told) -> None:
        """Cancels what runs, stops the daemons, and leaves no process behind."""
        members: frozenset[str] = frozenset()
        if self.running():
            members = self._cancel_jobs(told)
            told("stopping the agents")
            for folder in self.folder.glob("agent-*/"):
                daemons.end_agent(folder)
            told("stopping the master")
            end(self.daemons)
        sweep(self.mark, members)
        self.daemons = []
        self.save()

    def _cancel_jobs(self, told: Told) -> frozenset[str]:
        """Cancels every job and waits until its members are gone; returns their ids."""
        try:
            with Client(self.settings()) as client:
                active = [client.job(job.id) for job in client.jobs(limit=10_000) if not job.state.final]
                for job in active:
                    told(f"cancelling job {job.id} ({job.spec.name})")
                    client.cancel(job.id)
                for job in active:
                    client.wait(job.id, min(60.0, job.spec.grace + STOP_MARGIN))
                return frozenset(member.id for job in active for member in job.members)
        except (QuorateError, OSError):
            return frozenset()

    def remove(self) -> None:
        """Removes the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def create(folder: Path, port: int | None = None) -> LocalCluster:
    """A new cluster in `folder`, or the one that was stopped there, with its jobs; raises CommandError if it runs."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CommandError(f"{folder} cannot be made: {error.strerror}", hint="quorate up --dir FOLDER") from None
    known = LocalCluster.load(folder)
    if known and known.running():
        raise CommandError(f"a local cluster is up already at {known.url}", hint="quorate down stops it")
    mark = known.mark if known else secrets.token_hex(8)
    if known:
        sweep(mark)
    return LocalCluster(folder, f"http://127.0.0.1:{port or free_port(catalogue.port('api'))}", mark)


def free_port(wanted: int) -> int:
    """`wanted` if nobody listens on it, else one that the kernel chooses."""
    for port in (wanted, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
                # Two sockets may be bound to one port; only one of them can listen.
                listener.listen()
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise CommandError("no port is free on 127.0.0.1", hint="ss -ltn shows who listens")


def _free_network() -> str:
    """The first 127.0.n of which no agent on this machine has an address."""
    taken = {address.rpartition(".")[0] for address in advertised_addresses()}
    return next(network for network in (f"127.0.{n}" for n in range(256)) if network not in taken)


def _names(count: int) -> list[str]:
    letters = string.ascii_lowercase
    return [letters[n] if n < 26 else f"{letters[n // 26 - 1]}{letters[n % 26]}" for n in range(count)]
