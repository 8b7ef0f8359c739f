"""Whatever a plan holds, its rules are what the platform takes, open nothing else, and are the same from run to run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorate.model.ports import ALL_PORTS, PortRange
from quorate.network.audit import audit
from quorate.network.audit.space import Outcome
from quorate.network.flows import Role, Transport
from quorate.network.plan import EVERYWHERE, Party, Plan, PlannedFlow, addresses
from quorate.network.rules import FORMATS, render

from .platforms import VALIDATORS

#: What gets no rule where a platform filters nothing of it, or which it needs beside the plan's.
HOST = ("nftables", "iptables")
READ_AS = {"gcp": "gcp", "aws": "aws", "oci-nsg": "oci", "oci-security-list": "oci", "kubernetes": "kubernetes"}
NASTY = st.one_of(
    st.text(max_size=400),
    st.sampled_from(
        [
            "", "'; ls; '", '"; drop; "', "${var.x} %{ if }", "$(reboot)", "`reboot`", "\\", "\\\"", "a\nb", "\n*nat",
            "# IPv6", "COMMIT", "\x00\x1b[31m", "é" * 300, "\U0001f525" * 300, "a" * 5000, "-->", "{{ x }}", "TEXT",
        ]
    ),
)  # fmt: skip


def party(role: Role, name: str, number: int) -> Party:
    where = [f"10.{number}.0.0/24", f"fd00:{number}::/64"]
    tag = f"{role.value}-{number}"
    return Party(role, name, addresses(where), tags=(tag,), labels=(("app", tag),), vpc="train")


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans with known ends, names that pools may have, and texts that nobody should write."""
    pool_names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
    pools = draw(st.lists(pool_names, min_size=1, max_size=2, unique=True))
    master = party(Role.MASTER, "master", 1)
    agents = [party(Role.AGENT, name, 2 + number) for number, name in enumerate(pools)]
    hub = replace(party(Role.REGISTRY, draw(NASTY) or "hub", 9), tags=(), labels=())
    ports = st.lists(
        st.builds(lambda a, b: PortRange(min(a, b), max(a, b)), st.integers(1, 65535), st.integers(1, 65535))
        | st.just(ALL_PORTS),
        min_size=1,
        max_size=3,
    )
    flows = []
    for number in range(draw(st.integers(1, 6))):
        source, to = draw(
            st.sampled_from([(agents[0], master), (agents[-1], agents[-1]), (agents[0], hub), (master, hub)])
        )
        ranges = tuple(sorted(set(draw(ports))))
        ranges = ranges if all(a.last < b.first for a, b in pairwise(ranges)) else ranges[:1]
        flows.append(PlannedFlow(f"flow-{number}", source, to, draw(st.sampled_from(Transport)), ranges, draw(NASTY)))
    anyone = Party(Role.ANYONE, "anyone", EVERYWHERE)
    forbidden = [
        PlannedFlow("anyone-to-agent", anyone, to, transport, (ALL_PORTS,), "harm")
        for to in (master, *agents)
        for transport in Transport
    ]
    return Plan(draw(NASTY), tuple(dict.fromkeys(flows)), tuple(forbidden))


def role_of(form: str) -> Role | None:
    return Role.AGENT if form in HOST else None


def one_pool(plan: Plan) -> Plan:
    """What one machine's own rules are for."""
    first = next(p for p in plan.parties if p.role is Role.AGENT)
    others = {p for p in plan.parties if p.role is Role.AGENT and p != first}
    flows = tuple(f for f in plan.flows if not {f.source, f.destination} & others)
    return replace(plan, flows=flows, forbidden=tuple(f for f in plan.forbidden if f.destination not in others))


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=pytest.mark.lab) if form in HOST else form for form in FORMATS]
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_rules_are_what_the_platform_takes(form: str, data: st.DataObject) -> None:
    plan = data.draw(plans())
    made = render(one_pool(plan) if form in HOST else plan, form, role_of(form))
    assert all(finding.code == "PLAN-WIDE" or finding.subject == "group" for finding in made.findings)
    VALIDATORS[form](made.text)


@pytest.mark.parametrize(("form", "read_as"), [*READ_AS.items(), ("iptables", "iptables")])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_rules_open_the_plan_and_nothing_else(form: str, read_as: str, data: st.DataObject) -> None:
    plan = data.draw(plans())
    plan = one_pool(plan) if form in HOST else plan
    # Of a machine without a flow a cloud has no rule, and nothing is known of who reaches it.
    ruled = {end for flow in plan.flows for end in (flow.source, flow.destination)}
    plan = replace(plan, forbidden=tuple(flow for flow in plan.forbidden if flow.destination in ruled))
    report = audit(plan, read_as, render(plan, form, role_of(form)).text, role_of(form))
    assert {verdict.outcome for verdict in report.flows} <= {Outcome.ALLOW}
    assert report.forbidden == ()
    worse = {"NET-EXPOSED", "AGENT-PUBLIC", "NET-UNNEEDED", "NET-BLOCKED", "NET-UNDETERMINED"}
    assert worse & {finding.code for finding in report.findings} == set()


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_rules_do_not_hang_on_the_order_of_the_plan(form: str, data: st.DataObject) -> None:
    plan = data.draw(plans())
    plan = one_pool(plan) if form in HOST else plan
    once = render(plan, form, role_of(form)).text
    assert render(plan, form, role_of(form)).text == once
    shuffled = list(plan.flows)
    random.Random(data.draw(st.integers(0, 99))).shuffle(shuffled)
    assert render(replace(plan, flows=tuple(shuffled)), form, role_of(form)).text == once


@pytest.mark.parametrize("form", FORMATS)
def test_both_directions_and_both_families_are_there(form: str) -> None:
    office = Party(Role.OPERATOR, "office", addresses(["192.0.2.0/24", "2001:db8:1::/64"]))
    hub = Party(Role.REGISTRY, "hub", addresses(["198.51.100.4", "2001:db8:2::4"]))
    agents = party(Role.AGENT, "gpu", 2)
    login = PlannedFlow("login", office, agents, Transport.TCP, (PortRange.of(22),), "logging in")
    images = PlannedFlow("images", agents, hub, Transport.TCP, (PortRange.of(443),), "images")
    text = render(Plan("both", (login, images)), form, role_of(form)).text
    for network in (*office.addresses, *hub.addresses):
        assert str(network).removesuffix("/32").removesuffix("/128") in text


@pytest.mark.parametrize("form", FORMATS)
def test_a_flow_from_nobody_knows_where_gets_a_finding_and_no_rule(form: str) -> None:
    unknown = Party(Role.USER, "users")
    agents, master = party(Role.AGENT, "gpu", 2), party(Role.MASTER, "master", 1)
    flow = PlannedFlow("api", unknown, master, Transport.TCP, (PortRange.of(8443),), "the API")
    link = PlannedFlow("link", agents, master, Transport.TCP, (PortRange.of(8444),), "the link")
    made = render(Plan("unknown", (flow, link)), form, Role.MASTER if form in HOST else None)
    assert [finding.code for finding in made.findings if finding.subject != "group"] == ["PLAN-UNRESOLVED"]
    assert "8443" not in made.text and "8444" in made.text


@pytest.mark.parametrize(
    ("form", "spoil"),
    [
        ("gcp", lambda text: text.replace('"priority"', '"prioritty"', 1)),
        ("gcp", lambda text: text.replace('"name": "q', '"name": "Q', 1)),
        ("gcloud", lambda text: text.replace("--direction", "--dir", 1)),
        ("aws", lambda text: text.replace('"CidrIp"', '"Cidr"', 1)),
        ("aws", lambda text: text.replace("what", "wh~t", 1)),
        ("cloudformation", lambda text: text.replace('"IpProtocol"', '"Protocol"', 1)),
        ("oci-nsg", lambda text: text.replace('"min": 8443', '"min": 0', 1)),
        ("oci-security-list", lambda text: text.replace('"CIDR_BLOCK"', '"CIDR"', 1)),
        ("kubernetes", lambda text: text.replace("podSelector", "podSelecter", 1)),
        ("kubernetes", lambda text: text.replace("port: 53", "port: 54")),
        ("terraform-gcp", lambda text: text.replace("target_tags", "tags", 1)),
        ("terraform-aws", lambda text: text.replace("ip_protocol", "protocol", 1)),
        ("terraform-oci", lambda text: text.replace("}", "", 1)),
    ],
)
def test_the_validators_refuse_what_is_spoilt(form: str, spoil: Callable[[str], str]) -> None:
    text = render(example(), form).text
    VALIDATORS[form](text)
    spoilt = spoil(text)
    assert spoilt != text
    with pytest.raises(Exception):  # noqa: B017 -- each platform's library has its own
        VALIDATORS[form](spoilt)


def example() -> Plan:
    office = Party(Role.USER, "office", addresses(["192.0.2.0/24"]))
    master, agents = party(Role.MASTER, "master", 1), party(Role.AGENT, "gpu", 2)
    return Plan(
        "example",
        (
            PlannedFlow("api", office, master, Transport.TCP, (PortRange.of(8443),), "what users use"),
            PlannedFlow("link", agents, master, Transport.TCP, (PortRange.of(8443),), "what agents use"),
            PlannedFlow("vxlan", agents, agents, Transport.UDP, (PortRange.of(4789),), "what the overlay uses"),
        ),
    )


def test_every_format_has_a_validator() -> None:
    assert set(VALIDATORS) == set(FORMATS)
    assert json.loads(render(example(), "gcp").text)


def test_gcps_resources_name_their_network_or_say_that_they_do_not() -> None:
    made = render(example(), "gcp")
    assert {rule["network"] for rule in json.loads(made.text)} == {"global/networks/train"}
    assert "--network=train" in render(example(), "gcloud").text
    nowhere = replace(example(), flows=tuple(replace(flow, **_without_network(flow)) for flow in example().flows))
    made = render(nowhere, "gcp")
    assert not any("network" in rule for rule in json.loads(made.text))
    assert [(finding.code, finding.subject) for finding in made.findings] == [("PLAN-UNRESOLVED", "network")]
    assert "state vpc of agent/gpu, master/master" in made.findings[0].remedy


def _without_network(flow: PlannedFlow) -> dict[str, Party]:
    return {end: replace(getattr(flow, end), vpc=None) for end in ("source", "destination")}


@pytest.mark.parametrize("form", ["nftables", "iptables"])
def test_whoever_loads_rules_that_lock_operators_out_reads_it_first(form: str) -> None:
    assert "nobody logs in to this agent by SSH" in render(example(), form, Role.AGENT).text
    office = Party(Role.OPERATOR, "operators", addresses(["192.0.2.0/24"]))
    agents = party(Role.AGENT, "gpu", 2)
    login = PlannedFlow("admin-ssh-agent", office, agents, Transport.TCP, (PortRange.of(22),), "logging in")
    assert "WARNING" not in render(Plan("with", (login,)), form, Role.AGENT).text


@pytest.mark.parametrize(("form", "instead"), [("aws", "cloudformation"), ("oci-nsg", "terraform-oci")])
def test_rules_that_name_groups_without_ids_say_that_they_cannot_be_applied_so(form: str, instead: str) -> None:
    ids = "sg-" if form == "aws" else "ocid1.networksecuritygroup.oc1.iad."
    (found,) = render(example(), form).findings
    assert (found.code, found.subject) == ("PLAN-UNRESOLVED", "group")
    assert "the groups of agent/gpu, master/master by names" in found.evidence and f"--for {instead}" in found.remedy

    def with_group(party: Party) -> Party:
        return party if party.role is Role.USER else replace(party, security_groups=(f"{ids}{party.name}",))

    flows = tuple(
        replace(flow, source=with_group(flow.source), destination=with_group(flow.destination))
        for flow in example().flows
    )
    assert render(replace(example(), flows=flows), form).findings == ()
