"""Takes a container's output apart: two streams come as one, in pieces with a head of eight bytes each.

The head is the stream's number, three zeros, and the length of what follows, big-endian (Docker's API reference,
"Attach to a container"). Standard library only: shims of containers use it.
"""

from collections.abc import Iterator

from quorate.model.logframes import Stream

_HEAD = 8
_STREAMS = {0: Stream.STDOUT, 1: Stream.STDOUT, 2: Stream.STDERR}


class StreamError(ValueError):
    """Bytes that are no output of a container."""


class Demultiplexer:
    """Bytes in, as they come; pieces of output out."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._stream = Stream.STDOUT

    def feed(self, data: bytes) -> Iterator[tuple[Stream, bytes]]:
        """What of the two streams is in `data`; nothing is kept back but an incomplete head. Raises StreamError."""
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                yield self._stream, piece
                continue
            lacking = _HEAD - len(self._head)
            self._head, data = self._head + data[:lacking], data[lacking:]
            if len(self._head) == _HEAD:
                number, zeros = self._head[0], self._head[1:4]
                if number not in _STREAMS or any(zeros):
                    raise StreamError(f"the engine sent {self._head.hex()} where a piece of output begins")
                self._stream, self._left = _STREAMS[number], int.from_bytes(self._head[4:], "big")
                self._head = b""
