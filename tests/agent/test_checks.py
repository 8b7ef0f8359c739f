"""Checks between real agents of a real master: what they find, and who is named where they cannot."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.checked import NOWHERE, Fleet, dropping, fleet, own_network
from tests.agent.conftest import until


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Agents a and b on this machine, and c, which believes that it has an address that it has not."""
    with fleet(tmp_path_factory.mktemp("trio"), *"abc", addresses={"c": NOWHERE}) as agents:
        yield agents


def test_agents_that_reach_each_other_are_open_both_ways_and_timed(trio: Fleet) -> None:
    agents, probes = trio.check()
    for ends in (("a", "b"), ("b", "a")):
        assert probes[ends]["outcome"] == "open", probes[ends]
        assert probes[ends]["flow"] == "leased"
        assert 24000 <= probes[ends]["port"] <= 24999
        assert 0 < probes[ends]["rtt"] < 5
    assert agents["a"]["device"] == "lo"
    assert agents["a"]["master_near"]


def test_an_agent_with_a_wrong_address_is_named_and_not_taken_for_a_firewall(trio: Fleet) -> None:
    agents, probes = trio.check()
    assert f"{NOWHERE} is no address of this machine" in agents["c"]["closed"]
    assert not [ends for ends in probes if "c" in ends and probes[ends]["outcome"] == "filtered"]


def test_ports_are_free_again_when_the_check_is_over(trio: Fleet) -> None:
    _, probes = trio.check()
    listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[3] == "0A"}
    for probe in probes.values():
        assert not [place for place in listening if place.endswith(f":{probe['port']:04X}")]


def test_an_agent_that_is_away_is_told_as_missing(trio: Fleet) -> None:
    trio.agents["b"].terminate()
    until(lambda: trio.client.get("/api/v1/agents/b").json()["state"] == "unreachable")
    try:
        agents, probes = trio.check()
        assert agents["b"]["missing"] == "agent b is not connected"
        assert not [ends for ends in probes if "b" in ends]
    finally:
        trio.agents["b"].come_back(trio.master.url)
        until(lambda: trio.client.get("/api/v1/agents/b").json()["state"] == "ready")


def test_a_pool_that_does_not_exist_is_refused_with_what_there_is(trio: Fleet) -> None:
    done = trio.quorate("net", "check", "--pool", "nonsense")
    assert done.returncode == 5
    assert "there is no pool nonsense" in done.stderr


def test_one_agent_alone_is_told_that_there_is_nobody_to_try(tmp_path: Path) -> None:
    with fleet(tmp_path, "a") as alone:
        done = alone.quorate("net", "check")
        assert done.returncode == 0, done.stderr
        assert "1 agent: there is nobody to try" in done.stderr


@pytest.mark.lab
def test_a_firewall_that_drops_one_way_is_named_with_its_ends_and_the_command_that_mends_it(tmp_path: Path) -> None:
    with own_network(tmp_path), fleet(tmp_path, "a", "b") as pair:
        done = pair.quorate("net", "check")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "all 2 ways between 2 hosts are open" in done.stdout
        with dropping("127.0.0.11", "127.0.0.12", "tcp dport 24000-24999"):
            done = pair.quorate("net", "check", "--json", "--for", "gcp")
        assert done.returncode == 1
        found = json.loads(done.stdout)
        assert [(f["code"], f["source"], f["destination"]) for f in found["findings"]] == [("NET-FILTERED", "a", "b")]
        assert "--source-ranges=127.0.0.11/32 --destination-ranges=127.0.0.12/32" in found["findings"][0]["remedy"]
        assert {(a["source"], a["outcome"]) for a in found["attempts"]} == {("a", "filtered"), ("b", "open")}


@pytest.mark.lab
def test_a_gang_waits_for_agents_that_do_not_reach_each_other_and_starts_when_they_do(tmp_path: Path) -> None:
    with own_network(tmp_path), fleet(tmp_path, "a", "b", check_agents_s=0.2) as pair:

        def apart(agent: str) -> list[str]:
            found = pair.client.get(f"/api/v1/agents/{agent}").json()["findings"]
            return [one["code"] for one in found]

        with dropping("127.0.0.11", "127.0.0.12", "tcp dport 24000-24999", "reject with tcp reset"):
            until(lambda: apart("a"))
            job = pair.submit("true", resources={"nodes": 2, "slots": 2})
            waits = until(lambda: pair.job(job)["reason"])
            assert "agents a and b cannot reach each other on tcp 24" in waits
            assert "(NET-REFUSED)" in waits
            assert pair.job(job)["state"] == "pending"
            one = pair.submit("true", resources={"nodes": 1, "slots": 2})
            pair.until_state(one, "completed")
        pair.until_state(job, "completed")
        assert not apart("a")
