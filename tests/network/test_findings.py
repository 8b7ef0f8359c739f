"""Findings: stable codes, the cause before its echoes, the worst first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import quorate
from quorate.model.severity import Severity
from quorate.network import findings
from quorate.network.findings import CODES, Finding, failing, settle

SOURCE = Path(quorate.__file__).parent


def test_codes_are_written_alike_and_depend_on_codes_that_exist() -> None:
    for code in CODES.values():
        assert re.fullmatch(r"[A-Z0-9]+(-[A-Z0-9]+)+", code.name)
        assert set(code.depends_on) <= set(CODES)


def test_the_codes_that_others_rely_on_are_there() -> None:
    assert {"NET-FILTERED", "AGENT-PUBLIC", "NET-EXPOSED", "NET-DRIFT", "STORE-REGRESSED", "AGENT-DUPLICATE"} <= set(
        CODES
    )


def test_every_code_is_reported_somewhere() -> None:
    texts = [path.read_text() for path in SOURCE.rglob("*.py") if path != Path(findings.__file__)]
    silent = [code for code in CODES if not any(code in text for text in texts)]
    assert not silent, "what nothing reports is no check: it would be in the docs for nothing"


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(ValueError, match="not a known code"):
        Finding("NET-FILTRED", "x", "y")


def test_a_cause_silences_its_echoes_about_the_same_subject_only() -> None:
    cause = Finding("NAME-UNRESOLVED", "sub1", "no address")
    echo = Finding("NET-FILTERED", "sub1", "timeout")
    other = Finding("NET-FILTERED", "sub2", "timeout")
    assert settle([echo, other, cause]) == (cause, other)


def test_the_worst_comes_first_and_nothing_twice() -> None:
    info = Finding("RULE-REDUNDANT", "r", "e")
    warning = Finding("NET-UNNEEDED", "r", "e")
    error = Finding("NET-BLOCKED", "r", "e")
    assert settle([info, warning, error, info]) == (error, warning, info)


def test_information_alone_is_no_failure() -> None:
    assert not failing([Finding("RULE-REDUNDANT", "r", "e")])
    assert failing([Finding("NET-UNNEEDED", "r", "e")])
    assert CODES["RULE-REDUNDANT"].severity is Severity.INFO
