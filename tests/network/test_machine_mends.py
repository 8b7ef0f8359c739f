"""What an audit of a machine's own rules says mends them, typed into a shell there: everything is as it should be.

The rules are loaded in a network namespace, the commands run as they are printed, and what the tools list is audited.
"""

from __future__ import annotations

import subprocess

import pytest

from quorate.model.clusterfile import ClusterFile
from quorate.network.audit import AuditReport, audit
from quorate.network.clusterplan import plan_cluster
from quorate.network.flows import Role
from quorate.network.plan import Plan
from quorate.network.rules import render

CLUSTER = {
    "master": {"where": {"addresses": ["10.0.0.2"]}},
    "users": {"where": {"addresses": ["192.0.2.0/24", "2001:db8:5::/48"]}},
    "operators": {"where": {"addresses": ["192.0.2.5"]}},
    "pools": [{"name": "p", "where": {"addresses": ["10.0.1.0/24", "fd00:1::/64"]}}],
    "outside": {"dns": ["10.0.0.53"], "ntp": ["10.0.0.53"], "registries": [{"addresses": ["10.0.9.9"]}]},
}


def plan() -> Plan:
    return plan_cluster(ClusterFile.model_validate(CLUSTER))


def in_namespace(command: str, given: str) -> str:
    """Run a shell command in a network namespace of its own."""
    done = subprocess.run(["unshare", "-rn", "sh", "-ec", command], input=given, text=True, capture_output=True)
    assert done.returncode == 0, f"{done.stderr}\n{command}"
    return done.stdout


#: How each tool loads rules from the standard input, and prints them.
LOADS = {
    "nftables": "nft -f -",
    "iptables": "cat > $T/all; sed '/^# IPv6$/,$d' $T/all | iptables-restore\n"
    "sed '1,/^# IPv6$/d' $T/all | ip6tables-restore",
}
PRINTS = {
    "nftables": "nft -j list ruleset",
    "iptables": "iptables-save; echo '# ip6tables-save'; ip6tables-save",
}


def audited(form: str, text: str, remedies: list[str] = []) -> AuditReport:  # noqa: B006
    lines = ["T=$(mktemp -d)", "trap 'rm -r $T' EXIT", LOADS[form], *remedies, PRINTS[form]]
    return audit(plan(), form, in_namespace("\n".join(lines), text), Role.AGENT)


def codes(report: AuditReport) -> set[tuple[str, str]]:
    return {(finding.code, finding.subject) for finding in report.findings}


def remedies(report: AuditReport) -> list[str]:
    parts = (part for finding in report.findings for part in finding.remedy.split("; ") if part)
    return list(dict.fromkeys(parts))


def lines_without(text: str, *words: str) -> str:
    return "".join(line + "\n" for line in text.splitlines() if not any(word in line for word in words))


def chain(table: str, head: str, *rules: str) -> str:
    return f"table {table} {{ chain c {{ type {head}\n" + "\n".join(rules) + "\n}\n}\n"


def spoilt(form: str) -> dict[str, str]:
    """The plan's own rules, each with something that is wrong with them."""
    good = render(plan(), form, Role.AGENT).text
    if form == "nftables":
        early = chain("ip early", "filter hook prerouting priority raw; policy accept;", "udp dport 4789 drop")
        late = chain("inet late", "filter hook output priority 10; policy drop;")
        wide = '        tcp dport 22 accept\n        iifname "lo" accept\n'
        return {
            "a flow is missing": lines_without(good, "vxlan"),
            "answers are missing": lines_without(good, "ct state"),
            "it is dropped before": good + early,
            "all is dropped behind": good + late,
            "it is too wide": good.replace('        iifname "lo" accept\n', wide),
            "too wide alone lets in": lines_without(good, "admin-ssh").replace('        iifname "lo" accept\n', wide),
            "it stands there twice": good.replace(
                '        iifname "lo" accept\n',
                '        iifname "lo" accept\n        ip saddr 10.0.1.0/24 udp dport 4789 accept\n',
            ),
        }
    early = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -m udp --dport 4789 -j DROP\nCOMMIT\n"
    wide = "-A QUORATE-IN -p tcp -m tcp --dport 22 -j ACCEPT\n-A QUORATE-IN -i lo -j ACCEPT\n"
    return {
        "a flow is missing": lines_without(good, "vxlan"),
        "answers are missing": lines_without(good, "RELATED,ESTABLISHED"),
        "it is dropped before": good.replace("# IPv4\n", f"# IPv4\n{early}"),
        "it is too wide": good.replace("-A QUORATE-IN -i lo -j ACCEPT\n", wide),
        "too wide alone lets in": lines_without(good, "admin-ssh").replace("-A QUORATE-IN -i lo -j ACCEPT\n", wide),
    }


@pytest.mark.parametrize("form", LOADS)
def test_the_plans_own_rules_need_no_mending(form: str) -> None:
    assert codes(audited(form, render(plan(), form, Role.AGENT).text)) == set()


@pytest.mark.parametrize(
    ("form", "what"), [(form, what) for form in LOADS for what in spoilt(form)], ids=lambda text: text.replace(" ", "-")
)
def test_what_the_audit_says_mends_it(form: str, what: str) -> None:
    text = spoilt(form)[what]
    before = audited(form, text)
    assert codes(before), "there is something to mend"
    after = audited(form, text, remedies(before))
    assert codes(after) == set()


@pytest.mark.parametrize("form", LOADS)
def test_each_flow_that_is_missing_is_let_in_by_the_command_of_its_finding(form: str) -> None:
    good = render(plan(), form, Role.AGENT).text
    for flow in {flow.flow for flow in plan().flows}:
        text = lines_without(good, f"{flow}:")
        if text != good:
            before = audited(form, text)
            assert {subject.partition(":")[0] for code, subject in codes(before) if code == "NET-BLOCKED"} == {flow}
            assert codes(audited(form, text, remedies(before))) == set()
