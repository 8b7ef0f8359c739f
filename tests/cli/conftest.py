"""A vocabulary for tests of the command line: it is always a process of its own, as a user would start it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, which is JSON."""
        return json.loads(self.out)


@dataclass
class Quorate:
    """Runs `quorate …` with settings of its own, in a folder of its own."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What the commands see: nothing of the developer's own settings."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("QUORATE_")}
        own = {name: str(self.home / name.lower()) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "HOME")}
        return {**clean, **own, **self.variables}

    def __call__(self, *arguments: str | Path, code: int | None = 0, stdin: str = "", **variables: str) -> Done:
        """Runs a command to its end, within two minutes; fails the test if its exit code is not `code`."""
        ran = subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, text=True, timeout=120,
            env={**self.environment, **variables}, cwd=self.home,
        )  # fmt: skip
        done = Done(ran.returncode, ran.stdout, ran.stderr)
        assert code is None or done.code == code, f"quorate {arguments}: {done}"
        return done

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Starts a command and returns at once."""
        options = {"env": self.environment, "cwd": self.home, "stdout": subprocess.PIPE} | options
        return subprocess.Popen(self.command(*arguments), **options)

    def command(self, *arguments: str | Path) -> list[str]:
        """The words of a command line."""
        return [sys.executable, "-m", "quorate", *map(str, arguments)]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def processes_with(variable: str, value: str) -> list[psutil.Process]:
    """All processes that have this in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture
def quorate(tmp_path: Path) -> Quorate:
    """The command line without any cluster."""
    return _made(tmp_path)


def _made(folder: Path) -> Quorate:
    (folder / "home").mkdir(exist_ok=True)
    return Quorate(folder)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quorate]:
    """The command line beside a local cluster of two agents with two slots each, its operator logged in."""
    cli = _made(tmp_path_factory.mktemp("cluster"))
    folder = cli.home / "local"
    cli("up", "--agents", "2", "--slots", "2", "--port", str(free_port()), "--dir", folder)
    yield cli
    cli("down", "--purge", "--dir", folder)
