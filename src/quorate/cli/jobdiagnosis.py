"""`quorate job diagnose`: every member as it was seen from outside, and the most likely cause in a sentence."""

from __future__ import annotations

import sys

from quorate.cli import netinput
from quorate.cli.colour import RED, draws, paint
from quorate.cli.find import find_job
from quorate.cli.output import ago, bold, coloured, dim, note, print_json, size, span, table
from quorate.cli.session import connect
from quorate.model.views import DiagnosisView, MemberDiagnosisView, ProcessView, SocketView

#: Frames of a stack, sockets of a member and processes without a stack that a person is shown; `--json` has them all.
_FRAMES = 8
_SOCKETS = 20
_PROCESSES = 6


def show_diagnosis(
    job: str, *, kept: bool, platform: str, as_json: bool, master: str | None, token: str | None
) -> bool:
    """Have it made, or fetch the one that was kept; print it, and say whether something was found.

    `platform`: whose commands mend it; empty for those of each agent's own.
    """
    if platform:
        netinput.platform(platform)
    if platform and kept:
        netinput.refuse("--for is for a diagnosis that is made now: what was kept has its commands", "leave out --kept")
    with connect(master, token) as client:
        job = find_job(client, job).id
        if not kept and draws(sys.stderr):
            note("looking at every member; this takes some seconds")
        view = client.diagnosis(job) if kept else client.diagnose(job, platform)
    if as_json:
        print_json(view)
    else:
        _show(view)
    return bool(view.findings)


def _show(view: DiagnosisView) -> None:
    why = ", by itself: no member made progress" if view.automatic else ""
    print(bold(f"job {view.job}, attempt {view.attempt}") + dim(f"  seen {ago(view.at)}{why}"))
    for member in view.members:
        print()
        _member(member)
    bad = [one for one in view.tried if one.outcome != "open"]
    print()
    print(bold(f"connections tried again: {len(view.tried) - len(bad)} of {len(view.tried)} open"))
    if bad:
        table(
            ["FROM", "TO", ">PORT", "FLOW", "OUTCOME", "EVIDENCE"],
            [
                (one.source, one.destination, str(one.port), one.flow or "not planned", one.outcome, one.evidence)
                for one in bad
            ],
        )
    for finding in view.findings:
        print()
        print(f"{coloured(finding.severity)} {bold(finding.code)} {finding.title.lower()}")
        print(f"  {finding.evidence}")
        if finding.remedy:
            print(f"  {dim('mend:')} {finding.remedy}")
    print()
    mark = paint("✗", RED, sys.stdout)
    print(f"{mark if view.findings else '·'} {bold(f'most likely: {view.cause}')}")


def _member(member: MemberDiagnosisView) -> None:
    where = f"agent {member.agent}, {member.address}"
    print(bold(member.name) + f"  rank {member.rank}, {where}")
    if member.missing:
        print(f"  not known: {member.missing}")
        return
    facts = {
        "device": f"{member.device}, MTU {member.mtu}" if member.device else "could not be seen",
        "chosen": ", ".join(f"{name}={value}" for name, value in sorted(member.devices_set.items())),
        "output": "none yet" if member.quiet is None else f"last {span(member.quiet)} ago",
    }
    for name, text in facts.items():
        if text:
            print(f"  {dim(name.ljust(7))} {text}")
    for one in member.collectives:
        print(f"  {dim('last   ')} rank {one.rank}: {one.operation} number {one.sequence} of {one.group}, {one.state}")
    _processes(member.processes)
    _sockets(member.sockets)
    for text in member.notes:
        print(dim(f"  {text}"))


def _processes(processes: tuple[ProcessView, ...]) -> None:
    shown = [one for one in processes if one.rank is not None] or list(processes[:_PROCESSES])
    for one in shown:
        rank = f", rank {one.rank}" if one.rank is not None else ""
        waits = f" in {one.waits_in}" if one.waits_in else ""
        state = {"R": "runs", "S": f"waits{waits}", "D": f"hangs in the kernel{waits}", "T": "was stopped"}
        print(f"  {one.name} (pid {one.pid}{rank}) {state.get(one.state, one.state)}, {100 * one.cpu:.0f} % of a core")
        for frame in one.stack[:_FRAMES]:
            print(dim(f"      {frame}"))
        if len(one.stack) > _FRAMES:
            print(dim(f"      … {len(one.stack) - _FRAMES} more"))
    if len(processes) > len(shown):
        print(dim(f"  and {len(processes) - len(shown)} more processes"))


def _sockets(sockets: tuple[SocketView, ...]) -> None:
    order = {"SYN-SENT": 0, "SYN-RECV": 1, "CLOSE-WAIT": 2, "ESTABLISHED": 3, "LISTEN": 4}
    shown = sorted(sockets, key=lambda one: (order.get(one.state, 2), not one.peer))[:_SOCKETS]
    if not shown:
        return
    table(
        ["  STATE", "HERE", "THERE", "PEER", "PLAN", ">UNSENT", ">SENT AGAIN"],
        [
            (
                f"  {one.state}",
                f"{one.local}:{one.local_port}",
                f"{one.remote}:{one.remote_port}" if one.remote else "",
                one.peer,
                one.flow or ("not planned" if one.state == "LISTEN" or one.peer else ""),
                size(one.unsent) if one.unsent else "",
                str(one.retransmits or ""),
            )
            for one in shown
        ],
    )
    if len(sockets) > len(shown):
        print(dim(f"  and {len(sockets) - len(shown)} more sockets"))
