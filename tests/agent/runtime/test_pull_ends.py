"""A pull that nobody waits for any more ends, however slowly its registry gives the image away."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.runtime.scripted import Scripted

from quorate.agent.runtime.containers import Containers
from quorate.agent.runtime.engine import Engine
from quorate.agent.runtime.policy import Allow, Policy
from quorate.agent.runtime.references import Reference
from quorate.agent.runtime.secretimages import SecretImages
from quorate.model.messages import RoleSpec

pytestmark = pytest.mark.anyio

_DEADLINE_S = 20.0
SENTENCE = json.dumps({"status": "Downloading", "id": "layer", "progressDetail": {"current": 1, "total": 100}})


class Trickling:
    """An engine that has no image, and whose pulls say one thing and then nothing more."""

    def __init__(self, path: Path) -> None:
        self.pulling, self.ended = threading.Semaphore(0), threading.Semaphore(0)
        self.pulls = 0
        self.scripted = Scripted(path, self._answer)

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            if not connection.recv(65536).startswith(b"POST"):
                connection.sendall(b'HTTP/1.0 404 Not Found\r\n\r\n{"message": "no such image"}')
                return
            self.pulls += 1
            connection.sendall(f"HTTP/1.0 200 OK\r\n\r\n{SENTENCE}\n".encode())
            self.pulling.release()
            connection.recv(1)
            self.ended.release()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Trickling]:
    trickling = Trickling(tmp_path / "engine.sock")
    yield trickling
    trickling.scripted.close()


def role(image: str) -> RoleSpec:
    return RoleSpec(image=image)


async def reached(semaphore: threading.Semaphore, times: int = 1) -> None:
    for _ in range(times):
        assert await asyncio.to_thread(semaphore.acquire, timeout=_DEADLINE_S)


async def leave(*waiting: "asyncio.Task[object]") -> None:
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


def of(engine: Trickling, folder: Path) -> Containers:
    return Containers(Engine(engine.scripted.path, "1.41"), folder, {}, Policy(Allow()), None)


async def test_a_pull_ends_with_the_last_member_that_waits_for_it(engine: Trickling, tmp_path: Path) -> None:
    containers = of(engine, tmp_path)
    heard: list[asyncio.Event] = [asyncio.Event(), asyncio.Event()]
    first, second = (
        asyncio.create_task(containers.image(role("team/train"), "", lambda _, event=event: event.set()))
        for event in heard
    )
    await reached(engine.pulling)
    for event in heard:
        await asyncio.wait_for(event.wait(), _DEADLINE_S)
    await leave(first)
    assert not engine.ended.acquire(blocking=False)
    await leave(second)
    await reached(engine.ended)
    assert engine.pulls == 1


async def test_pulls_that_were_left_keep_no_later_one_waiting(engine: Trickling, tmp_path: Path) -> None:
    containers = of(engine, tmp_path)
    for _ in range(2):
        waiting = [asyncio.create_task(containers.image(role(f"team/train:{n}"), "", print)) for n in range(8)]
        await reached(engine.pulling, 8)
        # Whatever pulls are doing, the rest of the agent's work has threads.
        await asyncio.wait_for(asyncio.to_thread(int), _DEADLINE_S)
        await leave(*waiting)
        await reached(engine.ended, 8)


def test_an_image_that_a_secret_has_opened_stays_closed_to_others_when_the_agent_comes_back(tmp_path: Path) -> None:
    train = Reference.parse("registry.example.org/team/train:1")
    found = {"Id": "sha256:1", "RepoTags": [str(train)], "RepoDigests": ["registry.example.org/team/train@sha256:2"]}
    images = SecretImages(tmp_path / "images.json")
    images.coming(train)
    # Somebody's wrong secret, at the same time.
    images.coming(train)
    images.failed(train)
    # Also where the agent ends between the pull and its end.
    assert SecretImages(tmp_path / "images.json").closed(found, "theirs")
    images.came(train, "sha256:1", "theirs")
    assert not images.closed(found, "theirs")
    assert images.closed(found, "")
    again = SecretImages(tmp_path / "images.json")
    assert again.closed(found, "")
    again.public(train, "sha256:1")
    assert not SecretImages(tmp_path / "images.json").closed(found, "")
