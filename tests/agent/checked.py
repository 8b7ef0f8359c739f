"""A master with agents in a network namespace of the test's own, whose loopback the test may put rules on."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.agent.conftest import Agent, new_agent, until
from tests.master.serving import MasterProcess

from quorate.agent.sandbox import namespaces

#: Documentation's own network (RFC 5737): no machine has it.
NOWHERE = "192.0.2.7"


@dataclass
class Fleet:
    """The master, an operator's client, and agents whose addresses are 127.0.0.11 and on, by their names."""

    master: MasterProcess
    client: httpx.Client
    agents: dict[str, Agent] = field(default_factory=dict)

    def check(self) -> tuple[dict[str, Any], dict[tuple[str, str], dict[str, Any]]]:
        """How the agents are connected, and the probes by source and destination."""
        answer = self.client.post("/api/v1/net/check")
        assert answer.status_code == 200, answer.text
        first, *others = [json.loads(line) for line in answer.text.splitlines()]
        probes = {(p["source"], p["destination"]): p for line in others for p in line["probes"]}
        assert len(probes) == first["total"]
        return {agent["agent"]: agent for agent in first["agents"]}, probes

    def quorate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line, as the operator."""
        environment = {**os.environ, "QUORATE_MASTER": self.master.url, "QUORATE_TOKEN": self.master.token}
        command = [sys.executable, "-m", "quorate", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def submit(self, *entrypoint: str, **spec: Any) -> str:
        """Returns the job's id."""
        spec = {"entrypoint": list(entrypoint), "grace": "1s", **spec}
        answer = self.client.post("/api/v1/jobs", json={"spec": spec})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def job(self, job: str) -> dict[str, Any]:
        answer = self.client.get(f"/api/v1/jobs/{job}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def until_state(self, job: str, state: str) -> dict[str, Any]:
        def looked() -> dict[str, Any] | None:
            found = self.job(job)
            assert found["state"] in (state, "pending", "starting", "running"), found["reason"]
            return found if found["state"] == state else None

        found = until(looked)
        assert found is not None
        return found

    def cancel(self, job: str) -> None:
        self.client.post(f"/api/v1/jobs/{job}/cancel")
        until(lambda: self.job(job)["state"] in ("cancelled", "failed", "completed"))


@contextmanager
def fleet(folder: Path, *names: str, addresses: dict[str, str] | None = None, **timers: float) -> Iterator[Fleet]:
    """Ended whatever happens, with all members. `timers`: fields of the master's Settings."""
    master = MasterProcess(folder / "state", timers=timers).start()
    agents = {name: new_agent(name) for name in names}
    with master.client() as client:
        token = client.post("/api/v1/tokens", json={"kind": "join", "pool": "default"}).json()["token"]
        try:
            for number, (name, agent) in enumerate(agents.items(), start=11):
                address = (addresses or {}).get(name, f"127.0.0.{number}")
                agent.settings = {"advertise_address": address, "lease_ports": [24000, 24999], "slots": 2}
                agent.join(master.url, token)
            ready = ["ready"] * len(agents)
            until(lambda: [a["state"] for a in client.get("/api/v1/agents").json()["items"]] == ready)
            yield Fleet(master, client, agents)
        finally:
            for agent in agents.values():
                agent.remove()
            master.stop()


@contextmanager
def own_network(folder: Path) -> Iterator[None]:
    """Whatever its body starts, and this thread, has a loopback and nothing else."""
    if os.geteuid() != 0:
        pytest.skip("only root may make a network namespace")
    path = folder / "network"
    namespaces.make(path)
    try:
        with namespaces.entered(path):
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
    finally:
        namespaces.remove(path)


@contextmanager
def dropping(
    source: str, destination: str, what: str = "meta l4proto { tcp, udp }", verdict: str = "drop"
) -> Iterator[None]:
    """A firewall between two addresses of this namespace's loopback, one way, for as long as it lasts."""
    rules = f"""
    table inet between {{
        chain input {{
            type filter hook input priority 0;
            ip saddr {source} ip daddr {destination} {what} {verdict}
        }}
    }}"""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "between"], check=True)
