"""Clusters through the command line: members that wait for their user, on real agents."""

from __future__ import annotations

import json

from tests.cli.conftest import Quorate


def test_a_cluster_starts_is_listed_shown_and_stopped(cluster: Quorate) -> None:
    started = cluster("cluster", "start", "--name", "mine", "--nodes", "2", "--json").json
    assert started["state"] == "running"
    assert [member["name"] for member in started["members"]] == ["main1", "sub1"]
    listed = cluster("cluster", "list").out
    assert started["id"] in listed and "mine" in listed
    assert "sub1" in cluster("cluster", "show", started["id"]).out
    assert cluster("cluster", "stop", "--wait", started["id"]).out.split() == [started["id"], "cancelled"]
    assert started["id"] not in cluster("cluster", "list").out
    assert started["id"] in cluster("cluster", "list", "--all").out


def test_jobs_of_other_kinds_are_no_clusters(cluster: Quorate) -> None:
    job = cluster("run", "--detach", "--", "true").out.strip()
    assert job not in cluster("cluster", "list", "--all").out


def test_a_cluster_of_unequal_roles_has_its_names_and_environment(cluster: Quorate) -> None:
    (cluster.home / "roles.yaml").write_text(
        "resources: {slots: 0}\n"
        "roles:\n"
        "  worker: {replicas: 2, slots: 1, environment: {WHO: worker}, entrypoint: 'echo $WHO; sleep 600'}\n"
        "  main: {entrypoint: 'echo main; sleep 600'}\n"
    )
    started = cluster("cluster", "start", "roles.yaml", "--json").json
    assert [(m["name"], len(m["slots"])) for m in started["members"]] == [("main1", 0), ("worker1", 1), ("worker2", 1)]
    cluster("cluster", "stop", "--wait", started["id"])
    said = [line.split(" | ") for line in cluster("job", "logs", started["id"]).out.splitlines()]
    said = [(name.strip(), text) for name, text in said if not text.startswith("stopping")]
    assert sorted(said) == [("main1", "main"), ("worker1", "worker"), ("worker2", "worker")]


def test_a_cluster_that_nobody_uses_is_stopped(cluster: Quorate) -> None:
    started = cluster("cluster", "start", "--idle-timeout", "2s", "--json").json
    ended = json.loads(cluster("job", "wait", started["id"], "--json", code=130).out)
    assert "nobody has used it for 2s" in ended["reason"]


def test_a_cluster_with_a_launcher_is_refused_with_its_place(cluster: Quorate) -> None:
    (cluster.home / "wrong.yaml").write_text("launcher: torch\n")
    refused = cluster("cluster", "start", "wrong.yaml", code=2)
    assert "wrong.yaml:1:11: launcher: members of a cluster wait for their user" in refused.err


def test_the_plan_says_how_members_are_joined_and_why(cluster: Quorate) -> None:
    said = cluster("run", "--nodes", "2", "--plan", "--", "true").out
    assert "network: that of the hosts, for agent a makes no private networks" in said
    plan = cluster("run", "--nodes", "2", "--plan", "--json", "--", "true").json
    assert plan["network"] is None and plan["joined"].startswith("host: ")


def test_what_no_agent_can_run_is_refused_at_once(cluster: Quorate) -> None:
    refused = cluster("run", "--image", "python:3.12", code=2)
    assert "no agent of pool default can run images" in refused.err
