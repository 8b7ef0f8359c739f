"""Whatever stands in a `master.yaml`, it is a plan with rules, or a list of mistakes with their places."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
import yaml

from quorate.model.clusterfile import ClusterFile
from quorate.model.yamlfile import FileProblems
from quorate.network.audit import Unreadable, audit
from quorate.network.clusterplan import plan_cluster
from quorate.network.flows import Role
from quorate.network.planfile import read_plan
from quorate.network.rules import FORMATS, render

GOOD: dict[str, Any] = {
    "name": "acme",
    "master": {"where": {"addresses": ["10.0.0.5"], "tags": ["m"]}, "names": ["a.example"], "port": 8443},
    "users": {"where": {"addresses": ["192.168.0.0/16"]}},
    "operators": {"where": {"addresses": ["192.0.2.1"]}, "ssh_port": 22},
    "outside": {"registries": [{"hosts": ["r.example"], "addresses": ["203.0.113.7"]}, "x:5000"], "dns": ["10.0.0.2"]},
    "network": {
        "modes": ["host", "overlay"],
        "launchers": ["torch", "horovod"],
        "proxy": {"url": "http://p:1", "addresses": ["10.9.9.9"]},
        "window": "50000-50999",
        "overlays": ["10.128.0.0/12"],
        "largest_job": 4,
    },
    "pools": [
        {
            "name": "gpu",
            "where": {"addresses": ["10.0.1.0/24"], "vpc": "v", "internet": "nat"},
            "provider": {"type": "aws", "region": "eu"},
            "network": {"gloo_port_range": "40000-40009", "nccl_port_range": "40010-40019"},
        }
    ],
}
JUNK: list[Any] = [
    None, True, 0, -1, 65536, 10**30, 1.5, float("nan"), "", "x", "10.0.0.1/24", "::/0", "0.0.0.0/0", "1-99999",
    "1024-65536", "[", [], {}, [None], {"a": 1}, ["10.0.0.0/8", "10.0.0.0/9"], "http://", "http://[", "http://x:99999",
    "a" * 300, "host", ["host"], {"hosts": ["x:y"]}, "\u0000", "fe80::1%eth0", "\u0661",
]  # fmt: skip


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [inner for key, item in items for inner in paths(item, (*path, key))]


def spoilt(chance: random.Random) -> str:
    data = copy.deepcopy(GOOD)
    for _ in range(chance.randint(1, 2)):
        *parents, last = chance.choice(paths(data))
        target: Any = data
        for key in parents:
            target = target[key]
        action = chance.random()
        if action < 0.7:
            target[last] = chance.choice(JUNK)
        elif action < 0.85:
            del target[last]
        elif isinstance(target, dict):
            target[chance.choice(["wher", "tag", "plan"])] = chance.choice(JUNK)
    return yaml.safe_dump(data, allow_unicode=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_spoilt_file_is_still_a_plan_or_a_list_of_mistakes(seed: int) -> None:
    chance = random.Random(seed)
    accepted = 0
    for _ in range(150):
        text = spoilt(chance)
        try:
            plan = read_plan(text, "master.yaml")
        except FileProblems as error:
            lines = text.count("\n") + 1
            assert all(1 <= problem.place.line <= lines for problem in error.problems)
            continue
        accepted += 1
        keys = [party.key for party in plan.parties]
        assert len(keys) == len(set(keys)), "two parties of one plan have one name"
        assert read_plan(json.dumps(plan.to_dict()), "plan.json") == plan
        for name in FORMATS:
            for role in (Role.MASTER, Role.AGENT):
                render(plan, name, role)
    assert accepted > 10


def test_two_services_of_one_name_are_two_parties() -> None:
    same = [
        {"hosts": ["r.example"], "addresses": ["203.0.113.7"]},
        {"hosts": ["r.example"], "addresses": ["203.0.113.8"]},
    ]
    plan = read_plan(yaml.safe_dump({"outside": {"registries": same}}), "master.yaml")
    names = [flow.destination.name for flow in plan.flows if flow.flow == "registry"]
    assert names == ["r.example", "r.example (2)"]


@pytest.mark.parametrize("form", ["gcp", "aws", "oci", "nftables", "kubernetes"])
def test_brackets_without_end_are_refused_at_once_with_their_line(form: str) -> None:
    with pytest.raises(Unreadable, match="line 2: it is nested deeper than 64 levels"):
        audit(plan_cluster(ClusterFile.model_validate({})), form, "\n" + "[" * 100_000)


GCP_RULE = {"name": "old", "sourceRanges": ["10.0.0.0/8"], "allowed": [{"IPProtocol": "tcp", "ports": ["1024-65536"]}]}
AWS_RULE = {"IpProtocol": "tcp", "FromPort": 1024, "ToPort": 65536, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
OCI_SPAN = {"destination-port-range": {"min": 1024, "max": 65536}}
OCI_RULE = {"direction": "INGRESS", "protocol": "6", "source": "10.0.0.0/8", "tcp-options": OCI_SPAN}
POLICY_PORTS = [{"protocol": "TCP", "port": 1024, "endPort": 65536}]


@pytest.mark.parametrize(
    ("form", "dump"),
    [
        ("gcp", [GCP_RULE]),
        ("aws", {"SecurityGroups": [{"GroupId": "sg-1", "IpPermissions": [AWS_RULE]}]}),
        ("oci", {"data": [OCI_RULE]}),
        (
            "kubernetes",
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "old"},
                "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": POLICY_PORTS}]},
            },
        ),
    ],
)
def test_imported_rules_that_name_port_65536_are_read_up_to_the_last_port(form: str, dump: object) -> None:
    findings = audit(plan_cluster(ClusterFile.model_validate({})), form, json.dumps(dump)).findings
    clamped = [found.evidence for found in findings if found.code == "PORT-CLAMPED"]
    assert len(clamped) == 1 and "1024-65536: 65536 is not a port; read as 1024-65535" in clamped[0]
