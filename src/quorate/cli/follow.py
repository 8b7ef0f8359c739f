"""Following a job: its log lines as they come, its state below them, and its end as the exit code."""

from __future__ import annotations

import queue
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from quorate.cli import outcome
from quorate.cli.exits import Exit
from quorate.cli.output import first_line, note, span
from quorate.cli.screen import Screen
from quorate.model.problem import QuorateError
from quorate.model.state import JobState
from quorate.model.views import JobView, LogLine

if TYPE_CHECKING:
    from quorate.client.api import Client

#: Lines that are read ahead; then the master waits for us, not our memory for its lines.
AHEAD = 20_000
#: Members that are named where parts of their logs are missing.
NAMED = 3


@dataclass(frozen=True)
class _Broken:
    """A stream was interrupted; none: it goes on."""

    problem: QuorateError | None


@dataclass(frozen=True)
class _Ended:
    """A stream is over; with an error if that was not in order."""

    stream: str
    error: Exception | None = None


@dataclass
class Following:
    """What is known of the job that is followed."""

    client: Client
    job: JobView
    screen: Screen
    on_line: Callable[[LogLine], None] | None = None
    inbox: queue.Queue[LogLine | JobView | _Broken | _Ended] = field(default_factory=lambda: queue.Queue(AHEAD))
    open_streams: set[str] = field(default_factory=lambda: {"states", "logs"})
    began: float = field(default_factory=time.monotonic)
    broken_since: float | None = None
    missing: list[LogLine] = field(default_factory=list)
    asked: bool = False

    def start(self) -> None:
        """Starts a thread for each stream; they end with the process."""
        told = lambda problem: self.inbox.put(_Broken(problem))  # noqa: E731
        job = self.job.id
        sources: dict[str, Callable[[], Iterator[Any]]] = {
            "states": lambda: self.client.states(job, told, patient=True),
            "logs": lambda: self.client.logs(job, follow=True, told=told, patient=True),
        }
        for name, source in sources.items():
            threading.Thread(target=self._pump, args=(name, source), name=name, daemon=True).start()

    def _pump(self, name: str, source: Callable[[], Iterator[Any]]) -> None:
        error = None
        try:
            for item in source():
                self.inbox.put(item)
        except Exception as failure:
            error = failure
        self.inbox.put(_Ended(name, error))

    def watch(self) -> None:
        """Shows everything until both streams are over."""
        while self.open_streams:
            batch = self._batch()
            lines = []
            for item in batch:
                if isinstance(item, LogLine) and item.missing:
                    self.missing.append(item)
                elif isinstance(item, LogLine):
                    lines.append(item)
                    if self.on_line:
                        self.on_line(item)
                else:
                    self._take(item)
            if lines:
                self.screen.write(lines)
            if self.screen.terminal:
                self.screen.tell(self.sentence())

    def _batch(self) -> list[LogLine | JobView | _Broken | _Ended]:
        """What has gathered; waits for the first, and on a terminal no longer than until the clock there moves on."""
        try:
            batch = [self.inbox.get(timeout=1.0)]
            while len(batch) < 1000:
                batch.append(self.inbox.get_nowait())
        except queue.Empty:
            return batch if "batch" in locals() else []
        return batch

    def _take(self, item: JobView | _Broken | _Ended) -> None:
        if isinstance(item, JobView):
            self._state(item)
        elif isinstance(item, _Broken):
            if item.problem is None:
                self.broken_since = None
            elif self.broken_since is None:
                self.broken_since = time.monotonic()
                if not self.screen.terminal:
                    note("the master is away; the job runs on, and its logs go on here when the master is back")
        else:
            self.open_streams.discard(item.stream)
            if item.error:
                raise item.error

    def _state(self, job: JobView) -> None:
        before, self.job = self.job, job
        self.screen.names = names_of(job) or self.screen.names
        if job.attempt > before.attempt > 0:
            note(f"attempt {job.attempt}, for the one before it failed{self._why(job.attempt - 1)}")
        changed = (job.state, job.attempt) != (before.state, before.attempt)
        if changed and not self.screen.terminal and not job.state.final:
            note(self.sentence(clock=False))

    def _why(self, attempt: int) -> str:
        """Why an attempt failed, from the job's whole story: the stream shows states, and may pass over short ones."""
        try:
            told = next((one.reason for one in self.client.job(self.job.id).attempts if one.attempt == attempt), "")
        except QuorateError:
            return ""
        return f": {first_line(told)}" if told else ""

    def sentence(self, *, clock: bool = True) -> str:
        """The state in one line."""
        job = self.job
        where = ", ".join(dict.fromkeys(member.agent for member in job.members))
        words = {
            JobState.PENDING: f"waits: {job.reason}" if job.reason else "waits",
            JobState.STARTING: f"starts on {where}",
            JobState.RUNNING: f"runs on {where}",
            JobState.STOPPING: f"stops: {first_line(job.reason) or 'its members end'}",
        }
        text = f"job {job.id} {words.get(job.state, str(job.state))}"
        if clock:
            text += f" · {span(time.monotonic() - self.began)}"
        if self.broken_since is not None:
            text += f" · the master has been away for {span(time.monotonic() - self.broken_since)}; the job runs on"
        return text


def follow(client: Client, job: JobView, on_line: Callable[[LogLine], None] | None = None) -> int:
    """Shows the job until it ends and returns the exit code; Ctrl-C asks once whether to cancel or to detach."""
    final = watch(client, job, on_line)
    return Exit.CANCELLED if final is None else outcome.show(final)


def watch(client: Client, job: JobView, on_line: Callable[[LogLine], None] | None = None) -> JobView | None:
    """Shows the job until it ends and returns how it ended; none: the user has detached."""
    following = Following(client, job, Screen(names_of(job)), on_line)
    following.start()
    while True:
        try:
            following.watch()
            following.screen.finish()
            tell_missing(job.id, following.missing, following.screen.names)
            break
        except KeyboardInterrupt:
            if not _cancels(following):
                note(f"\nthe job runs on: quorate job logs -f {job.id} follows it, quorate job cancel {job.id} ends it")
                return None
            client.cancel(job.id)
            note("cancelling; its members get SIGTERM, and SIGKILL after the grace period")
        except BaseException:
            following.screen.finish()
            raise
    return client.job(job.id)


def _cancels(following: Following) -> bool:
    """Asks once; a second Ctrl-C, the end of input, or nobody to ask means no."""
    try:
        following.screen.finish()
        if following.asked or not sys.stdin.isatty():
            return False
        following.asked = True
        # Inside, for whoever sees the question may answer it before the next line here is reached.
        print("\nCancel the job, or leave it running and stop watching? [c/L] ", end="", flush=True)
        answer = _line()
    except KeyboardInterrupt:
        return False
    return answer.strip().lower() in ("c", "cancel", "y", "yes")


def _line() -> str:
    """A line that the user types. `input` may not notice a Ctrl-C that comes just before it begins to read."""
    woken, wakes = socket.socketpair()
    with woken, wakes:
        wakes.setblocking(False)
        before = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        try:
            select.select([sys.stdin, woken], [], [])
        finally:
            signal.set_wakeup_fd(before)
    return sys.stdin.readline()


def tell_missing(job: str, missing: list[LogLine], names: dict[int, str]) -> None:
    """Notes that what was shown is not all that the members wrote."""
    if not missing:
        return
    size = sum(line.missing for line in missing)
    whose = [names.get(line.rank, f"rank {line.rank}") for line in missing[:NAMED]]
    if len(missing) > NAMED:
        whose.append(f"{len(missing) - NAMED} more")
    note(
        f"the last {size} bytes of the log of {', '.join(whose)} are not here: an agent that is away still has to send "
        f"them, or they were removed after their time; look again: quorate job logs {job}"
    )


def names_of(job: JobView) -> dict[int, str]:
    """Rank to name of the members; empty while they are not known."""
    return {member.rank: member.name for member in job.members}
