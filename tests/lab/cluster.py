"""A cluster on the lab's hosts, as an operator sets it up: files, firewalls by `quorate net rules`, `quorate master`,
root agents that join with a token over TLS. The test sits at the desk."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.lab import dockers
from tests.lab.hosts import BIN, Host, Lab, Process, run, until

from quorate.client.api import Client
from quorate.client.errors import ClientError
from quorate.client.settings import Settings
from quorate.model.job import JobSpec
from quorate.model.views import JobDetail

#: Heartbeats in a rhythm that a test can wait for.
TIMERS = {"heartbeat": "500ms", "unreachable": "5s", "replace_after": "60s"}
_STATE = "/var/lib/quorate"


@dataclass
class Work:
    """One job of a cluster's."""

    cluster: LabCluster
    id: str

    def view(self) -> JobDetail:
        return self.cluster.client.job(self.id)

    def ended(self, patience_s: float = 120.0) -> JobDetail:
        """The job at its end."""
        until(lambda: self.view().state.final, self.told, patience_s)
        return self.view()

    def until_running(self, patience_s: float = 60.0) -> JobDetail:
        """The job once all its members run; fails where it ends before."""

        def reached() -> bool:
            view = self.view()
            assert not view.state.final, self.told()
            return view.state.value == "running"

        until(reached, self.told, patience_s)
        return self.view()

    def output(self) -> dict[str, list[str]]:
        """Lines by member's name, as the master has them."""
        names = {member.id: member.name for member in self.view().members}
        found: dict[str, list[str]] = {name: [] for name in names.values()}
        for line in self.cluster.client.logs(self.id):
            if line.text or line.end:
                found.setdefault(names.get(line.member, line.member), []).append(line.text)
        return found

    def told(self) -> str:
        """Everything that helps to see why it is not as it should be."""
        view = self.view()
        lines = [f"job {self.id} is {view.state.value}: {view.reason}"]
        lines += [f"  {member.name} on {member.agent}: {member.state.value}" for member in view.members]
        lines += [f"  {entry.what}" for entry in view.history]
        for name, said in self.output().items():
            lines += [f"  {name} | {line}" for line in said[-20:]]
        return "\n".join(lines)


@dataclass
class LabCluster:
    """One master, agents on hosts of their own, and the firewalls between them."""

    lab: Lab
    agents: tuple[Host, ...]
    #: The cluster's `network:` section in master.yaml.
    network: Mapping[str, Any]
    #: What stands in every agent.yaml besides the master and the name, and by agent what stands in its own alone.
    settings: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    timers: Mapping[str, Any] = field(default_factory=dict)
    #: What joins the pool's machines.
    fabric: str = "tcp"
    _running: dict[str, Process] = field(default_factory=dict)

    # --- files and firewalls -----------------------------------------------------------------------------------

    @property
    def master(self) -> Host:
        return self.lab["master"]

    @property
    def file(self) -> dict[str, Any]:
        """What stands in master.yaml."""
        outside = self.lab["outside"].address
        return {
            "name": "lab",
            "master": {"names": [self.master.address], "where": {"addresses": [self.master.address]}},
            "users": {"where": {"addresses": [self.lab["desk"].address]}},
            "pools": [
                {
                    "name": "default",
                    "where": {"addresses": [agent.address for agent in self.agents]},
                    "fabric": self.fabric,
                }
            ],
            "network": dict(self.network),
            "outside": {
                "dns": [outside],
                "ntp": [outside],
                "registries": [{"hosts": ["outside"], "addresses": [outside]}],
            },
            "timers": {**TIMERS, **self.timers},
        }

    def rules(self, role: str) -> str:
        """What `quorate net rules` prints for machines of that role, to the letter."""
        file = self.lab.folder / "master.yaml"
        file.write_text(yaml.safe_dump(self.file, sort_keys=False))
        return run(
            str(BIN / "quorate"), "net", "rules", "--for", "nftables", "--role", role, "--config", str(file),
        )  # fmt: skip

    @cached_property
    def agents_rules(self) -> str:
        return self.rules("agent")

    @property
    def opened(self) -> list[str]:
        """The lines of the agents' rules that let something pass between agents, each for flows of its own."""
        return [line for line in self.agents_rules.splitlines() if " @agent_" in line]

    def rule(self, flow: str, direction: str) -> str:
        """The agents' rule that lets a flow in (`saddr`) or out (`daddr`)."""
        (line,) = [line for line in self.opened if f" ip {direction} " in line and f"{flow}:" in line]
        return line

    # --- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Firewalls first; returns once all agents are ready for work."""
        self.master.firewall(self.rules("master"))
        for agent in self.agents:
            agent.firewall(self.agents_rules)
        self.master.file("/etc/quorate/master.yaml").write_text(yaml.safe_dump(self.file))
        self.start_master()
        self.set_up_desk()
        token = self.client.create_token(kind="join", pool="default", uses=len(self.agents)).token
        for agent in self.agents:
            self.configure(agent)
            self.start_agent(agent, token)
        self.until_ready()

    def set_up_desk(self) -> None:
        """Commands at the desk speak to this master, as its operator."""
        desk = self.lab["desk"]
        desk.file("/etc/quorate/ca.pem").write_bytes(self.authority.read_bytes())
        desk.environment["XDG_CONFIG_HOME"] = "/var/lib/quorate"
        desk.run(
            str(BIN / "quorate"), "login", self.url, "--ca", "/etc/quorate/ca.pem", "--token", "-", text=self.token
        )

    def configure(self, agent: Host) -> None:
        """Writes its agent.yaml, and the authority's certificate that the operator brought."""
        authority = self.authority.read_bytes()
        agent.file("/etc/quorate/ca.pem").write_bytes(authority)
        written = {
            "master": self.url,
            "ca_file": "/etc/quorate/ca.pem",
            "name": agent.name,
            "advertise_address": agent.address,
            **self.settings,
            **self.own.get(agent.name, {}),
        }
        agent.file("/etc/quorate/agent.yaml").write_text(yaml.safe_dump(written))

    @property
    def url(self) -> str:
        return f"https://{self.master.address}:8443"

    @property
    def authority(self) -> Path:
        """The certificate of the cluster's own authority."""
        return self.master.folder / "disk" / "master" / "tls" / "ca.pem"

    @cached_property
    def client(self) -> Client:
        """As the operator, at the desk: use it where the thread is in the desk's network."""
        return Client(Settings(self.url, self.token, self.authority))

    @property
    def token(self) -> str:
        """The operator's, which the master leaves on its disk."""
        return (self.master.folder / "disk" / "master" / "admin.token").read_text().strip()

    def start_master(self) -> None:
        """Returns once it says that it is ready."""
        reader, writer = os.pipe()
        self._running["master"] = self.master.start(
            str(BIN / "quorate"), "master", "--ready-fd", str(writer), log="master", keep=(writer,)
        )
        os.close(writer)
        with os.fdopen(reader) as line:
            assert line.readline(), f"the master did not start:\n{self._running['master'].said()}"

    def kill_master(self) -> None:
        self._running["master"].kill()

    def start_agent(self, agent: Host, token: str = "") -> None:
        # Members find the interpreter of the tests as `python`, with everything that a training needs.
        path = f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        environment = {"PATH": path, **({"QUORATE_TOKEN": token} if token else {})}
        self._running[agent.name] = agent.start(str(BIN / "quorate"), "agent", log="agent", environment=environment)

    def kill_agent(self, agent: Host) -> None:
        self._running[agent.name].kill()

    def process(self, host: Host) -> Process:
        """Its master or agent."""
        return self._running[host.name]

    def reboot(self, agent: Host) -> None:
        """Power off and on: all that it ran is gone, its disk and its settings are not."""
        kept = {path: agent.file(path).read_bytes() for path in ("/etc/quorate/agent.yaml", "/etc/quorate/ca.pem")}
        agent.power_off()
        self.lab.boot(agent)
        self.lab.know_each_other()
        for path, data in kept.items():
            agent.file(path).write_bytes(data)
        agent.firewall(self.agents_rules)
        self.start_agent(agent)

    def until_ready(self, *names: str) -> None:
        """Those agents (all, if none is named) can take work."""
        wanted = set(names or (agent.name for agent in self.agents))

        def ready() -> bool:
            with contextlib.suppress(ClientError):
                return wanted <= {agent.id for agent in self.client.agents() if agent.state == "ready"}
            return False

        until(ready, lambda: f"{wanted} ready:\n" + self.logs())

    def logs(self) -> str:
        """The last that the daemons said."""
        return "\n".join(f"--- {name}\n{process.said()[-2000:]}" for name, process in self._running.items())

    def left_on(self, agent: Host) -> list[str]:
        """What is there of private networks: namespaces, links, tables, and rules for VXLAN among the machine's own."""
        links = json.loads(agent.run("ip", "-json", "link"))
        mounts = [line.split()[4] for line in agent.run("cat", "/proc/self/mountinfo").splitlines() if " nsfs " in line]
        tables = set(agent.run("nft", "list", "tables").splitlines()) - {"table inet quorate"}
        return [
            *(point for point in mounts if point.startswith("/var/lib/quorate/")),
            *(link["ifname"] for link in links if link["ifname"] not in ("lo", "eth0", "docker0")),
            *(table for table in tables if table.endswith(" quorate")),
            *(line for line in agent.run("nft", "list", "ruleset").splitlines() if "forged VXLAN" in line),
        ]

    # --- jobs --------------------------------------------------------------------------------------------------

    def submit(self, *entrypoint: str, nodes: int = 2, **spec: Any) -> Work:
        """A job with a member on each of so many agents."""
        fields = {"entrypoint": entrypoint, "resources": {"nodes": nodes}, "grace": 2.0, "placement": "spread"} | spec
        return Work(self, self.client.submit(JobSpec.model_validate(fields)).id)


@contextlib.contextmanager
def running(
    lab: Lab, *names: str, network: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None,
    timers: Mapping[str, Any] | None = None, docker: bool | Collection[str] = False, fabric: str = "tcp",
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[LabCluster]:  # fmt: skip
    """A cluster of agents on hosts of these names; the test is at the desk. Each has a Docker of its own where asked
    for, or only those that are named."""
    if docker and (missing := dockers.missing()):
        pytest.skip(f"needs {', '.join(missing)}: apt install --no-install-recommends docker.io")
    lab.open(*names)
    modes = {"modes": ["host", "overlay", "bridge"], "launchers": ["none", "torch"], "largest_job": 8}
    everywhere = ({"allow": dockers.ALLOW} if docker else {}) | dict(settings or {})
    agents = tuple(lab[name] for name in names)
    cluster = LabCluster(lab, agents, {**modes, **(network or {})}, everywhere, own or {}, timers or {}, fabric)
    with contextlib.ExitStack() as stack:
        stack.enter_context(lab["desk"].entered())
        try:
            engines = docker if isinstance(docker, Collection) else names if docker else ()
            for agent in (lab[name] for name in engines):
                stack.enter_context(dockers.engine(agent))
            cluster.start()
            yield cluster
        finally:
            if "client" in cluster.__dict__:
                cluster.client.close()
            if sys.exc_info()[0] is not None:
                print(cluster.logs())
