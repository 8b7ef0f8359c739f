"""The HTTP API as its users see it, against a real master."""

import asyncio
import hashlib
import json
import re
import socket
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from quorate.master.api.waiting import SENTENCES
from quorate.model.problem import Problem
from quorate.model.views import JobDetail

from .serving import MasterProcess
from .test_contexts import archive

SPEC = {"name": "one", "entrypoint": ["true"]}
#: What needs no token; that of a join is in its body.
OPEN = {"/healthz", "/ca.pem", "/agent/v1/join"}


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that an answer must be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json()
    assert said["code"] == code, said
    assert said["detail"]
    assert said["status"] == status
    return said


def submit(client: httpx.Client, **spec: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/jobs", json={"spec": SPEC | spec})
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view


def test_a_submitted_job_is_pending_and_says_for_what_it_waits(master: MasterProcess) -> None:
    with master.client() as client:
        job = submit(client)
        assert job["state"] == "pending"
        assert "pool default" in job["reason"]
        assert client.get(f"/api/v1/jobs/{job['id']}").json()["history"][0]["what"] == "submitted by admin"


def test_the_same_idempotency_key_submits_nothing_twice(master: MasterProcess) -> None:
    key = {"Idempotency-Key": "k1"}
    with master.client() as client:
        first, second = (client.post("/api/v1/jobs", json={"spec": SPEC}, headers=key) for _ in range(2))
        other = client.post("/api/v1/jobs", json={"spec": SPEC | {"name": "other"}}, headers=key)
        problem(other, 409, "IDEMPOTENCY-MISMATCH")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]


@pytest.mark.parametrize(
    ("spec", "path", "hint"),
    [
        ({"resources": {"nods": 2}}, "spec.resources.nods", "did you mean 'nodes'?"),
        ({"entrypont": "true"}, "spec.entrypont", "did you mean 'entrypoint'?"),
        ({"launcher": "torhc"}, "spec.launcher", "did you mean 'torch'?"),
        ({"resources": {"nodes": 0}}, "spec.resources.nodes", ""),
        ({"environment": {"RANK": "0"}}, "spec.environment", ""),
        ({"environment": {"A\n": "0"}}, "spec.environment", ""),
    ],
)
def test_every_wrong_field_is_named_with_its_place(
    master: MasterProcess, spec: dict[str, Any], path: str, hint: str
) -> None:
    with master.client() as client:
        said = problem(client.post("/api/v1/jobs", json={"spec": SPEC | spec}), 422, "INVALID")
    assert (path, hint) in {(error["path"], error["hint"]) for error in said["errors"]}


def test_a_body_that_is_no_json_is_a_problem(master: MasterProcess) -> None:
    with master.client() as client:
        problem(client.post("/api/v1/jobs", content=b"{"), 422, "INVALID")
        problem(client.post("/api/v1/jobs", content=b"[" * 100_000), 422, "INVALID")


def test_a_pool_that_does_not_exist_is_refused_with_those_that_do(master: MasterProcess) -> None:
    with master.client() as client:
        answer = client.post("/api/v1/jobs", json={"spec": SPEC | {"resources": {"pool": "gpu"}}})
    refused = problem(answer, 422, "JOB-NEVER-FITS")
    assert "default" in refused["detail"] and refused["hint"] == "quorate pool list"


def test_what_does_not_exist_is_a_problem_with_a_hint(master: MasterProcess) -> None:
    with master.client() as client:
        assert problem(client.get("/api/v1/jobs/nobody"), 404, "JOB-UNKNOWN")["hint"] == "quorate job list"
        problem(client.get("/api/v1/agents/nobody"), 404, "AGENT-UNKNOWN")
        problem(client.get("/api/v1/nothing"), 404, "PATH-UNKNOWN")
        problem(client.put("/api/v1/jobs"), 405, "METHOD-NOT-ALLOWED")
        problem(client.get("/api/v1/jobs", params={"limit": 0}), 422, "INVALID")
        problem(client.get("/api/v1/jobs", params={"cursor": "!"}), 422, "CURSOR-INVALID")
        problem(client.delete("/api/v1/tokens/nobody"), 404, "TOKEN-UNKNOWN")


def test_pages_of_jobs_are_newest_first_and_leave_nobody_out(own_master: MasterProcess) -> None:
    with own_master.client() as client:
        submitted = [submit(client, name=f"job{number}")["id"] for number in range(7)]
        seen: list[str] = []
        cursor = ""
        while cursor is not None:
            page = client.get("/api/v1/jobs", params={"limit": 3, "cursor": cursor}).json()
            seen += [job["id"] for job in page["items"]]
            # What comes in meanwhile is newer than every page that follows.
            submit(client, name="meanwhile")
            cursor = page["next"]
    assert seen == submitted[::-1]


def test_a_listing_can_be_of_one_state_and_one_owner(own_master: MasterProcess) -> None:
    with own_master.client() as admin, own_master.user("ada") as ada:
        hers, his = submit(ada)["id"], submit(admin)["id"]
        admin.post(f"/api/v1/jobs/{his}/cancel")
        assert [job["id"] for job in admin.get("/api/v1/jobs?owner=ada").json()["items"]] == [hers]
        assert [job["id"] for job in admin.get("/api/v1/jobs?state=cancelled").json()["items"]] == [his]


def test_a_listing_says_what_pending_jobs_wait_for_and_in_a_long_queue_their_place(own_master: MasterProcess) -> None:
    with own_master.client() as client:
        first = submit(client)["id"]
        [listed] = client.get("/api/v1/jobs").json()["items"]
        assert listed["reason"] == client.get(f"/api/v1/jobs/{first}").json()["reason"] != ""
        for _ in range(SENTENCES):
            newest = submit(client)["id"]
        urgent = submit(client, priority=90)["id"]
        reasons = {job["id"]: job["reason"] for job in client.get("/api/v1/jobs?limit=200").json()["items"]}
    assert reasons[urgent] == "1st in line in pool default"
    assert reasons[first] == "2nd in line in pool default"
    assert reasons[newest] == f"{SENTENCES + 2}nd in line in pool default"


def test_a_job_can_be_cancelled_by_its_owner_and_by_operators_alone(own_master: MasterProcess) -> None:
    with own_master.client() as admin, own_master.user("ada") as ada, own_master.user("ben") as ben:
        first, second = submit(ada)["id"], submit(ada)["id"]
        said = problem(ben.post(f"/api/v1/jobs/{first}/cancel"), 403, "NOT-YOUR-JOB")
        assert "ada" in said["detail"]
        problem(ben.get(f"/api/v1/jobs/{first}/logs"), 403, "NOT-YOUR-JOB")
        assert ben.get(f"/api/v1/jobs/{first}").status_code == 200
        assert ada.post(f"/api/v1/jobs/{first}/cancel").json()["state"] == "cancelled"
        cancelled = admin.post(f"/api/v1/jobs/{second}/cancel").json()
    assert cancelled["state"] == "cancelled"
    assert cancelled["reason"] == "cancelled by admin"
    assert cancelled["exit_code"] == 130


def test_others_see_what_a_job_asks_for_and_not_what_it_runs(own_master: MasterProcess) -> None:
    spec = {
        "name": "digits",
        "entrypoint": ["python", "--password=hunter2"],
        "environment": {"KEY": "hunter2"},
        "secrets": {"hunter2-key": "value"},
        "priority": 60,
        "restarts": 3,
        "network": {"egress": {"hosts": ["hunter2.example"]}},
        "roles": {"scheduler": {"entrypoint": ["hunter2"], "environment": {"A": "hunter2"}}, "worker": {"replicas": 2}},
    }
    with own_master.client() as admin, own_master.user("ada") as ada, own_master.user("ben") as ben:
        job = submit(ada, **spec)["id"]
        for way in (f"/jobs/{job}", "/jobs", f"/jobs/{job}/wait?timeout=0"):
            for whole in (ada, admin):
                assert "hunter2" in whole.get(f"/api/v1{way}").text
            assert "hunter2" not in ben.get(f"/api/v1{way}").text, way
        with ben.stream("GET", f"/api/v1/jobs/{job}/events") as events:
            assert "hunter2" not in next(events.iter_lines())
        seen = JobDetail.model_validate_json(ben.get(f"/api/v1/jobs/{job}").text)
    assert (seen.owner, seen.whole, seen.state, seen.reason != "") == ("ada", False, "pending", True)
    kept = seen.spec
    assert (kept.name, kept.priority, kept.restarts, kept.resources.nodes) == ("digits", 60, 3, 3)
    assert {name: role.replicas for name, role in kept.roles.items()} == {"scheduler": 1, "worker": 2}


def test_a_context_can_be_named_only_by_who_knows_its_digest(own_master: MasterProcess) -> None:
    packed = archive(("train.py", b"print()"))
    digest = hashlib.sha256(packed).hexdigest()
    with own_master.user("ada") as ada, own_master.user("ben") as ben:
        assert ada.put(f"/api/v1/contexts/{digest}", content=packed).status_code == 201
        job = submit(ada, context=digest)["id"]
        assert digest in ada.get(f"/api/v1/jobs/{job}").text
        assert digest not in ben.get(f"/api/v1/jobs/{job}").text + ben.get("/api/v1/jobs").text


def test_what_operators_do_is_closed_to_others(master: MasterProcess) -> None:
    with master.user("eve") as eve:
        for method, path in [
            ("POST", "/api/v1/tokens"),
            ("GET", "/api/v1/tokens"),
            ("DELETE", "/api/v1/tokens/x"),
            ("POST", "/api/v1/agents/x/drain"),
            ("POST", "/api/v1/agents/x/resume"),
            ("POST", "/api/v1/agents/x/revoke"),
            ("POST", "/api/v1/master/stop"),
            ("POST", "/api/v1/master/adopt"),
            ("POST", "/api/v1/master/backup"),
            ("GET", "/metrics"),
        ]:
            problem(eve.request(method, path), 403, "OPERATORS-ONLY")


def test_every_path_but_three_needs_a_token(master: MasterProcess) -> None:
    with master.client() as operator, master.client("") as nobody:
        document = operator.get("/api/v1/openapi.json").json()
        open_paths = set()
        for path, methods in document["paths"].items():
            for method in methods:
                answer = nobody.request(method, re.sub(r"\{[a-z0-9]+\}", "0" * 64, path))
                if answer.status_code != 401:
                    open_paths.add(path)
    assert open_paths == OPEN


def test_a_wrong_token_is_told_from_a_missing_one(master: MasterProcess) -> None:
    with master.client("qu1.x.y") as wrong, master.client("") as none:
        assert problem(wrong.get("/api/v1/jobs"), 401, "TOKEN-UNKNOWN")["hint"].startswith("quorate login")
        problem(none.get("/api/v1/jobs"), 401, "TOKEN-MISSING")


def test_guessing_is_slowed_down_and_good_tokens_are_not(own_master: MasterProcess) -> None:
    with own_master.client("qu1.x.y") as wrong, own_master.client() as right:
        answers = [wrong.get("/api/v1/jobs").status_code for _ in range(40)]
        assert answers[0] == 401
        assert answers[-1] == 429
        assert int(wrong.get("/api/v1/jobs").headers["retry-after"]) >= 1
        assert right.get("/api/v1/jobs").status_code == 200


def test_an_expired_token_and_a_revoked_one_are_worth_nothing(own_master: MasterProcess) -> None:
    with own_master.client() as admin:
        made = admin.post("/api/v1/tokens", json={"kind": "user", "user": "ada", "ttl": "1ms"}).json()
        with own_master.client(made["token"]) as ada:
            problem(ada.get("/api/v1/jobs"), 401, "TOKEN-UNKNOWN")
        made = admin.post("/api/v1/tokens", json={"kind": "user", "user": "ada"}).json()
        with own_master.client(made["token"]) as ada:
            assert ada.get("/api/v1/jobs").status_code == 200
            assert admin.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
            problem(ada.get("/api/v1/jobs"), 401, "TOKEN-UNKNOWN")


def test_a_stream_ends_with_the_token_it_was_opened_with(own_master: MasterProcess) -> None:
    with own_master.client() as admin:
        made = admin.post("/api/v1/tokens", json={"kind": "user", "user": "ada"}).json()
        with own_master.client(made["token"]) as ada:
            job = submit(ada)["id"]
            with ada.stream("GET", f"/api/v1/jobs/{job}/events") as stream:
                lines = stream.iter_lines()
                assert json.loads(next(lines))["state"] == "pending"
                assert admin.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
                assert admin.post(f"/api/v1/jobs/{job}/cancel").is_success
                assert list(lines) == [], "nothing that happened after it was revoked is told"


def test_a_token_stands_nowhere_but_in_the_answer_that_made_it(own_master: MasterProcess) -> None:
    with own_master.client() as admin:
        made = admin.post("/api/v1/tokens", json={"kind": "join", "pool": "gpu", "uses": 2}).json()
        secret = made["token"].split(".")[2]
        listed = admin.get("/api/v1/tokens").text
        submit(admin, secrets={"KEY": "hunter2-hunter2"})
    own_master.stop()
    assert made["token"].endswith(".-")
    assert secret not in listed
    for path in [*own_master.state.rglob("*"), own_master.log]:
        if path.is_file() and path.name != "admin.token":
            assert secret.encode() not in path.read_bytes(), path
            assert b"hunter2-hunter2" not in path.read_bytes(), path


def test_bodies_beyond_the_limit_are_refused_before_they_are_read(master: MasterProcess) -> None:
    with socket.create_connection(("127.0.0.1", master.port)) as connection:
        request = f"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 30}\r\n\r\n"
        connection.sendall(request.encode())
        assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 413 ")
    with master.client() as client:
        sent = client.post("/api/v1/jobs", content=(b"x" * 65536 for _ in range(300)))
        problem(sent, 413, "BODY-TOO-LARGE")


def test_nobody_fills_the_masters_memory_before_he_is_known(master: MasterProcess) -> None:
    with master.client("") as nobody:
        much = (b"x" * 1024 for _ in range(100))
        problem(nobody.post("/agent/v1/join", content=much), 413, "BODY-TOO-LARGE")
        said = nobody.post("/agent/v1/join", content=b"x" * 100_000).json()
    assert (said["code"], said["detail"]) == ("BODY-TOO-LARGE", "the body is larger than 64KiB")


def test_waiting_ends_with_the_job_or_with_the_timeout(master: MasterProcess) -> None:
    with master.client() as client:
        job = submit(client)["id"]
        assert client.get(f"/api/v1/jobs/{job}/wait?timeout=0.05").json()["state"] == "pending"
        client.post(f"/api/v1/jobs/{job}/cancel")
        assert client.get(f"/api/v1/jobs/{job}/wait?timeout=20").json()["state"] == "cancelled"
        problem(client.get(f"/api/v1/jobs/{job}/wait?timeout=3600"), 422, "INVALID")


def test_events_tell_every_change_and_end_with_the_job(master: MasterProcess) -> None:
    with master.client() as client, master.client() as other:
        job = submit(client)["id"]
        states = []
        with client.stream("GET", f"/api/v1/jobs/{job}/events") as stream:
            for line in stream.iter_lines():
                states.append(re.search(r'"state":"([a-z]+)"', line)[1])  # type: ignore[index]
                if states == ["pending"]:
                    other.post(f"/api/v1/jobs/{job}/cancel")
    assert states == ["pending", "cancelled"]


def test_an_entry_point_that_its_launcher_cannot_start_is_refused_at_once(master: MasterProcess) -> None:
    spec = SPEC | {"entrypoint": ["torchrun", "train.py"], "launcher": "torch"}
    with master.client() as client:
        for path in ("/api/v1/jobs", "/api/v1/jobs/plan"):
            assert "torchrun" in problem(client.post(path, json={"spec": spec}), 422, "ENTRYPOINT-INVALID")["detail"]


def test_a_master_port_that_leaves_no_port_for_each_member_is_refused_at_once(master: MasterProcess) -> None:
    spec = SPEC | {"resources": {"nodes": 3}, "environment": {"MASTER_PORT": "65534"}}
    with master.client() as client:
        for path in ("/api/v1/jobs", "/api/v1/jobs/plan"):
            detail = problem(client.post(path, json={"spec": spec}), 422, "MASTER-PORT-INVALID")["detail"]
            assert "3 members need the ports 65534 to 65536" in detail
        assert client.post("/api/v1/jobs/plan", json={"spec": spec | {"resources": {"nodes": 2}}}).is_success


def test_a_plan_changes_nothing(own_master: MasterProcess) -> None:
    with own_master.client() as client:
        plan = client.post("/api/v1/jobs/plan", json={"spec": SPEC}).json()
        assert plan["fits_now"] is False
        assert "no agents" in plan["waits_for"]
        assert client.get("/api/v1/jobs").json()["items"] == []


def test_the_metrics_are_those_of_the_state(own_master: MasterProcess) -> None:
    with own_master.client() as client:
        submit(client)
        text = client.get("/metrics").text
    assert 'quorate_jobs{state="pending"} 1.0' in text
    assert 'quorate_queue{pool="default"} 1.0' in text


def test_the_openapi_document_has_no_loose_ends(master: MasterProcess) -> None:
    with master.client() as client:
        document = client.get("/api/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    names = set(document["components"]["schemas"])
    referred = set(re.findall(r"#/components/schemas/([A-Za-z_]+)", str(document)))
    assert referred <= names
    callers = set(document["components"]["securitySchemes"])
    ids = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["responses"], (method, path)
            assert operation.get("summary"), (method, path)
            problem = operation["responses"]["default"]["content"]
            assert list(problem) == ["application/problem+json"], (method, path)
            Problem.model_validate(problem["application/problem+json"]["example"])
            assert {name for needed in operation["security"] for name in needed} <= callers
            assert bool(operation["security"]) is (path not in OPEN), (method, path)
            ids.append(operation["operationId"])
    assert {"jobs_submit", "agents_listing", "master_stop"} <= set(ids)
    assert len(set(ids)) == len(ids)


def test_the_documents_examples_are_taken(own_master: MasterProcess) -> None:
    with own_master.client() as client:
        document = client.get("/api/v1/openapi.json").json()
        join = client.post("/api/v1/tokens", json={"kind": "join"}).json()["token"]
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                body = operation.get("requestBody", {}).get("content", {}).get("application/json")
                if body is not None and path != "/api/v1/master/stop":
                    example = body["example"]
                    if path == "/agent/v1/join":
                        example["token"] = join
                    answer = client.request(method, path, json=example)
                    assert answer.status_code in (200, 201), (path, answer.text)


def test_what_a_path_takes_is_named_whole_where_something_else_was_asked(master: MasterProcess) -> None:
    with master.client() as client:
        said = problem(client.delete("/api/v1/jobs"), 405, "METHOD-NOT-ALLOWED")
        assert said["hint"] == "allowed: GET, POST"
        assert client.delete("/api/v1/jobs").headers["allow"] == "GET, POST"
        problem(client.get("/api/v1/jobs/"), 404, "PATH-UNKNOWN")
        # Load balancers ask so.
        assert client.head("/healthz").status_code == 200


def test_a_link_to_nowhere_is_a_problem_like_any_other(master: MasterProcess) -> None:
    async def story() -> bytes:
        with pytest.raises(InvalidStatus) as refused:
            async with master.link("/agent/v2/control", "qa1.x"):
                pass
        assert refused.value.response.status_code == 404
        return refused.value.response.body or b""

    assert json.loads(asyncio.run(story()))["code"] == "PATH-UNKNOWN"
