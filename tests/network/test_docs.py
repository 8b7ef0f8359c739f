"""The port reference and the security page say what the catalogue says."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.network import catalogue
from quorate.network.docs import pages
from quorate.network.findings import CODES
from quorate.network.statements import STATEMENTS, Outcome

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["ports.md", "security.md"])
def test_the_page_is_not_stale(name: str) -> None:
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == pages()[name], "run: python -m quorate.network.docs docs"


def test_every_flow_and_code_is_on_a_page() -> None:
    text = "".join(pages().values())
    assert [name for name in (*catalogue.FLOWS, *catalogue.FORBIDDEN, *CODES) if f"`{name}`" not in text] == []


def test_statements_name_flows_that_exist_and_say_why_where_they_name_none() -> None:
    for statement in STATEMENTS:
        assert set(statement.flows) <= {*catalogue.FLOWS, *catalogue.FORBIDDEN}, statement
        assert statement.flows or len(statement.answer) > 40, statement
        if statement.outcome is Outcome.UNNEEDED:
            assert "agent" in statement.answer.lower()


@pytest.mark.parametrize(
    "asked",
    [
        "8443", "8080", "1734", "1750", "12350", "29500", "29400", "12355", "1024-65536", "2600-2899", "2900-3199",
        "3200-3599", "2600-2900", "8786", "8787", "all TCP ports within the subnet", "12345", "all ports on the agents",
        "all ports between agents", "Docker Hub", "Cloud NAT", "Internet gateway", "private subnet", "gloo_port_range",
        "same physical network", "TF_CONFIG", "User to agent", "bridge",
    ],
)  # fmt: skip
def test_everything_that_the_documents_ask_of_a_network_is_answered(asked: str) -> None:
    assert any(asked in statement.asks for statement in STATEMENTS)
