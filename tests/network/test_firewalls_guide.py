"""The guide for the firewall team: its file is a good one, and its commands work as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "firewalls.md").read_text(encoding="utf-8")
COMMANDS = [line.removeprefix("$ ") for line in GUIDE.splitlines() if line.startswith("$ quorate")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader has followed the guide up to a command: its file, a plan, and rules that were fetched."""
    where = tmp_path_factory.mktemp("guide")
    (found,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    (where / "master.yaml").write_text(found)
    (where / "before.json").write_text(run(where, "quorate net plan -c master.yaml --json").stdout)
    (where / "rules.json").write_text(run(where, "quorate net rules -c master.yaml --for gcp").stdout)
    return where


def run(where: Path, command: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command.partition(" > ")[0])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUORATE_")}
    return subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        cwd=where,
        env=environment,
        timeout=60,
        check=False,
    )


def test_the_guide_has_commands() -> None:
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_works_and_finds_nothing(folder: Path, command: str) -> None:
    done = run(folder, command)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
