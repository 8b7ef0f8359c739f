"""How late the event loop is: what every answer waits for at least."""

import asyncio
import time
from typing import Final

_PERIOD_S: Final = 1.0


class LoopLag:
    """The last measurement, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def measure(self) -> None:
        """Measures for ever: for a task of its own."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(_PERIOD_S)
            self.seconds = max(0.0, time.perf_counter() - before - _PERIOD_S)
