"""The one prober: tries a flow and says whether it is open, refused, filtered, unroutable, or ends at the wrong host.

Both ends take part: a listener that holds a nonce answers challenges (probelisten.py), so that "open" means that the
host that was meant answered, and "refused" is never merely "nobody listened".

What an outcome rests on (Linux; verified with namespaces and nft):
    answer in time with the right proof           open
    ECONNREFUSED                                  refused: nobody listens, or a firewall says so (`reject`)
    silence                                       filtered: a firewall drops, on the way there or back
    EPERM, EACCES                                 filtered: a rule on this machine
    E…UNREACH and ICMP 3/9, 3/10 or 3/13          filtered: a firewall that says so (firewalld's default)
    ENETUNREACH, EHOSTUNREACH otherwise           unroutable: no route here, no host there, or a router says so
    an answer with another proof, or none         wrong host
    an answer, but no echo of full-size packets   mtu: they vanish on the way, and nobody says so
"""

from __future__ import annotations

import functools
from typing import Callable, Dict, List, Sequence

from quorate.launch.probeattempts import Attempt, Connection, Datagram
from quorate.launch.probevalues import Outcome, Place, Probe, Target
from quorate.launch.reactor import Reactor

__all__ = ["PARALLEL", "TIMEOUT_S", "Outcome", "Place", "Probe", "Probing", "Target", "probe"]

#: Longer than the kernel needs to find that no host has an address (three ARP requests, 3 s), and for two more SYNs.
TIMEOUT_S = 3.5
#: Attempts under way at once; each is a socket.
PARALLEL = 256


class Probing:
    """Tries all targets at once (up to `parallel`) in somebody's reactor; `done` gets the results in the same order.

    `deadline_s` bounds the whole, whatever is left to read: what has not come to an end by then counts as not tried.
    None for no bound.
    """

    def __init__(
        self,
        reactor: Reactor,
        targets: Sequence[Target],
        nonce: bytes,
        done: Callable[[List[Probe]], None],
        *,
        timeout_s: float = TIMEOUT_S,
        parallel: int = PARALLEL,
        deadline_s: float | None = None,
    ) -> None:
        self._reactor = reactor
        self._targets = targets
        self._nonce = nonce
        self._done: Callable[[List[Probe]], None] | None = done
        self._timeout_s = timeout_s
        self._results: Dict[int, Probe] = {}
        self._next = 0
        self._under_way: Dict[int, Attempt] = {}
        self._parallel = parallel
        # Not at once: whoever makes it wants to hold it before it calls back.
        reactor.after(0, self._start_more)
        if deadline_s is not None:
            reactor.at_latest(deadline_s, self._finish)

    def stop(self) -> None:
        """Ends all attempts at once, without a word."""
        self._done = None
        for attempt in self._under_way.values():
            attempt.abandon()
        self._under_way.clear()

    def _start_more(self) -> None:
        while self._done is not None and self._next < len(self._targets) and len(self._under_way) < self._parallel:
            position, target = self._next, self._targets[self._next]
            self._next += 1
            ended = functools.partial(self._ended, position)
            kind = Datagram if target.place.transport == "udp" else Connection
            self._under_way[position] = attempt = kind(self._reactor, target, self._nonce, self._timeout_s, ended)
            attempt.start()
        if self._next == len(self._targets) and not self._under_way:
            self._finish()

    def _ended(self, position: int, result: Probe) -> None:
        self._results[position] = result
        self._under_way.pop(position, None)
        # Not from here: an attempt that fails at once would start the next, and that one the next, without end.
        if self._next < len(self._targets) or not self._under_way:
            self._reactor.after(0, self._start_more)

    def _finish(self) -> None:
        done, self._done = self._done, None
        self.stop()
        if done is not None:
            why = "there was no time left to try it"
            late = (Probe(target, Outcome.UNDETERMINED, why, tried=False) for target in self._targets)
            done([self._results.get(position, probe) for position, probe in enumerate(late)])


def probe(
    targets: Sequence[Target], nonce: bytes, *, timeout_s: float = TIMEOUT_S, parallel: int = PARALLEL
) -> List[Probe]:
    """Tries all targets at once (up to `parallel`), and returns their results in the same order. Raises nothing."""
    reactor = Reactor()
    found: List[Probe] = []

    def done(results: List[Probe]) -> None:
        found.extend(results)
        reactor.stop()

    try:
        Probing(reactor, targets, nonce, done, timeout_s=timeout_s, parallel=parallel)
        reactor.run()
    finally:
        reactor.close()
    return found
