"""The cursor of a log stream: for each member, the offset up to which its reader has everything.

As text, which is what `cursor=` of the API takes: `<attempt>.<rank>.<incarnation>:<offset>` for each member, joined by
commas; the job is known from the path. A member that is not named begins at 0.
"""

import re
from collections.abc import Mapping

from quorate.model.ids import JobId, MemberId

#: As many characters as fit a request line that every HTTP parser takes; enough for 4096 members.
MAX_CURSOR_BYTES = 62 * 1024
_PART = re.compile(r"([0-9]{1,6}\.[0-9]{1,5}\.[0-9]{1,5}):([0-9]{1,18})")


class CursorError(ValueError):
    """A text that is no cursor."""


def format_cursor(offsets: Mapping[MemberId, int]) -> str:
    """The text of a cursor over the members of one job."""
    return ",".join(f"{member.rsplit('-', 1)[1]}:{offset}" for member, offset in sorted(offsets.items()) if offset)


def parse_cursor(job: JobId, text: str) -> dict[MemberId, int]:
    """Reads what format_cursor wrote for a member of `job`; raises CursorError."""
    if len(text) > MAX_CURSOR_BYTES:
        raise CursorError(f"a cursor has at most {MAX_CURSOR_BYTES} characters, this one has {len(text)}")
    offsets: dict[MemberId, int] = {}
    for part in filter(None, text.split(",")):
        match = _PART.fullmatch(part)
        if not match:
            raise CursorError(f"{part[:40]!r} is no part of a cursor; it looks like 1.0.1:4096")
        offsets[MemberId(f"{job}-{match[1]}")] = int(match[2])
    return offsets
