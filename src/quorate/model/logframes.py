"""The format of a member's log on disk and on the wire: frames of raw output, each with its time and stream.

A frame is a header of 16 bytes (magic, stream, flags, length, wall clock in nanoseconds; big-endian) and the bytes as
the member wrote them. A frame is no line: lines are cut when a log is read, so that a progress bar, a line of a
mebibyte or binary rubbish costs nothing on the way.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

HEADER: Final = struct.Struct(">BBHIQ")
MAGIC: Final = 0x51
#: Bytes of output in one frame at most; a longer write becomes several frames.
MAX_FRAME_BYTES: Final = 64 * 1024


class Stream(IntEnum):
    """Where the bytes of a frame come from."""

    STDOUT = 1
    STDERR = 2
    #: Quorate's own words in the member's log, such as why it was stopped.
    PLATFORM = 3


class Frame(NamedTuple):
    """One frame: its place in the log, the offset of the next one, its stream, time (ns since 1970, UTC) and bytes."""

    offset: int
    end: int
    stream: Stream
    time_ns: int
    data: bytes


class FrameError(ValueError):
    """Bytes that are no log; `offset` says where."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(f"at byte {offset}: {why}")
        self.offset = offset


def encode_frame(stream: Stream, time_ns: int, data: bytes) -> bytes:
    """One frame as it stands in the log; at most MAX_FRAME_BYTES of data."""
    if len(data) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame holds at most {MAX_FRAME_BYTES} bytes, {len(data)} were given")
    return HEADER.pack(MAGIC, stream, 0, len(data), time_ns) + data


def decode_frames(data: bytes | memoryview, offset: int = 0) -> Iterator[Frame]:
    """The whole frames in `data`, which begins at `offset` of the log; an incomplete last one is left for later.

    Raises FrameError where the bytes are no frame.
    """
    view = memoryview(data)
    at = 0
    while at + HEADER.size <= len(view):
        magic, stream, _flags, length, time_ns = HEADER.unpack_from(view, at)
        if magic != MAGIC or length > MAX_FRAME_BYTES or stream not in (1, 2, 3):
            raise FrameError(offset + at, "no frame begins here")
        end = at + HEADER.size + length
        if end > len(view):
            return
        yield Frame(offset + at, offset + end, Stream(stream), time_ns, bytes(view[at + HEADER.size : end]))
        at = end
