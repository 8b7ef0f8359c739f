"""Operating a cluster from the command line: tokens, agents, TLS, backup, a master that comes and goes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.conftest import Quorate, free_port


def daemon(cluster: Quorate, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """Starts a daemon by hand, its output beside the test's files."""
    log = (cluster.home / f"{arguments[0]}.log").open("ab")
    return cluster.start(*arguments, stdout=log, stderr=log)


@contextmanager
def ended(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """Ends a daemon when the block ends."""
    try:
        yield
    finally:
        process.send_signal(number)
        process.wait(60)


@contextmanager
def master(cluster: Quorate, *options: str | Path) -> Iterator[dict[str, object]]:
    """A master started by hand; gives what it says of itself once it listens."""
    import os

    reader, writer = os.pipe()
    process = cluster.start(
        "master", "--ready-fd", str(writer), *options, pass_fds=[writer], stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writer)
    with ended(process), os.fdopen(reader) as word:
        yield json.loads(word.readline())


def wait_for_agent(cluster: Quorate, name: str, state: str, **variables: str) -> None:
    """Returns once the agent is in this state."""
    import time

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if [a for a in cluster("agent", "list", "--json", **variables).json if (a["id"], a["state"]) == (name, state)]:
            return
    raise AssertionError(f"agent {name} did not become {state}")


def test_a_token_that_would_let_nobody_in_is_not_made(cluster: Quorate) -> None:
    refused = cluster("token", "create", "--pool", "default", "--ttl", "0s", code=2)
    assert refused.out == "" and "--ttl" in refused.err


def test_a_token_is_shown_once_and_worthless_when_revoked(cluster: Quorate) -> None:
    made = cluster("token", "create", "--user", "ada", "--ttl", "1h", "--json").json
    assert cluster("job", "list", "--token", made["token"]).code == 0
    listed = {item["id"]: item for item in cluster("token", "list", "--json").json}
    assert "token" not in listed[made["id"]] and listed[made["id"]]["user"] == "ada"
    cluster("token", "revoke", made["id"])
    cluster("job", "list", "--token", made["token"], code=4)


def test_nobody_else_reads_the_last_words_of_a_job_whose_logs_are_closed_to_them(cluster: Quorate) -> None:
    (cluster.home / "eve.token").write_text(cluster("token", "create", "--user", "eve").out)
    job = cluster("run", "--detach", "--", "sh", "-c", "echo between us; exit 3").out.strip()
    assert "between us" in cluster("job", "wait", job, code=3).err
    for command in (("job", "show", job), ("job", "show", job, "--json"), ("job", "wait", job, "--json")):
        done = cluster(*command, "--token", "@eve.token", code=None)
        assert "exited with 3" in done.out
        assert "between us" not in (done.out + done.err).replace("echo between us", "")
    cluster("job", "logs", job, "--token", "@eve.token", code=4)


def test_a_user_owns_her_jobs_and_operates_nothing(cluster: Quorate) -> None:
    (cluster.home / "ada.token").write_text(cluster("token", "create", "--user", "ada").out)
    mine = cluster("run", "--detach", "--token", "@ada.token", "--", "true").out.strip()
    assert cluster("job", "show", mine, "--json").json["owner"] == "ada"
    theirs = cluster("run", "--detach", "--grace", "1s", "--", "sleep", "60").out.strip()
    cluster("job", "cancel", theirs, "--token", "@ada.token", code=4)
    cluster("agent", "drain", "a", "--token", "-", stdin=(cluster.home / "ada.token").read_text(), code=4)
    cluster("job", "cancel", theirs, "--wait")


def test_a_drained_agent_gets_no_work_until_it_is_resumed(cluster: Quorate) -> None:
    assert "draining" in cluster("agent", "drain", "a").out
    assert cluster("run", "--plan", "--json", "--", "true").json["members"][0]["agent"] == "b"
    assert "ready" in cluster("agent", "resume", "a").out
    assert cluster("pool", "list", "--json").json[0]["ready"] == 2


def test_an_agent_is_shown_with_its_slots(cluster: Quorate) -> None:
    shown = cluster("agent", "show", "a").out
    assert "127.0." in shown and "SLOT" in shown
    cluster("agent", "show", "nobody", code=5)


def test_master_and_agent_by_hand_trust_each_other_through_a_token(quorate: Quorate) -> None:
    port = free_port()
    with master(quorate, "--listen", "127.0.0.1", "--port", str(port), "--tls", "--state-dir", "state") as ready:
        url = f"https://127.0.0.1:{port}"
        token = (quorate.home / "state" / "admin.token").read_text().strip()
        wrong = "0" * 64
        refused = quorate("login", url, "--fingerprint", wrong, "--token", token, code=3)
        assert "was expected" in refused.err
        assert (
            f"try:   https://127.0.0.1:{port}"
            in quorate("login", url.replace("https", "http"), "--token", token, code=3).err
        )
        (quorate.home / "no.pem").write_text("certainly")
        assert "no certificate in PEM form" in quorate("login", url, "--ca", "no.pem", "--token", token, code=2).err
        untrusted = quorate("login", url, "--token", token, code=3)
        assert "does not vouch for" in untrusted.err and "--fingerprint" in untrusted.err
        quorate("login", url, "--fingerprint", str(ready["fingerprint"]), "--token", "-", stdin=f"{token}\n")
        assert str(ready["fingerprint"]) in quorate("master", "show").out
        other = quorate.home / "state" / "tls" / "server.pem"
        assert quorate("login", url, "--ca", other, "--token", "wrong", code=None).code in (3, 4)
        after = quorate("master", "show").out
        assert str(ready["fingerprint"]) in after, "a login that failed took the one before away"
        (quorate.home / "join.token").write_text(quorate("token", "create", "--pool", "gpu", "--uses", "1").out)
        options = ("--slots", "1", "--name", "alone", "--label", "rack=r1", "--members-as", "self")
        agent = daemon(quorate, "agent", "--master", url, "--token", "@join.token", "--state-dir", "agent", *options)
        with ended(agent, signal.SIGUSR2):
            wait_for_agent(quorate, "alone", "ready")
            done = quorate("run", "--pool", "gpu", "--label", "rack=r1", "--", "echo", "over TLS")
            assert done.out == "over TLS\n"
            other = quorate(
                "agent", "--master", url, "--token", "@join.token", "--state-dir", "other", "--name", "second",
                "--members-as", "self",
                code=None,
            )  # fmt: skip
            assert other.code != 0 and "token" in other.err, "the token was good for one agent"
            quorate("agent", "revoke", "alone", "--yes")
            wait_for_agent(quorate, "alone", "revoked")


def test_a_backup_is_restored_and_adopted(quorate: Quorate) -> None:
    where = ("--listen", "127.0.0.1", "--port", str(free_port()), "--state-dir", quorate.home / "state")
    with master(quorate, *where) as ready:
        url = str(ready["urls"][0])  # type: ignore[index]
        access = {"QUORATE_MASTER": url, "QUORATE_TOKEN": (quorate.home / "state" / "admin.token").read_text().strip()}
        job = quorate("run", "--detach", "--", "true", **access).out.strip()
        quorate("master", "backup", "copy.tar", **access)
        quorate("master", "backup", "copy.tar", code=2, **access)
        assert oct((quorate.home / "copy.tar").stat().st_mode)[-3:] == "600"
        assert "a master runs" in quorate("master", "restore", "copy.tar", "--state-dir", "state", code=1).err
    quorate("master", "restore", "copy.tar", "--state-dir", "state", code=1)
    quorate("master", "restore", "copy.tar", "--state-dir", "state", "--force")
    with master(quorate, *where):
        assert quorate("job", "show", job, "--json", **access).json["state"] == "pending"
        assert "STORE-REGRESSED" in quorate("master", "show", **access).out
        quorate("master", "adopt", "--yes", **access)
        assert "STORE-REGRESSED" not in quorate("master", "show", **access).out


def test_following_outlives_the_master(quorate: Quorate) -> None:
    """The master stops for a while in the middle of a job: not a line is missing, none comes twice."""
    folder = quorate.home / "local"
    port = str(free_port())
    quorate("up", "--agents", "1", "--port", port, "--dir", folder)
    try:
        script = "echo first; while [ ! -e go ]; do sleep 0.05; done; echo second; exit 7"
        go = quorate.home / "go"
        following = quorate.start(
            "run", "--no-context", "--", "sh", "-c", script.replace("-e go", f"-e {go}"), stderr=subprocess.PIPE
        )
        assert following.stdout is not None and following.stderr is not None
        assert following.stdout.readline() == b"first\n"
        quorate("master", "stop", "--for", "10m")
        while b"the master is away" not in following.stderr.readline():
            pass
        go.touch()
        with master(quorate, "--listen", "127.0.0.1", "--port", port, "--state-dir", folder / "master"):
            assert following.stdout.read() == b"second\n"
            assert following.wait(60) == 7
            quorate("down", "--dir", folder)
    finally:
        quorate("down", "--purge", "--dir", folder)


@pytest.mark.parametrize("what", ["master", "agent"])
def test_a_daemon_that_is_started_twice_says_so(cluster: Quorate, what: str) -> None:
    folder = cluster.home / "local"
    arguments = {
        "master": ["master", "--listen", "127.0.0.1", "--port", str(free_port()), "--state-dir", folder / "master"],
        "agent": [
            "agent",
            "--master",
            "http://127.0.0.1:1",
            "--name",
            "a",
            "--members-as",
            "self",
            "--state-dir",
            folder / "agent-a",
        ],
    }[what]
    done = cluster(*arguments, code=None)
    assert done.code in (1, 2) and ("runs on" in done.err or "another agent" in done.err)
    assert "Traceback" not in done.err
