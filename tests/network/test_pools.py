"""A machine of one pool gets its pool's openings, and none of another's."""

from __future__ import annotations

import pytest

from quorate.network.audit import audit
from quorate.network.audit.space import Outcome
from quorate.network.flows import Role
from quorate.network.machine import PoolNeeded, UnknownPool
from quorate.network.plan import Plan
from quorate.network.planfile import read_plan
from quorate.network.rules import render

FILE = """
name: acme
master: {where: {addresses: [10.0.0.5]}}
users: {where: {addresses: [192.0.2.0/24]}}
outside: {registries: [{hosts: [r.example], addresses: [203.0.113.7]}], dns: [10.0.0.2], ntp: [10.0.0.3]}
pools:
- {name: gpu, where: {addresses: [10.0.1.0/24]}, network: {modes: [host]}}
- {name: cpu, where: {addresses: [10.0.2.0/24]}}
"""


def plan() -> Plan:
    return read_plan(FILE, "master.yaml")


@pytest.mark.parametrize("form", ["nftables", "iptables"])
def test_without_the_pool_it_is_an_error_that_names_the_pools(form: str) -> None:
    with pytest.raises(PoolNeeded, match="cpu, gpu"):
        render(plan(), form, Role.AGENT)
    text = render(plan(), form, Role.MASTER).text
    if form == "iptables":
        with pytest.raises(PoolNeeded, match="cpu, gpu"):
            audit(plan(), form, text, Role.AGENT)


@pytest.mark.parametrize("form", ["nftables", "iptables"])
def test_each_pool_gets_its_own_openings_alone(form: str) -> None:
    gpu, cpu = (render(plan(), form, Role.AGENT, pool).text for pool in ("gpu", "cpu"))
    assert "10.0.1.0/24" in gpu and "10.0.2.0/24" not in gpu
    assert "10.0.2.0/24" in cpu and "10.0.1.0/24" not in cpu
    assert "torch-rendezvous" in gpu and "torch-rendezvous" not in cpu


def test_an_audit_of_one_pools_machine_asks_for_its_flows_alone() -> None:
    text = render(plan(), "iptables", Role.AGENT, "cpu").text
    right = audit(plan(), "iptables", text, Role.AGENT, "cpu")
    assert {verdict.outcome for verdict in right.flows} == {Outcome.ALLOW}
    assert not [finding for finding in right.findings if finding.code.startswith(("NET", "RULE"))]
    wrong = audit(plan(), "iptables", text, Role.AGENT, "gpu")
    assert "NET-BLOCKED" in {finding.code for finding in wrong.findings}


def test_the_masters_rules_serve_all_pools() -> None:
    text = render(plan(), "iptables", Role.MASTER).text
    assert "10.0.1.0/24" in text and "10.0.2.0/24" in text


def test_pools_with_the_same_openings_need_not_be_told_apart() -> None:
    same = read_plan(FILE.replace("10.0.2.0/24", "10.0.1.0/24").replace(", network: {modes: [host]}", ""), "f")
    assert render(same, "nftables", Role.AGENT).text


@pytest.mark.parametrize("form", ["nftables", "gcp"])
def test_an_unknown_pool_is_an_error_with_the_nearest(form: str) -> None:
    with pytest.raises(UnknownPool, match="did you mean 'gpu'"):
        render(plan(), form, Role.AGENT, "gpuu")
