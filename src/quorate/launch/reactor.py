"""Waits for sockets and moments in one thread: the little that a companion needs of an event loop, started fast."""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import time
from typing import Callable, List, Tuple

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Timer:
    """A call that is to come, unless it is cancelled."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self._call = None

    def fire(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class Reactor:
    """Calls back when sockets are ready or moments have come, until it is stopped."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: List[Tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopped = False

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def watch(self, sock: socket.socket, events: int, ready: Callable[[int], None]) -> None:
        """Calls `ready(events)` whenever the socket is; replaces what was asked for before. 0 events end it."""
        known = sock.fileno() in self._selector.get_map()
        if not events:
            if known:
                self._selector.unregister(sock)
        elif known:
            self._selector.modify(sock, events, ready)
        else:
            self._selector.register(sock, events, ready)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        heapq.heappush(self._timers, (self.now() + seconds, next(self._order), timer))
        return timer

    def stop(self) -> None:
        """`run` returns after the calls that are under way."""
        self._stopped = True

    def run(self) -> None:
        while not self._stopped:
            ready = self._selector.select(self._until_next_timer())
            # A timer may say that something has not come, so the sockets were asked at its moment or later: a process
            # that gets no time for seconds would else take for silence what it has not read.
            asked = self.now()
            for key, events in ready:
                # A call before this one may have ended the interest in this socket.
                if self._selector.get_map().get(key.fd) == key:
                    key.data(events)
            while self._timers and self._timers[0][0] <= asked and not self._stopped:
                heapq.heappop(self._timers)[2].fire()

    def close(self) -> None:
        self._selector.close()

    def _until_next_timer(self) -> float | None:
        return max(0.0, self._timers[0][0] - self.now()) if self._timers else None
