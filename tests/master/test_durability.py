"""What the API has answered is on the disk, whatever happens to the master next."""

import threading
from pathlib import Path

import httpx
import pytest

from .serving import MasterProcess, running, until

SPEC = {"entrypoint": "true"}


def test_every_job_that_was_accepted_survives_the_masters_death(own_master: MasterProcess) -> None:
    accepted: list[str] = []

    def submit_for_ever() -> None:
        with own_master.client() as client:
            try:
                while True:
                    answer = client.post("/api/v1/jobs", json={"spec": SPEC})
                    assert answer.status_code == 201, answer.text
                    accepted.append(answer.json()["id"])
            except httpx.TransportError:
                return

    for _ in range(3):
        already = len(accepted)
        users = [threading.Thread(target=submit_for_ever) for _ in range(3)]
        for user in users:
            user.start()
        until(lambda already=already: len(accepted) >= already + 20, "some jobs")
        own_master.kill()
        for user in users:
            user.join()
        own_master.start()
    with own_master.client() as client:
        for job in accepted:
            assert client.get(f"/api/v1/jobs/{job}").status_code == 200


def test_a_commit_that_fails_ends_the_master_with_clear_words(small_disk: Path, tmp_path: Path) -> None:
    accepted: list[str] = []
    with running(small_disk / "state", log=tmp_path / "log") as master:
        with master.client() as client:

            def submit(padding: int) -> httpx.Response:
                spec = SPEC | {"environment": {"PADDING": "x" * padding}}
                answer = client.post("/api/v1/jobs", json={"spec": spec})
                if answer.status_code == 201:
                    accepted.append(answer.json()["id"])
                return answer

            submit(0)
            with (small_disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
                while True:
                    ballast.write(b"\0" * 4096)
            # The journal of the store has some room of its own, so not the very first one fails.
            while (answer := submit(100_000)).status_code == 201:
                pass
            assert (answer.status_code, answer.json()["code"]) == (503, "STORE-FAILED")
        assert master.process is not None
        assert master.process.wait(20) == 1
        assert "the store failed and the master ends" in master.log.read_text()
        assert "the disk is full" in master.log.read_text()
        (small_disk / "ballast").unlink()
        master.start()
        with master.client() as client:
            assert [job["id"] for job in client.get("/api/v1/jobs").json()["items"]] == accepted[::-1]


def test_sigterm_ends_the_master_in_order(own_master: MasterProcess) -> None:
    ended: list[str] = []
    with own_master.client() as client:
        job = client.post("/api/v1/jobs", json={"spec": SPEC}).json()["id"]

    def follow() -> None:
        with own_master.client() as client, client.stream("GET", f"/api/v1/jobs/{job}/events") as stream:
            ended.append("begun")
            for _ in stream.iter_lines():
                pass
            ended.append("in order")

    reader = threading.Thread(target=follow)
    reader.start()
    until(lambda: ended, "the stream")
    assert own_master.stop() == 0
    reader.join(20)
    assert ended == ["begun", "in order"]
    assert not (own_master.state / "master.ready").exists()
