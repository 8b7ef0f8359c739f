"""Rules that have no effect, add nothing, or open what no flow needs are found, each with the change that mends it."""

from __future__ import annotations

import json

import pytest

from quorate.model.ports import PortRange
from quorate.network.audit import audit
from quorate.network.audit.iptables import read as read_iptables
from quorate.network.audit.nftables import read as read_nftables
from quorate.network.findings import Finding
from quorate.network.flows import Direction, Role, Transport
from quorate.network.plan import Party, Plan, PlannedFlow, addresses

OFFICE = Party(Role.USER, "office", addresses(["192.0.2.0/24"]))
MASTER = Party(Role.MASTER, "master", addresses(["10.0.0.5"]), tags=("m",), security_groups=("sg-m",))
PLAN = Plan(
    "one flow", (PlannedFlow("api", OFFICE, MASTER, Transport.TCP, (PortRange.of(8443),), "the API"),)
)  # fmt: skip
ESTABLISHED = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
API = "-A INPUT -s 192.0.2.0/24 -p tcp -m tcp --dport 8443 -j ACCEPT"


def found(form: str, text: str) -> dict[str, Finding]:
    return {finding.code: finding for finding in audit(PLAN, form, text, Role.MASTER).findings}


def iptables(*rules: str) -> str:
    return "\n".join(
        ["*filter", ":INPUT DROP [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT DROP [0:0]", ESTABLISHED,
         "-A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", *rules, "COMMIT", ""]
    )  # fmt: skip


def gcp(*rules: dict[str, object]) -> str:
    common = {"network": "n", "direction": "INGRESS", "targetTags": ["m"]}
    api = {"name": "api", "priority": 1000, "sourceRanges": ["192.0.2.0/24"], "allowed": [tcp(8443)]}
    return json.dumps([{**common, **rule} for rule in (api, *rules)])


def tcp(port: int) -> dict[str, object]:
    return {"IPProtocol": "tcp", "ports": [str(port)]}


def test_exact_rules_have_no_findings() -> None:
    ours = {"NET-BLOCKED", "NET-UNNEEDED", "RULE-SHADOWED", "RULE-REDUNDANT"}
    assert not ours & set(found("iptables", iptables(API)))
    assert not ours & set(found("gcp", gcp()))


def test_a_rule_behind_one_that_decides_all_of_it_is_shadowed() -> None:
    drop = "-A INPUT -s 192.0.2.7/32 -p tcp -m tcp --dport 8443 -j DROP"
    finding = found("iptables", iptables(API, drop))["RULE-SHADOWED"]
    assert (finding.subject, finding.remedy) == ("INPUT line 8", f"iptables {drop.replace('-A', '-D', 1)}")
    late = {"name": "late", "priority": 2000, "sourceRanges": ["192.0.2.0/25"], "denied": [tcp(8443)]}
    shadowed = found("gcp", gcp(late))["RULE-SHADOWED"]
    assert shadowed.remedy == "gcloud compute firewall-rules delete late"


def test_a_rule_without_which_the_same_is_decided_is_redundant() -> None:
    narrow = "-A INPUT -s 192.0.2.7/32 -p tcp -m tcp --dport 8443 -j ACCEPT"
    assert found("iptables", iptables(narrow, API))["RULE-REDUNDANT"].subject == "INPUT line 7"
    early = {"name": "early", "priority": 10, "sourceRanges": ["192.0.2.0/25"], "allowed": [tcp(8443)]}
    assert found("gcp", gcp(early))["RULE-REDUNDANT"].subject == "early"


def test_a_rule_that_two_others_cover_together_is_redundant() -> None:
    halves = [{"name": f"half-{n}", "priority": 2000, "sourceRanges": [f"192.0.2.{n}/25"], "allowed": [tcp(8443)]}
              for n in (0, 128)]  # fmt: skip
    codes = found("gcp", gcp(*halves))
    assert "RULE-SHADOWED" in codes and "NET-UNNEEDED" not in codes


def test_an_opening_that_no_flow_needs_is_found_with_what_it_opens() -> None:
    ssh = {"name": "ssh", "priority": 1000, "sourceRanges": ["0.0.0.0/0"], "allowed": [tcp(22)]}
    finding = found("gcp", gcp(ssh))["NET-UNNEEDED"]
    assert finding.subject == "ssh" and "tcp/22 from 0.0.0.0/1" in finding.evidence
    assert finding.remedy == "gcloud compute firewall-rules delete ssh"


def test_a_rule_wider_than_its_flow_is_to_be_narrowed() -> None:
    wide = API.replace("8443", "8443:8444")
    finding = found("iptables", iptables(wide))["NET-UNNEEDED"]
    assert "8444" in finding.evidence and finding.remedy.endswith(f"iptables {wide.replace('-A', '-D', 1)}")


@pytest.mark.parametrize(
    ("form", "text", "change"),
    [
        ("iptables", iptables(), "iptables -I INPUT -s 192.0.2.0/24 -p tcp --dport 8443"),
        ("gcp", "[]", "--source-ranges=192.0.2.0/24 --target-tags=m"),
        ("aws", '{"SecurityGroups": [{"GroupId": "sg-m"}]}', "authorize-security-group-ingress --group-id sg-m"),
    ],
)
def test_a_blocked_flow_carries_the_command_that_opens_it(form: str, text: str, change: str) -> None:
    assert change in found(form, text)["NET-BLOCKED"].remedy


NFT_DROP = [
    {"table": {"family": "inet", "name": "f", "handle": 1}},
    {"chain": {"family": "inet", "table": "f", "name": "in", "handle": 2, "type": "filter", "hook": "input", "prio": 0,
               "policy": "drop"}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "restore", "nft"),
    [
        ("192.0.2.0/24", "iptables -I INPUT -s 192.0.2.0/24", "nft insert rule inet f in ip saddr 192.0.2.0/24"),
        ("2001:db8::/48", "ip6tables -I INPUT -s 2001:db8::/48", "nft insert rule inet f in ip6 saddr 2001:db8::/48"),
    ],
)
def test_who_has_addresses_of_one_family_is_let_in_by_one_command(where: str, restore: str, nft: str) -> None:
    office = Party(Role.USER, "office", addresses([where]))
    flow = PlannedFlow("api", office, MASTER, Transport.TCP, (PortRange.of(8443),), "the API")
    for rules, command in (
        (read_iptables(f"# iptables\n{iptables()}# ip6tables\n{iptables()}"), restore),
        (read_nftables(json.dumps({"nftables": NFT_DROP})), nft),
    ):
        change = rules.opening(flow, Direction.INGRESS)
        assert change.startswith(command) and "&&" not in change


def spare(form: str, text: str) -> set[str]:
    findings = audit(PLAN, form, text, Role.MASTER).findings
    return {finding.subject for finding in findings if finding.code in ("RULE-SHADOWED", "RULE-REDUNDANT")}


def test_a_rule_that_accepts_in_a_chain_before_others_has_its_effect() -> None:
    """As where Docker or iptables-nft keep an empty table beside one's own."""
    office = {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "192.0.2.0"}}
    api = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 8443}}
    common = {"family": "inet", "table": "f", "chain": "in"}
    rules = [{"rule": {**common, "handle": handle, "expr": [office, api, {"accept": None}]}} for handle in (3, 4)]
    beside = {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "handle": 1, "type": "filter",
                        "hook": "input", "prio": 0, "policy": "accept"}}  # fmt: skip
    assert spare("nftables", json.dumps({"nftables": [*NFT_DROP, rules[0], beside]})) == set()
    both = json.dumps({"nftables": [*NFT_DROP, *rules, beside]})
    assert len(spare("nftables", both)) == 1, "of two that do the same one can go"


def test_a_rule_that_returns_before_others_would_drop_has_its_effect() -> None:
    rules = [
        "-A INPUT -j CHECK",
        "-A CHECK -s 192.0.2.0/24 -p tcp -m tcp --dport 8443 -j RETURN",
        "-A CHECK -p tcp -j DROP",
    ]
    text = iptables(*rules).replace(":INPUT DROP", ":CHECK - [0:0]\n:INPUT ACCEPT")
    report = audit(PLAN, "iptables", text, Role.MASTER)
    assert [verdict.outcome.value for verdict in report.flows] == ["allow"]
    assert spare("iptables", text) == set()


def test_a_rule_for_what_comes_after_the_first_packet_has_its_effect() -> None:
    """New connections are let in by another rule, and nothing but this one lets them go on."""
    new = API.replace("-j", "-m conntrack --ctstate NEW -j")
    text = iptables(new, API).replace(ESTABLISHED + "\n", "")
    assert spare("iptables", text) == {"INPUT line 6"}, "it is the rule for new ones that adds nothing"


def test_of_two_rules_that_may_match_none_is_said_to_do_nothing() -> None:
    assert (
        spare("iptables", iptables("-A INPUT -i eth0 -p tcp -j ACCEPT", "-A INPUT -i eth1 -p tcp -j ACCEPT")) == set()
    )


def test_rules_that_do_nothing_only_while_a_wider_one_is_there_stay() -> None:
    drop = "-A INPUT -s 203.0.113.0/24 -p tcp -j DROP"
    text = iptables(drop, drop, API, "-A INPUT -p tcp -j ACCEPT")
    assert len(spare("iptables", text) & {"INPUT line 7", "INPUT line 8"}) == 1


@pytest.mark.parametrize("everything", ["all", "icmp"])
def test_a_rule_that_lets_more_pass_than_connections_is_not_said_to_do_nothing(everything: str) -> None:
    """Others let all of its TCP and UDP pass, and none of its ICMP."""
    also = [{"IPProtocol": name} for name in dict.fromkeys(("tcp", "udp", everything))]
    office = {"sourceRanges": ["192.0.2.0/24"], "priority": 10}
    both = {"name": "both", **office, "allowed": [{"IPProtocol": "tcp"}, {"IPProtocol": "udp"}]}
    wider = {"name": "wider", **office, "priority": 20, "allowed": also}
    assert "wider" not in spare("gcp", gcp(both, wider))
    accept = "-A INPUT -s 192.0.2.0/24 {}-j ACCEPT"
    text = iptables(accept.format("-p tcp "), accept.format("-p udp "), accept.format(""))
    assert "INPUT line 9" not in spare("iptables", text)


def test_a_rule_for_icmp_errors_of_connections_is_not_said_to_do_nothing() -> None:
    again = ESTABLISHED.replace("RELATED,", "")
    assert spare("iptables", iptables(API, again).replace(ESTABLISHED, again + "\n" + ESTABLISHED)) == set()
