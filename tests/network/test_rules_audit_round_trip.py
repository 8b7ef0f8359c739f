"""Rules rendered from a plan audit as complete; with any one rule taken away, exactly its flows are blocked."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from quorate.model.ports import ALL_PORTS, PortRange
from quorate.network.audit import audit
from quorate.network.audit.space import Outcome
from quorate.network.flows import Role, Transport
from quorate.network.plan import EVERYWHERE, Party, Plan, PlannedFlow, addresses
from quorate.network.rules import render


def party(role: Role, name: str, *where: str) -> Party:
    tag = f"{role.value}-{name}"
    return Party(role, name, addresses(where), tags=(tag,), labels=(("app", tag),), vpc="train")


MASTER = party(Role.MASTER, "master", "10.0.0.5")
GPU = party(Role.AGENT, "gpu", "10.0.1.0/24", "fd00:1::/64")
CPU = party(Role.AGENT, "cpu", "10.0.2.7", "10.0.2.9")
OFFICE = Party(Role.USER, "office", addresses(["192.0.2.0/24"]))
HUB = Party(Role.REGISTRY, "hub", addresses(["198.51.100.4"]))
NAMES = Party(Role.DNS, "dns", addresses(["10.0.0.53"]))
ANYONE = Party(Role.ANYONE, "anyone", EVERYWHERE)


def flow(name: str, source: Party, to: Party, *ports: PortRange, transport: Transport = Transport.TCP) -> PlannedFlow:
    return PlannedFlow(name, source, to, transport, ports, f"what {name} is for")


#: Each flow has an id of its own, so that the id in a rule's description says which flows the rule is for.
PLAN = Plan(
    "round trip",
    (
        flow("api-tls", OFFICE, MASTER, PortRange.of(8443)),
        flow("link-gpu", GPU, MASTER, PortRange.of(8443)),
        flow("link-cpu", CPU, MASTER, PortRange.of(8443)),
        flow("overlay", GPU, GPU, PortRange.of(4789), transport=Transport.UDP),
        flow("gloo", GPU, GPU, PortRange(32768, 60999)),
        flow("nccl", GPU, GPU, PortRange(40000, 61000)),
        flow("rendezvous", GPU, GPU, PortRange.of(1734), PortRange.of(1750)),
        flow("everything", CPU, CPU, ALL_PORTS),
        flow("images", GPU, HUB, PortRange.of(443)),
        flow("names", CPU, NAMES, PortRange.of(53), transport=Transport.UDP),
    ),
    (flow("anyone-to-agent", ANYONE, GPU, ALL_PORTS), flow("user-to-agent", OFFICE, CPU, ALL_PORTS)),
)
IDS = {planned.flow for planned in PLAN.flows}


#: What a machine of one pool has rules for.
HOST = Plan("one pool", tuple(planned for planned in PLAN.flows if CPU not in (planned.source, planned.destination)))


def ids_in(text: str) -> set[str]:
    return set(re.findall(r"([a-z-]+): what", text))


def without_gcp(text: str) -> Iterator[tuple[set[str], str]]:
    rules = json.loads(text)
    for index, rule in enumerate(rules):
        if "allowed" in rule:
            yield ids_in(rule["description"]), json.dumps(rules[:index] + rules[index + 1 :])


def without_aws(text: str) -> Iterator[tuple[set[str], str]]:
    whole = json.loads(text)
    for group, body in enumerate(whole["SecurityGroups"]):
        for key in ("IpPermissions", "IpPermissionsEgress"):
            for index, permission in enumerate(body[key]):
                left = copy.deepcopy(whole)
                del left["SecurityGroups"][group][key][index]
                yield ids_in(json.dumps(permission)), json.dumps(left)


def without_oci_group(text: str) -> Iterator[tuple[set[str], str]]:
    whole = json.loads(text)
    for group, body in enumerate(whole["networkSecurityGroups"]):
        for number, call in enumerate(body["calls"]):
            assert len(call["securityRules"]) <= 25
            for index, rule in enumerate(call["securityRules"]):
                left = copy.deepcopy(whole)
                del left["networkSecurityGroups"][group]["calls"][number]["securityRules"][index]
                yield ids_in(rule["description"]), json.dumps(left)


def without_oci_list(text: str) -> Iterator[tuple[set[str], str]]:
    whole = json.loads(text)
    for number, body in enumerate(whole["securityLists"]):
        for key in ("ingressSecurityRules", "egressSecurityRules"):
            for index, rule in enumerate(body[key]):
                left = copy.deepcopy(whole)
                del left["securityLists"][number][key][index]
                yield ids_in(rule["description"]), json.dumps(left)


def without_kubernetes(text: str) -> Iterator[tuple[set[str], str]]:
    whole = list(yaml.safe_load_all(text))
    for number, body in enumerate(whole):
        purposes = body["metadata"]["annotations"]["quorate.dev/purpose"].splitlines()
        # One line a rule, ingress before egress; the first egress rule is DNS, which is of no flow.
        lines = {key: [line for line in purposes if line.startswith(key)] for key in ("ingress", "egress")}
        for key, extra in (("ingress", 0), ("egress", 1)):
            for index, line in enumerate(lines[key]):
                left = copy.deepcopy(whole)
                del left[number]["spec"][key][index + extra]
                yield ids_in(line), yaml.safe_dump_all(left)


def without_iptables(text: str) -> Iterator[tuple[set[str], str]]:
    lines = text.splitlines()
    for index, line in enumerate(lines):
        if "--comment" in line:
            # What sends a peer's packets to its chain is for all that the chain lets pass.
            target = line.rpartition(" -j ")[2]
            inside = [other for other in lines if other.startswith(f"-A {target} ")]
            yield ids_in("\n".join([line, *inside])), "\n".join(lines[:index] + lines[index + 1 :])


CLOUDS: list[tuple[str, str, Callable[[str], Iterator[tuple[set[str], str]]]]] = [
    ("gcp", "gcp", without_gcp),
    ("aws", "aws", without_aws),
    ("oci-nsg", "oci", without_oci_group),
    ("oci-security-list", "oci", without_oci_list),
    ("kubernetes", "kubernetes", without_kubernetes),
]


def outcomes(form: str, text: str, role: Role | None = None, plan: Plan = PLAN) -> dict[str, Outcome]:
    return {verdict.flow.flow: verdict.outcome for verdict in audit(plan, form, text, role).flows}


@pytest.mark.parametrize(("rendered", "form", "without"), CLOUDS, ids=[cloud[0] for cloud in CLOUDS])
def test_a_clouds_rules_are_complete_and_each_is_needed_by_exactly_its_flows(
    rendered: str, form: str, without: Callable[[str], Iterator[tuple[set[str], str]]]
) -> None:
    made = render(PLAN, rendered)
    assert [finding for finding in made.findings if finding.subject != "group"] == []
    report = audit(PLAN, form, made.text)
    assert {verdict.outcome for verdict in report.flows} == {Outcome.ALLOW}
    assert report.forbidden == ()
    assert report.findings == ()
    removed = list(without(made.text))
    assert set().union(*(ids for ids, _ in removed)) == IDS
    for ids, text in removed:
        blocked = {name for name, outcome in outcomes(form, text).items() if outcome is Outcome.DENY}
        assert blocked == ids


@pytest.mark.parametrize("role", [Role.MASTER, Role.AGENT])
def test_iptables_rules_are_complete_and_each_is_needed_by_exactly_its_flows(role: Role) -> None:
    made = render(HOST, "iptables", role)
    complete = outcomes("iptables", made.text, role, HOST)
    assert set(complete.values()) == {Outcome.ALLOW}
    for ids, text in without_iptables(made.text):
        blocked = {name for name, outcome in outcomes("iptables", text, role, HOST).items() if outcome is Outcome.DENY}
        assert blocked == ids


@pytest.mark.lab
@pytest.mark.parametrize("role", [Role.MASTER, Role.AGENT])
def test_nftables_rules_load_are_complete_and_each_is_needed_by_exactly_its_flows(role: Role) -> None:
    made = render(HOST, "nftables", role)
    listed = listed_by_nft(made.text)
    assert set(outcomes("nftables", listed, role, HOST).values()) == {Outcome.ALLOW}
    whole: dict[str, Any] = json.loads(listed)
    rules = [item for item in whole["nftables"] if "rule" in item and "comment" in item["rule"]]
    assert rules
    for rule in rules:
        left = {"nftables": [item for item in whole["nftables"] if item is not rule]}
        found = outcomes("nftables", json.dumps(left), role, HOST)
        blocked = {name for name, outcome in found.items() if outcome is Outcome.DENY}
        assert blocked == ids_in(rule["rule"]["comment"])


def listed_by_nft(text: str) -> str:
    """What nft lists after it loaded the rules, in a network namespace that ends with the command."""
    assert shutil.which("nft"), "apt-get install nftables"
    script = "nft -f - && nft -f - </dev/null && nft -j list ruleset"
    done = subprocess.run(["unshare", "-n", "sh", "-c", script], input=text, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("form", ["gcp", "aws", "oci", "kubernetes", "iptables", "nftables"])
@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\x00\xff", '{"nftables": [7]}', "*filter\n-A X", "a: [b"])
def test_text_that_is_no_rule_set_is_refused_with_a_reason(form: str, text: str) -> None:
    from quorate.network.audit import Unreadable

    with pytest.raises(Unreadable) as error:
        audit(PLAN, form, text)
    assert str(error.value)


@pytest.mark.parametrize(("rendered", "form"), [("gcp", "gcp"), ("aws", "aws"), ("oci-nsg", "oci")])
def test_a_cloud_gets_no_rule_for_its_own_names_which_no_rule_of_it_filters(rendered: str, form: str) -> None:
    resolver = {"gcp": "169.254.169.254", "aws": "169.254.169.253", "oci": "169.254.169.254"}[form]
    cloud = Party(Role.DNS, form, addresses([resolver]))
    asked = flow("names", GPU, cloud, PortRange.of(53), transport=Transport.UDP)
    plan = Plan("names", (flow("images", GPU, HUB, PortRange.of(443)), asked))
    made = render(plan, rendered)
    assert resolver not in made.text
    report = audit(plan, form, made.text)
    assert {verdict.outcome for verdict in report.flows} == {Outcome.ALLOW}
    assert report.findings == ()
