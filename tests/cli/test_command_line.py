"""The command line itself: help without imports, errors without tracebacks, completion, services, doctor."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Quorate
from tests.cli.test_help import commands

from quorate.cli.app import COMMANDS


def test_help_names_every_command_and_imports_none_of_them(quorate: Quorate) -> None:
    script = (
        "import sys\nfrom quorate.cli.app import run\nrun(['--help'])\n"
        "heavy = ['pydantic', 'httpx', 'rich', 'yaml', 'asyncio', 'quorate.master', 'quorate.cli.run']\n"
        "print('IMPORTED', [name for name in heavy if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=quorate.environment)
    assert "IMPORTED []" in ran.stdout, ran
    assert all(f"\n  {name} " in ran.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(quorate: Quorate, name: str) -> None:
    assert quorate(name, "--help").out.startswith(f"Usage: quorate {name}")


def test_a_mistyped_command_is_answered_with_the_right_one(quorate: Quorate) -> None:
    assert "try:   quorate job" in quorate("jop", code=2).err


@pytest.mark.parametrize(("tried", "meant"), [("logs", "job logs"), ("submit", "run"), ("nodes", "agent list")])
def test_what_others_call_otherwise_is_answered_with_our_word(quorate: Quorate, tried: str, meant: str) -> None:
    assert f"try:   quorate {meant}\n" in quorate(tried, "-f", "x", code=2).err


def test_every_answer_to_a_word_of_others_is_a_command() -> None:
    from quorate.cli.app import _MEANT

    paths = {path for path, _, _ in commands()}
    for tried, meant in _MEANT.items():
        words = [word for word in meant.split() if word.islower() and not word.startswith("-")]
        assert tried not in COMMANDS and " ".join(["quorate", *words]) in paths | {"quorate"}, tried


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (["job", "list", "--json", "--master", "http://127.0.0.1:9"], "MASTER-UNREACHABLE", 3),
        (["net", "plan", "--json", "-c", "gone.yaml"], "COMMAND-REFUSED", 2),
        (["job", "list", "--json", "--limit", "0"], "COMMAND-REFUSED", 2),
        (["run", "--json", "gone.yaml"], "COMMAND-REFUSED", 2),
    ],
)
def test_a_program_that_asks_for_json_is_told_what_is_wrong_in_json(
    quorate: Quorate, arguments: list[str], code: str, exit_code: int
) -> None:
    done = quorate(*arguments, code=exit_code)
    problem = json.loads(done.err)
    assert (problem["code"], done.out) == (code, "")
    assert problem["title"]


@pytest.mark.parametrize("words", [[], ["job"], ["net"], ["token"]])
def test_a_noun_alone_is_answered_with_what_can_be_done(quorate: Quorate, words: list[str]) -> None:
    done = quorate(*words, code=2)
    assert done.err == quorate(*words, "--help").out
    assert done.out == ""


def test_json_behind_two_dashes_is_the_jobs_own(quorate: Quorate) -> None:
    assert quorate("run", "--bogus", "--", "tool", "--json", code=2).err.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "a job file or a command is needed"),
        (["run", "python", "train.py"], "quorate run [OPTIONS] -- python train.py"),
        (["run", "gone.yaml"], "there is no file gone.yaml"),
        (["run", "--", ""], "the entry point is empty"),
        (["run", "--env", "A", "--label", "x", "--", "true"], "--label 'x' is not K=V"),
        (["job", "show"], "Missing argument 'JOB'"),
        (["job", "wait", "x", "--timeout", "soon"], "--timeout: 'soon' is not a duration"),
        (["job", "list", "--limit", "0"], "'--limit'"),
        (["job", "list", "--state", "runing"], "'cancelled'. Did you mean running?"),
        (["token", "create"], "say whom the token is for"),
        (["agent", "--slots", "1", "list"], "quorate agent list --help"),
        (["agent"], "which master?"),
        (["agent", "--master", "nonsense"], "is no URL of a master"),
        (["master", "--config", "gone.yaml"], "gone.yaml"),
        (["login"], "which master?"),
        (["login", "host:8443"], "which is no URL"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_a_wrong_command_line_is_said_and_ends_with_2(quorate: Quorate, arguments: list[str], said: str) -> None:
    done = quorate(*arguments, code=2)
    assert said in done.err and "Traceback" not in done.err
    assert done.out == ""


def test_without_a_master_the_next_command_is_said(quorate: Quorate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    done = quorate("job", "list", QUORATE_MASTER=url, code=3)
    assert f"nothing answers at {url} (from QUORATE_MASTER)" in done.err and "quorate up" in done.err
    assert quorate("run", "--master", url, "--", "true", code=125)


@pytest.mark.parametrize("arguments", [["net", "ports"], ["net", "ports", "--json"], ["version"], ["--help"]])
def test_output_that_nobody_reads_ends_a_command_quietly(quorate: Quorate, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as unread:
        command = quorate.command(*arguments)
        ran = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, text=True, env=quorate.environment)
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.parametrize("arguments", [["net", "ports", "--json"], ["version"], ["--help"], ["completion", "bash"]])
def test_a_full_disk_is_told_as_such(quorate: Quorate, arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        command = quorate.command(*arguments)
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=quorate.environment)
    assert ran.returncode == 1
    assert "what this command writes finds no room: No space left on device" in ran.stderr
    assert "mistake in Quorate" not in ran.stderr and "Exception" not in ran.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_takes_its_completion_script(quorate: Quorate, shell: str) -> None:
    script = quorate("completion", shell).out
    assert "_QUORATE_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_bash_completes_commands_and_options(quorate: Quorate) -> None:
    def complete(words: str) -> list[str]:
        count = str(len(words.split(" ")) - 1)
        variables = {"_QUORATE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": count}
        return quorate(code=None, **variables).out.split()

    assert complete("quorate jo") == ["job"]
    assert complete("quorate job c") == ["cancel"]
    assert "--nodes" in complete("quorate run --n")


@pytest.mark.parametrize("role", ["master", "agent", "helper"])
def test_systemd_accepts_the_unit_files(quorate: Quorate, role: str) -> None:
    if shutil.which("systemd-analyze") is None and not os.environ.get("QUORATE_CI"):
        pytest.skip("there is no systemd-analyze here")
    config = quorate.home / "it's 100% mine.yaml"
    config.write_text("")
    quorate("service", "install", role, "--dir", quorate.home, "--config", config)
    unit = quorate.home / f"quorate-{role}.service"
    ran = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert unit.read_text() == quorate("service", "install", role, "--print", "--config", config).out


def test_stopping_an_agents_service_ends_no_member(quorate: Quorate) -> None:
    unit = quorate("service", "install", "agent", "--print").out
    assert "KillMode=process\n" in unit and "SendSIGKILL=no\n" in unit


def test_an_agents_service_comes_with_a_helper_that_holds_three_capabilities(quorate: Quorate) -> None:
    quorate("service", "install", "agent", "--dir", quorate.home)
    agent = (quorate.home / "quorate-agent.service").read_text()
    helper = (quorate.home / "quorate-helper.service").read_text()
    assert "Wants=network-online.target quorate-helper.service" in agent
    assert "CapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_ADMIN CAP_SYS_PTRACE\n" in helper


def test_with_an_agents_service_its_engine_is_told_of_the_proxy(quorate: Quorate) -> None:
    config = quorate.home / "agent.yaml"
    config.write_text("proxy: {url: 'http://proxy.example.org:3128', no_proxy: [registry.local]}\n")
    quorate("service", "install", "agent", "--dir", quorate.home, "--config", config)
    (told,) = quorate.home.glob("*.service.d/quorate-proxy.conf")
    assert 'Environment="HTTPS_PROXY=http://proxy.example.org:3128"\n' in told.read_text()
    assert "registry.local" in told.read_text()
    # With a password in it, it would be everybody's otherwise.
    assert told.stat().st_mode & 0o077 == 0
    assert quorate("service", "install", "engine-proxy", "--print", "--config", config).out == told.read_text()
    config.write_text("")
    assert "name no proxy" in quorate("service", "install", "engine-proxy", "--config", config, code=1).err
    assert f"rm {told}" in quorate("service", "install", "agent", "--dir", quorate.home, "--config", config).err


def test_the_masters_service_is_shut_in(quorate: Quorate) -> None:
    unit = quorate("service", "install", "master", "--print").out
    for line in ("DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet="):
        assert f"{line}\n" in unit


@pytest.mark.parametrize("variable", ["QUORATE_MASTER_STATE_DIR", "QUORATE_MASTER_STATE"])
def test_the_masters_state_lies_where_its_variable_says(tmp_path: Path, variable: str) -> None:
    """QUORATE_MASTER_STATE is what it was called before."""
    from quorate.master import config

    assert config.load({}, {variable: str(tmp_path)}).state_directory == tmp_path
    assert config.load({"state_dir": "/elsewhere"}, {variable: str(tmp_path)}).state_directory == Path("/elsewhere")


def test_master_and_agent_call_their_state_folder_alike_everywhere(tmp_path: Path) -> None:
    from quorate.cli import daemons
    from quorate.master import config

    there = str(tmp_path)
    both = {"QUORATE_MASTER_STATE_DIR": there, "QUORATE_MASTER_STATE": "/before"}
    assert config.load({}, both).state_directory == tmp_path
    agent = daemons.agent_settings(None, {"master": "http://m:1"}, {"QUORATE_AGENT_STATE_DIR": there})
    assert agent.state_dir == tmp_path
    for key in ("state_dir", "state"):
        (tmp_path / "master.yaml").write_text(f"master: {{{key}: {there}}}\n")
        assert config.load({}, {}, tmp_path / "master.yaml").state_directory == tmp_path


def test_doctor_looks_and_changes_nothing(quorate: Quorate) -> None:
    before = sorted(quorate.home.rglob("*"))
    found = quorate("doctor", "--json", "--state-dir", quorate.home / "state", code=None).json
    assert {"CPU", "MEMORY", "DISK", "CLOCK", "PORTS"} <= {result["code"] for result in found["master"]}
    assert {"CGROUP", "DOCKER", "GPU", "NETWORKS", "ENGINE-PROXY"} <= {result["code"] for result in found["agent"]}
    assert sorted(quorate.home.rglob("*")) == before


def test_whatever_is_not_well_has_a_remedy(quorate: Quorate) -> None:
    found = quorate("doctor", "--json", "--master", "http://127.0.0.1:9", code=1).json
    for result in (*found["master"], *found["agent"]):
        told = result["level"] in ("ok", "skipped") or result["remedy"]
        assert told, result
    assert next(result for result in found["agent"] if result["code"] == "MASTER")["evidence"].endswith("refused")


def test_doctor_asks_the_master_that_commands_talk_to(quorate: Quorate) -> None:
    settings = Path(quorate.environment["XDG_CONFIG_HOME"]) / "quorate" / "client.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text("master: http://127.0.0.1:9\n")
    assert "http://127.0.0.1:9" in quorate("doctor", "agent", code=1).out


def test_doctor_says_when_the_master_does_not_answer(quorate: Quorate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    done = quorate("doctor", "agent", "--master", url, code=1)
    assert "MASTER" in done.out and url in done.out


def test_the_version_is_one(quorate: Quorate) -> None:
    from quorate import __version__

    assert quorate("version").out == quorate("--version").out == f"quorate {__version__}\n"


def test_python_m_quorate_is_the_command_line(quorate: Quorate) -> None:
    assert Path(quorate.command()[0]).exists()
    assert quorate("--help").out.startswith("Usage: quorate [OPTIONS] COMMAND")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("no.such.host.invalid", "cannot be looked up"),
        ("0.0.0.0", "every address of a machine"),
        ("localhost", "where no other machine reaches it"),
        ("fe80::1%lo", "an address of one link"),
    ],
)
def test_an_agent_does_not_start_with_an_address_that_nobody_reaches(quorate: Quorate, address: str, said: str) -> None:
    where = ("--state-dir", quorate.home / "agent", "--members-as", "self", "--advertise-address", address)
    done = quorate("agent", "--master", "http://127.0.0.1:9", *where, code=1)
    assert f"advertise_address {address!r}" in done.err and said in done.err
