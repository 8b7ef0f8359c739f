"""What the vendors' own documents say of their rules is what an audit says of them.

Each file in `vendor/` holds the rules of documents in the form in which the platform prints them, connections, and what
the document says becomes of each; `source` is where it says so. `checked` names the vendor's own page, file or manual
that the cases were compared with. A document that was not found has `unchecked` in its place: what stands for it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from quorate.model.ports import PortRange
from quorate.network.audit import audit
from quorate.network.flows import Role, Transport
from quorate.network.plan import Party, Plan, PlannedFlow, addresses

FOLDER = Path(__file__).parent / "vendor"
#: Of the subnet in documents that speak of groups alone: without it nobody knows what its list adds.
EMPTY_LIST = '{"data": {"id": "ocid1.securitylist.oc1.phx.empty", "ingress-security-rules": []}}'
CONNECTION = re.compile(r"(\S+) -> (\S+) (tcp|udp) (\S+)")


@dataclass(frozen=True)
class Case:
    """One connection and what a document says becomes of it."""

    form: str
    rules: str
    flow: PlannedFlow
    verdict: str
    source: str
    #: The vendor's own text that it was compared with; empty where that was not found.
    checked: str
    name: str


def party(name: str, body: Any) -> Party:
    """A machine behind the rules; a bare address is somebody outside."""
    if not isinstance(body, dict):
        return Party(Role.USER, name, addresses([str(body)]))
    return Party(
        Role(body.get("role", "agent")),
        name,
        addresses(body.get("addresses", [])),
        tags=tuple(body.get("tags", ())),
        service_accounts=tuple(body.get("accounts", ())),
        security_groups=tuple(body.get("groups", ())),
        labels=tuple(sorted(body.get("labels", {}).items())),
        namespace=body.get("namespace"),
        service_cidrs=tuple(body.get("services", ())),
    )


def cases() -> list[Case]:
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        for number, document in enumerate(yaml.safe_load_all(path.read_text()), 1):
            parties = {name: party(name, body) for name, body in document["parties"].items()}
            rules = document["rules"]
            text = rules if isinstance(rules, str) else json.dumps(rules, indent=2)
            if path.stem == "oci" and '"ingress-security-rules"' not in text:
                text += EMPTY_LIST
            for connection, verdict in document["cases"].items():
                match = CONNECTION.fullmatch(connection)
                assert match, f"{path.name}, document {number}: {connection}"
                ends = parties[match[1]], parties[match[2]]
                flow = PlannedFlow("case", *ends, Transport(match[3]), (PortRange.parse(match[4]),), "")
                name = f"{path.stem}-{number}-{connection}"
                checked = document.get("checked", "")
                assert bool(checked) is not bool(document.get("unchecked")), f"{path.name}, document {number}"
                found.append(Case(path.stem, text, flow, verdict, document["source"], checked, name))
    return found


CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_an_audit_says_what_the_document_says(case: Case) -> None:
    report = audit(Plan("a document's example", (case.flow,)), case.form, case.rules)
    (verdict,) = report.flows
    assert verdict.to_dict()["verdict"] == case.verdict, f"{verdict.why}; see {case.source}"


def test_every_case_names_its_source() -> None:
    assert all(case.source.startswith(("https://", "man ")) for case in CASES)


def test_every_platform_has_thirty_cases_that_were_compared_with_what_its_vendor_wrote() -> None:
    compared = Counter(case.form for case in CASES if case.checked)
    assert set(compared) == {"aws", "gcp", "iptables", "kubernetes", "oci"}
    assert min(compared.values()) >= 30, compared
