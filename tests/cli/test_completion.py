"""Completion in the shells themselves: each reads its script, is given a line and a Tab, and what it offers is read."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Quorate

from quorate.cli import complete


@pytest.fixture(scope="module")
def line(cluster: Quorate) -> Callable[[str, str], list[str]]:
    """What a shell offers at the end of a line."""
    shims = cluster.home / "bin"
    shims.mkdir()
    (shims / "quorate").write_text(f'#!/bin/sh\nexec {sys.executable} -m quorate "$@"\n')
    (shims / "quorate").chmod(0o755)
    environment = {**cluster.environment, "PATH": f"{shims}:{os.environ['PATH']}", "TERM": "dumb"}
    for shell in ("bash", "fish"):
        (cluster.home / f"quorate.{shell}").write_text(cluster("completion", shell).out)
    functions = cluster.home / "functions"
    functions.mkdir()
    (functions / "_quorate").write_text(cluster("completion", "zsh").out)

    def offered(shell: str, text: str) -> list[str]:
        if shutil.which(shell) is None and not os.environ.get("QUORATE_CI"):
            pytest.skip(f"there is no {shell} here")
        return SHELLS[shell](cluster.home, environment, text)

    return offered


def _bash(home: Path, environment: dict[str, str], text: str) -> list[str]:
    script = f"""
        source {home}/quorate.bash
        words=({text}); [[ "{text}" == *" " ]] && words+=("")
        COMP_WORDS=("${{words[@]}}"); COMP_CWORD=$((${{#words[@]}} - 1))
        _quorate quorate; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return _asked(["bash", "-c", script], home, environment)


def _fish(home: Path, environment: dict[str, str], text: str) -> list[str]:
    found = _asked(
        ["fish", "--no-config", "-c", f"source {home}/quorate.fish; complete -C '{text}'"], home, environment
    )
    return [line.partition("\t")[0] for line in found]


def _zsh(home: Path, environment: dict[str, str], text: str) -> list[str]:
    """zsh completes only at a terminal, so it gets one; the listing is read off it."""
    import pty

    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=home, start_new_session=True,
        env={**environment, "PS1": "> ", "COLUMNS": "200", "LINES": "60"},
    )  # fmt: skip
    os.close(theirs)
    try:
        shown = ""

        def wait_for(pattern: str) -> str:
            nonlocal shown
            deadline = time.monotonic() + 60
            while not (found := re.search(pattern, shown, re.DOTALL)):
                ready, _, _ = select.select([ours], [], [], max(0.0, deadline - time.monotonic()))
                assert ready, f"{pattern} was not shown, but {shown!r}"
                shown += os.read(ours, 65536).decode(errors="replace")
            shown = shown[found.end() :]
            return found[0]

        setup = f"fpath=({home}/functions $fpath); autoload -Uz compinit; compinit -u -D; setopt list_ambiguous; "
        os.write(
            ours, f"{setup} zstyle ':completion:*' list-prompt ''; bindkey '^X' list-choices; echo is''there\n".encode()
        )
        wait_for("isthere")
        wait_for("> ")
        # ^X lists what Tab would offer, and leaves the line alone; the next prompt shows that all has been shown.
        os.write(ours, text.encode() + b"\x18")
        wait_for(re.escape(text.strip()))
        listing = wait_for(r"\n.*\n> ")
        return [word for row in listing.splitlines() for word in row.partition(" -- ")[0].split()]
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def _asked(words: list[str], home: Path, environment: dict[str, str]) -> list[str]:
    ran = subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True, timeout=60)
    return [line for line in ran.stdout.splitlines() if line]


SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}


@pytest.fixture(scope="module")
def running(cluster: Quorate) -> Iterator[str]:
    """A cluster of two members."""
    job = cluster("cluster", "start", "--nodes", "2", "--slots", "0", "--name", "pair", "--json").json["id"]
    yield job
    cluster("cluster", "stop", job, "--wait")


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_offer_commands_words_and_what_the_master_knows_now(
    line: Callable[[str, str], list[str]], shell: str, cluster: Quorate, running: str
) -> None:
    assert "cancel" in line(shell, "quorate job ")
    assert {"spread", "pack", "single"} <= set(line(shell, "quorate run --placement "))
    assert running in line(shell, "quorate cluster show ")
    assert {"a", "b"} <= set(line(shell, "quorate agent drain "))
    assert {"main1", "sub1", f"{running}/sub1"} <= set(line(shell, "quorate cluster exec "))
    later = cluster("run", "-d", "--slots", "0", "--name", "later", "--", "true").out.strip()
    assert later in line(shell, "quorate job show ")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_job_is_offered_by_its_name_once_that_is_begun(
    line: Callable[[str, str], list[str]], shell: str, running: str
) -> None:
    assert "pair" in " ".join(line(shell, "quorate cluster show p"))


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_files_are_offered_where_a_file_belongs(
    line: Callable[[str, str], list[str]], shell: str, cluster: Quorate
) -> None:
    (cluster.home / "train.yaml").write_text("")
    offered = line(shell, "quorate run tr")
    # Bash itself adds files where our function has nothing (-o default).
    assert offered == ([] if shell == "bash" else ["train.yaml"])


def test_a_master_that_does_not_answer_offers_nothing_and_says_nothing(
    quorate: Quorate, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"_QUORATE_COMPLETE": "complete_bash", "COMP_WORDS": "quorate job show ", "COMP_CWORD": "3"}
    done = quorate(QUORATE_MASTER="http://127.0.0.1:9", **words)
    assert (done.out.strip(), done.err) == ("", "")


def test_to_complete_imports_neither_the_client_nor_rich(cluster: Quorate) -> None:
    script = (
        "import sys\nfrom quorate.cli.app import run\n"
        "try: run([])\nexcept SystemExit: pass\n"
        "print('IMPORTED', [name for name in ('httpx', 'rich', 'yaml', 'quorate.model.views') if name in sys.modules])"
    )
    for shell in ("bash", "zsh", "fish"):
        words = {"COMP_WORDS": "quorate job show ", "COMP_CWORD": "3", "_QUORATE_COMPLETE": f"complete_{shell}"}
        ran = subprocess.run(
            [sys.executable, "-c", script, "job", "show", ""], capture_output=True, text=True, cwd=cluster.home,
            env={**cluster.environment, **words},
        )  # fmt: skip
        assert "IMPORTED []" in ran.stdout, (shell, ran)


def test_whatever_answers_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in ({}, {"items": None}, {"items": [{}]}, {"items": [3]}, []):
        monkeypatch.setattr(complete, "_asked", lambda _path, answer=answer: answer)
        for offers in (complete.jobs, complete.clusters, complete.members, complete.agents, complete.pools):
            assert offers("") == []
