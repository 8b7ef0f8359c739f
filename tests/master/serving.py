"""A master in a process of its own, and clients for it: the vocabulary of these tests."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from quorate.master.auth import hash_of
from quorate.model.messages import (
    PROTOCOL,
    AgentMessage,
    Hello,
    MasterMessage,
    MemberStatus,
    SlotInfo,
    decode_from_master,
    encode,
)

#: Bounds a hang; nothing here takes a tenth of it.
PATIENCE_S = 20.0

_RUN = """
import gc
gc.disable()
import json, os, sys
from dataclasses import replace
from pathlib import Path
from quorate.master import config, server
given = json.loads(sys.argv[1])
file = Path(given["file"]) if given["file"] else None
loaded = config.load(given["flags"], os.environ, file, ready_fd=given["ready_fd"])
sys.exit(server.run(replace(loaded, settings=replace(loaded.settings, **given["timers"]))))
"""


class MasterProcess:
    """One state directory and the master's processes on it, one after the other."""

    def __init__(
        self,
        state: Path,
        *,
        file: Path | None = None,
        log: Path | None = None,
        tls: bool = False,
        timers: dict[str, float] | None = None,
        **flags: Any,
    ) -> None:
        """`timers`: fields of master.settings.Settings, also those that no file can change."""
        self.state = state
        self.port = free_port()
        self._file = file
        self._timers = timers or {}
        self._flags = {"listen": "127.0.0.1", "port": self.port, "state_dir": str(state), "tls": tls, **flags}
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, Any] = {}
        self.log = log or state.with_suffix(".log")

    @property
    def url(self) -> str:
        return f"http{'s' if self._flags['tls'] else ''}://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return (self.state / "admin.token").read_text().strip()

    def start(self) -> "MasterProcess":
        """Returns once it says that it is ready."""
        reader, writer = os.pipe()
        given = {"flags": self._flags, "file": str(self._file or ""), "ready_fd": writer, "timers": self._timers}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _RUN, json.dumps(given)], stdout=log, stderr=log, pass_fds=[writer]
            )
        os.close(writer)
        with os.fdopen(reader) as line:
            said = line.readline()
        assert said, f"the master did not start:\n{self.log.read_text()}"
        self.ready = json.loads(said)
        return self

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def client(self, token: str | None = None) -> httpx.Client:
        """As the operator, or with another token (empty: none)."""
        shown = self.token if token is None else token
        headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S)

    def user(self, name: str, **more: Any) -> httpx.Client:
        """As a user who is no operator."""
        with self.client() as operator:
            made = operator.post("/api/v1/tokens", json={"kind": "user", "user": name, **more})
        assert made.status_code == 201, made.text
        return self.client(made.json()["token"])

    def join(self, name: str, pool: str = "default") -> str:
        """Lets an agent in; returns its key."""
        with self.client() as operator:
            token = operator.post("/api/v1/tokens", json={"kind": "join", "pool": pool}).json()["token"]
            key = f"qa1.key-of-{name}"
            joined = operator.post(
                "/agent/v1/join",
                json={"token": token, "name": name, "key_hash": hash_of(key)},
                headers={"Authorization": ""},
            )
        assert joined.status_code == 200, joined.text
        return key

    def link(self, path: str, key: str) -> connect:
        """A WebSocket as an agent opens it."""
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            additional_headers={"Authorization": f"Bearer {key}"},
            compression=None,
            ping_interval=None,
            max_size=8 * 1024 * 1024,
            proxy=None,
        )


@contextmanager
def running(state: Path, **flags: Any) -> Iterator[MasterProcess]:
    """A master that is ended in the end, whatever happens."""
    master = MasterProcess(state, **flags)
    try:
        yield master.start()
    finally:
        if master.process is not None and master.process.poll() is None:
            master.kill()


async def say(link: ClientConnection, message: AgentMessage) -> None:
    """Sends a message."""
    await link.send(encode(message))


async def hear(link: ClientConnection) -> MasterMessage:
    """The next message."""
    data = await link.recv()
    assert isinstance(data, bytes)
    return decode_from_master(data)


def hello(
    agent: str,
    *,
    slots: int = 1,
    protocol: int = PROTOCOL,
    instance: str = "one",
    members: tuple[MemberStatus, ...] = (),
) -> Hello:
    """A hello of an agent."""
    return Hello(
        protocol=protocol,
        version="0.1.0",
        agent=agent,
        boot="boot",
        host=f"host-{agent}",
        address="127.0.0.11",
        slots=tuple(SlotInfo(index=index) for index in range(slots)),
        instance=instance,
        members=members,
    )


def until(condition: Callable[[], Any], what: str) -> Any:
    """Waits for the condition; what it returned then."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if outcome := condition():
            return outcome
        time.sleep(0.01)
    raise AssertionError(f"{what} did not come about within {PATIENCE_S} s")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
