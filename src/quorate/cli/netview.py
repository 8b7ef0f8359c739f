"""How `quorate net` shows plans, rules, audits, ports and differences: tables for people, JSON for programs."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quorate.cli.errors import CommandError
from quorate.cli.exits import Exit
from quorate.cli.output import bold, coloured, dim, note, print_json, table
from quorate.network.catalogue import FORBIDDEN
from quorate.network.explain import Explanation, describe
from quorate.network.findings import Finding
from quorate.network.flows import Direction, Encryption, Role
from quorate.network.plan import Party, Plan, PlannedFlow

if TYPE_CHECKING:
    from quorate.cli.netlive import LiveLease
    from quorate.network.audit import AuditReport, FlowVerdict
    from quorate.network.audit.mustfail import MustFail
    from quorate.network.planfile import Change
    from quorate.network.portreport import PortReport


def show_plan(plan: Plan, role: Role | None, no_proxy: str | None, *, as_json: bool) -> None:
    """Print a plan: the whole, or what one machine's firewall sees; and NO_PROXY where there is a proxy."""
    if role is not None:
        seen = {flow for _, flow in plan.seen_by(role)}
        forbidden = tuple(flow for flow in plan.forbidden if flow.directions(role))
        plan = replace(plan, flows=tuple(flow for flow in plan.flows if flow in seen), forbidden=forbidden)
    if as_json:
        print_json({**plan.to_dict(), **({"no_proxy": no_proxy} if no_proxy else {})})
        return
    if role is None:
        print(bold(f"{plan.name}: {_count(len(plan.flows), 'flow')} must pass"))
        table(_COLUMNS, [_row(flow) for flow in plan.flows], empty="no flows")
        print()
    else:
        for direction in Direction:
            flows = [flow for seen_as, flow in plan.seen_by(role) if seen_as is direction]
            word = "in" if direction is Direction.INGRESS else "out"
            print(bold(f"{role.value}: {word}, {_count(len(flows), 'flow')}"))
            table(_COLUMNS, [_row(flow) for flow in flows], empty="nothing")
            print()
    if plan.forbidden:
        print(bold("must fail"))
        by_ends = {(flow.flow, flow.source, flow.destination): flow for flow in plan.forbidden}
        rows = [(flow.flow, _name(flow.source), _name(flow.destination), flow.purpose) for flow in by_ends.values()]
        table(["FLOW", "FROM", "TO", "OTHERWISE"], rows)
        held = [name for name in FORBIDDEN if name not in {flow.flow for flow in plan.forbidden}]
        if held and plan.modes:
            print(dim(f"held by the agents' own rules: {', '.join(held)}"))
        print()
    print(bold("where"))
    table(["WHO", "WHERE"], [(_name(party), _where(party)) for party in plan.parties if party.role is not Role.ANYONE])
    if no_proxy:
        print()
        print(f"NO_PROXY={no_proxy}")
    show_findings(plan.findings)


_COLUMNS = ["FLOW", "FROM", "TO", "PORTS", "ENCRYPTED", "PURPOSE"]


def _row(flow: PlannedFlow) -> tuple[str, ...]:
    encrypted = {Encryption.NONE: "no", Encryption.OPTIONAL: "optional"}.get(flow.encryption, flow.encryption.value)
    ports = f"{flow.transport.value}/{','.join(map(str, flow.ports))}"
    return flow.flow, _name(flow.source), _name(flow.destination), ports, encrypted, flow.purpose


def _name(party: Party) -> str:
    """What a reader calls the party: agents by their pool, what is outside by its own name."""
    if party.role in (Role.AGENT, Role.MEMBER, Role.DNS, Role.NTP, Role.METADATA, Role.VOLUMES):
        return party.role.value if party.name == party.role.value else party.key
    return party.name


def _where(party: Party) -> str:
    known = [str(network[0] if network.num_addresses == 1 else network) for network in party.addresses]
    known += [*party.tags, *party.service_accounts, *party.security_groups, *party.service_cidrs, *party.hosts]
    known += [f"{name}={value}" for name, value in party.labels]
    shown = ", ".join(known[:_SHOWN]) or "not known"
    return f"{shown} and {len(known) - _SHOWN} more" if len(known) > _SHOWN else shown


#: Of a thousand agents a person wants to see a few; `--json` has them all.
_SHOWN = 6


def show_findings(findings: Sequence[Finding]) -> None:
    """Print findings for people, each with its evidence and its remedy; nothing where there are none."""
    for finding in findings:
        print()
        print(_headline(finding))
        print(f"  {_evidence(finding)}")
        for number, line in enumerate(_COMMANDS.sub("\n", finding.remedy).splitlines()):
            print(f"  {'     ' if number else dim('mend:')} {line}")


#: Between the commands of a remedy, which a person wants to see and copy one by one.
_COMMANDS = re.compile(r"; (?=(?:gcloud|aws|oci|kubectl|nft|ip6?tables) )")


def _evidence(finding: Finding) -> str:
    return f"{finding.place}: {finding.evidence}" if finding.place else finding.evidence


def _headline(finding: Finding) -> str:
    return f"{coloured(finding.severity.value)} {bold(finding.code)} {finding.subject}: {finding.title.lower()}"


def show_formats(titles: Mapping[str, str], *, as_json: bool) -> None:
    """Print the formats of rules."""
    if as_json:
        print_json(dict(titles))
        return
    table(["FORMAT", "WHAT"], titles.items())


def show_rules(text: str, findings: Sequence[Finding], output: Path | None, *, as_json: bool) -> None:
    """Print rules, or write them to a file; findings go to stderr, so that stdout stays what a platform reads."""
    if output is not None:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error.strerror}", code=Exit.USAGE) from None
    if as_json:
        print_json({"rules": text, "findings": [finding.to_dict() for finding in findings]})
        return
    if output is None:
        sys.stdout.write(text)
    for finding in findings:
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        note(f"{finding.severity.value} {finding.code} {finding.subject}: {_evidence(finding)}{remedy}")


def show_audit(report: AuditReport, *, as_json: bool) -> None:
    """Print what an audit found: a line for each planned flow, then the findings."""
    if as_json:
        print_json(report.to_dict())
        return
    from quorate.network.audit.mustfail import worst_first

    verdicts = [verdict.to_dict()["verdict"] for verdict in report.flows]
    # What asks for something to be done stands first.
    order = {"blocked": 0, "undetermined": 1, "open": 2}
    pairs = sorted(zip(report.flows, verdicts, strict=True), key=lambda pair: order[pair[1]])
    rows = [(word, *_row(verdict.flow)[:4], _decided_by(verdict)) for verdict, word in pairs]
    table(["VERDICT", *_COLUMNS[:4], "BY"], rows, empty="the plan has no flow that these rules decide")
    print()
    print(bold("must fail"))
    table(["VERDICT", "FLOW", "FROM", "TO", "BY"], [_must_fail(line) for line in worst_first(report.must_fail)])
    show_findings(report.findings)
    print()
    open_ = verdicts.count("open")
    forbidden = [verdict.to_dict()["verdict"] for verdict in report.forbidden]
    unsure = forbidden.count("undetermined")
    print(
        f"{_count(report.rules, 'rule')}: {open_} of {_count(len(verdicts), 'planned flow')} open, "
        f"{verdicts.count('blocked')} blocked, {verdicts.count('undetermined')} undetermined; "
        f"{_count(forbidden.count('open'), 'forbidden flow')} possible" + (f", {unsure} undetermined" if unsure else "")
    )
    print(dim("held: no firewall between machines sees it; what agents refused is in `quorate job network JOB`"))


def _must_fail(line: MustFail) -> tuple[str, ...]:
    why = "see below" if line.holds in ("possible", "undetermined") else line.why
    return line.holds.value, line.flow.id, line.flow.source.value, line.flow.destination.value, why


def _decided_by(verdict: FlowVerdict) -> str:
    if verdict.to_dict()["verdict"] == "undetermined":
        return "see below"
    more = f" and {len(verdict.rules) - 2} more" if len(verdict.rules) > 2 else ""
    return ", ".join(verdict.rules[:2]) + more if verdict.rules else "the default"


def show_explanation(found: Explanation, *, as_json: bool) -> None:
    """Print what a word means."""
    if as_json:
        print_json(found.to_dict())
        return
    blocks: list[list[str]] = [describe(flow) for flow in found.flows]
    for forbidden in found.forbidden:
        ends = f"{forbidden.source.value} -> {forbidden.destination.value}"
        lines = [f"{forbidden.id}: {ends} must fail", f"otherwise  {forbidden.harm}", f"in a plan  {forbidden.when}"]
        blocks.append([*lines, f"found as   {forbidden.finding}", f"stated by  {forbidden.stated_by}"])
    if found.code:
        lines = [f"{found.code.name} ({found.code.severity.value}): {found.code.title}", found.code.meaning]
        if found.code.depends_on:
            lines.append(f"not reported beside {', '.join(found.code.depends_on)}, which would be its cause")
        blocks.append(lines)
    blocks += [
        [f"{other.system} has {other.transport.value} {other.ports} for {other.purpose}", other.stated_by]
        for other in found.elsewhere
    ]
    for lines in blocks:
        print(bold(lines[0]))
        for line in lines[1:]:
            print(f"  {line}")
        print()
    for line in found.notes:
        print(line)


def show_changes(changes: Sequence[Change], *, as_json: bool) -> None:
    """Print the differences of two plans."""
    if as_json:
        print_json([change.to_dict() for change in changes])
        return
    for change in changes:
        print(f"{change.sign} {change.what}{f'  ({change.detail})' if change.detail else ''}")
    if not changes:
        print("no change for any firewall")


def show_ports(report: PortReport, leases: Sequence[LiveLease] | None, *, as_json: bool) -> None:
    """Print the ports of a job of some shape, and the leases where a master was asked for them."""
    if as_json:
        held = {} if leases is None else {"leases": [lease.to_dict() for lease in leases]}
        print_json({**report.to_dict(), **held})
        return
    shape = report.shape
    print(
        bold(f"{shape.launcher}, {_count(shape.nodes, 'member')} of {_count(shape.ranks, 'rank')}, pool {report.pool}")
    )
    table(["PORTS", "FLOW", "PURPOSE"], [(str(ports), flow.id, flow.purpose) for flow, ports in report.fixed])
    print()
    print(bold(f"window {report.window}: {len(report.window)} ports, {report.budget.needed} needed"))
    rows = [
        (
            share.library,
            str(share.listeners),
            str(share.to_one_destination),
            share.figures.value,
            share.because,
        )
        for share in report.budget.shares
    ]
    table(["LIBRARY", ">LISTENERS", ">TO ONE PEER", "FIGURES", "BECAUSE"], rows, empty="nothing in the window")
    print()
    print(bold(f"leases in `host` mode, out of {report.lease_range}"))
    if leases is None:
        print("--cluster shows those that are held")
    else:
        rows = [(lease.agent, lease.address, str(lease.port), lease.purpose, lease.member) for lease in leases]
        table(["AGENT", "ADDRESS", ">PORT", "PURPOSE", "MEMBER"], rows, empty="no member holds a port")
    show_findings(report.findings)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
