"""What a machine's rules may do beyond what is modelled is said to be undetermined, as the real tools list it."""

from __future__ import annotations

import subprocess

import pytest

from quorate.model.ports import ALL_PORTS, PortRange
from quorate.network.audit import AuditReport, Unreadable, audit
from quorate.network.flows import Role, Transport
from quorate.network.plan import EVERYWHERE, Party, Plan, PlannedFlow, addresses

AGENTS = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]))
ANYONE = Party(Role.ANYONE, "anyone", EVERYWHERE)
PLAN = Plan(
    "one pool",
    (PlannedFlow("vxlan", AGENTS, AGENTS, Transport.UDP, (PortRange.of(4789),), "the overlay"),),
    tuple(PlannedFlow("anyone-to-agent", ANYONE, AGENTS, transport, (ALL_PORTS,), "harm") for transport in Transport),
)
OVERLAY = "ip saddr 10.0.1.0/24 udp dport 4789 accept"


def in_namespace(command: str, given: str = "") -> str:
    """Run a shell command in a network namespace of its own."""
    done = subprocess.run(["unshare", "-rn", "sh", "-ec", command], input=given, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def verdicts(report: AuditReport) -> tuple[str, str]:
    """What becomes of the overlay, and whether anyone can come in."""
    (flow,) = report.flows
    return str(flow.to_dict()["verdict"]), str(report.forbidden[0].to_dict()["verdict"]) if report.forbidden else "no"


def nftables(inbound: str = "", beside: str = "", before: str = "") -> AuditReport:
    established, lo = "ct state established,related accept", 'iifname "lo" accept'
    rules = "\n".join([inbound, established, lo, OVERLAY])
    text = (
        f"{before}\ntable inet f {{ set s {{ type ipv4_addr; size 100; flags dynamic; }}\n"
        f"chain i {{ type filter hook input priority 0; policy drop;\n{rules}\n}}\n}}\n{beside}"
    )
    listed = in_namespace("ip link set lo up; nft -f -; nft -j list ruleset", text)
    # Not every kernel can have a queue: in its stead stands a prefix of that name.
    listed = listed.replace('{"log": {"prefix": "queue"}}', '{"queue": {"num": 1}}')
    return audit(PLAN, "nftables", listed, Role.AGENT)


def test_rules_that_are_modelled_leave_no_doubt() -> None:
    assert verdicts(nftables()) == ("open", "no")


def chain(family: str, head: str, *rules: str) -> str:
    return f"table {family} beside {{ chain c {{ type {head}\n" + "\n".join(rules) + "\n}\n}\n"


INGRESS, DNAT = "filter hook ingress device lo priority 0;", "nat hook prerouting priority dstnat;"
RAW, SNAT = "filter hook prerouting priority raw;", "nat hook postrouting priority srcnat;"


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        (chain("netdev", INGRESS, "udp dport 4789 drop"), "it"),
        (chain("inet", INGRESS, "udp dport 4789 drop"), "it"),
        (chain("ip", DNAT, "udp dport 4789 redirect to 5000"), "both"),
        (chain("ip", DNAT, "tcp dport 9000 dnat to 172.17.0.2:80"), "in"),
        (chain("ip", DNAT, "ip daddr 10.96.0.1 dnat to 10.0.1.7"), "none"),
        (chain("ip", SNAT, "masquerade"), "none"),
        (chain("ip", RAW, "udp dport 4789 counter"), "none"),
        (chain("bridge", "filter hook input priority 0; policy drop;"), "it"),
        (chain("arp", "filter hook input priority 0; policy drop;"), "none"),
    ],
    ids=lambda text: text.replace("\n", " "),
)
def test_a_chain_that_may_or_may_not_be_asked_or_leads_elsewhere(beside: str, expected: str) -> None:
    flow, anyone = verdicts(nftables(beside=beside))
    assert flow == ("undetermined" if expected in ("it", "both") else "open")
    assert anyone == ("undetermined" if expected in ("in", "both") else "no")


@pytest.mark.parametrize(
    ("rule", "flow", "anyone"),
    [
        ('udp dport 4789 log prefix "queue"', "undetermined", "undetermined"),
        ('tcp dport 22 log prefix "queue"', "open", "undetermined"),
        ("udp dport 4789 meter m { ip saddr limit rate over 10/second } drop", "undetermined", "no"),
        ("udp dport 4789 update @s { ip saddr limit rate over 10/second } drop", "undetermined", "no"),
        ("udp dport 4789 add @s { ip saddr } drop", "undetermined", "no"),
        ("udp dport 4789 limit rate 10/second accept", "open", "undetermined"),
        ("tcp dport 22 synproxy mss 1460 wscale 7 timestamp", "open", "undetermined"),
        ("udp dport 4789 meta mark set 7", "open", "no"),
        ("udp dport 4789 ip daddr set 10.0.1.9", "undetermined", "undetermined"),
        ("meta mark 7 accept", "open", "undetermined"),
        ("fib daddr type local udp dport 9 accept", "open", "open"),
        ("fib saddr type local udp dport 9 accept", "open", "no"),
        ("fib daddr type broadcast udp dport 4789 drop", "open", "no"),
    ],
)
def test_a_rule_that_hangs_on_what_is_not_in_the_text(rule: str, flow: str, anyone: str) -> None:
    assert verdicts(nftables(inbound=rule)) == (flow, anyone)


def test_a_map_that_is_not_in_the_text_may_decide_anything() -> None:
    listed = in_namespace(
        "nft -f -; nft -j list ruleset",
        "table inet f { map m { type inet_service : verdict\n}\n"
        "chain i { type filter hook input priority 0; policy drop;\nudp dport vmap @m\n}\n}\n",
    )
    assert verdicts(audit(PLAN, "nftables", listed, Role.AGENT)) == ("blocked", "no")
    lost = listed.replace('"name": "m"', '"name": "another"')
    assert verdicts(audit(PLAN, "nftables", lost, Role.AGENT)) == ("undetermined", "undetermined")


def test_a_table_that_may_sleep_tells_nothing() -> None:
    dormant = nftables(beside="table inet f { flags dormant\n}\n")
    assert verdicts(dormant) == ("open", "undetermined")


def test_what_is_left_untracked_is_neither_new_nor_established() -> None:
    untracked = chain("inet", RAW, "tcp dport 22 notrack")
    assert verdicts(nftables(inbound="ct state new tcp dport 22 accept")) == ("open", "open")
    assert verdicts(nftables(inbound="ct state new tcp dport 22 accept", beside=untracked)) == ("open", "no")
    assert verdicts(nftables(inbound="ct state untracked tcp dport 22 accept", beside=untracked)) == ("open", "open")


@pytest.mark.parametrize(
    ("end", "open_ways"),
    [
        ("meta nfproto ipv4 reject", "6"),
        ("meta nfproto ipv6 reject", "4"),
        ("reject", ""),
        ("reject with tcp reset", ""),
    ],
)
def test_a_reject_is_for_the_packets_that_its_answer_fits(end: str, open_ways: str) -> None:
    # nft prints no match on the IP version where the answer says it.
    rules = f"table inet f {{ chain o {{ type filter hook output priority 0;\n{end}\n}}\n}}\n"
    listed = in_namespace("nft -f -; nft -j list ruleset", rules)
    flows = [
        PlannedFlow(version, Party(Role.MASTER, version, addresses([mine])), Party(Role.DNS, version, addresses([far])),
                    Transport.TCP, (PortRange.of(53),), "")
        for version, mine, far in (("4", "10.0.1.7", "10.0.0.2"), ("6", "fd00::7", "fd00::2"))
    ]  # fmt: skip
    report = audit(Plan("names", tuple(flows)), "nftables", listed, Role.MASTER)
    assert "".join(v.flow.flow for v in report.flows if v.to_dict()["verdict"] == "open") == open_ways


def test_an_overlay_that_is_not_tracked_needs_no_state_and_answers_of_their_own() -> None:
    # The usual pair of rules for VXLAN: its datagrams have no connections worth the table's room.
    inwards = chain("inet", RAW, "udp dport 4789 notrack")
    assert verdicts(nftables(beside=inwards)) == ("open", "no")
    stateful = nftables(inbound="ct state invalid drop", beside=inwards)
    assert verdicts(stateful) == ("open", "no")


def test_a_connection_of_which_tracking_sees_one_direction_may_be_taken_for_this_or_that() -> None:
    begins = chain("inet", RAW, "tcp dport 22 tcp flags syn / fin,syn,rst,ack notrack")
    ssh = PlannedFlow("ssh", ANYONE, AGENTS, Transport.TCP, (PortRange.of(22),), "")
    rules = (
        "table inet f { chain i { type filter hook input priority 0; policy drop;\n"
        "ct state established,untracked accept\n}\n}\n"
    )
    listed = in_namespace("nft -f -; nft -j list ruleset", rules + begins)
    (verdict,) = audit(Plan("ssh", (ssh,)), "nftables", listed, Role.AGENT).flows
    assert verdict.to_dict()["verdict"] == "undetermined"
    assert "connection tracking may have it for established or invalid or new" in verdict.why


IPTABLES = """*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
{}
-A INPUT -s 10.0.1.0/24 -p udp -m udp --dport 4789 -j ACCEPT
COMMIT
"""
NO_IPV6 = "# ip6tables-save\n*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\nCOMMIT\n"


ESTABLISHED = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"


def listed_by_both(rules: str) -> tuple[str, str]:
    """What nft and what iptables-save say of the rules of iptables."""
    load = f"iptables-nft-restore; ip6tables-nft-restore <<'END'\n{NO_IPV6}END\n"
    saved = "iptables-nft-save; echo '# ip6tables-save'; ip6tables-nft-save"
    return in_namespace(f"{load}nft -j list ruleset", rules), in_namespace(load + saved, rules)


def test_what_nft_does_not_print_of_the_rules_of_iptables_is_told_by_iptables_save() -> None:
    """Of `-m conntrack` nft prints that it is there, and not what it matches."""
    nft, saved = listed_by_both(IPTABLES.format(""))
    report = audit(PLAN, "nftables", nft, Role.AGENT)
    assert verdicts(report) == ("undetermined", "undetermined")
    assert "--from iptables" in report.forbidden[0].why
    assert not [found for found in report.findings if found.code in ("RULE-SHADOWED", "RULE-REDUNDANT")]
    assert verdicts(audit(PLAN, "iptables", saved, Role.AGENT)) == ("open", "no")


def test_what_is_rejected_is_not_open() -> None:
    nft, saved = listed_by_both(IPTABLES.replace(ESTABLISHED, "").format("-A INPUT -s 10.0.1.0/24 -p udp -j REJECT"))
    assert verdicts(audit(PLAN, "nftables", nft, Role.AGENT)) == ("blocked", "no")
    assert verdicts(audit(PLAN, "iptables", saved, Role.AGENT)) == ("blocked", "no")


def iptables(rule: str = "", before: str = "") -> AuditReport:
    return audit(PLAN, "iptables", before + IPTABLES.format(rule) + NO_IPV6, Role.AGENT)


@pytest.mark.parametrize(
    ("table", "flow", "anyone"),
    [
        ("*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -m udp --dport 4789 -j DROP\nCOMMIT\n", "blocked", "no"),
        ("*mangle\n:PREROUTING DROP [0:0]\nCOMMIT\n", "blocked", "no"),
        ("*mangle\n:INPUT ACCEPT [0:0]\n-A INPUT -p udp --dport 4789 -j MARK --set-mark 1\nCOMMIT\n", "open", "no"),
        ("*mangle\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n", "open", "no"),
        ("*security\n:INPUT ACCEPT [0:0]\n-A INPUT -s 10.0.1.7/32 -j DROP\nCOMMIT\n", "blocked", "no"),
        ("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp --dport 4789 -j REDIRECT --to-ports 9\nCOMMIT\n",
         "undetermined", "undetermined"),
        ("*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n"
         "-A DOCKER ! -i docker0 -p tcp --dport 9000 -j DNAT --to-destination 172.17.0.2:80\nCOMMIT\n",
         "open", "undetermined"),
        ("*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\nCOMMIT\n",
         "open", "no"),
        ("*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp --dport 22 -j CT --notrack\nCOMMIT\n", "open", "no"),
        ("*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p sctp -j CT --notrack\nCOMMIT\n", "open", "no"),
    ],
)  # fmt: skip
def test_tables_beside_filter_are_asked_in_their_turn(table: str, flow: str, anyone: str) -> None:
    assert verdicts(iptables(before=table)) == (flow, anyone)


def test_packets_after_the_first_go_where_it_was_sent() -> None:
    client = Party(Role.USER, "client", addresses(["10.0.2.9"]))
    moved = PlannedFlow("web", client, AGENTS, Transport.TCP, (PortRange.of(80),), "a port that another one stands for")
    nat = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 3128\nCOMMIT\n"
    table = "*filter\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 3128 -j ACCEPT\nCOMMIT\n"
    nft, saved = listed_by_both(nat + table)
    for form, text in (("nftables", nft), ("iptables", saved)):
        (flow,) = audit(Plan("one", (moved,)), form, text, Role.AGENT).flows
        assert flow.to_dict()["verdict"] == "undetermined", flow.why


@pytest.mark.parametrize(
    ("target", "flow"),
    [("CLASSIFY --set-class 1:1", "open"), ("DSCP --set-dscp 8", "open"), ("SET --add-set s src", "open"),
     ("NFQUEUE --queue-num 1", "undetermined"), ("TARPIT", "undetermined"), ("NEVERHEARDOF", "undetermined")],
)  # fmt: skip
def test_a_target_that_is_no_chain_goes_on_or_is_doubtful(target: str, flow: str) -> None:
    assert verdicts(iptables(f"-A INPUT -p udp -m udp --dport 4789 -j {target}"))[0] == flow


def test_a_chain_that_is_not_there_is_said_with_its_line() -> None:
    with pytest.raises(Unreadable, match=r"line 7: it jumps to the chain chcek, which is not there"):
        iptables("-A INPUT -j chcek")


def test_rules_of_the_older_iptables_beside_them_may_drop_what_these_let_pass() -> None:
    warning = "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n"
    assert verdicts(iptables(before=warning)) == ("undetermined", "no")


def test_a_second_table_of_the_same_family_is_refused_with_its_line() -> None:
    again = "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"
    with pytest.raises(Unreadable, match=r"line 4: the table filter of IPv4 begins a second time.*ip6tables-save"):
        iptables(before=again)
