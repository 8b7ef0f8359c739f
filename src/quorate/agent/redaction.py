"""Blanks secrets in a stream of bytes, also where a read cuts one in two. Standard library only."""

import re
from collections.abc import Iterable

BLANK = b"[secret]"


class Redactor:
    """For one stream. What may be the beginning of a secret is held back until it is known to be none, or flushed.

    A secret of several lines is also blanked line by line, for programs rarely print a key in one piece.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        words: set[bytes] = set()
        for secret in secrets:
            stripped = secret.strip(b"\r\n")
            words |= {word for word in (secret, stripped) if word}
            words |= {line.strip() for line in stripped.split(b"\n") if len(line.strip()) >= 8}
        # The longest first: an alternation takes the first that matches.
        self._words = sorted(words, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._words))) if self._words else None
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What of the stream is safe to keep now."""
        if self._pattern is None:
            return data
        data = self._held + data
        done, at = [], 0
        limit = self._open(data)
        for found in self._pattern.finditer(data):
            if found.start() >= limit:
                break
            done += [data[at : found.start()], BLANK]
            at = found.end()
        limit = max(at, limit)
        done.append(data[at:limit])
        self._held = data[limit:]
        return b"".join(done)

    def flush(self) -> bytes:
        """The stream is at its end: what was held back, blanked where it holds whole secrets."""
        held, self._held = self._held, b""
        return self._pattern.sub(BLANK, held) if self._pattern else held

    def _open(self, data: bytes) -> int:
        """Where the earliest piece begins that more bytes could make a secret."""
        earliest = len(data)
        for word in self._words:
            start = max(0, len(data) - len(word) + 1)
            at = data.find(word[:1], start)
            while 0 <= at < earliest:
                if word.startswith(data[at:]):
                    earliest = at
                    break
                at = data.find(word[:1], at + 1)
        return earliest
