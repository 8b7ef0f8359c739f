"""The documentation says what the code does: generated pages are fresh, links lead somewhere, commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from quorate.cli.app import COMMANDS

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def test_what_is_made_from_the_code_is_fresh() -> None:
    ran = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "site" / "index.html").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_on_a_page_exists(page: Path) -> None:
    for line in re.findall(r"^\$ (quorate .*)$", page.read_text(), re.MULTILINE):
        assert line.split()[1] in COMMANDS, line


def test_architecture_names_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for package in (path.parent.name for path in (ROOT / "src" / "quorate").glob("*/__init__.py")):
        assert f"`{package}" in text, package


def test_every_test_and_benchmark_that_a_page_names_exists() -> None:
    text = (ROOT / "docs" / "tested.md").read_text()
    named = re.findall(r"`((?:tests|bench)/[\w/]+\.py)`", text)
    assert len(named) > 8
    assert [path for path in named if not (ROOT / path).exists()] == []
