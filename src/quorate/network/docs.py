"""Writes `docs/ports.md` and `docs/security.md` from the catalogue: `python -m quorate.network.docs docs`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from quorate.network import catalogue
from quorate.network.budget import Shape, budget
from quorate.network.findings import CODES
from quorate.network.flows import Encryption, Flow, PortKind, Role
from quorate.network.statements import STATEMENTS

_HEADER = (
    "<!-- Generated from the catalogue by `python -m quorate.network.docs docs`; edits here are overwritten. -->\n"
)
_ENCRYPTED = {Encryption.NONE: "no", Encryption.OPTIONAL: "optional", Encryption.TLS: "TLS", Encryption.SSH: "SSH"}

#: What is outside the cluster and serves it.
_SERVICES = (Role.REGISTRY, Role.PACKAGES, Role.STORE, Role.CLOUD_API, Role.PROXY, Role.DNS, Role.NTP, Role.VOLUMES)


def pages() -> dict[str, str]:
    """Return the pages by their file names."""
    return {"ports.md": ports_page(), "security.md": security_page()}


def ports_page() -> str:
    """Return the whole port reference."""
    flows = list(catalogue.FLOWS.values())
    framework = [flow for flow in flows if flow.when.launchers or flow.ports.per_rank or flow.id == "master-port"]
    between_members = [flow for flow in flows if flow.source is flow.destination is Role.MEMBER]
    groups = {
        "To the master": [flow for flow in flows if flow.destination is Role.MASTER],
        "Between agents, and to them": [flow for flow in flows if flow.destination is Role.AGENT],
        "Between members: the platform's": [flow for flow in between_members if flow not in framework],
        "Between members: the frameworks'": [flow for flow in between_members if flow in framework],
        "From a companion to an app in its sandbox": [
            flow for flow in flows if flow.destination is Role.MEMBER and flow.source is not Role.MEMBER
        ],
        "To the outside": [flow for flow in flows if flow.destination in (*_SERVICES, Role.METADATA)],
    }
    sections = [f"### {title}\n\n{_flow_table(group)}" for title, group in groups.items()]
    return _fill(
        "ports.md",
        flows="\n".join(sections),
        statements=_table(
            ("document", "asks for", "", "Quorate", "flows"),
            (
                (s.document, s.asks, s.outcome.value, s.answer, ", ".join(f"`{flow}`" for flow in s.flows))
                for s in STATEMENTS
            ),
        ),
        budgets=_budgets(),
        elsewhere=_table(
            ("system", "transport", "ports", "for", "stated by"),
            ((o.system, o.transport.value, str(o.ports), o.purpose, o.stated_by) for o in catalogue.ELSEWHERE),
        ),
        window=str(catalogue.EPHEMERAL),
        leases=str(catalogue.ports("leased")),
    )


def security_page() -> str:
    """Return the page of zones, forbidden flows and checklists."""
    ports = {name.replace("-", "_"): str(found.ports.default) for name, found in catalogue.FLOWS.items()}
    return _fill(
        "security.md",
        **ports,
        matrix=_matrix(),
        forbidden=_table(
            ("forbidden", "from", "to", "otherwise", "in a plan", "found as", "stated by"),
            (
                (f"`{f.id}`", f.source.value, f.destination.value, f.harm, str(f.when), f"`{f.finding}`", f.stated_by)
                for f in catalogue.FORBIDDEN.values()
            ),
        ),
        codes=_table(
            ("code", "severity", "means", "not reported beside"),
            (
                (f"`{c.name}`", c.severity.value, c.meaning, ", ".join(f"`{name}`" for name in c.depends_on))
                for c in CODES.values()
            ),
        ),
    )


def _flow_table(flows: Iterable[Flow]) -> str:
    rows = (
        (
            f"`{flow.id}`",
            f"{flow.source.value} → {flow.destination.value}",
            f"{flow.ports}/{flow.transport.value}",
            flow.purpose,
            str(flow.when),
            _ENCRYPTED[flow.encryption],
            f"`{flow.ports.setting}`" if flow.ports.setting else "",
            flow.stated_by,
        )
        for flow in flows
    )
    return _table(("flow", "from → to", "ports", "for", "in a plan", "encrypted", "changed by", "stated by"), rows)


def _budgets() -> str:
    shapes = [
        ("torch, 2 members of 1 rank", Shape("torch", ranks=1, nodes=2, groups=1)),
        ("torch, 2 members of 8 ranks", Shape("torch", ranks=8, nodes=2)),
        ("torch, 16 members of 8 GPUs", Shape("torch", ranks=8, nodes=16, gpu=True)),
        ("horovod, 4 members of 8 ranks", Shape("horovod", ranks=8, nodes=4)),
        ("dask, 8 members of 4 workers", Shape("dask", ranks=4, nodes=8)),
        ("tensorflow, 4 members", Shape("tensorflow", ranks=1, nodes=4)),
    ]
    rows = []
    for title, shape in shapes:
        need = budget(shape)
        shares = ", ".join(f"{share.library} {share.listeners}" for share in need.shares if share.listeners)
        rows.append((title, str(need.listeners), shares, str(need.to_one_destination), str(need.needed)))
    return _table(("job", "listeners", "of which", "connections to one destination", "window needed"), rows)


def _matrix() -> str:
    rows = (Role.USER, Role.OPERATOR, Role.MASTER, Role.AGENT, Role.MEMBER)
    columns = (Role.MASTER, Role.AGENT, Role.MEMBER, Role.STRANGER, Role.METADATA)
    cells = [[row.value, *(_cell(row, column) for column in columns), _services(row)] for row in rows]
    return _table(("from ↓ to →", *(column.value for column in columns), "services"), cells)


def _cell(source: Role, destination: Role) -> str:
    if any((f.source, f.destination) == (source, destination) for f in catalogue.FORBIDDEN.values()):
        return "✗"
    found = [f for f in catalogue.FLOWS.values() if (f.source, f.destination) == (source, destination)]
    exact = (PortKind.FIXED, PortKind.RANGE)
    ports = dict.fromkeys(f"{f.ports.default}/{f.transport.value}" for f in found if f.ports.kind in exact)
    if source is destination is Role.MEMBER:
        return "its job's flows"
    return ", ".join(ports) or "–"


def _services(source: Role) -> str:
    found = [f for f in catalogue.FLOWS.values() if f.source is source and f.destination in _SERVICES]
    names = dict.fromkeys(f.destination.value for f in found)
    return ", ".join(names) or ("through its hub's uplink" if source is Role.MEMBER else "–")


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _fill(template: str, **parts: str) -> str:
    text = resources.files("quorate.network").joinpath("pages", template).read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"{{{{{name}}}}}", part.rstrip("\n"))
    if "{{" in text:
        raise ValueError(f"{template} has a place that nothing fills: {text[text.index('{{') :][:40]}")
    return _HEADER + text


def main() -> None:
    """Write the pages into the directory that is named."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
