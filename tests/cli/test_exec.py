"""Into a member of a job from the desk: through the master, with the member's rights, and as if it ran here."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from tests.cli.conftest import Quorate
from tests.cli.test_terminal import terminal

SLEEPS = ("run", "-d", "--name", "waits")


@pytest.fixture(scope="module")
def job(cluster: Quorate) -> Iterator[str]:
    """A job with two members that wait."""
    cluster("run", "-d", "--nodes", "2", "--slots", "0", "--", "sleep", "600")
    (found,) = cluster("job", "list", "--json", "--state", "running").json if _running(cluster) else ()
    yield found["id"]
    cluster("job", "cancel", "--wait", found["id"])


def _running(cluster: Quorate) -> bool:
    from tests.agent.conftest import until

    return bool(until(lambda: cluster("job", "list", "--json", "--state", "running").json))


def test_a_command_runs_in_the_member_with_its_variables_and_its_exit_code_is_ours(cluster: Quorate, job: str) -> None:
    for rank, name in enumerate(("main1", "sub1")):
        done = cluster(
            "job", "exec", f"{job}/{name}", "--", "sh", "-c", 'echo "$QUORATE_RANK $0"; exit 7', "a  b", code=7
        )
        assert done.out == f"{rank} a  b\n"
        assert done.err == ""


def test_input_and_output_of_any_size_pass_unchanged(cluster: Quorate, job: str) -> None:
    data = os.urandom(3_000_000)
    words = cluster.command("cluster", "exec", f"{job}/sub1", "--", "sh", "-c", "tee copy | sha256sum >&2; cat copy")
    done = subprocess.run(words, env=cluster.environment, cwd=cluster.home, input=data, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout == data
    assert done.stderr.decode().split()[0] == hashlib.sha256(data).hexdigest()


def test_output_that_nobody_reads_on_ends_the_command_quietly(cluster: Quorate, job: str) -> None:
    words = cluster.command("job", "exec", f"{job}/main1", "--", "yes")
    session = subprocess.Popen(
        words, env=cluster.environment, cwd=cluster.home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert session.stdout is not None
    assert session.stdout.readline() == b"y\n"
    session.stdout.close()
    assert session.stderr is not None
    assert session.stderr.read() == b""
    session.wait(60)
    session.stderr.close()
    done = cluster("job", "exec", f"{job}/main1", "--", "sh", "-c", "pgrep -x yes; true")
    assert done.out == ""


def test_a_signal_there_is_an_exit_code_here(cluster: Quorate, job: str) -> None:
    cluster("job", "exec", f"{job}/0", "--", "sh", "-c", "kill -9 $$", code=128 + signal.SIGKILL)


def test_a_shell_has_this_terminal_with_its_size(cluster: Quorate, job: str) -> None:
    with terminal(cluster, "job", "exec", f"{job}/main1") as shell:
        shell.types("PS1=; stty size; echo of $((40+2)) $QUORATE_HOST\n")
        shell.wait_for("of 42 main1")
        shell.types("exit 3\n")
        assert shell.code() == 3


def test_who_is_neither_owner_nor_operator_is_not_let_in(cluster: Quorate, job: str) -> None:
    token = cluster("token", "create", "--user", "bob", "--json").json["token"]
    done = cluster("job", "exec", f"{job}/main1", "--", "id", code=4, QUORATE_TOKEN=token)
    assert "bob cannot enter" in done.err
    assert cluster("job", "exec", f"{job}/main1", "--", "id", code=4, QUORATE_TOKEN="qu1.wrong").out == ""


def test_what_cannot_be_entered_is_said(cluster: Quorate, job: str) -> None:
    assert "has no member sub7; it has main1, sub1" in cluster("job", "exec", f"{job}/sub7", code=5).err
    assert "there is no job" in cluster("job", "exec", "zzzz9999/main1", code=5).err
    assert "no cluster runs" in cluster("cluster", "exec", "main1", code=5).err


def test_the_connection_ends_with_the_member(cluster: Quorate, job: str) -> None:
    cluster("run", "-d", "--name", "short", "--slots", "0", "--", "sleep", "600")
    from tests.agent.conftest import until

    short = until(
        lambda: [j["id"] for j in cluster("job", "list", "--json", "--state", "running").json if j["id"] != job]
    )[0]
    session = cluster.start(
        "job", "exec", f"{short}/main1", "--", "sh", "-c", "echo up; sleep 600", stdin=subprocess.DEVNULL
    )
    assert session.stdout is not None
    assert session.stdout.readline() == b"up\n"
    cluster("job", "cancel", "--wait", short)
    assert session.wait(20) != 0
    session.stdout.close()
