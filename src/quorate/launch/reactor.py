"""Waits for sockets and moments in one thread: the little that a companion needs of an event loop, started fast."""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import time
from typing import Callable, Dict, List, Tuple

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


class _Watched:
    """The interest in a socket."""

    __slots__ = ("events", "ready")

    def __init__(self, events: int, ready: Callable[[int], None]) -> None:
        self.events = events
        self.ready = ready


#: A moment, a number that keeps the order of those at one moment, and what is to come.
_Due = Tuple[float, int, Timer]


class Reactor:
    """Calls back when sockets are ready or moments have come, until it is stopped."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        #: By file descriptor. The selector's own look-ups take five times as long.
        self._watched: Dict[int, _Watched] = {}
        self._timers: List[_Due] = []
        self._limits: List[_Due] = []
        self._order = itertools.count()
        self._stopped = False

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def watch(self, sock: socket.socket, events: int, ready: Callable[[int], None]) -> None:
        """Calls `ready(events)` whenever the socket is; replaces what was asked for before. 0 events end it."""
        fd = sock.fileno()
        known = self._watched.get(fd)
        if not events:
            if known is not None:
                del self._watched[fd]
                self._selector.unregister(fd)
            return
        if known is None:
            self._watched[fd] = known = _Watched(events, ready)
            self._selector.register(fd, events, known)
        elif known.events != events:
            self._selector.modify(fd, events, known)
        known.events, known.ready = events, ready

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        return self._put(self._timers, seconds, call)

    def at_latest(self, seconds: float, call: Callable[[], None]) -> Timer:
        """As `after`, but not even sockets that are ready come first: for limits, which hold whatever is unread."""
        return self._put(self._limits, seconds, call)

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
                self._fire(self._limits, self.now() if self._limits else asked)
                watched = self._watched.get(key.fd)
                # A call before this one may have ended the interest in this socket, and another one have its number.
                if watched is not None and watched is key.data and watched.events & events:
                    watched.ready(watched.events & events)
            self._fire(self._limits, self.now())
            self._fire(self._timers, asked)

    def close(self) -> None:
        self._selector.close()

    def _put(self, timers: List[_Due], seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        heapq.heappush(timers, (self.now() + seconds, next(self._order), timer))
        return timer

    def _fire(self, timers: List[_Due], now: float) -> None:
        while timers and timers[0][0] <= now and not self._stopped:
            heapq.heappop(timers)[2].fire()

    def _until_next_timer(self) -> float | None:
        due = [timers[0][0] for timers in (self._timers, self._limits) if timers]
        return max(0.0, min(due) - self.now()) if due else None
