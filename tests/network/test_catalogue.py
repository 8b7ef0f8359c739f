"""The catalogue holds every flow of the vendors' documents, and nobody else decides a port."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import quorate
from quorate.client.settings import DEFAULT_MASTER
from quorate.model.ports import PortRange
from quorate.network import catalogue
from quorate.network.findings import CODES
from quorate.network.flows import PortKind, Role, Transport

SOURCE = Path(quorate.__file__).parent

#: (port or range, transport) of each document that Quorate implements; what it makes unnecessary is in docs/ports.md.
DOCUMENTED = {
    "Determined, firewall rules": [
        "8443", "8080", "1734", "1750", "12350", "29500", "29400", "12355", "2600-2899", "2900-3199", "3200-3599",
    ],
    "Oracle ADS, distributed training": ["8786", "8787", "8700-8800", "3000-3100", "29400", "12345"],
    "Backend.AI, cluster networking": ["29500"],
    "Quorate": ["8081", "8444", "12360", "12365"],
}  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTED)
def test_every_documented_port_has_a_flow(document: str) -> None:
    known = {str(flow.ports.default) for flow in catalogue.FLOWS.values() if flow.transport is Transport.TCP}
    assert set(DOCUMENTED[document]) <= known


def test_the_overlay_and_the_outside_have_flows() -> None:
    assert (catalogue.port("vxlan"), catalogue.flow("vxlan").transport) == (4789, Transport.UDP)
    outside = {Role.REGISTRY, Role.PACKAGES, Role.STORE, Role.CLOUD_API, Role.PROXY, Role.DNS, Role.NTP}
    assert outside <= {flow.destination for flow in catalogue.FLOWS.values()}


def test_the_forbidden_flows_of_the_design_are_there() -> None:
    ends = {(flow.source, flow.destination) for flow in catalogue.FORBIDDEN.values()}
    assert {
        (Role.USER, Role.AGENT),
        (Role.USER, Role.MEMBER),
        (Role.MEMBER, Role.AGENT),
        (Role.MEMBER, Role.MASTER),
        (Role.MEMBER, Role.STRANGER),
        (Role.MEMBER, Role.METADATA),
    } <= ends


def test_no_id_stands_twice_and_every_forbidden_flow_has_a_finding() -> None:
    assert not set(catalogue.FLOWS) & set(catalogue.FORBIDDEN)
    assert {flow.finding for flow in catalogue.FORBIDDEN.values()} <= set(CODES)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in (*catalogue.FLOWS, *catalogue.FORBIDDEN))


def test_an_unknown_flow_is_answered_with_the_nearest() -> None:
    with pytest.raises(catalogue.UnknownFlow, match="did you mean 'rendezvous'"):
        catalogue.port("rendezvouz")


def test_only_a_flow_with_one_port_has_a_port() -> None:
    with pytest.raises(ValueError, match="has no single port"):
        catalogue.port("notebook")
    assert catalogue.ports("notebook") == PortRange(2900, 3199)


def test_the_flows_of_a_port_name_fixed_ones_before_windows() -> None:
    assert [flow.id for flow in catalogue.uses(29400)] == ["torch-rendezvous"]
    assert [flow.id for flow in catalogue.uses(3000)] == ["dask-nanny", "notebook"]
    assert {flow.ports.kind for flow in catalogue.uses(50000)} == {PortKind.WINDOW}


#: Texts for people that say a port which the command line would have to import the catalogue for; kept equal by a test.
IN_TEXTS = {
    "agent/config.py": ("api-tls",),
    "cli/login.py": ("api-tls",),
    "cli/master.py": ("api", "api-tls"),
    "cli/up.py": ("api",),
    "client/settings.py": ("api", "api-tls"),
}
#: Quotes the vendors' documents, and names flows of the catalogue in its answers.
QUOTATIONS = SOURCE / "network" / "statements.py"


def _in_code(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbers that are code, with their lines; a count is written with an underscore (20_000), no port is."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.NUMBER:
            yield token.start[0], token.string


def _in_strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbers within strings, with their lines; docstrings may name ports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose:
            yield from ((node.lineno, number) for number in re.findall(r"(?<![\w.-])\d{4,5}(?![\w-]|\.\d)", node.value))


def test_no_other_module_names_a_port() -> None:
    ports = {
        str(port)
        for flow in catalogue.FLOWS.values()
        if flow.ports.kind in (PortKind.FIXED, PortKind.RANGE, PortKind.LEASED, PortKind.WINDOW)
        for port in (flow.ports.default.first, flow.ports.default.last)
        if port > 1024  # 22, 53, 123 and 443 are too common as numbers to mean a port outside of a rule
    }
    named = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path in (Path(catalogue.__file__), QUOTATIONS):
            continue
        name = str(path.relative_to(SOURCE))
        said = {str(catalogue.port(flow)) for flow in IN_TEXTS.get(name, ())}
        named += [f"{name}:{line} names {number}" for line, number in _in_code(path) if number in ports]
        named += [f"{name}:{line} names {number}" for line, number in _in_strings(path) if number in ports - said]
        named += [
            f"{name}: a rule names {number}" for number in re.findall(r"[ds]port (?:!= )?(\d+)", path.read_text())
        ]
    assert not named, "ports are decided in network/catalogue.py alone; ask it with catalogue.port(...)"


@pytest.mark.parametrize("name", IN_TEXTS)
def test_texts_say_the_ports_of_the_catalogue(name: str) -> None:
    said = {number for _, number in _in_strings(SOURCE / name)}
    assert {str(catalogue.port(flow)) for flow in IN_TEXTS[name]} <= said


def test_the_clients_default_is_the_catalogues() -> None:
    assert urlsplit(DEFAULT_MASTER).port == catalogue.port("api")


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "169.254.170.23", "fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe"]
)
def test_every_clouds_metadata_is_out_of_members_reach_by_either_family(address: str) -> None:
    assert any(ip_address(address) in ip_network(known) for known in catalogue.METADATA_ADDRESSES)
