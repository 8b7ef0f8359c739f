"""Lets reconnecting agents in at a rate: after a restart all of them knock at once, and each welcome has a price."""

import math
from typing import Final

#: Welcomes in a second, and how many may come at once. Five thousand agents are back within a quarter of a minute.
RATE: Final = 400.0
BURST: Final = 200
#: Who would be let in within this waits on the open connection; who would not is told when to come again.
LONGEST_WAIT_S: Final = 2.0
#: Nobody is sent away for longer: the line is shorter by then.
LONGEST_RETRY_S: Final = 30.0


class Admission:
    """Hands out moments, evenly spaced. `now` is seconds on any clock that does not jump."""

    def __init__(self, rate: float = RATE, burst: int = BURST) -> None:
        self._interval = 1.0 / rate
        self._slack = burst * self._interval
        self._next = -math.inf

    def wait(self, now: float) -> float | None:
        """Seconds to wait before going on; None where that is too long: then `retry_after` says what to answer."""
        at = max(self._next, now - self._slack)
        if at - now > LONGEST_WAIT_S:
            return None
        self._next = at + self._interval
        return max(0.0, at - now)

    def retry_after(self, spread: float) -> int:
        """Whole seconds after which to come again; `spread` (0 to 1, random) keeps them from coming together."""
        return max(1, math.ceil(LONGEST_WAIT_S + spread * (LONGEST_RETRY_S / 3 - LONGEST_WAIT_S)))
