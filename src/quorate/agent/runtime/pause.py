"""Pause containers: each holds the network namespace of one member with an image, before that member and after it.

The member's own container joins it, so the namespace is there, with its links and its rules, before any of the member's
code is, and stays the same one whatever becomes of that. Its image is only a place to stand: jobs may give any image
any name, so nothing of the image runs, but the waiter's file from the agent's own folder.
"""

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from quorate.agent.runtime.body import LABEL_KIND, LABEL_MEMBER, WAITER
from quorate.agent.runtime.engine import Engine, NoSuchThing
from quorate.agent.runtime.mounts import bind

_REPOSITORY, _TAG = "quorate/pause", "1"
KIND: Final = "pause"
#: Nobody's user: it needs no right at all.
_NOBODY: Final = "65534:65534"


@dataclass(frozen=True)
class Pause:
    """The container that holds a member's namespace, and its process as the machine sees it."""

    container: str
    pid: int

    @property
    def netns(self) -> str:
        """The path by which a process of the machine enters the namespace."""
        return f"/proc/{self.pid}/ns/net"


def name_of(member: str) -> str:
    return f"quorate-pause-{member}"


def ensure(engine: Engine, member: str, hostname: str, labels: Mapping[str, str], waiter: str) -> Pause:
    """The member's pause container, which runs when this returns; the one that is there, where one runs. Blocks.

    It has no network but what is plugged in. `waiter`: the file of the program that it runs. Raises EngineError.
    """
    running = find(engine, member)
    if running is not None:
        return running
    _ensure_image(engine)
    engine.remove(name_of(member))
    container = engine.create(name_of(member), _body(member, hostname, labels, waiter))
    engine.start(container)
    return Pause(container, int(engine.inspect(container)["State"]["Pid"]))


def find(engine: Engine, member: str) -> Pause | None:
    """The one that runs, if any. Blocks; raises EngineError."""
    try:
        found = engine.inspect(name_of(member))
    except NoSuchThing:
        return None
    return Pause(found["Id"], int(found["State"]["Pid"])) if found["State"]["Running"] else None


def remove(engine: Engine, member: str) -> None:
    """Ends and removes it; nothing where there is none. Blocks; raises EngineError."""
    engine.remove(name_of(member))


def _body(member: str, hostname: str, labels: Mapping[str, str], waiter: str) -> dict[str, object]:
    return {
        "Image": f"{_REPOSITORY}:{_TAG}",
        "Labels": {**labels, LABEL_MEMBER: member, LABEL_KIND: KIND},
        "Hostname": hostname,
        "User": _NOBODY,
        "Entrypoint": [WAITER],
        "Cmd": [],
        # An image's own check would run beside it.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [bind(waiter, WAITER, read_only=True)],
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "none"},
            # Not for the waiter, which is one process and a few pages, but for the engine's runtime, which has them as
            # soon as it begins to become the waiter: a program with threads of its own, more where there are more
            # cores, that dies where it may have no other one.
            "PidsLimit": 1024,
            "Memory": 64 * 2**20,
        },
    }


def _ensure_image(engine: Engine) -> None:
    try:
        engine.image(f"{_REPOSITORY}:{_TAG}")
    except NoSuchThing:
        empty = io.BytesIO()
        tarfile.open(fileobj=empty, mode="w").close()
        engine.load(empty.getvalue(), _REPOSITORY, _TAG, ())
