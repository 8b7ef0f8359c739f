"""A stream that breaks goes on where it stopped: nothing is missing, nothing comes twice."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.client.peer import Peer, hangs_up, peer, says, streams

from quorate.cli.app import run
from quorate.client.api import Client
from quorate.client.errors import NotAMaster, Unreachable
from quorate.client.settings import Settings
from quorate.client.streams import split_lines
from quorate.model.problem import QuorateError
from quorate.model.state import JobState

JOB = "k3jd"


def log(member: int, offset: int, text: str, **more: Any) -> bytes:
    line = {
        "member": f"{JOB}-1.{member}.1", "rank": member, "stream": "stdout", "time": "2026-11-20T12:00:00Z",
        "text": text, "offset": offset, **more,
    }  # fmt: skip
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def job(state: JobState, **more: Any) -> dict[str, Any]:
    return {
        "id": JOB, "owner": "ada", "spec": {"entrypoint": ["true"]}, "state": state,
        "submitted_at": "2026-11-20T12:00:00Z", **more,
    }  # fmt: skip


def texts(there: Peer, **options: Any) -> list[str]:
    with Client(Settings(there.url)) as client:
        return [line.text for line in client.logs(JOB, **options)]


def query(there: Peer, at: int) -> dict[str, list[str]]:
    return parse_qs(urlsplit(there.requests[at].target).query)


FINAL = says(200, job(JobState.COMPLETED))


def test_a_log_that_breaks_goes_on_from_the_cursor_of_every_member() -> None:
    first = streams(log(0, 10, "a"), log(1, 7, "b"), log(0, 20, "c"), whole=False)
    with peer(first, streams(log(1, 14, "d")), FINAL) as there:
        assert texts(there, follow=True, tail=5) == ["a", "b", "c", "d"]
    assert query(there, 0)["tail"] == ["5"]
    assert query(there, 1)["cursor"] == ["1.0.1:20,1.1.1:7"]
    assert "tail" not in query(there, 1)


def test_whoever_reads_a_log_is_told_that_its_end_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    gone = log(0, 10, "", end="", missing=20)
    with peer(says(200, job(JobState.COMPLETED)), streams(log(0, 10, "a"), gone)) as there:
        assert run(["job", "logs", JOB, "--master", there.url, "--token", "t"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "a\n"
    assert "the last 20 bytes of the log of rank 0 are not here" in shown.err


def test_what_a_master_tells_again_is_not_shown_again() -> None:
    with peer(streams(log(0, 10, "a"), whole=False), streams(log(0, 10, "a"), log(0, 20, "b")), FINAL) as there:
        assert texts(there, follow=True) == ["a", "b"]


def test_half_a_line_at_the_break_is_told_whole_by_the_next_connection() -> None:
    line = log(0, 20, "whole")
    with peer(streams(log(0, 10, "a") + line[:17], whole=False), streams(line), FINAL) as there:
        assert texts(there, follow=True) == ["a", "whole"]


def test_following_outlasts_a_master_that_stops_in_order() -> None:
    running = says(200, job(JobState.RUNNING))
    with peer(streams(log(0, 10, "a")), running, streams(log(0, 20, "b")), FINAL) as there:
        assert texts(there, follow=True) == ["a", "b"]


def test_the_watcher_hears_of_a_break_and_of_its_end() -> None:
    told: list[bool] = []

    def watcher(problem: QuorateError | None) -> None:
        told.append(problem is None)

    with peer(streams(log(0, 10, "a"), whole=False), hangs_up, streams(log(0, 20, "b")), FINAL) as there:
        assert texts(there, follow=True, told=watcher) == ["a", "b"]
    assert told == [True, False, False, True]


def test_a_first_connection_that_fails_is_an_error_unless_the_caller_is_patient() -> None:
    with peer(hangs_up) as there, pytest.raises(Unreachable):
        texts(there, follow=True)
    with peer(hangs_up, streams(log(0, 10, "a")), FINAL) as there:
        assert texts(there, follow=True, patient=True) == ["a"]


def test_lines_end_at_newlines_and_nowhere_else() -> None:
    strange = "a\u2028b\u0085c\x0bd"
    with peer(streams(log(0, 10, strange))) as there:
        assert texts(there) == [strange]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_joined_however_the_network_cuts_them(size: int) -> None:
    text = b"one\ntwo\n\nthree\n"
    assert list(split_lines(text[at : at + size] for at in range(0, len(text), size))) == [b"one", b"two", b"three"]


def test_states_are_told_once_each_until_the_last_one() -> None:
    def line(state: JobState) -> bytes:
        return json.dumps(job(state)).encode() + b"\n"

    first = streams(line(JobState.PENDING), line(JobState.RUNNING))
    with peer(first, streams(line(JobState.RUNNING), b"\n", line(JobState.COMPLETED))) as there:
        seen = [view.state for view in Client(Settings(there.url)).states(JOB)]
    assert seen == [JobState.PENDING, JobState.RUNNING, JobState.COMPLETED]


def test_what_is_no_master_is_told_from_one_that_is_away() -> None:
    with (
        peer(says(200, b"<html>", "text/html")) as there,
        pytest.raises(NotAMaster, match="no Quorate master") as caught,
    ):
        Client(Settings(there.url)).master()
    assert "curl" in caught.value.problem.hint
