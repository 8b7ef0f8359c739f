"""Help as a newcomer reads it: words for values, whole sentences, and examples that run as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Quorate
from typer._click.core import Context
from typer.main import get_command

from quorate.cli.app import COMMANDS, root

#: The narrowest terminal that is usual, and one that is narrower.
WIDTHS = (80, 60)
#: Examples that cannot run here, and what shows them instead.
ELSEWHERE = {
    "quorate run --nodes 2 --launcher torch -- python train.py": "tests/test_readme.py: needs torch",
    "quorate cluster start --nodes 3 --image python:3.12": "tests/agent/runtime: needs an engine and a registry",
    "quorate cluster exec k3x9q2ab/main1 -- nvidia-smi": "needs a GPU",
    "quorate image build . --tag registry.example.org/team/train:1 --push": "tests/agent/runtime: needs an engine",
    "quorate master --listen 0.0.0.0": "tests/test_readme.py",
    "quorate agent --master https://master.example:8443 --token @join.token": "tests/test_readme.py",
    "quorate master stop --for 2h": "tests/cli/test_operating.py: ends the master of the other tests",
    "quorate master restore quorate.tar --force": "tests/cli/test_operating.py: needs a master that is stopped",
    "quorate login https://master.example:8443 --token @ada.token --ca ca.pem": "tests/cli/test_operating.py: TLS",
    "quorate up": "tests/test_readme.py: a second cluster",
    "quorate up --agents 3 --slots 2": "tests/cli/test_local_cluster.py: a second cluster",
    "quorate login --local": "tests/cli/test_local_cluster.py",
    "sudo quorate service install agent --now": "needs systemd",
    "aws iam get-role-policy --role-name NAME --policy-name NAME | quorate iam lint -": "needs an account",
    "oci iam policy list --compartment-id OCID --all | quorate iam lint -": "needs an account",
    "gcloud projects get-iam-policy PROJECT --format=json | quorate iam lint -": "needs an account",
    "quorate completion bash > ~/.local/share/bash-completion/completions/quorate": "tests/cli/test_completion.py",
}


def commands() -> Iterator[tuple[str, Any, Context]]:
    """Every command with its words and its context."""
    top = Context(get_command(root), info_name="quorate", terminal_width=80)  # type: ignore[arg-type]
    for name in COMMANDS:
        command = top.command.get_command(top, name)  # type: ignore[attr-defined]
        yield from _below(command, Context(command, info_name=name, parent=top, terminal_width=80))


def _below(command: Any, context: Context) -> Iterator[tuple[str, Any, Context]]:
    yield context.command_path, command, context
    for name in getattr(command, "commands", ()):
        inner = command.get_command(context, name)
        yield from _below(inner, Context(inner, info_name=name, parent=context, terminal_width=80))


def examples() -> list[str]:
    """The commands that help texts show, each once."""
    found = []
    for _, command, _ in commands():
        for block in re.findall(r"\x08\n((?: +.*\n?)+)", f"{command.help or ''}\n"):
            found += [line.strip() for line in block.splitlines() if "quorate " in line]
    return list(dict.fromkeys(found))


ALL = {path: (command, context) for path, command, context in commands()}


@pytest.mark.parametrize("path", ALL)
def test_values_are_called_by_what_they_stand_for(path: str) -> None:
    command, context = ALL[path]
    text = command.get_help(context)
    assert not re.search(r"<\w|\{\w|\b(?:(?<!--python )PATH|INTEGER|FLOAT|STR)\b|list\[|\.{6}", text), text


@pytest.mark.parametrize("path", ALL)
def test_help_fits_a_narrow_terminal(path: str) -> None:
    command, context = ALL[path]
    for width in WIDTHS:
        narrow = Context(command, info_name=context.info_name, parent=context.parent, terminal_width=width)
        text = command.get_help(narrow)
        # A form or a command to copy is never folded.
        wide = [line for line in text.splitlines() if len(line) > width and "quorate " not in line and "|" not in line]
        assert not wide, wide


@pytest.mark.parametrize("path", [path for path, (command, _) in ALL.items() if getattr(command, "commands", None)])
def test_listings_say_whole_sentences(path: str) -> None:
    command, context = ALL[path]
    text = " ".join(command.get_help(context).split())
    for name in command.commands:
        sentence = command.commands[name].get_short_help_str()
        assert sentence.endswith(".") and "..." not in sentence
        assert f"{name} {sentence}" in text
        assert len(sentence) <= 80, f"{path} {name}: {sentence}"


@pytest.mark.parametrize("name", ["master", "agent"])
def test_a_daemon_says_that_it_runs_without_a_command(name: str) -> None:
    command, context = ALL[f"quorate {name}"]
    text = command.get_help(context)
    assert text.startswith(f"Usage: quorate {name} [OPTIONS]\n       quorate {name} COMMAND [ARGS]...\n")
    assert f"Without a command: run the {name}" in text


@pytest.mark.parametrize("line", examples())
def test_an_example_is_understood(line: str) -> None:
    words = shlex.split(re.split(r" \| | && | > ", line[line.index("quorate ") :])[0])[1:]
    context = Context(get_command(root), info_name="quorate")  # type: ignore[arg-type]
    command = context.command
    while hasattr(command, "get_command") and words and (inner := command.get_command(context, words[0])):
        command, context, words = inner, Context(inner, info_name=words[0], parent=context), words[1:]
    command.make_context(context.info_name, words, parent=context.parent)


def test_what_is_not_run_is_an_example() -> None:
    assert set(ELSEWHERE) <= set(examples())


@pytest.fixture(scope="module")
def stage(cluster: Quorate) -> Quorate:
    """A cluster with what the examples speak of: a job that is called digits, one that has members, files."""
    (cluster.home / "bin").mkdir()
    quorate = cluster.home / "bin" / "quorate"
    quorate.write_text(f'#!/bin/sh\nexec {sys.executable} -m quorate "$@"\n')
    quorate.chmod(0o755)
    (cluster.home / "job.yaml").write_text("entrypoint: [echo, hello]\nresources: {slots: 0}\n")
    (cluster.home / "cluster.yaml").write_text("kind: cluster\nname: other\nresources: {slots: 0}\n")
    wanted = ("--group", "researchers", "--compartment", "ml", "--bucket", "training")
    policy = cluster("iam", "policy", "--cloud", "oci", "--for", "user", *wanted)
    (cluster.home / "runs.policy").write_text(policy.out)
    (cluster.home / "data").mkdir()
    (cluster.home / "data" / "one").write_text("1")
    cluster("run", "--name", "digits", "--nodes", "2", "--slots", "0", "--", "echo", "trained")
    cluster("cluster", "start", "--nodes", "2", "--slots", "0")
    return cluster


#: Who needs that only one cluster runs comes before who starts another one, and who stops one last.
ORDER = ("cluster exec", "", "cluster start", "cluster stop")


def _in_order(line: str) -> int:
    return next((at for at, word in enumerate(ORDER) if word and f"quorate {word}" in line), 1)


@pytest.mark.parametrize("line", sorted((line for line in examples() if line not in ELSEWHERE), key=_in_order))
def test_an_example_runs_as_it_stands_there(stage: Quorate, line: str) -> None:
    environment = stage.environment
    (running, *_) = stage("cluster", "list", "--json").json[::-1]
    script = line.replace("k3x9q2ab", running["id"]).replace("https://master.example:8443", _url(stage))
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], cwd=stage.home, text=True, capture_output=True, timeout=100,
        stdin=subprocess.DEVNULL, env={**environment, "PATH": f"{stage.home}/bin:{environment['PATH']}"},
    )  # fmt: skip
    # What doctor thinks of this machine is not the example's fault.
    assert ran.returncode == 0 or ("doctor" in line and ran.returncode == 1), ran


def _url(stage: Quorate) -> str:
    settings = Path(stage.environment["XDG_CONFIG_HOME"]) / "quorate" / "client.yaml"
    return str(json.loads(settings.read_text())["master"])
