"""Says in a few lines what a port, a flow or the code of a finding is."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

from quorate.model.ports import InvalidPorts, PortRange
from quorate.network import catalogue
from quorate.network.findings import CODES, Code
from quorate.network.flows import Elsewhere, Encryption, Flow, ForbiddenFlow, Listener, PortKind, Role, Transport


class NothingToExplain(LookupError):
    """The word is no port, flow or code; the message names the nearest."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that the catalogue knows about one word."""

    asked: str
    flows: tuple[Flow, ...] = ()
    forbidden: tuple[ForbiddenFlow, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()
    code: Code | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "asked": self.asked,
            "flows": [flow_to_dict(flow) for flow in self.flows],
            "forbidden": [
                {"flow": flow.id, "source": flow.source.value, "destination": flow.destination.value, "harm": flow.harm}
                for flow in self.forbidden
            ],
            "elsewhere": [
                {"system": other.system, "purpose": other.purpose, "ports": str(other.ports)}
                for other in self.elsewhere
            ],
            "code": None if self.code is None else {"code": self.code.name, "meaning": self.code.meaning},
            "notes": list(self.notes),
        }


def explain(word: str) -> Explanation:
    """Return what a port, a range, a flow's id or a finding's code is; raise NothingToExplain or InvalidPorts.

    Ports may stand behind or before their transport, as in `tcp/8443`, `tcp 8443` and `8443/tcp`.
    """
    if found := _PORTS.fullmatch(word.strip().lower()):
        transport = found["before"] or found["behind"]
        return _explain_ports(word, found["ports"], Transport(transport) if transport else None)
    if word in catalogue.FLOWS:
        return Explanation(word, flows=(catalogue.FLOWS[word],))
    if word in catalogue.FORBIDDEN:
        return Explanation(word, forbidden=(catalogue.FORBIDDEN[word],))
    if word.upper() in CODES:
        return Explanation(word, code=CODES[word.upper()])
    known = [*catalogue.FLOWS, *catalogue.FORBIDDEN, *CODES]
    near = difflib.get_close_matches(word, known, n=3) or [name for name in known if word.lower() in name.lower()][:3]
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise NothingToExplain(f"{word!r} is no port, flow or code of a finding{hint}")


#: The port is whatever begins with a digit, so that what is no port is refused as one.
_PORTS = re.compile(r"(?:(?P<before>tcp|udp)[/ ])?(?P<ports>\d.*?)(?(before)|(?:[/ ](?P<behind>tcp|udp))?)")


def _explain_ports(word: str, ports: str, transport: Transport | None) -> Explanation:
    asked, warning = PortRange.parse_imported(ports)
    transports = (transport,) if transport else tuple(Transport)
    notes = [warning] if warning else []
    if asked.first == 0:
        raise InvalidPorts("0 is not a port: it asks the kernel for any")
    exact = (PortKind.FIXED, PortKind.RANGE)
    hits = [
        flow
        for flow in catalogue.FLOWS.values()
        if flow.transport in transports
        and flow.ports.kind in (*exact, PortKind.WINDOW, PortKind.LEASED)
        and flow.ports.default.overlaps(asked)
    ]
    ranked = [
        flow
        for flow in catalogue.FLOWS.values()
        if flow.transport in transports and flow.ports.per_rank and flow not in hits
    ]
    for flow in ranked:
        base = flow.ports.default.first
        if base < asked.first < base + 1000:
            notes.append(f"it is {flow.id}'s port of rank {asked.first - base}: {flow.purpose}")
    elsewhere = tuple(
        other for other in catalogue.ELSEWHERE if other.transport in transports and other.ports.overlaps(asked)
    )
    if not hits and not elsewhere and not notes:
        notes.append("no flow of the catalogue uses it; a job can declare it under `ports`")
    hits.sort(key=lambda flow: flow.ports.kind not in exact)
    return Explanation(word, tuple(hits), elsewhere=elsewhere, notes=tuple(notes))


def flow_to_dict(flow: Flow) -> dict[str, Any]:
    """Return a flow of the catalogue as plain values."""
    return {
        "flow": flow.id,
        "source": flow.source.value,
        "destination": flow.destination.value,
        "transport": flow.transport.value,
        "ports": str(flow.ports),
        "setting": flow.ports.setting,
        "purpose": flow.purpose,
        "when": str(flow.when),
        "encryption": flow.encryption.value,
        "stated_by": flow.stated_by,
    }


def describe(flow: Flow) -> list[str]:
    """Return a flow as lines for people, the first of which is its headline."""
    lines = [f"{flow.id}: {flow.source.value} -> {flow.destination.value}, {flow.transport.value} {flow.ports}"]
    lines.append(f"for        {flow.purpose}")
    lines.append(f"in a plan  {flow.when}")
    if flow.source is flow.destination is Role.MEMBER:
        who = "the first member" if flow.listener is Listener.FIRST else "every member"
        lines.append(f"listens    {who}; in an allocation's own network no firewall of a machine sees it")
    lines.append(f"encrypted  {_ENCRYPTION[flow.encryption]}")
    if flow.ports.setting:
        lines.append(f"changed by {flow.ports.setting}")
    lines.append(f"stated by  {flow.stated_by}")
    return lines


_ENCRYPTION = {
    Encryption.NONE: "no: keep it inside a network that you trust",
    Encryption.TLS: "TLS",
    Encryption.SSH: "SSH",
    Encryption.OPTIONAL: "where the framework or the address says so",
}
