"""Machines that a rule set says nothing of: an audit of their role calls them undetermined, and says what to state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CLUSTER = """\
name: acme
master: {where: {addresses: [10.0.0.5]%s}}
users: {where: {addresses: [192.168.0.0/16]}}
outside:
  registries: [{hosts: [registry.example.org], addresses: [203.0.113.7]}]
  dns: [10.0.9.7]
  ntp: [10.0.9.8]
pools:
- {name: gpu, where: {addresses: [10.0.1.0/24]%s}}
"""
SECOND = "- {name: cpu, where: {addresses: [10.0.2.0/24]%s}}\n"
GROUPS = (", security_groups: [sg-0a0a0a0a0a0a0a0a0]", ", security_groups: [sg-0b0b0b0b0b0b0b0b0]")
LABELS = (", labels: {app: master}, namespace: quorate", ", labels: {app: agent}, namespace: quorate")
NSGS = tuple(f", security_groups: [ocid1.networksecuritygroup.oc1.phx.{name}]" for name in "ma")
CPU_GROUP = "sg-0c0c0c0c0c0c0c0c0"
ANYBODY = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
OPEN = {"GroupId": CPU_GROUP, "GroupName": "cpu", "IpPermissions": ANYBODY, "IpPermissionsEgress": ANYBODY}
OPEN_PODS = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: open, namespace: quorate}
spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}
"""


class Net:
    """`quorate net` with one cluster's file."""

    def __init__(self, file: Path, text: str) -> None:
        self.file = file
        file.write_text(text)

    def __call__(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QUORATE_")}
        command = [sys.executable, "-m", "quorate", "net", *words, "-c", str(self.file)]
        return subprocess.run(command, capture_output=True, text=True, input=stdin, env=kept, timeout=60, check=False)

    def audit(self, form: str, text: str, *more: str, role: str = "agent") -> tuple[int, Any]:
        done = self("audit", "--from", form, "--role", role, *more, "-", "--json", stdin=text)
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "master.yaml"


def told(report: Any, kind: str, flow: str) -> set[str]:
    return {line["verdict"] for line in report[kind] if line["flow"].startswith(flow)}


def mends(report: Any, code: str = "NET-UNDETERMINED") -> set[str]:
    return {finding["remedy"] for finding in report["findings"] if finding["code"] == code}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("aws", json.dumps({"SecurityGroups": [OPEN]})),
        ("aws", json.dumps({"SecurityGroups": []})),
        ("kubernetes", OPEN_PODS),
    ],
    ids=["a group open to everybody", "no group", "a policy open to everybody"],
)
@pytest.mark.parametrize("role", ["agent", "master"])
def test_machines_without_a_group_or_label_are_not_left_out(file: Path, form: str, text: str, role: str) -> None:
    status, report = Net(file, CLUSTER % ("", "")).audit(form, text, role=role)
    assert status == 1
    assert told(report, "flows", "agent-link-tls:") == {"undetermined"}
    key = "labels" if form == "kubernetes" else "security_groups"
    whose = "the pool gpu" if role == "agent" else "the master"
    assert any(mend.startswith(f"state where.{key} of {whose} in master.yaml") for mend in mends(report))
    if role == "agent":
        assert told(report, "forbidden", "anyone-to-agent:") == {"undetermined"}
        assert told(report, "must_fail", "anyone-to-agent") == {"undetermined"}


@pytest.mark.parametrize("stated", ["", f", security_groups: [{CPU_GROUP}]"], ids=["not stated", "not in the text"])
def test_a_second_pool_that_the_text_does_not_know_is_not_called_closed(file: Path, stated: str) -> None:
    net = Net(file, CLUSTER % GROUPS + SECOND % "")
    groups = [
        group
        for group in json.loads(net("rules", "--for", "aws").stdout)["SecurityGroups"]
        if group.get("GroupId", "none") in GROUPS[1]
    ]
    file.write_text(CLUSTER % GROUPS + SECOND % stated)
    shown = [*groups, {**OPEN, "GroupId": "sg-0f0f0f0f0f0f0f0f0"}]
    status, report = net.audit("aws", json.dumps({"SecurityGroups": shown}))
    assert status == 1
    assert told(report, "must_fail", "anyone-to-agent") == {"undetermined"}
    expected = f"--group-ids {CPU_GROUP}" if stated else "state where.security_groups of the pool cpu"
    assert any(expected in mend for mend in mends(report))
    status, report = net.audit("aws", json.dumps({"SecurityGroups": groups}), "--pool", "gpu")
    assert (status, told(report, "must_fail", "anyone-to-agent")) == (0, {"impossible"})


@pytest.mark.parametrize(
    ("form", "names"), [("aws", GROUPS), ("oci-nsg", NSGS), ("kubernetes", LABELS)], ids=["aws", "oci", "kubernetes"]
)
@pytest.mark.parametrize("role", ["agent", "master"])
def test_quorates_own_rules_pass_the_audit_of_a_role(file: Path, form: str, names: tuple[str, str], role: str) -> None:
    net = Net(file, CLUSTER % names)
    rules = net("rules", "--for", form).stdout
    status, report = net.audit(form.removesuffix("-nsg"), rules, role=role)
    assert (status, mends(report)) == (0, set())


@pytest.mark.parametrize(
    ("form", "empty", "load"),
    [
        ("nftables", '{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}}]}', " | nft -f -"),
        ("iptables", "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n", " >FILE"),
    ],
)
def test_what_no_rule_closes_is_mended_by_the_plans_own_rules(file: Path, form: str, empty: str, load: str) -> None:
    net = Net(file, CLUSTER % ("", ""))
    status, report = net.audit(form, empty)
    assert status == 1
    for code in ("NET-EXPOSED", "AGENT-PUBLIC"):
        (mend,) = mends(report, code)
        assert mend.startswith(f"quorate net rules --config master.yaml --for {form} --role agent --pool gpu{load}")
    words = mend.removeprefix("quorate net ").split(load)[0].replace("--config master.yaml ", "").split()
    assert net(*words).returncode == 0
