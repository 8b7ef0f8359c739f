"""Streams that outlive the connection: after a break they go on where they stopped, without loss or doubling."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from quorate.client.errors import ApiError, ClientError, NotAMaster, Unreachable
from quorate.model.ids import MemberId
from quorate.model.logcursor import format_cursor
from quorate.model.views import JobView, LogLine

#: A log line has at most a mebibyte, which JSON may escape sixfold.
MAX_LINE_BYTES = 16 * 1024 * 1024
#: Seconds between two attempts to connect again: from the first to the longest, jittered.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 3.0
#: HTTP statuses that pass: too many at once, or a master (or a proxy before it) that is about to come back.
PASSING = frozenset({429, 502, 503, 504})


class Lines(Protocol):
    """Opens one NDJSON response: a context manager over its byte chunks. Raises ClientError where it cannot."""

    def __call__(self, path: str, parameters: dict[str, str]) -> AbstractContextManager[Iterator[bytes]]: ...


class Watcher(Protocol):
    """Is told when a stream is interrupted and when it goes on."""

    def __call__(self, problem: ClientError | None) -> None: ...


def split_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Cuts at \\n alone: what else Unicode calls the end of a line may stand inside a JSON text."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n") if b"\n" in chunk else [rest + chunk]
        if len(rest) > MAX_LINE_BYTES:
            raise NotAMaster(f"a line of more than {MAX_LINE_BYTES} bytes came from the master")
        yield from filter(None, lines)


def log_lines(
    open_lines: Lines, job: str, parameters: dict[str, str], ended: Callable[[], bool], breaks: Breaks
) -> Iterator[LogLine]:
    """Yields a job's log lines, and at last what is `missing` of them; with follow=true, until the job has `ended`."""
    follow = parameters.get("follow") == "true"
    offsets: dict[MemberId, int] = {}
    path = f"/api/v1/jobs/{job}/logs"
    for attempt in breaks.attempts():
        if offsets:
            parameters = {k: v for k, v in parameters.items() if k != "tail"} | {"cursor": format_cursor(offsets)}
        with attempt, open_lines(path, parameters) as chunks:
            attempt.connected()
            for raw in split_lines(chunks):
                line = LogLine.model_validate_json(raw)
                member = MemberId(line.member)
                if line.missing:
                    yield line
                elif line.offset > offsets.get(member, -1):
                    offsets[member] = line.offset
                    yield line
            # A master that stops in order ends the stream in order, although the job goes on.
            if not follow or ended():
                attempt.complete()


def job_states(open_lines: Lines, job: str, breaks: Breaks) -> Iterator[JobView]:
    """Yields the job now and after every change until it is final; what did not change is not repeated."""
    last: JobView | None = None
    for attempt in breaks.attempts():
        with attempt, open_lines(f"/api/v1/jobs/{job}/events", {}) as chunks:
            attempt.connected()
            for raw in split_lines(chunks):
                view = JobView.model_validate_json(raw)
                if view != last:
                    last = view
                    yield view
            if last is not None and last.state.final:
                attempt.complete()


class Breaks:
    """How a stream takes interruptions: who is told, and whether the very first connection may fail as well."""

    def __init__(
        self, told: Watcher | None = None, *, patient: bool = False, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.told = told
        self.pause = pause
        self.was_connected = patient

    def attempts(self) -> Iterator[_Attempt]:
        """One attempt after the other, each after a growing, jittered pause, until one is complete."""
        wait = FIRST_PAUSE
        while True:
            attempt = _Attempt(self)
            yield attempt
            if attempt.done:
                return
            wait = FIRST_PAUSE if attempt.alive else min(LONGEST_PAUSE, wait * 2)
            self.pause(wait * random.uniform(0.5, 1.0))  # noqa: S311, spreads load, guards nothing


class _Attempt:
    """One connection of a stream; swallows what another connection can mend."""

    def __init__(self, breaks: Breaks) -> None:
        self.breaks = breaks
        self.alive = False
        self.done = False

    def connected(self) -> None:
        self.alive = self.breaks.was_connected = True
        if self.breaks.told:
            self.breaks.told(None)

    def complete(self) -> None:
        self.done = True

    def __enter__(self) -> _Attempt:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        mendable = isinstance(error, Unreachable) or (isinstance(error, ApiError) and error.status in PASSING)
        if not mendable or not self.breaks.was_connected:
            return False
        if self.breaks.told and isinstance(error, ClientError):
            self.breaks.told(error)
        return True
