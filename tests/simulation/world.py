"""The simulated clock and what happens when: every delay and every choice comes from one seed."""

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any


class Token:
    """Something that is to happen, unless it is cancelled."""

    __slots__ = ("cancelled",)

    def __init__(self) -> None:
        self.cancelled = False


class World:
    """Time, chance, and the diary of one history."""

    def __init__(self, seed: int, verbose: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 1000.0
        self.steps = 0
        self.diary: list[str] = []
        self._verbose = verbose
        self._order = count()
        self._coming: list[tuple[float, int, Token, Callable[..., None], tuple[Any, ...]]] = []

    @property
    def wall(self) -> float:
        """UTC seconds; they run apart from `now`, as wall clocks do."""
        return 1_800_000_000.0 + self.now

    def after(self, delay: float, what: Callable[..., None], *values: Any) -> Token:
        """Calls `what(*values)` in `delay` seconds."""
        token = Token()
        heapq.heappush(self._coming, (self.now + max(0.0, delay), next(self._order), token, what, values))
        return token

    def step(self) -> bool:
        """Lets the next thing happen; False if nothing is left to happen."""
        while self._coming:
            at, _, token, what, values = heapq.heappop(self._coming)
            if not token.cancelled:
                self.now = at
                self.steps += 1
                what(*values)
                return True
        return False

    def entropy(self) -> bytes:
        """32 bytes, as unguessable as a seed allows."""
        return self.random.randbytes(32)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random.random() < probability

    def tell(self, who: str, what: object) -> None:
        """Notes what happened, for the diary of a failed history."""
        if self._verbose:
            self.diary.append(f"{self.now:10.3f}  {who:<8} {what}")
