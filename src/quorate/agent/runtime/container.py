"""Runs a member's command in a container of an engine, which goes on without its agent. Standard library only.

The engine creates, attaches, starts and waits, and may be away in between (`dockerd` restarted). Then the container is
looked at again until the engine knows how it ended.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from quorate.agent.command import CommandError
from quorate.agent.runtime import mounts
from quorate.agent.runtime.engine import Engine, EngineError, EngineRefused, EngineUnreachable, NoSuchThing
from quorate.agent.runtime.runner import End
from quorate.agent.runtime.stream import Demultiplexer, StreamError
from quorate.model.logframes import Stream

_READ_BYTES = 256 * 1024
#: An engine that is away, or slow to say how a container ended, is asked again after this.
_AGAIN_S = 1.0
#: Output of a container that has ended comes within this, unless something is wrong with its engine.
_LAST_WORDS_S = 5.0
#: A kill that changed nothing is not repeated before.
_KILL_AGAIN_S = 1.0
#: What an engine calls the limits that a job may ask for.
_LIMITS = {"Memory": "memory", "NanoCpus": "cpus", "ShmSize": "shm", "PidsLimit": "pids"}
#: What a shell makes of SIGKILL, and engines too.
_KILLED = 128 + signal.SIGKILL
#: A container that ended while its engine was away: for so long the engine may come back and say how.
_ENGINE_PATIENCE_S = 120.0


class ContainerRunner:
    """A Runner (runner.py). `order` is what `body.container` made: engine, name, body of the create call."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._order = order
        self._engine = Engine(order["engine"], order["api"])
        self._container = ""
        #: Of its first process, as the machine sees it; a last resort where the engine is away.
        self._pid = 0
        self._output: socket.socket | None = None
        self._early = b""
        self._frames = Demultiplexer()
        self._waiting: socket.socket | None = None
        self._answer = b""
        #: What was last sent to it past an engine that is away; 0 for nothing.
        self._sent_past = 0
        #: Quorate's own words for the member's log.
        self._notices: list[str] = []
        self._killed_at = 0.0
        self._silent_at = 0.0
        self.due: float | None = None
        self.end: End | None = None

    @property
    def outputs(self) -> Collection[int]:
        return (self._output.fileno(),) if self._output is not None else ()

    @property
    def signs(self) -> Mapping[int, Callable[[], None]]:
        return {self._waiting.fileno(): self._hear} if self._waiting is not None else {}

    @property
    def entry(self) -> tuple[int, str]:
        # Of groups it needs no other than the engine's: what is in its process namespace ends with it.
        return self._pid, ""

    # --- the start ---------------------------------------------------------------------------------------------

    def start(self, environment: Mapping[str, str]) -> None:
        order = self._order
        try:
            with mounts.staged(order["mounts"], order["engine"], order["stage"], order["name"], order["api"]) as bound:
                body = {
                    **order["body"],
                    "Env": [f"{name}={value}" for name, value in environment.items() if name not in order["kept"]],
                }
                body["HostConfig"] = {**body["HostConfig"], "Mounts": [*body["HostConfig"]["Mounts"], *bound]}
                # One of this name can only be what an earlier, torn attempt to start this very member has left.
                self._engine.remove(order["name"])
                self._container = self._create(body)
                if self._notices:
                    self._check_limits(body["HostConfig"])
                self._listen()
                self._engine.start(self._container)
        except (EngineError, mounts.MountError) as error:
            self.remove()
            raise CommandError(f"{order['image']} could not be started: {error}") from error
        try:
            self._watch()
            self._pid = int(self._engine.inspect(self._container)["State"]["Pid"])
        except EngineError:
            # It runs; whatever has become of the engine, it is asked again.
            self.due = _now() + _AGAIN_S

    def _create(self, body: Mapping[str, Any]) -> str:
        name, config = self._order["name"], body["HostConfig"]
        try:
            return self._engine.create(name, body, self._notices.append)
        except EngineRefused as error:
            # Podman tells only here whether it has one.
            if not config.get("Init") or "init binary" not in str(error):
                raise
        container = self._engine.create(name, {**body, "HostConfig": {**config, "Init": False}}, self._notices.append)
        self._notices.append(
            "its engine has no init for containers (apt install catatonit): a command that does nothing about SIGTERM "
            "goes on until its grace is over"
        )
        return container

    def _check_limits(self, asked: Mapping[str, Any]) -> None:
        """An engine that cannot keep a limit says so, leaves it out and goes on: a job that asked for one must not.

        Raises CommandError. What else it has warned of is said in the member's log.
        """
        kept = self._engine.inspect(self._container)["HostConfig"]
        lost = [word for key, word in _LIMITS.items() if asked.get(key) and kept.get(key) != asked[key]]
        if lost:
            self.remove()
            raise CommandError(
                f"{self._order['image']} could not be started: this machine does not keep its {' and '.join(lost)}. "
                f"Its engine says: {' '.join(self._notices)} See `docker info` there for the controllers that it lacks",
                "LIMITS-UNENFORCED",
            )

    def _listen(self) -> None:
        self._output, self._early = self._engine.attach(self._container)
        self._output.setblocking(False)

    def _watch(self) -> None:
        self._waiting, self._answer = self._engine.wait(self._container), b""
        self._waiting.setblocking(False)

    # --- while it runs -----------------------------------------------------------------------------------------

    def read(self, output: int) -> Sequence[tuple[Stream, bytes]]:
        if self._output is None or self._output.fileno() != output:
            return ()
        if self._notices:
            return ((Stream.PLATFORM, self._notices.pop(0).encode()),)
        data, self._early = self._early, b""
        if not data:
            try:
                data = self._output.recv(_READ_BYTES)
            except BlockingIOError:
                return ()
            except OSError:
                data = b""
        try:
            pieces = tuple(self._frames.feed(data))
        except StreamError:
            data, pieces = b"", ()
        if not data:
            self._output.close()
            self._output = None
            if self.end is None and self.due is None:
                # Its end is about to be told, or else the engine has let go of us.
                self.due = _now() + _AGAIN_S
        return pieces

    def _hear(self) -> None:
        """The engine says that the container has ended, a piece at a time, or has gone away."""
        assert self._waiting is not None
        try:
            data = self._waiting.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._answer += data
            return
        self._waiting.close()
        self._waiting = None
        self._look()

    def tick(self) -> None:
        self.due = None
        if self.end is None:
            self._look()

    def _look(self) -> None:
        """Asks the engine how the container is, and takes up with it again what has been torn."""
        try:
            state = self._engine.inspect(self._container)["State"]
            if state["Status"] in ("exited", "dead") or not (state["Running"] or state.get("Restarting")):
                # Podman 4.3 loses what it hears of a lack of memory.
                guess = self._order["podman"] and not self._killed_at
                self._ended(_end(state, self._order["memory"], guess=guess))
                return
            self._pid = int(state["Pid"])
            if self._output is None:
                self._frames = Demultiplexer()
                self._listen()
                self._notices.append("its engine was away; what the member wrote at that moment may be missing here")
            if self._waiting is None:
                self._watch()
        except NoSuchThing:
            self._ended(End(signal=signal.SIGKILL, reason="somebody removed its container", finding="CONTAINER-LOST"))
        except EngineUnreachable:
            self.due = _now() + _AGAIN_S
            if self._pid and not os.path.exists(f"/proc/{self._pid}"):  # noqa: PTH110
                self._gone_unseen()
        except EngineError:
            self.due = _now() + _AGAIN_S

    def _gone_unseen(self) -> None:
        """It is no more, and only its engine can say how that came: for a while that may come back."""
        if self._sent_past:
            self._ended(End(signal=self._sent_past))
            return
        self._silent_at = self._silent_at or _now() + _ENGINE_PATIENCE_S
        if _now() >= self._silent_at:
            reason = "it ended while its engine was away, so how is not known"
            self._ended(End(signal=signal.SIGKILL, reason=reason, finding="ENGINE-UNREACHABLE"))

    def _ended(self, end: End) -> None:
        self.end = end
        self.due = None
        self._silent_at = _now() + _LAST_WORDS_S
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None

    def reaped(self, pid: int, status: int) -> None:
        pass

    # --- the end -----------------------------------------------------------------------------------------------

    def left(self) -> bool:
        """All of its processes end with its first one; what it wrote last may still be on its way here."""
        if not self._container:
            return False
        return self.end is None or (self._output is not None and _now() < self._silent_at)

    def signal(self, number: int) -> None:
        if self.end is not None or not self._container:
            return
        if number == signal.SIGKILL:
            if _now() < self._killed_at + _KILL_AGAIN_S:
                return
            self._killed_at = _now()
        name = signal.Signals(number).name if number != signal.SIGTERM else self._order["stop_signal"]
        try:
            self._engine.kill(self._container, name)
        except EngineError:
            # An engine that is away must not keep a member alive beyond its grace.
            self.due = self.due or _now() + _AGAIN_S
            with suppress(OSError):
                if self._pid and self._is_ours():
                    os.kill(self._pid, number)
                    self._sent_past = number

    def _is_ours(self) -> bool:
        with open(f"/proc/{self._pid}/cgroup") as file:  # noqa: PTH123
            return self._container in file.read()

    def remove(self) -> None:
        for connection in (self._output, self._waiting):
            if connection is not None:
                connection.close()
        self._output = self._waiting = None
        if self._container:
            # What an engine that is away cannot remove now, its agent does later (containers.keep_swept).
            with suppress(EngineError):
                self._engine.remove(self._container)


def _end(state: Mapping[str, Any], memory_bytes: int, *, guess: bool) -> End:
    """`guess`: whether its engine may leave out that it was killed for memory."""
    code = int(state["ExitCode"])
    limit = f": its limit is {memory_bytes / 2**20:.0f} MiB" if memory_bytes else ""
    if state.get("OOMKilled"):
        return End(code, None, f"killed for memory{limit}", "MEMORY-EXCEEDED")
    if code == _KILLED and memory_bytes and guess:
        return End(code, None, f"killed, most likely for memory{limit}", "MEMORY-EXCEEDED")
    return End(code, None)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
