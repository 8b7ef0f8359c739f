"""Keeps the members' logs: appends what agents ship at its offset, and says so only when it is on disk.

A member's log is one file of frames (model/logframes.py), byte for byte what the agent has. Beside it lies an index of
some frame boundaries, so that a reader can begin near the end; it is made from the log and may be lost. One thread
writes for all members: it takes what has gathered, writes it, syncs every touched file once, and then answers, so that
a thousand members cost about as many syncs as the disk can do together and never one per line.
"""

import asyncio
import contextlib
import errno
import logging
import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from quorate.master.files import NO_SPACE, room_beyond
from quorate.model.ids import JobId, MemberId
from quorate.model.logframes import HEADER, MAGIC, MAX_FRAME_BYTES

log = logging.getLogger(__name__)

#: A chunk that is larger is refused; an agent sends at most this much at a time.
MAX_CHUNK_BYTES: Final = 256 * 1024
#: One entry of the index for about so many bytes of log.
INDEX_EVERY: Final = 256 * 1024
#: What is written between two syncs at most: bounds how long an acknowledgement takes.
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024
#: How often a full disk is tried again.
FULL_DISK_RETRY_S: Final = 1.0
#: Files kept open; the least recently written one is closed beyond it.
MAX_OPEN_FILES: Final = 512
#: Syncs in flight at once. File systems join them into one journal commit.
SYNC_THREADS: Final = 8


class LogError(Exception):
    """A chunk that was not taken.

    LogError
    ├── LogGap       bytes before it are missing; `expected` says from where to send again
    ├── NoLog        the bytes are no frames; sending them again is no use
    └── LogsClosed   the master stops
    """


class LogGap(LogError):
    """The chunk begins beyond the end of the log."""

    def __init__(self, expected: int) -> None:
        super().__init__(f"the log ends at byte {expected}")
        self.expected = expected


class NoLog(LogError):
    """The bytes are no frames."""


class LogsClosed(LogError):
    """The store of logs is closing; nothing more is taken."""


class Watcher(Protocol):
    """Is told on the event loop which log has grown."""

    def note(self, member: MemberId) -> None:
        """The member's log has grown."""


@dataclass(slots=True)
class _Append:
    member: MemberId
    offset: int
    data: bytes
    done: "asyncio.Future[int]"


@dataclass(slots=True)
class _Open:
    """A log that is open for writing. `boundary` is the end of the last whole frame."""

    descriptor: int
    path: Path
    size: int
    boundary: int
    indexed: int
    #: Boundaries found since the index was last written.
    marks: list[int] = field(default_factory=list)
    #: End of what was written since the file was opened: only that is vouched for. What follows in the file came from
    #: an earlier life and, after a loss of power, may be rubbish; its agent sends it again.
    vouched: int | None = None


class LogStore:
    """The logs under one directory. Made and used on the event loop; a thread of its own does the writing."""

    def __init__(self, directory: Path, *, reserve_bytes: int = 0) -> None:
        """`reserve_bytes` of the disk stay free: logs stop before the master's own store must."""
        self._directory = directory
        self._reserve = reserve_bytes
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Append | None] = queue.SimpleQueue()
        self._open: OrderedDict[MemberId, _Open] = OrderedDict()
        self._new_directories: set[Path] = set()
        self._watchers: dict[MemberId, set[Watcher]] = {}
        self._closing = threading.Event()
        #: Why nothing can be written at present, in words; empty while all is well.
        self.full: str = ""
        self.bytes_written = 0
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._syncers = ThreadPoolExecutor(SYNC_THREADS, "log-sync")
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    # --- on the event loop -----------------------------------------------------------------------------------

    def append(self, member: MemberId, offset: int, data: bytes) -> "asyncio.Future[int]":
        """Resolves to the end of what is on disk once `data` is; fails with LogGap, NoLog or LogsClosed.

        Bytes that were sent before are written again: they are the same. While the disk is full, it waits.
        """
        done: asyncio.Future[int] = self._loop.create_future()
        if len(data) > MAX_CHUNK_BYTES:
            done.set_exception(NoLog(f"a chunk holds at most {MAX_CHUNK_BYTES} bytes"))
        elif self._closing.is_set():
            done.set_exception(LogsClosed("the master stops"))
        else:
            self._queue.put(_Append(member, offset, data, done))
        return done

    def watch(self, members: Iterable[MemberId], watcher: Watcher) -> None:
        """Tells `watcher` whenever one of these logs has grown, until unwatch."""
        for member in members:
            self._watchers.setdefault(member, set()).add(watcher)

    def unwatch(self, members: Iterable[MemberId], watcher: Watcher) -> None:
        """Ends what watch began."""
        for member in members:
            watchers = self._watchers.get(member)
            if watchers is not None:
                watchers.discard(watcher)
                if not watchers:
                    del self._watchers[member]

    async def close(self) -> None:
        """Writes what was taken and closes every file. What cannot be written is left to be sent again."""
        self._closing.set()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._syncers.shutdown()

    async def forget(self, job: JobId) -> None:
        """Removes the logs of a job that nobody remembers any more."""
        await asyncio.to_thread(lambda: self._remove(list((self._directory / job[0]).glob(f"{job}-*.log"))))

    async def forget_before(self, wall: float, keep: Callable[[str], bool]) -> int:
        """Removes logs last written before `wall` (UTC seconds) of jobs that `keep` does not name; returns how many."""
        found = await asyncio.to_thread(lambda: list(self._older_than(wall)))
        doomed = [path for path in found if not keep(path.name.split("-", 1)[0])]
        await asyncio.to_thread(self._remove, doomed)
        return len(doomed)

    @staticmethod
    def _remove(logs: list[Path]) -> None:
        for path in logs:
            # The index first: a log without one can be read, an index without a log means nothing.
            path.with_suffix(".idx").unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    # --- anywhere --------------------------------------------------------------------------------------------

    def path(self, member: MemberId) -> Path:
        """Where the member's log lies, whether it exists or not."""
        # One directory for a letter: few enough to sync, and none of them grows beyond what a person can list.
        return self._directory / member[0] / f"{member}.log"

    def size(self, member: MemberId) -> int:
        """Bytes of the log that a reader may read; 0 where there is none."""
        try:
            return self.path(member).stat().st_size
        except FileNotFoundError:
            return 0

    def boundary_before(self, member: MemberId, offset: int) -> int:
        """A frame boundary at or before `offset`, as near as the index knows one."""
        try:
            marks = memoryview(self.path(member).with_suffix(".idx").read_bytes())
        except FileNotFoundError:
            return 0
        whole = marks[: len(marks) // 8 * 8].cast("Q")
        size = self.size(member)
        return max((mark for mark in whole if mark <= min(offset, size)), default=0)

    # --- the writing thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        stop = False
        while not stop:
            batch: list[_Append] = []
            taken = 0
            item = self._queue.get()
            while True:
                if item is None:
                    stop = True
                else:
                    batch.append(item)
                    taken += len(item.data)
                if stop or taken >= MAX_BATCH_BYTES:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._write_until_done(batch)
        for member in list(self._open):
            self._shut(member)

    def _write_until_done(self, batch: list[_Append]) -> None:
        """Writes and syncs the batch. A full disk holds everything up: that is the back-pressure that agents feel."""
        while batch:
            try:
                batch = self._write(batch)
            except Exception as error:
                # A broken disk, most likely. Whoever waits starts over with what it has; the thread lives on.
                log.critical("logs cannot be written", exc_info=error)
                self._answer([(item, error) for item in batch])
                return
            if not batch:
                self._say_full("")
                return
            if self._closing.wait(FULL_DISK_RETRY_S):
                self._answer([(item, LogsClosed("the disk is full and the master stops")) for item in batch])
                return

    def _write(self, batch: list[_Append]) -> list[_Append]:
        """Returns what found no room."""
        answers: list[tuple[_Append, int | Exception]] = []
        touched: dict[MemberId, _Open] = {}
        left: list[_Append] = []
        room = self._room()
        for item in batch:
            try:
                if room is not None and len(item.data) > room:
                    raise OSError(errno.ENOSPC, f"less than {self._reserve >> 20} MiB are free, which logs leave alone")
                opened = self._writable(item.member)
                self._place(opened, item)
                touched[item.member] = opened
                assert opened.vouched is not None
                answers.append((item, opened.vouched))
                if room is not None:
                    room -= len(item.data)
            except LogError as error:
                answers.append((item, error))
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                self._say_full(f"{error.strerror} at {self._directory}")
                # The order of one member's chunks matters, so nothing after this one is tried.
                left = batch[len(answers) :]
                break
        list(self._syncers.map(_sync, [opened.descriptor for opened in touched.values()]))
        for directory in self._new_directories:
            _sync_directory(directory)
        self._new_directories.clear()
        for opened in touched.values():
            _write_index(opened)
        self.bytes_written += sum(len(item.data) for item, outcome in answers if isinstance(outcome, int))
        self._answer(answers)
        while len(self._open) > MAX_OPEN_FILES:
            self._shut(next(iter(self._open)))
        return left

    def _room(self) -> int | None:
        if not self._reserve:
            return None
        return room_beyond(self._directory, self._reserve)

    def _writable(self, member: MemberId) -> _Open:
        opened = self._open.get(member)
        if opened is None:
            path = self.path(member)
            if not path.parent.is_dir():
                path.parent.mkdir(mode=0o700)
                self._new_directories.add(self._directory)
            new = not path.exists()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if new:
                self._new_directories.add(path.parent)
            size = os.fstat(descriptor).st_size
            opened = _Open(descriptor, path, size, 0, 0)
            self._open[member] = opened
        self._open.move_to_end(member)
        return opened

    def _place(self, opened: _Open, item: _Append) -> None:
        if opened.vouched is None and item.offset <= opened.size:
            # Everything before it was acknowledged in an earlier life, or the agent would have begun there.
            opened.vouched = item.offset
            opened.boundary = opened.indexed = self.boundary_before(item.member, item.offset)
        if opened.vouched is None or item.offset > opened.vouched:
            raise LogGap(opened.size if opened.vouched is None else opened.vouched)
        view, at = memoryview(item.data), item.offset
        while view:
            written = os.pwrite(opened.descriptor, view, at)
            view, at = view[written:], at + written
            opened.size = max(opened.size, at)
        opened.vouched = max(opened.vouched, at)
        try:
            _walk(opened)
        except NoLog:
            os.ftruncate(opened.descriptor, opened.boundary)
            opened.size = opened.boundary
            opened.vouched = min(opened.vouched, opened.boundary)
            raise

    def _shut(self, member: MemberId) -> None:
        os.close(self._open.pop(member).descriptor)

    def _older_than(self, wall: float) -> Iterator[Path]:
        for path in self._directory.glob("*/*.log"):
            with contextlib.suppress(FileNotFoundError):  # its job was forgotten meanwhile
                if path.stat().st_mtime < wall:
                    yield path

    def _say_full(self, why: str) -> None:
        if why and not self.full:
            log.error("DISK-FULL: logs wait on the agents until there is room: %s", why)
        elif self.full and not why:
            log.warning("DISK-FULL is over: logs are written again")
        self.full = why

    def _answer(self, answers: list[tuple[_Append, int | Exception]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._tell, answers)
        except RuntimeError:
            # The loop is closed: nobody waits for these answers, and the agents will send again.
            log.debug("%d answers about logs after the end", len(answers))

    def _tell(self, answers: list[tuple[_Append, int | Exception]]) -> None:
        for item, outcome in answers:
            if item.done.done():
                continue
            if isinstance(outcome, Exception):
                item.done.set_exception(outcome)
            else:
                item.done.set_result(outcome)
                for watcher in self._watchers.get(item.member, ()):
                    watcher.note(item.member)


def _walk(opened: _Open) -> None:
    """Follows the frames from the last known boundary as far as is vouched; raises NoLog where none begins."""
    at = opened.boundary
    window_start, window = at, os.pread(opened.descriptor, MAX_CHUNK_BYTES, at)
    assert opened.vouched is not None
    while at + HEADER.size <= opened.vouched:
        if at + HEADER.size > window_start + len(window):
            window_start, window = at, os.pread(opened.descriptor, MAX_CHUNK_BYTES, at)
        magic, stream, _flags, length, _time = HEADER.unpack_from(window, at - window_start)
        if magic != MAGIC or not 1 <= stream <= 3 or length > MAX_FRAME_BYTES:
            opened.boundary = at
            raise NoLog(f"no frame begins at byte {at}")
        end = at + HEADER.size + length
        if end > opened.vouched:
            break
        at = end
        if at - opened.indexed >= INDEX_EVERY:
            opened.indexed = at
            opened.marks.append(at)
    opened.boundary = at


def _write_index(opened: _Open) -> None:
    if opened.marks:
        with opened.path.with_suffix(".idx").open("ab") as index:
            index.write(b"".join(mark.to_bytes(8, "little") for mark in opened.marks))
        opened.marks.clear()


def _sync(descriptor: int) -> None:
    os.fdatasync(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
