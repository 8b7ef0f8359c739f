"""Following a job on a terminal: bars, the line of state, and what Ctrl-C asks."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from tests.cli.conftest import Quorate

from quorate.cli import follow
from quorate.cli.screen import Screen


class Terminal:
    """A person at a terminal: types, and waits for what is shown."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self.descriptor = descriptor
        self.shown = ""

    def wait_for(self, text: str, within: float = 60.0) -> None:
        """Returns once `text` has been shown."""
        deadline = time.monotonic() + within
        while text not in self.shown:
            ready, _, _ = select.select([self.descriptor], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} was not shown within {within} s, but: {self.shown!r}"
            try:
                self.shown += os.read(self.descriptor, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"it ended before it showed {text!r}: {self.shown!r}") from None

    def types(self, text: str) -> None:
        """Types; \\x03 is Ctrl-C."""
        os.write(self.descriptor, text.encode())

    def code(self) -> int:
        """The exit code, once it has ended; takes in what is shown until then."""
        while True:
            try:
                data = os.read(self.descriptor, 65536)
            except OSError:
                break
            if not data:
                break
            self.shown += data.decode(errors="replace")
        return self.process.wait(60)


@contextmanager
def terminal(cluster: Quorate, *arguments: str, **variables: str) -> Iterator[Terminal]:
    """Runs a command on a terminal of its own, as its session's leader, so that Ctrl-C reaches it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        cluster.command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, cwd=cluster.home,
        env={**cluster.environment, "TERM": "xterm", **variables}, start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


SLEEP = ("--grace", "1s", "--", "sh", "-c", "echo ready; exec sleep 300")


def only_job(cluster: Quorate, state: str) -> str:
    jobs = cluster("job", "list", "--state", state, "--json").json
    return str(jobs[0]["id"])


def test_a_bar_is_drawn_in_its_place_and_the_state_stands_below(cluster: Quorate) -> None:
    script = "printf '\\r 10%%'; sleep 0.4; printf '\\r 60%%'; sleep 0.4; printf '\\r100%%\\n'; echo done"
    with terminal(cluster, "run", "--", "sh", "-c", script) as person:
        person.wait_for(" 60%")
        person.wait_for("runs on")
        assert person.code() == 0
    last = person.shown.replace("\r", "").rpartition("\x1b[J")[2]
    assert "completed" in person.shown and " 10%" not in last


def test_ctrl_c_asks_and_c_cancels(cluster: Quorate) -> None:
    with terminal(cluster, "run", *SLEEP) as person:
        person.wait_for("ready")
        person.types("\x03")
        person.wait_for("Cancel the job")
        person.types("c\n")
        assert person.code() == 130
    assert "was cancelled" in person.shown


def test_ctrl_c_asks_and_enter_leaves_the_job_running(cluster: Quorate) -> None:
    with terminal(cluster, "run", *SLEEP) as person:
        person.wait_for("ready")
        person.types("\x03")
        person.wait_for("Cancel the job")
        person.types("\n")
        assert person.code() == 130
    assert "the job runs on" in person.shown
    cluster("job", "cancel", only_job(cluster, "running"), "--wait")


def test_a_second_ctrl_c_leaves_the_job_running(cluster: Quorate) -> None:
    with terminal(cluster, "run", *SLEEP) as person:
        person.wait_for("ready")
        person.types("\x03")
        person.wait_for("Cancel the job")
        person.types("\x03")
        assert person.code() == 130
    assert "the job runs on" in person.shown
    cluster("job", "cancel", only_job(cluster, "running"), "--wait")


def test_a_ctrl_c_that_comes_with_the_question_is_an_answer_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow, "print", interrupted, raising=False)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    following = SimpleNamespace(screen=Screen({}, io.StringIO(), True), asked=False)
    assert not follow._cancels(following)  # type: ignore[arg-type]


def test_tables_fit_the_terminal(cluster: Quorate) -> None:
    with terminal(cluster, "agent", "list") as person:
        assert person.code() == 0
    assert "AGENT" in person.shown and "ready" in person.shown


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_who_wants_no_colours_gets_none(cluster: Quorate, variables: dict[str, str]) -> None:
    job = cluster("run", "-d", "--", "sh", "-c", "echo words; exit 3").out.strip()
    for words in (("job", "wait", job), ("job", "show", job), ("doctor", "agent"), ("job", "show", "nobody")):
        with terminal(cluster, *words, **variables) as person:
            person.code()
        assert words[0] == "doctor" or job in person.shown or "nobody" in person.shown
        assert not re.search(r"\x1b\[[0-9;]*m", person.shown), person.shown


def test_a_state_has_its_colour_wherever_it_stands(cluster: Quorate) -> None:
    with terminal(cluster, "doctor", "agent") as person:
        person.code()
    assert "\x1b[32mok\x1b[0m       PYTHON" in person.shown


def test_who_waits_is_told_for_what_and_a_cluster_outlives_ctrl_c(cluster: Quorate) -> None:
    holds = cluster("run", "-d", "--nodes", "2", "--slots", "2", "--grace", "1s", "--", "sleep", "600").out.strip()
    with terminal(cluster, "cluster", "start", "--name", "later") as person:
        person.wait_for("needs 1 agent with 1 free slot")
        person.types("\x03")
        assert person.code() == 130
    found = re.search(r"(\w+) stays; quorate cluster show", person.shown)
    assert found, person.shown
    assert cluster("cluster", "show", found[1], "--json").json["state"] == "pending"
    assert "the job is pending: needs 1 agent" in cluster("job", "logs", "later").err
    with terminal(cluster, "job", "logs", "-f", "later") as person:
        person.wait_for("the job waits: needs 1 agent with 1 free slot")
        person.types("\x03")
        assert person.code() == 130
    with terminal(cluster, "job", "wait", "later") as person:
        person.wait_for("is pending: needs 1 agent")
        cluster("cluster", "stop", "later")
        assert person.code() == 130
    cluster("job", "cancel", holds, "--wait")
    assert "had ended already" in cluster("job", "cancel", holds).err
