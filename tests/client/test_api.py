"""What the client sends once, what it sends again, and what it says when nobody answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.client.peer import hangs_up, peer, says
from tests.client.test_streams import JOB, job

from quorate.client.api import Client, wire_spec
from quorate.client.context import packed
from quorate.client.errors import ApiError, NotAMaster, SettingsError, Unreachable
from quorate.client.settings import Settings
from quorate.model.job import JobSpec
from quorate.model.state import JobState

SPEC = JobSpec.model_validate({"entrypoint": ["true"], "secrets": {"KEY": "hunter2"}})


def test_a_submission_whose_answer_was_lost_is_repeated_under_the_same_key() -> None:
    with peer(hangs_up, says(201, job(JobState.PENDING))) as there, Client(Settings(there.url)) as client:
        assert client.submit(SPEC).id == JOB
    keys = [request.headers["idempotency-key"] for request in there.requests]
    assert len(keys) == 2 and len(set(keys)) == 1


def test_what_has_no_key_is_not_repeated() -> None:
    with peer(hangs_up, hangs_up) as there, Client(Settings(there.url)) as client, pytest.raises(Unreachable):
        client.create_token(kind="join", pool="default")
    assert len(there.requests) == 1


def test_the_token_travels_in_the_header_and_secrets_in_the_body_alone() -> None:
    with peer(says(201, job(JobState.PENDING))) as there, Client(Settings(there.url, "qu1.x.y")) as client:
        client.submit(SPEC)
    request = there.requests[0]
    assert request.headers["authorization"] == "Bearer qu1.x.y"
    assert "qu1" not in request.target and b"qu1" not in request.body
    assert json.loads(request.body)["spec"]["secrets"] == {"KEY": "hunter2"}
    assert "hunter2" not in repr(SPEC) and "qu1" not in repr(client.settings)


def test_a_problem_of_the_master_is_raised_with_all_it_says() -> None:
    problem = {"title": "No", "status": 404, "code": "JOB-UNKNOWN", "detail": "there is no job x", "hint": "job list"}
    with peer(says(404, problem, "application/problem+json")) as there, pytest.raises(ApiError, match="no job x") as e:
        Client(Settings(there.url)).job("x")
    assert (e.value.code, e.value.status, e.value.problem.hint) == ("JOB-UNKNOWN", 404, "job list")


def test_a_name_that_a_person_typed_reaches_no_other_endpoint() -> None:
    with peer(says(200, job(JobState.RUNNING))) as there:
        Client(Settings(there.url)).job("../agents?x=1#y")
    assert there.requests[0].target == "/api/v1/jobs/..%2Fagents%3Fx%3D1%23y"


def test_nobody_there_is_said_with_the_url_and_the_next_command(unused_url: str) -> None:
    with pytest.raises(Unreachable, match=unused_url) as caught:
        Client(Settings(unused_url)).master()
    assert "quorate up" in caught.value.problem.hint


def test_a_context_that_the_master_has_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with packed(tmp_path) as context:
        with peer(says(200, b"")) as there:
            assert Client(Settings(there.url)).upload(context) is False
        seen: list[int] = []
        with peer(says(404, b""), hangs_up, says(201, {})) as there:
            assert Client(Settings(there.url)).upload(context, seen.append) is True
        assert there.requests[-1].body == context.file.read_bytes()
        assert seen[-1] == context.packed_bytes


def test_a_server_that_breaks_without_a_reason_is_named() -> None:
    with peer(says(500, b"oops", "text/plain")) as there, pytest.raises(NotAMaster, match="500"):
        Client(Settings(there.url)).master()


def test_a_ca_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no")
    with pytest.raises(SettingsError, match=r"ca\.pem"):
        Client(Settings("https://127.0.0.1:1", ca=tmp_path / "ca.pem")).master()


def test_only_what_differs_from_the_defaults_is_sent() -> None:
    assert wire_spec(JobSpec.model_validate({"entrypoint": ["a"], "max_runtime": "1h"})) == {
        "entrypoint": ["a"],
        "max_runtime": "1h",
    }
