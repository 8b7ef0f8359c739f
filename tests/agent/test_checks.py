"""Checks between real agents of a real master: what they find, and who is named where they cannot."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.agent.conftest import Agent, new_agent, until
from tests.master.serving import MasterProcess

#: Documentation's own network (RFC 5737): no machine has it.
NOWHERE = "192.0.2.7"


@dataclass
class Trio:
    """Agents a and b on this machine, and c, which believes that it has an address that it has not."""

    master: MasterProcess
    client: httpx.Client
    agents: dict[str, Agent]

    def check(self) -> tuple[dict[str, Any], dict[tuple[str, str], dict[str, Any]]]:
        answer = self.client.post("/api/v1/net/check")
        assert answer.status_code == 200, answer.text
        first, *others = [json.loads(line) for line in answer.text.splitlines()]
        probes = {(p["source"], p["destination"]): p for line in others for p in line["probes"]}
        assert len(probes) == first["total"]
        return {agent["agent"]: agent for agent in first["agents"]}, probes


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    master = MasterProcess(tmp_path_factory.mktemp("master") / "state").start()
    agents = {name: new_agent(name) for name in "abc"}
    addresses = {"a": "127.0.0.11", "b": "127.0.0.12", "c": NOWHERE}
    with master.client() as client:
        token = client.post("/api/v1/tokens", json={"kind": "join", "pool": "default"}).json()["token"]
        try:
            for name, agent in agents.items():
                agent.settings = {"advertise_address": addresses[name], "lease_ports": [24000, 24999]}
                agent.join(master.url, token)
            until(lambda: [a["state"] for a in client.get("/api/v1/agents").json()["items"]] == ["ready"] * 3)
            yield Trio(master, client, agents)
        finally:
            for agent in agents.values():
                agent.remove()
            master.stop()


def test_agents_that_reach_each_other_are_open_both_ways_and_timed(trio: Trio) -> None:
    agents, probes = trio.check()
    for ends in (("a", "b"), ("b", "a")):
        assert probes[ends]["outcome"] == "open", probes[ends]
        assert probes[ends]["flow"] == "leased"
        assert 24000 <= probes[ends]["port"] <= 24999
        assert 0 < probes[ends]["rtt"] < 5
    assert agents["a"]["device"] == "lo"
    assert agents["a"]["master_near"]


def test_an_agent_with_a_wrong_address_is_named_and_not_taken_for_a_firewall(trio: Trio) -> None:
    agents, probes = trio.check()
    assert f"{NOWHERE} is no address of this machine" in agents["c"]["closed"]
    assert not [ends for ends in probes if "c" in ends and probes[ends]["outcome"] == "filtered"]


def test_ports_are_free_again_when_the_check_is_over(trio: Trio) -> None:
    _, probes = trio.check()
    listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[3] == "0A"}
    for probe in probes.values():
        assert not [place for place in listening if place.endswith(f":{probe['port']:04X}")]


def test_an_agent_that_is_away_is_told_as_missing(trio: Trio) -> None:
    trio.agents["b"].terminate()
    until(lambda: trio.client.get("/api/v1/agents/b").json()["state"] == "unreachable")
    try:
        agents, probes = trio.check()
        assert agents["b"]["missing"] == "agent b is not connected"
        assert not [ends for ends in probes if "b" in ends]
    finally:
        trio.agents["b"].come_back(trio.master.url)
        until(lambda: trio.client.get("/api/v1/agents/b").json()["state"] == "ready")
