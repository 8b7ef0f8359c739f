"""What the audit says of random rules of iptables, in all tables, is what real sockets meet in a real namespace."""

from __future__ import annotations

import random

import pytest

from quorate.network.audit import audit
from quorate.network.audit.space import Outcome
from quorate.network.flows import Role
from quorate.network.plan import Plan

from .test_nftables_differential import (
    CLIENTS,
    PORTS,
    SERVERS,
    Attempt,
    Bench,
    as_planned,
    forget,
    meet,
    random_flows,
    usual,
    wire,
)

__all__ = ["wire"]

pytestmark = pytest.mark.lab

RULE_SETS = 75
#: The tables that filter, with their chains on the ways in and out.
TABLES = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "OUTPUT"),
    "security": ("INPUT", "OUTPUT"),
}
FLAGS = (
    "FIN,SYN,RST,ACK SYN",
    "SYN,ACK ACK",
    "FIN FIN",
    "PSH,FIN FIN",
    "FIN,ACK,PSH FIN,ACK,PSH",
    "ALL ACK",
    "SYN,FIN NONE",
)
STATES = (
    "UNTRACKED",
    "NEW",
    "ESTABLISHED",
    "NEW,ESTABLISHED",
    "RELATED,ESTABLISHED",
    "INVALID",
    "UNTRACKED,NEW,ESTABLISHED",
)


def random_table(rng: random.Random, table: str, version: int) -> str:
    """One table, out of what the audit claims to model of it."""
    clients = [address for address in CLIENTS if (":" in address) == (version == 6)]
    servers = [address for address in SERVERS if (":" in address) == (version == 6)]
    nets = ("10.9.0.0/24", "10.9.1.0/255.255.255.0", "10.9.0.1,10.9.1.1") if version == 4 else ("fd09::/64", "fd09::2")

    def inverted() -> str:
        return rng.choice(("", "", "! "))

    def ports() -> str:
        return rng.choice((str(rng.choice(PORTS)), "1024:2047", ":8080", "20000:", f"{rng.choice(PORTS[:3])}:29500"))

    def address() -> str:
        return rng.choice(
            (
                f"{inverted()}-s {rng.choice(clients)}",
                f"-s {rng.choice(nets)}",
                f"{inverted()}-d {rng.choice(servers)}",
                f"-m iprange {inverted()}--src-range {clients[0]}-{clients[1]}",
            )
        )

    def transport() -> str:
        listed = ",".join(map(str, rng.sample(PORTS, 2)))
        return rng.choice(
            (
                f"-p tcp -m tcp {inverted()}--dport {ports()}",
                f"-p tcp -m tcp {inverted()}--dport {ports()}",
                f"-p udp -m udp {inverted()}--dport {ports()}",
                f"-p tcp -m tcp {inverted()}--sport {rng.choice(('1024:65535', '1:1023'))}",
                f"-p {rng.choice(('tcp', 'udp'))} -m multiport {inverted()}--dports {listed},8000:8999",
                f"-p tcp -m multiport {inverted()}--ports {listed}",
                f"-p tcp -m tcp {inverted()}--syn",
                "-p tcp -m tcp --tcp-flags ALL SYN",
                "-p tcp -m tcp --tcp-flags SYN,RST NONE",
                f"-p tcp -m tcp {inverted()}--tcp-flags {rng.choice(FLAGS)}",
                f"{inverted()}-p {rng.choice(('tcp', 'udp', '6', '17'))}",
                "-p sctp",
            )
        )

    def other(chain: str) -> str:
        interface = [f"{inverted()}-i lo"] if chain not in ("OUTPUT", "POSTROUTING", "first", "second") else []
        return rng.choice((f"-m conntrack {inverted()}--ctstate {rng.choice(STATES)}", *interface))

    def rule(chain: str, *targets: str) -> str:
        layers = (address, transport, lambda: other(chain))
        chosen = " ".join(layer() for layer in rng.sample(layers, rng.choice((0, 1, 1, 2, 2, 3))))
        ends = ["-j ACCEPT"] * 5 + ["-j DROP"] * 3 + ["-j RETURN", "-j LOG", ""]
        ends += ["-j REJECT"] if table == "filter" else []
        ends += ["-j NOTRACK"] * 6 if table == "raw" else []
        ends += [f"-{rng.choice('jjg')} {target}" for target in targets]
        return f"-A {chain} {chosen} {rng.choice(ends)}"

    heads = [f":{chain} {rng.choice(('ACCEPT', 'ACCEPT', 'DROP') if table == 'filter' else ('ACCEPT',))} [0:0]"
             for chain in TABLES[table]]  # fmt: skip
    most = 5 if table == "filter" else 2
    lines = [rule(chain, "first", "second") for chain in TABLES[table] for _ in range(rng.randint(0, most))]
    lines += [rule("first", "second") for _ in range(rng.randint(1, 3))]
    lines += [rule("second") for _ in range(rng.randint(0, 3))]
    return "\n".join([f"*{table}", *heads, ":first - [0:0]", ":second - [0:0]", *lines, "COMMIT", ""])


def random_rules(rng: random.Random, version: int) -> str:
    others = [table for table in ("raw", "mangle", "security") if rng.random() < 0.25]
    text = "".join(random_table(rng, table, version) for table in TABLES if table == "filter" or table in others)
    if "raw" not in others and rng.random() < 0.4:
        # As those do it who know what they do; some forget the way out.
        ports = rng.sample(PORTS, 3)
        lines = [
            f"-A PREROUTING -p {way} -m {way} --dport {port} -j NOTRACK" for port in ports for way in ("tcp", "udp")
        ]
        lines += [
            line.replace("PREROUTING", "OUTPUT").replace("dport", "sport") for line in lines if rng.random() < 0.8
        ]
        text += "\n".join(["*raw", ":PREROUTING ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", *lines, "COMMIT", ""])
    if rng.random() < 0.3:
        elsewhere = f"-A PREROUTING -p tcp -m tcp --dport {rng.choice(PORTS)} -j REDIRECT --to-ports 8080"
        text += f"*nat\n:PREROUTING ACCEPT [0:0]\n{elsewhere}\nCOMMIT\n"
    return text


def test_real_sockets_meet_what_the_audit_says(wire: tuple[str, str]) -> None:
    bench = Bench(*wire)
    cases = dict.fromkeys(Outcome, 0)
    try:
        for seed in range(RULE_SETS):
            rng = random.Random(seed)
            texts, flows = {version: random_rules(rng, version) for version in (4, 6)}, random_flows(rng)
            bench.shell("nft flush ruleset")
            printed = ""
            for version, tool in ((4, "iptables"), (6, "ip6tables")):
                bench.shell(f"{tool}-restore", texts[version])
                printed += bench.shell(f"{tool}-save")
            verdicts = audit(Plan("random", as_planned(flows)), "iptables", printed, Role.MASTER).flows
            sure = dict(zip(flows, verdicts, strict=True))
            attempts = [Attempt(flow, port) for flow in flows for port in usual(seed)]
            awaited = {one for one in attempts if sure[one.flow].outcome is Outcome.ALLOW}
            met = meet(bench.client, bench.server, attempts, awaited)
            forget(bench.namespace)
            for flow, verdict in sure.items():
                cases[verdict.outcome] += 1
                is_open = all(met.answered[Attempt(flow, port)] for port in usual(seed))
                if verdict.outcome is Outcome.UNKNOWN:
                    assert "NOTRACK" in printed or "REDIRECT" in printed, f"seed {seed}: {verdict.why}\n{printed}"
                else:
                    assert (verdict.outcome is Outcome.ALLOW) == is_open, f"seed {seed}: {flow}: {verdict}\n{printed}"
    finally:
        bench.server.close()
    # A test in which everything is open, or nothing, would prove little.
    assert min(cases[Outcome.ALLOW], cases[Outcome.DENY]) > 400 and cases[Outcome.UNKNOWN] < 60, cases
