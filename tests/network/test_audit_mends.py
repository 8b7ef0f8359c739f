"""What an audit says mends a finding, done: every finding is gone, and nothing that was open is closed."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from quorate.model.clusterfile import ClusterFile
from quorate.network.audit import AuditReport, audit
from quorate.network.audit.space import Outcome
from quorate.network.clusterplan import plan_cluster
from quorate.network.findings import CODES
from quorate.network.flows import Role
from quorate.network.plan import Plan
from quorate.network.rules import render

NETWORK = "https://www.googleapis.com/compute/v1/projects/p/global/networks/train"


def plan() -> Plan:
    where = {"vpc": "train", "internet": "nat"}
    return plan_cluster(
        ClusterFile.model_validate(
            {
                "master": {"where": {"addresses": ["10.0.0.2"], "tags": ["master"], **where}},
                "users": {"where": {"addresses": ["192.0.2.0/24", "2001:db8:5::/48"]}},
                "operators": {"where": {"addresses": ["192.0.2.5"]}},
                "pools": [
                    {
                        "name": name,
                        "where": {"addresses": [f"10.0.{index}.0/24", f"fd00:{index}::/64"], "tags": [name], **where},
                        "network": {"modes": ["overlay", "host"], "launchers": ["torch"]},
                    }
                    for index, name in enumerate(("east", "west"), start=1)
                ],
                "outside": {"dns": ["10.0.0.53"], "ntp": ["10.0.0.53"], "registries": [{"addresses": ["10.0.9.9"]}]},
            }
        )
    )


def listed() -> list[dict[str, Any]]:
    """The plan's own rules, as gcloud lists them once they are there."""
    rules: list[dict[str, Any]] = json.loads(render(plan(), "gcp").text)
    return [{**rule, "network": NETWORK} for rule in rules]


def rule(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "network": NETWORK, "direction": "INGRESS", "priority": 1000, **more}


def audited(rules: list[dict[str, Any]]) -> AuditReport:
    return audit(plan(), "gcp", json.dumps(rules))


def done(rules: list[dict[str, Any]], report: AuditReport) -> list[dict[str, Any]]:
    """What is there once every command of the findings was run."""
    by_name = {found["name"]: found for found in rules}
    commands = dict.fromkeys(part for finding in report.findings for part in finding.remedy.split("; "))
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == ["gcloud", "compute", "firewall-rules"], command
        verb, name, *flags = words[3:]
        options = {key: value for key, _, value in (flag.removeprefix("--").partition("=") for flag in flags)}
        if verb == "delete":
            by_name.pop(name)
            continue
        if verb == "update":
            by_name[name]["priority"] = int(options["priority"])
            continue
        assert verb == "create" and name not in by_name, f"{name} is there already"
        assert len(name) <= 63 and options["network"] == "train"
        created = rule(name, direction=options["direction"], priority=int(options.get("priority", 1000)))
        protocol, _, ports = options["rules"].partition(":")
        created["allowed"] = [{"IPProtocol": protocol, "ports": [ports]}]
        members = {
            "source-ranges": "sourceRanges",
            "destination-ranges": "destinationRanges",
            "source-tags": "sourceTags",
            "target-tags": "targetTags",
        }
        created |= {members[key]: value.split(",") for key, value in options.items() if key in members}
        for key in ("sourceRanges", "destinationRanges"):
            assert len({":" in network for network in created.get(key, [])}) <= 1, "a rule has one address family"
        by_name[name] = created
    return list(by_name.values())


def codes(report: AuditReport) -> list[tuple[str, str]]:
    return [(finding.code, finding.subject) for finding in report.findings]


def test_the_rules_of_the_plan_need_no_mending() -> None:
    assert codes(audited(listed())) == []


def test_what_a_deny_rule_blocks_is_let_past_it() -> None:
    deny = rule("no-torch", priority=900, targetTags=["east", "west"], sourceRanges=["0.0.0.0/0", "::/0"][:1])
    deny["denied"] = [{"IPProtocol": "tcp", "ports": ["29400"]}]
    rules = [*listed(), deny]
    before = audited(rules)
    assert {subject for code, subject in codes(before) if code == "NET-BLOCKED"} == {
        "torch-rendezvous:east:east",
        "torch-rendezvous:west:west",
    }
    assert not [code for code, _ in codes(audited(done(rules, before))) if code.startswith("NET-")]


def test_a_deny_rule_before_all_others_makes_room() -> None:
    deny = rule("first", priority=0, sourceRanges=["0.0.0.0/0"], targetTags=["east"])
    deny["denied"] = [{"IPProtocol": "udp", "ports": ["4789"]}]
    rules = [*listed(), deny]
    assert not [code for code, _ in codes(audited(done(rules, audited(rules)))) if code.startswith("NET-")]


def test_missing_rules_are_made_with_names_and_families_of_their_own() -> None:
    rules = [found for found in listed() if "agent-link" not in found["name"] and "vxlan" not in found["name"]]
    before = audited(rules)
    assert sum(code == "NET-BLOCKED" for code, _ in codes(before)) == 4
    assert not [code for code, _ in codes(audited(done(rules, before))) if code.startswith("NET-")]


def test_the_plans_own_rule_stays_where_a_wider_one_has_to_go() -> None:
    wide = rule("default-allow-ssh", priority=65534, sourceRanges=["0.0.0.0/0"])
    wide["allowed"] = [{"IPProtocol": "tcp", "ports": ["22"]}]
    rules = [*listed(), wide]
    after = done(rules, audited(rules))
    assert "default-allow-ssh" not in {found["name"] for found in after}
    assert codes(audited(after)) == []


def test_of_two_equal_rules_one_stays() -> None:
    twin = next(found for found in listed() if found["name"].startswith("quorate-ingress-master-api"))
    rules = [*listed(), {**twin, "name": "twin"}]
    before = audited(rules)
    assert {code for code, _ in codes(before)} <= {"RULE-SHADOWED", "RULE-REDUNDANT"} and codes(before)
    assert codes(audited(done(rules, before))) == []


def test_ipv4_and_ipv6_masters_are_opened_by_one_rule_each(tmp_path: Path) -> None:
    rules = [found for found in listed() if "api" not in found["name"]]
    before = audited(rules)
    assert not [code for code, _ in codes(audited(done(rules, before))) if code.startswith("NET-")]


def test_a_rule_that_is_too_wide_gives_way_to_the_plans_own() -> None:
    narrow = [found for found in listed() if "admin-ssh" not in found["name"]]
    wide = rule("default-allow-ssh", priority=65534, sourceRanges=["0.0.0.0/0"])
    wide["allowed"] = [{"IPProtocol": "tcp", "ports": ["22"]}]
    rules = [*narrow, wide]
    before = audited(rules)
    assert all(verdict.outcome is Outcome.ALLOW for verdict in before.flows)
    assert codes(audited(done(rules, before))) == []


def test_an_exposure_says_which_port_is_open_to_whom() -> None:
    wide = rule("web", sourceRanges=["198.51.100.0/24"], targetTags=["east"])
    wide["allowed"] = [{"IPProtocol": "tcp", "ports": ["9000-9001"]}]
    found = [finding for finding in audited([*listed(), wide]).findings if finding.code == "AGENT-PUBLIC"]
    assert [finding.subject for finding in found] == ["anyone-to-agent:anyone:east"]
    assert "tcp/9000-9001 from 198.51.100.0/24, by web" in found[0].evidence


def test_a_forbidden_flow_is_reported_once_and_a_private_source_is_not_called_the_world() -> None:
    wide = rule("lan", sourceRanges=["172.16.0.0/12"], targetTags=["east"])
    wide["allowed"] = [{"IPProtocol": "tcp", "ports": ["9000"]}, {"IPProtocol": "udp", "ports": ["9001"]}]
    report = audited([*listed(), wide])
    assert [verdict.flow.key for verdict in report.forbidden] == ["anyone-to-agent:anyone:east"]
    (found,) = (finding for finding in report.findings if finding.code == "AGENT-PUBLIC")
    assert "tcp/9000 from 172.16.0.0/12" in found.evidence and "udp/9001 from 172.16.0.0/12" in found.evidence
    assert found.remedy.count("delete lan") == 1
    assert "everywhere" not in found.evidence and "world" not in CODES["AGENT-PUBLIC"].title


def test_who_is_known_by_a_group_alone_is_named_by_its_party() -> None:
    master, agents = "sg-0aaaaaaaaaaaaaaaa", "sg-0bbbbbbbbbbbbbbbb"
    cluster = {
        "master": {"where": {"security_groups": [master]}},
        "pools": [{"name": "p", "where": {"security_groups": [agents]}}],
    }
    everything = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": agents}]}
    rules = {"GroupId": agents, "IpPermissions": [everything]}
    report = audit(plan_cluster(ClusterFile.model_validate(cluster)), "aws", json.dumps({"SecurityGroups": [rules]}))
    idle = next(finding for finding in report.findings if finding.code == "NET-UNNEEDED")
    assert "from agent/p" in idle.evidence and "0.0.0.0/0" not in idle.evidence


SPREAD = {
    "master": {"where": {"addresses": ["10.0.0.2"]}},
    "pools": [{"name": "p", "where": {"addresses": [f"10.0.1.{2 * number}" for number in range(1, 9)]}}],
    "outside": {"dns": ["10.0.0.53"], "ntp": ["10.0.0.53"], "registries": [{"addresses": ["10.0.9.9"]}]},
}


@pytest.mark.parametrize(
    ("form", "loads", "prints"),
    [("nftables", "nft -f -", "nft -j list ruleset"), ("iptables", "iptables-restore", "iptables-save")],
)
def test_a_machines_own_rules_are_mended_by_the_commands_as_they_stand(form: str, loads: str, prints: str) -> None:
    cluster = plan_cluster(ClusterFile.model_validate(SPREAD))
    text = render(cluster, form, Role.AGENT).text.partition("\n# IPv6\n")[0]
    spoilt = "".join(line + "\n" for line in text.splitlines() if "vxlan" not in line)
    before = audit(cluster, form, in_namespace(f"{loads} && {prints}", spoilt), Role.AGENT)
    blocked = [finding for finding in before.findings if finding.code == "NET-BLOCKED"]
    assert [finding.subject for finding in blocked] == ["vxlan:p:p"]
    mended = in_namespace(f"{loads} && {blocked[0].remedy} && {prints}", spoilt)
    after = audit(cluster, form, mended, Role.AGENT)
    assert not [code for code, _ in codes(after) if code == "NET-BLOCKED"]


def in_namespace(command: str, given: str) -> str:
    """Run a shell command in a network namespace of its own."""
    done = subprocess.run(["unshare", "-rn", "sh", "-ec", command], input=given, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
