"""What an audit says mends a cloud's rules, done to them: what was blocked is open, and nothing else is found."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jmespath
import pytest
import yaml

from quorate.model.ports import ALL_PORTS, PortRange
from quorate.model.severity import Severity
from quorate.network.audit import AuditReport, audit
from quorate.network.flows import Role, Transport
from quorate.network.plan import EVERYWHERE, Party, Plan, PlannedFlow, addresses
from quorate.network.rules import render

from .test_audit_whose import (
    BASTION,
    GOOD,
    GROUP,
    IN_GROUP,
    IN_SUBNET,
    OWN,
    SSH,
    SSH_IN,
    VXLAN_IN,
    aws,
    firewall,
    groups,
    nsg,
    oci_list,
    oci_rule,
    oci_subnet,
    plan,
    policy,
    verdicts,
)

NSG = "ocid1.nsg.b"


def remedies(report: AuditReport) -> list[str]:
    return [part for found in report.findings for part in found.remedy.split("; ") if part]


def remedies_of(report: AuditReport, code: str) -> list[str]:
    return [part for found in report.findings if found.code == code for part in found.remedy.split("; ") if part]


# ---- OCI -------------------------------------------------------------------------------------------------------------

#: Oracle's service and command line as far as rules go: lists are written whole, keys come dashed or in camel case,
#: and a query that finds nothing prints nothing
#: (https://docs.oracle.com/iaas/tools/oci-cli/latest/oci_cli_docs/cmdref/network/security-list/update.html).
OCI = """
import json, re, sys, jmespath
state = json.load(open("cloud.json"))
def dashed(value):
    if isinstance(value, dict):
        return {re.sub("[A-Z]", lambda c: "-" + c[0].lower(), key): dashed(item) for key, item in value.items()}
    return [dashed(item) for item in value] if isinstance(value, list) else value
words = sys.argv[1:]
flags = {word: words[i + 1] for i, word in enumerate(words[:-1]) if word.startswith("--")}
kind = [word for word in words[:4] if not word.startswith("--")]
if kind[1] == "security-list":
    there = next(item for item in state["lists"] if item["id"] == flags["--security-list-id"])
    if kind[2] == "get":
        shown = jmespath.search(flags["--query"], {"data": there, "etag": "e"})
        if shown:
            print(shown if isinstance(shown, str) and "--raw-output" in words else json.dumps(shown, indent=2))
    else:
        assert kind[2] == "update" and "--force" in words
        for way in ("ingress", "egress"):
            if f"--{way}-security-rules" in flags:
                there[f"{way}-security-rules"] = dashed(json.loads(flags[f"--{way}-security-rules"]))
else:
    assert kind[1:3] == ["nsg", "rules"] and flags["--nsg-id"] == state["group"], kind
    if kind[3] == "remove":
        gone = json.loads(flags["--security-rule-ids"])
        assert set(gone) <= {rule["id"] for rule in state["rules"]}
        state["rules"] = [rule for rule in state["rules"] if rule["id"] not in gone]
    for rule in dashed(json.loads(flags.get("--security-rules", "[]"))):
        if kind[3] == "add":
            state["rules"].append({"id": f"N{len(state['rules'])}", **rule})
        else:
            assert kind[3] == "update"
            (old,) = (there for there in state["rules"] if there["id"] == rule["id"])
            old.update(rule)
json.dump(state, open("cloud.json", "w"))
"""


def oci_text(state: dict[str, Any]) -> str:
    documents: list[Any] = [{"data": state[key]} for key in ("lists", "subnets") if state.get(key)]
    if "rules" in state:
        documents.append({"data": state["rules"], "network-security-group-id": state["group"]})
    return "\n".join(map(json.dumps, documents))


def oci_mended(where: Path, state: dict[str, Any], commands: list[str]) -> dict[str, Any]:
    """What is there once the commands were run as they stand."""
    (where / "oci.py").write_text(OCI)
    (where / "oci").write_text(f'#!/bin/sh\nexec {sys.executable} {where / "oci.py"} "$@"\n')
    (where / "oci").chmod(0o755)
    (where / "cloud.json").write_text(json.dumps(state))
    path = f"{where}:{os.environ['PATH']}"
    for command in dict.fromkeys(commands):
        done = subprocess.run(
            ["sh", "-ec", command], cwd=where, env={"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
    found: dict[str, Any] = json.loads((where / "cloud.json").read_text())
    return found


def out(far: str, **more: Any) -> dict[str, Any]:
    rule = {**oci_rule("17", "10.0.1.0/24", 4789), "destination": far, "destination-type": "CIDR_BLOCK"}
    return {key: value for key, value in rule.items() if not key.startswith("source")} | more


def lists(*ingress: dict[str, Any], name: str = "agents", egress: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    given = oci_list(name, *ingress)
    return {**given, "egress-security-rules": [out("10.0.1.0/24")] if egress is None else egress}


VXLAN_RULE, SSH_RULE = BASTION["ingress-security-rules"]


def test_rules_of_a_list_are_taken_out_of_it_one_after_the_other(tmp_path: Path) -> None:
    quoted = {**oci_rule("6", "0.0.0.0/0", 9000), "description": "it's `web`"}
    state = {"lists": [lists(VXLAN_RULE, SSH_RULE, quoted, oci_rule("6", "198.51.100.0/24", 9001))]}
    before = audit(plan(IN_SUBNET), "oci", oci_text(state))
    commands = remedies(before)
    assert commands and all(command.startswith("oci network security-list update") for command in commands)
    mended = oci_mended(tmp_path, state, commands)
    assert mended["lists"][0]["ingress-security-rules"] == [VXLAN_RULE, SSH_RULE]
    assert audit(plan(IN_SUBNET), "oci", oci_text(mended)).findings == ()


def test_the_last_rule_of_a_list_is_taken_out_and_of_two_equal_ones_one(tmp_path: Path) -> None:
    state = {"lists": [lists(VXLAN_RULE, SSH_RULE, VXLAN_RULE, egress=[out("10.0.1.0/24"), out("10.9.9.0/24")])]}
    mended = oci_mended(tmp_path, state, remedies(audit(plan(IN_SUBNET), "oci", oci_text(state))))
    assert len(mended["lists"][0]["ingress-security-rules"]) == 2
    assert audit(plan(IN_SUBNET), "oci", oci_text(mended)).findings == ()
    lone = Plan("nothing", (), plan(IN_SUBNET).forbidden)
    state = {"lists": [lists(SSH_RULE, egress=[])]}
    mended = oci_mended(tmp_path, state, remedies(audit(lone, "oci", oci_text(state))))
    assert mended["lists"][0]["ingress-security-rules"] == []


@pytest.mark.parametrize("copies", [2, 3])
def test_equal_rules_of_a_list_that_nobody_needs_all_go_in_one_round(tmp_path: Path, copies: int) -> None:
    unneeded = oci_rule("6", "198.51.100.0/24", 9001)
    state = {"lists": [lists(VXLAN_RULE, *[unneeded] * copies, SSH_RULE)]}
    before = audit(plan(IN_SUBNET), "oci", oci_text(state))
    assert sum(found.code == "NET-UNNEEDED" for found in before.findings) == copies
    mended = oci_mended(tmp_path, state, remedies(before))
    assert mended["lists"][0]["ingress-security-rules"] == [VXLAN_RULE, SSH_RULE]
    assert audit(plan(IN_SUBNET), "oci", oci_text(mended)).findings == ()


def test_of_three_equal_rules_that_are_needed_one_stays_whichever_mends_are_run(tmp_path: Path) -> None:
    state = {"lists": [lists(VXLAN_RULE, SSH_RULE, VXLAN_RULE, VXLAN_RULE)]}
    for number, command in enumerate(remedies(audit(plan(IN_SUBNET), "oci", oci_text(state)))):
        (where := tmp_path / str(number)).mkdir()
        mended = oci_mended(where, state, [command])
        assert audit(plan(IN_SUBNET), "oci", oci_text(mended)).findings == ()


def test_what_a_list_lacks_is_added_to_the_list_of_the_machines_subnet(tmp_path: Path) -> None:
    state = {
        "lists": [lists(SSH_RULE, egress=[]), BASTION],
        "subnets": [oci_subnet("agents", "10.0.1.0/24", "agents"), oci_subnet("bastion", "10.0.9.0/24", "bastion")],
    }
    before = audit(plan(IN_SUBNET), "oci", oci_text(state))
    assert verdicts(before)["vxlan"] == "blocked"
    mended = oci_mended(tmp_path, state, remedies(before))
    assert mended["lists"][1] == BASTION
    assert audit(plan(IN_SUBNET), "oci", oci_text(mended)).findings == ()


IN_NSG = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), security_groups=(NSG,))


@pytest.mark.parametrize("twin", [False, True], ids=["alone", "beside-a-stateful-one"])
def test_a_stateless_rule_without_its_mirror_becomes_stateful(tmp_path: Path, twin: bool) -> None:
    stateless = {**SSH_RULE, "is-stateless": True}
    rules = json.loads(nsg(*([SSH_RULE] * twin), stateless, VXLAN_RULE))["data"]
    rules.append({"id": "O", "direction": "EGRESS", **out("10.0.1.0/24")})
    state = {"group": NSG, "rules": rules, "lists": [lists(egress=[])]}
    before = audit(plan(IN_NSG), "oci", oci_text(state))
    assert verdicts(before)["admin-ssh"] == "blocked"
    (blocked,) = (found for found in before.findings if found.code == "NET-BLOCKED")
    mended = oci_mended(tmp_path, state, [blocked.remedy])
    after = audit(plan(IN_NSG), "oci", oci_text(mended))
    assert set(verdicts(after).values()) == {"open"}
    assert {found.code for found in after.findings} <= {"RULE-SHADOWED", "RULE-REDUNDANT"}, "of twins one can go"
    done = oci_mended(tmp_path, mended, remedies(after))
    assert audit(plan(IN_NSG), "oci", oci_text(done)).findings == ()


def test_a_stateless_rule_of_a_list_becomes_stateful_too(tmp_path: Path) -> None:
    state = {"lists": [lists({**SSH_RULE, "is-stateless": True}, VXLAN_RULE)]}
    before = audit(plan(IN_SUBNET), "oci", oci_text(state))
    assert verdicts(before) == {"vxlan": "open", "admin-ssh": "blocked"}
    mended = oci_mended(tmp_path, state, remedies(before))
    assert audit(plan(IN_SUBNET), "oci", oci_text(mended)).findings == ()


# ---- AWS -------------------------------------------------------------------------------------------------------------


def permissions_of(item: dict[str, Any]) -> set[tuple[Any, ...]]:
    """What Amazon takes for one rule each: the peer with protocol and ports, whatever the description."""
    ends = tuple(item.get(name) for name in ("IpProtocol", "FromPort", "ToPort"))
    peers = [peer for name in item if isinstance(item[name], list) for peer in item[name]]
    return {
        (*ends, peer[name])
        for peer in peers
        for name in ("CidrIp", "CidrIpv6", "GroupId", "PrefixListId")
        if name in peer
    }


def aws_mended(text: str, commands: list[str]) -> str:
    """What is there once the commands were run; what is revoked must be there, field by field."""
    whole = json.loads(text)
    for command in dict.fromkeys(commands):
        words = shlex.split(command)
        assert words[:2] == ["aws", "ec2"]
        verb, _, way = words[2].replace("-security-group-", " ").partition(" ")
        key = "IpPermissions" if way == "ingress" else "IpPermissionsEgress"
        group = next(found for found in whole["SecurityGroups"] if found["GroupId"] == words[4])
        for given in json.loads(words[6]):
            if verb == "authorize":
                twice = permissions_of(given) & {one for item in group[key] for one in permissions_of(item)}
                assert not twice, f"InvalidPermission.Duplicate: {twice}"
                group[key].append(given)
                continue
            peers = next(name for name in given if isinstance(given[name], list))
            span = [(name, given.get(name)) for name in ("IpProtocol", "FromPort", "ToPort")]
            gone = given[peers][0].items()
            there = [item for item in group[key] if [(name, item.get(name)) for name, _ in span] == span]
            assert any(peer.items() >= gone for item in there for peer in item.get(peers, [])), command
            for item in there:
                item[peers] = [peer for peer in item.get(peers, []) if not peer.items() >= gone]
    return json.dumps(whole)


def test_permissions_are_added_and_revoked_as_they_are_there() -> None:
    odd = {
        "IpProtocol": "icmp",
        "FromPort": 3,
        "ToPort": 4,
        "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "it's"}],
    }
    wide = {"IpProtocol": "-1", "UserIdGroupPairs": [{"UserId": "1", "GroupId": "sg-0d"}]}
    text = groups(aws(SSH_IN, odd, wide))
    before = audit(plan(IN_GROUP), "aws", text)
    assert verdicts(before)["vxlan"] == "blocked"
    after = audit(plan(IN_GROUP), "aws", aws_mended(text, remedies(before)))
    assert set(verdicts(after).values()) == {"open"} and after.findings == ()


def test_a_range_that_is_let_in_already_is_not_authorized_again_for_amazon_refuses_the_whole_call() -> None:
    asked = plan(IN_GROUP)
    both = Party(Role.USER, "office", addresses(["203.0.113.0/24", "2001:db8::/32"]))
    flows = tuple(replace(flow, source=both) if flow.flow == "admin-ssh" else flow for flow in asked.flows)
    asked = replace(asked, flows=flows)
    text = groups(aws(SSH_IN, VXLAN_IN))
    before = audit(asked, "aws", text)
    assert verdicts(before)["admin-ssh"] == "blocked"
    (command,) = remedies_of(before, "NET-BLOCKED")
    assert "2001:db8::/32" in command and "203.0.113.0/24" not in command
    after = audit(asked, "aws", aws_mended(text, [command]))
    assert verdicts(after)["admin-ssh"] == "open"


def test_a_group_that_was_made_for_a_party_is_named_where_the_plan_states_none() -> None:
    agents = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]))
    text = groups({**aws(SSH_IN), "GroupName": "quorate-agent-gpu"})
    before = audit(plan(agents), "aws", text)
    blocked = next(found for found in before.findings if found.code == "NET-BLOCKED")
    assert f'"GroupId": "{GROUP}"' in blocked.remedy
    assert audit(plan(agents), "aws", aws_mended(text, remedies(before))).findings == ()


# ---- GCP -------------------------------------------------------------------------------------------------------------


def gcp_mended(rules: list[dict[str, Any]], commands: list[str]) -> list[dict[str, Any]]:
    there = {rule["name"]: rule for rule in rules}
    for command in dict.fromkeys(commands):
        verb, name, *flags = shlex.split(command)[3:]
        if verb == "delete":
            del there[name]
            continue
        given = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
        assert verb == "create" and name not in there
        protocol = given["rules"].partition(":")[0]
        made = {
            **firewall(name, protocol, *(item.rpartition(":")[2] for item in given["rules"].split(",") if ":" in item)),
            "direction": given["direction"],
        }
        if given["action"] == "DENY":
            made["denied"] = made.pop("allowed")
        for flag, key in (
            ("source-ranges", "sourceRanges"),
            ("destination-ranges", "destinationRanges"),
            ("source-tags", "sourceTags"),
            ("target-tags", "targetTags"),
            ("source-service-accounts", "sourceServiceAccounts"),
            ("target-service-accounts", "targetServiceAccounts"),
        ):
            if flag in given:
                made[key] = given[flag].split(",")
        assert not (given.keys() & {"source-tags", "target-tags"} and "service-accounts" in " ".join(given))
        there[name] = {**made, "priority": int(given["priority"])}
    return list(there.values())


ACCOUNT = "agents@p.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    "agents",
    [
        Party(Role.AGENT, "gpu", tags=("gpu",)),
        Party(Role.AGENT, "gpu", service_accounts=(ACCOUNT,)),
        Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"])),
        Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), tags=("gpu",), service_accounts=(ACCOUNT,)),
    ],
    ids=["tags", "accounts", "addresses", "all"],
)
def test_gcp_rules_are_made_and_narrowed_by_what_the_plan_knows(agents: Party) -> None:
    rules = [firewall("everywhere", "tcp", "22", sourceRanges=["203.0.113.0/24"])]
    before = audit(plan(agents), "gcp", json.dumps(rules))
    assert {found.code for found in before.findings} == {"NET-BLOCKED", "NET-UNNEEDED", "EGRESS-OPEN"}
    mended = gcp_mended(rules, [*remedies_of(before, "NET-BLOCKED"), *remedies_of(before, "NET-UNNEEDED")])
    assert len(mended) == 2
    after = audit(plan(agents), "gcp", json.dumps(mended))
    assert set(verdicts(after).values()) == {"open"}
    assert [found.code for found in after.findings] == ["EGRESS-OPEN"]


@pytest.mark.parametrize(
    "agents",
    [
        Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), tags=("gpu",)),
        Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"])),
    ],
    ids=["tags", "addresses"],
)
def test_what_gcp_lets_out_by_itself_is_told_and_closed_but_for_the_plan(agents: Party) -> None:
    # "Implied IPv4 allow egress rule [...] lets any instance send traffic to any destination", until a rule of a lower
    # number denies it: https://cloud.google.com/firewall/docs/firewalls#default_firewall_rules
    asked = plan(agents)
    ingress = gcp_mended([], remedies_of(audit(asked, "gcp", "[]"), "NET-BLOCKED"))
    before = audit(asked, "gcp", json.dumps(ingress))
    (advice,) = before.findings
    assert (advice.code, advice.severity, advice.subject) == ("EGRESS-OPEN", Severity.INFO, "agent/gpu")
    after = audit(asked, "gcp", json.dumps(gcp_mended(ingress, remedies(before))))
    assert set(verdicts(after).values()) == {"open"} and after.findings == ()


def test_what_egress_rules_cannot_name_is_asked_for_before_anything_is_closed() -> None:
    asked = plan(Party(Role.AGENT, "gpu", tags=("gpu",)))
    (advice,) = (found for found in audit(asked, "gcp", "[]").findings if found.code == "EGRESS-OPEN")
    assert advice.remedy == "state the addresses of agent/gpu in master.yaml first: egress rules know no tags"


def test_what_a_wide_gcp_rule_is_needed_for_is_opened_before_it_goes() -> None:
    tagged = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), tags=("gpu",))
    rules = [*GOOD[1:], firewall("internal", "all", sourceRanges=["10.0.0.0/8"])]
    mended = gcp_mended(rules, remedies(audit(plan(tagged), "gcp", json.dumps(rules))))
    after = audit(plan(tagged), "gcp", json.dumps(mended))
    assert set(verdicts(after).values()) == {"open"} and after.findings == ()


# ---- Kubernetes ------------------------------------------------------------------------------------------------------


def kubernetes_mended(text: str, commands: list[str]) -> str:
    there = list(yaml.safe_load_all(text))
    for command in dict.fromkeys(commands):
        shown, _, apply = command.rpartition(" | ")
        if shown:
            assert apply == "kubectl apply -f -"
            there.append(json.loads(shlex.split(shown)[1]))
            continue
        words = command.split()
        assert words[:5] == ["kubectl", "edit", "networkpolicy", "-n", "quorate"]
        edited = next(body for body in there if body["metadata"]["name"] == words[5].rstrip(":"))
        key = words[-1].removeprefix("spec.")
        edited["spec"][key][int(words[8]) - 1] = None
    for body in there:
        for key in ("ingress", "egress"):
            if key in body["spec"]:
                body["spec"][key] = [item for item in body["spec"][key] if item is not None]
    return yaml.safe_dump_all(there)


def test_a_policy_is_added_for_pods_of_another_namespace() -> None:
    master = Party(Role.MASTER, "master", labels=(("app", "master"),), namespace="m")
    agents = Party(Role.AGENT, "gpu", labels=(("app", "gpu"),), namespace="quorate")
    anyone = Party(Role.ANYONE, "anyone", EVERYWHERE)
    link = PlannedFlow("agent-link", agents, master, Transport.TCP, (PortRange.of(8443),), "the link")
    back = PlannedFlow("probe", master, agents, Transport.TCP, (PortRange.of(9999),), "the way back")
    never = [PlannedFlow("anyone-to-agent", anyone, agents, way, (ALL_PORTS,), "harm") for way in Transport]
    asked = Plan("two namespaces", (link, back), tuple(never))
    closed = {
        **yaml.safe_load(policy()),
        "metadata": {"name": "master", "namespace": "m"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }
    text = "---\n".join([policy(policyTypes=["Ingress", "Egress"]), yaml.safe_dump(closed)])
    before = audit(asked, "kubernetes", text)
    assert set(verdicts(before).values()) == {"blocked"}
    after = audit(asked, "kubernetes", kubernetes_mended(text, remedies(before)))
    assert set(verdicts(after).values()) == {"open"} and after.findings == ()


def test_what_is_too_wide_is_taken_out_of_its_policy_by_name_and_namespace() -> None:
    agents = Party(Role.AGENT, "gpu", labels=(("app", "gpu"),), namespace="quorate")
    text = policy({"from": [{"namespaceSelector": {}}]}, OWN, SSH, {"ports": [{"port": 9000}]})
    before = audit(plan(agents), "kubernetes", text)
    after = audit(plan(agents), "kubernetes", kubernetes_mended(text, remedies(before)))
    assert set(verdicts(after).values()) == {"open"} and after.findings == ()


def test_pods_that_no_policy_selects_are_closed_by_the_plans_own() -> None:
    agents = Party(Role.AGENT, "gpu", labels=(("app", "gpu"),), namespace="quorate")
    text = policy(podSelector={"matchLabels": {"app": "web"}})
    (found,) = audit(plan(agents), "kubernetes", text).findings
    assert found.code == "AGENT-PUBLIC" and "by the default" in found.evidence
    assert found.remedy == "quorate net rules --config master.yaml --for kubernetes | kubectl apply -f -"
    made = render(plan(agents), "kubernetes").text
    assert audit(plan(agents), "kubernetes", f"{text}---\n{made}").findings == ()


def test_the_queries_that_write_lists_are_ones_that_the_command_line_knows() -> None:
    assert jmespath.search('to_string(data."a-b"[?@ != `{"x": null}`])', {"data": {"a-b": [{"x": None}]}}) == "[]"
