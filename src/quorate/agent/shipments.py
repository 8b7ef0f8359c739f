"""What of the members' logs has to go to the master next: a window over each log, without I/O but reading them.

Bytes are sent in order of offset, several chunks ahead of the acknowledgements. After a reconnect each log begins again
at what was acknowledged, with one chunk that the master has to accept before more are sent ahead.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quorate.model.messages import LogAck, LogChunk, LogRefuse

#: Bytes in one chunk at most; the master takes no more.
MAX_CHUNK = 256 * 1024
#: Bytes of one log that are under way at most.
WINDOW = 2 * 1024 * 1024
ACKED = "acked"


@dataclass
class _Log:
    """One member's log on this machine."""

    folder: Path
    size: int
    acked: int
    sent: int
    #: The master has answered on this link, so that chunks may be sent ahead.
    open: bool = False
    #: The master wants no more of it.
    refused: bool = False
    file: int = -1


@dataclass(frozen=True)
class Progress:
    """The master has the log up to `offset`; `whole` if it wants no more."""

    member: str
    offset: int
    whole: bool = False


class OutOfStep(Exception):
    """Chunks that are under way no longer fit what the master expects: begin again on a new link."""


class Shipments:
    """All logs of this agent. `take` gives the next chunk, each member in turn."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        #: Members that may have something to send; a dict for its order.
        self._ready: dict[str, None] = {}

    def follow(self, member: str, folder: Path) -> int:
        """Begins or goes on with a member's log; returns what of it was acknowledged in an earlier life."""
        log = self._logs[member] = _Log(folder, 0, 0, 0)
        size = self.grew(member)
        with suppress(OSError, ValueError):
            acked = int((folder / ACKED).read_text())
            # More than there is can only be damage, by which the rest of the log would never be sent.
            if 0 <= acked <= size:
                log.acked = log.sent = acked
        return log.acked

    def grew(self, member: str, size: int | None = None) -> int:
        """The log has this size now (or its file's); returns it."""
        log = self._logs.get(member)
        if log is None:
            return 0
        if size is None:
            try:
                size = (log.folder / "log").stat().st_size
            except OSError:
                size = 0
        log.size = max(log.size, size)
        self._ready[member] = None
        return log.size

    def drop(self, member: str) -> None:
        """Nobody wants the log any more."""
        log = self._logs.pop(member, None)
        self._ready.pop(member, None)
        if log is not None and log.file >= 0:
            os.close(log.file)

    def restart(self) -> None:
        """A new link: what was under way on the old one may be lost."""
        for member, log in self._logs.items():
            log.sent, log.open = log.acked, False
            self._ready[member] = None

    def take(self) -> LogChunk | None:
        """The next chunk to send; None if nothing may be sent now."""
        while self._ready:
            member = next(iter(self._ready))
            del self._ready[member]
            log = self._logs[member]
            ahead = log.sent - log.acked
            if log.refused or log.sent >= log.size or ahead >= (WINDOW if log.open else 1):
                continue
            data = self._read(log, min(MAX_CHUNK, log.size - log.sent))
            if not data:
                continue
            chunk = LogChunk(member, log.sent, data)
            log.sent += len(data)
            self._ready[member] = None
            return chunk
        return None

    def answered(self, answer: LogAck | LogRefuse) -> Progress | None:
        """Takes what the master says; raises OutOfStep where the link has to begin again."""
        log = self._logs.get(answer.member)
        if log is None:
            return None
        if isinstance(answer, LogAck):
            log.open = True
            if answer.offset <= log.acked:
                return None
            self._acknowledge(log, answer.offset)
        elif answer.expected < 0:
            log.refused = True
        elif log.open:
            raise OutOfStep(f"{answer.member}: {answer.reason or f'byte {answer.expected} is expected'}")
        else:
            # The first chunk on this link: the master's word counts, whatever an earlier life of it acknowledged.
            log.open = True
            log.acked = log.sent = answer.expected
            self._save(log)
        self._ready[answer.member] = None
        return Progress(answer.member, log.acked, log.refused)

    def _acknowledge(self, log: _Log, offset: int) -> None:
        log.acked = offset
        log.sent = max(log.sent, offset)
        self._save(log)

    def _save(self, log: _Log) -> None:
        # Of a fixed length and written at once: a crash leaves the old or the new number.
        with suppress(OSError):
            fd = os.open(log.folder / ACKED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(fd, b"%020d" % log.acked, 0)
            finally:
                os.close(fd)

    def _read(self, log: _Log, length: int) -> bytes:
        try:
            if log.file < 0:
                log.file = os.open(log.folder / "log", os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(log.file, length, log.sent)
        except OSError:
            return b""
