"""Cuts lines out of a member's log: by stream, whole where they can be, and never a byte lost or told twice.

A line ends at a newline; a carriage return is part of it, so that a progress bar arrives as it was drawn. What is told
is a *piece*: usually a whole line (`end` is a newline), else a part of one (`end` is empty, the next piece of that
stream goes on): where the line is longer than MAX_LINE_BYTES, where the log ends, and, for a reader who follows, where
the member has paused in the middle of a line. Text and end of all pieces of a stream, joined, are the stream.

A cursor is a place in the log: the end of the piece before it. Where unfinished lines were told, it lies within the 16
bytes that are the next frame's header, where no piece can end, and says by its distance from the last frame whose
unfinished lines were told.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from quorate.master.logs import LogStore
from quorate.model.ids import MemberId
from quorate.model.logframes import HEADER, FrameError, Stream, decode_frames

#: Longer lines are told in parts.
MAX_LINE_BYTES: Final = 2 * 1024 * 1024
#: How far before a cursor reading begins, for the beginnings of lines that were unfinished there.
LOOK_BACK_BYTES: Final = MAX_LINE_BYTES
#: Where the last lines are looked for first.
_TAIL_BYTES: Final = 256 * 1024
#: Read from the disk at once.
READ_BYTES: Final = 1024 * 1024

#: A cursor that tells of unfinished lines lies the sum of these beyond the last frame; together less than a header.
_TOLD: Final = {Stream.STDOUT: 1, Stream.STDERR: 2, Stream.PLATFORM: 4}
_ENDED: Final = 8


class Piece(NamedTuple):
    """A line or a part of one. `offset` is where in the log it ends: the cursor after it. Time: ns since 1970, UTC."""

    stream: Stream
    time_ns: int
    data: bytes
    end: str
    offset: int

    @property
    def text(self) -> str:
        """The bytes as text; what is no UTF-8 becomes the replacement character."""
        return self.data.decode("utf-8", "replace")


@dataclass(slots=True)
class _Unfinished:
    """The beginning of a line. `time_ns` is that of its first byte, `offset` the place after its last."""

    time_ns: int = 0
    offset: int = 0
    parts: list[bytes] = field(default_factory=list)
    size: int = 0


class LogReader:
    """Reads one member's log from a cursor on, as far as it goes, and further when it has grown.

    Blocks on the disk: to be used in a thread, by one thread at a time.
    """

    def __init__(self, store: LogStore, member: MemberId, cursor: int = 0, begin: int | None = None) -> None:
        """`cursor` is what has been told already; `begin` a frame boundary to begin at, whatever lies before."""
        self.member = member
        self._store = store
        self._told = cursor
        near = max(0, cursor - LOOK_BACK_BYTES)
        self._at = begin if begin is not None else store.boundary_before(member, near) if near else 0
        self._unfinished: dict[Stream, _Unfinished] = {}

    def read(self, limit: int = READ_BYTES) -> list[Piece] | None:
        """The pieces in up to `limit` more bytes of log, or None where nothing more is there now.

        Lines that have not ended are kept for later. What is no frame is what a loss of power left, until it is sent
        again: nothing more is there now.
        """
        try:
            with self._store.path(self.member).open("rb") as file:
                file.seek(self._at)
                data = file.read(limit)
        except FileNotFoundError:
            return None
        began = self._at
        pieces: list[Piece] = []
        with suppress(FrameError):
            for frame in self._frames(data):
                pieces.extend(piece for piece in self._cut(*frame) if piece.offset > self._told)
        return pieces if self._at > began else None

    def finish(self, *, ended: bool) -> list[Piece]:
        """Lines that have no end yet, as far as they go; a character that has only begun waits until all `ended`."""
        pieces = []
        cursor = self._at + (_ENDED if ended else 0)
        for stream, line in sorted(self._unfinished.items()):
            told, kept = _parted(line, 0 if ended else None)
            if told:
                cursor += _TOLD[stream]
                pieces.append(Piece(stream, line.time_ns, told, "", cursor))
                self._unfinished[stream] = _Unfinished(line.time_ns, line.offset, [kept], len(kept))
        return pieces

    def _forget_what_was_told(self, mask: int) -> None:
        """Undoes, for a cursor that `finish` gave, the unfinished lines that it told."""
        for stream, line in list(self._unfinished.items()):
            if mask & _TOLD[stream]:
                kept = _parted(line, 0 if mask & _ENDED else None)[1]
                self._unfinished[stream] = _Unfinished(line.time_ns, line.offset, [kept], len(kept))

    def _frames(self, data: bytes) -> Iterator[tuple[Stream, int, int, bytes]]:
        """Each frame's stream, time, place of its first byte, and bytes; moves on to the end of the last whole one."""
        for frame in decode_frames(data, self._at):
            yield frame.stream, frame.time_ns, frame.offset + HEADER.size, frame.data
            self._at = frame.end
            if frame.end < self._told <= frame.end + HEADER.size:
                self._forget_what_was_told(self._told - frame.end)

    def _cut(self, stream: Stream, time_ns: int, at: int, text: bytes) -> Iterator[Piece]:
        if not text:
            return
        line = self._unfinished.get(stream)
        # The byte before the cursor was told, so everything of its stream before it was.
        if at < self._told < at + len(text):
            newline = text.rfind(b"\n", 0, self._told - at)
            if newline + 1 < self._told - at:
                text, at, line = text[self._told - at :], self._told, None
        elif self._told == at + len(text) and not text.endswith(b"\n"):
            self._unfinished.pop(stream, None)
            return
        begin = 0
        while (newline := text.find(b"\n", begin)) >= 0:
            data = text[begin:newline]
            began = time_ns
            if line is not None and line.size:
                began, data = line.time_ns, b"".join((*line.parts, data))
                line = None
            yield Piece(stream, began, data, "\n", at + newline + 1)
            begin = newline + 1
        if begin == len(text):
            self._unfinished.pop(stream, None)
            return
        if line is None or not line.size or begin:
            line = _Unfinished(time_ns)
        line.parts.append(text[begin:] if begin else text)
        line.size += len(text) - begin
        line.offset = at + len(text)
        self._unfinished[stream] = line
        if line.size >= MAX_LINE_BYTES:
            told, kept = _parted(line)
            if len(kept) >= len(text):
                told, kept = told + kept, b""
            yield Piece(stream, line.time_ns, told, "", line.offset - len(kept))
            self._unfinished[stream] = _Unfinished(time_ns, line.offset, [kept], len(kept))


def last_lines(store: LogStore, member: MemberId, count: int) -> int:
    """The cursor after which the last `count` lines of the member's log come; blocks on the disk."""
    size = store.size(member)
    step = _TAIL_BYTES
    while count > 0:
        start = store.boundary_before(member, max(0, size - step))
        reader = LogReader(store, member, begin=start)
        # Only the last ones matter, however long the log is.
        ends: deque[int] = deque(maxlen=count + 1)
        while (pieces := reader.read()) is not None:
            ends.extend(piece.offset for piece in pieces if piece.end)
        whole = count - (1 if reader.finish(ended=True) else 0)
        if len(ends) > whole:
            return ends[len(ends) - 1 - whole]
        if start == 0:
            return 0
        step *= 4
    return size


def _parted(line: _Unfinished, keep: int | None = None) -> tuple[bytes, bytes]:
    """What of an unfinished line can be told, and the character at its end that has only begun."""
    data = b"".join(line.parts)
    at = len(data) - (_begun_character(data) if keep is None else keep)
    return data[:at], data[at:]


def _begun_character(data: bytes) -> int:
    """How many bytes at the end are the beginning of a UTF-8 character that is not complete."""
    for length in range(1, min(3, len(data)) + 1):
        byte = data[-length]
        if byte & 0b1100_0000 == 0b1000_0000:
            continue
        needed = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4 if byte >> 3 == 0b11110 else 1
        return length if needed > length else 0
    return 0
