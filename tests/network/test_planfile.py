"""Plans survive their way through a file, and two plans are told apart flow by flow."""

from __future__ import annotations

import json

import pytest

from quorate.model.clusterfile import load_cluster_file
from quorate.model.yamlfile import FileProblems
from quorate.network.clusterplan import plan_cluster
from quorate.network.plan import Plan
from quorate.network.planfile import compare, read_plan

TEXT = """
master: {where: {addresses: [10.0.0.5, 'fd00::5'], tags: [master]}, names: [master.example.org]}
users: {where: {addresses: [192.168.0.0/16], labels: {app: browser}}}
pools:
- name: gpu
  where: {addresses: [10.0.1.0/24], security_groups: [sg-0a0a0a0a], service_accounts: [a@b.example]}
"""


def plan(text: str = TEXT) -> Plan:
    return plan_cluster(load_cluster_file(text, "master.yaml"))


def changes(old: str, new: str) -> list[str]:
    return [f"{change.sign} {change.what} | {change.detail}" for change in compare(plan(old), plan(new))]


def test_a_plan_is_read_back_as_it_was() -> None:
    assert read_plan(json.dumps(plan().to_dict()), "plan.json") == plan()


def test_a_cluster_file_is_read_as_its_plan() -> None:
    assert read_plan(TEXT, "master.yaml") == plan()


def test_a_plan_that_names_an_unknown_party_is_refused_with_its_place() -> None:
    data = plan().to_dict()
    data["flows"][0]["source"] = "user/nobody"
    with pytest.raises(FileProblems, match=r"plan.json:\d+:\d+: flows\[0\].source: no party has the key 'user/nobody'"):
        read_plan(json.dumps(data, indent=1), "plan.json")


def test_equal_plans_have_no_changes() -> None:
    assert changes(TEXT, TEXT) == []


def test_added_removed_and_changed_flows_are_told() -> None:
    new = TEXT.replace("- name: gpu", "- name: gpu\n  network: {modes: [host], window: 50000-50999}")
    told = changes(TEXT, new)
    assert "- vxlan: agent/gpu -> agent/gpu udp/4789 | " in told
    assert any(line.startswith("+ gloo: agent/gpu -> agent/gpu tcp/50000-50999 |") for line in told)
    wider = changes(new, new.replace("50999", "51999"))
    assert "~ gloo: agent/gpu -> agent/gpu | ports 50000-50999 become 50000-51999" in wider


def test_machines_that_move_are_told_once() -> None:
    assert changes(TEXT, TEXT.replace("10.0.1.0/24", "10.0.2.0/24")) == ["~ agent/gpu | -10.0.1.0/24 +10.0.2.0/24"]
