"""A member's log as its shim writes it: framed, secrets blanked, patient with a full disk. Standard library only."""

import errno
import os
import time
from collections import deque
from collections.abc import Iterable

from quorate.agent.redaction import Redactor
from quorate.model.logframes import MAX_FRAME_BYTES, Stream, encode_frame

#: What a full disk, a quota or a limit on file sizes answers.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TAIL_BYTES = 2048
_MAX_IOVECS = 512


class ShimLog:
    """Takes output in order; what cannot be written now is kept until `flush` can, and `blocked` says so meanwhile."""

    def __init__(self, path: str, secrets: Iterable[str] = ()) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        words = [secret.encode() for secret in secrets]
        self._redactors = {stream: Redactor(words) for stream in (Stream.STDOUT, Stream.STDERR)}
        self._pending: deque[bytes] = deque()
        self._tail = b""
        #: Bytes in the file, whole frames or not.
        self.size = os.fstat(self._fd).st_size
        #: The error that keeps output from being written; 0 if nothing does.
        self.blocked = 0

    def take(self, stream: Stream, data: bytes) -> None:
        """Output of the member. Read no more of it while `blocked`."""
        self._add(stream, self._redactors[stream].feed(data))

    def end(self) -> None:
        """Both streams are at their end."""
        for stream, redactor in self._redactors.items():
            self._add(stream, redactor.flush())

    def say(self, sentence: str) -> None:
        """Quorate's own words in the member's log."""
        self._pending.append(encode_frame(Stream.PLATFORM, time.time_ns(), f"{sentence}\n".encode()))
        self.flush()

    @property
    def tail(self) -> str:
        """The last lines of output, for the job's reason."""
        return self._tail[-_TAIL_BYTES:].decode(errors="replace")

    @property
    def pending(self) -> int:
        """Bytes that could not be written yet."""
        return sum(map(len, self._pending))

    def flush(self) -> bool:
        """Writes what is pending; False if the disk is full, or refuses for another reason."""
        while self._pending:
            try:
                batch = [self._pending[i] for i in range(min(len(self._pending), _MAX_IOVECS))]
                written = os.writev(self._fd, batch)
            except OSError as error:
                self.blocked = error.errno or errno.EIO
                return False
            self.size += written
            while written:
                first = self._pending.popleft()
                if written < len(first):
                    # The rest of a torn frame follows when there is room: readers wait for whole frames.
                    self._pending.appendleft(first[written:])
                    break
                written -= len(first)
        self.blocked = 0
        return True

    def close(self) -> None:
        """Nobody writes to it any more."""
        os.close(self._fd)

    def give_up(self) -> int:
        """Drops what is pending, so that the member can end on a full disk; returns how many bytes were lost."""
        lost = self.pending
        self._pending.clear()
        return lost

    def _add(self, stream: Stream, data: bytes) -> None:
        if not data:
            return
        self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        now = time.time_ns()
        for at in range(0, len(data), MAX_FRAME_BYTES):
            self._pending.append(encode_frame(stream, now, data[at : at + MAX_FRAME_BYTES]))
        if not self.blocked:
            self.flush()
