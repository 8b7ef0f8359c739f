"""How far an agent's link may run ahead of the core: beyond it nothing more is read from its socket."""

from typing import Final

from quorate.master.writer import Writer

#: Messages, and bytes of them, that are taken from one link before the core must have taken in the last of them. An
#: agent sends a few in a second; who sends without end waits for its turn, and holds up nobody else.
MOST_MESSAGES: Final = 64
MOST_BYTES: Final = 1024 * 1024


class Ahead:
    """Counts what one link has brought; a reader awaits `took` after each message."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._messages = 0
        self._bytes = 0

    async def took(self, size: int) -> None:
        """A message of `size` bytes was fed; returns when another may be read."""
        self._messages += 1
        self._bytes += size
        if self._messages >= MOST_MESSAGES or self._bytes >= MOST_BYTES:
            await self._writer.taken_in()
            self._messages = self._bytes = 0
