"""Tells all members at once when one of them has failed, so that nobody waits for the dead.

Members keep a connection to a *hub*: the lowest rank whose companion still lives. All listen from before the barrier,
so a hub that refuses connections is gone, and everyone goes on to the next rank, where the same ones meet again.

Whatever is said about a failure comes from a companion that saw it. **A connection that breaks is never a failure**:
being cut off is not being dead, and whether an agent is lost is for the master to decide. A broken connection is made
again for as long as the member runs, and only mentioned when it stays broken for `watch_grace_s`.
"""

from __future__ import annotations

from typing import Callable, Set

from quorate.launch.config import Configuration, Purpose
from quorate.launch.lines import Lines, Object
from quorate.launch.links import Caller, Door, Links, Trouble
from quorate.launch.reactor import Reactor

#: A finding's code: the companions of two members have lost each other.
WATCH_LOST = "WATCH-LOST"
#: How long a companion whose member has ended tries to say so.
FAREWELL_S = 5.0
#: Characters of a reason that are passed on.
_REASON = 500


class Watch:
    """One member's part. Listens from the start (raises PortTaken); connects when told to `start`.

    `on_stop(reason)`: another member has failed; comes once at most. `on_notice(code, sentence)`: worth a line, and
    nothing more. `on_done()`: the own member has ended, and all that is to be said about it is said.
    """

    def __init__(
        self,
        reactor: Reactor,
        configuration: Configuration,
        on_stop: Callable[[str], None],
        on_notice: Callable[[str, str], None],
        on_done: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._configuration = configuration
        self._on_stop = on_stop
        self._on_notice = on_notice
        self._on_done = on_done
        self._hub = configuration.first.rank
        self._caller: Caller | None = None
        self._to_hub: Lines | None = None
        self._members = Links()
        #: Members that have said how they ended: their silence means nothing.
        self._ended: Set[int] = set()
        #: The first failure that is known; later ones are its echo.
        self._failure: str | None = None
        self._own_end: Object | None = None
        self._closed = False
        self._door = Door(reactor, configuration, Purpose.WATCH, self._came)

    @property
    def is_hub(self) -> bool:
        return self._hub == self._configuration.rank

    def start(self) -> None:
        for member in self._configuration.members if self.is_hub else ():
            if member.rank != self._configuration.rank:
                self._mention_later(member.rank, "its companion never came")
        self._go_to_hub()

    def own_ended(self, failure: str | None) -> None:
        """The own member has ended; `failure` says how if it failed, and is none where it ended well or was stopped."""
        first = failure is not None and self._failure is None
        self._own_end = {"failed": failure} if first else {"ended": True}
        if failure is not None and first:
            self._failure = failure[:_REASON]
            self._members.send_to_all({"stop": self._failure})
        self._reactor.after(FAREWELL_S, self._done)
        if self._to_hub is not None:
            self._to_hub.send(self._own_end)
        self._done_if_all_is_said()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._door.close()
        if self._caller is not None:
            self._caller.stop()
        if self._to_hub is not None:
            self._to_hub.close_when_sent()
        self._members.close_all_when_sent()

    # --- as a hub

    def _came(self, rank: int, link: Lines) -> None:
        link.on_object = lambda message: self._said(rank, link, message)
        link.on_end = lambda why: self._left(rank, link, why)
        self._members.put(rank, link)
        if self._failure is not None:
            link.send({"stop": self._failure})
        self._done_if_all_is_said()

    def _said(self, rank: int, link: Lines, message: Object) -> None:
        failure = message.get("failed")
        if isinstance(failure, str):
            self._take(failure[:_REASON])
        elif message.get("ended") is not True:
            return
        self._ended.add(rank)
        link.send({"noted": True})
        self._done_if_all_is_said()

    def _left(self, rank: int, link: Lines, why: str) -> None:
        if self._members.drop(rank, link) and rank not in self._ended:
            self._mention_later(rank, why)

    # --- as everyone else

    def _go_to_hub(self) -> None:
        if self._closed:
            return
        if self.is_hub:
            self._done_if_all_is_said()
            return
        self._caller = Caller(
            self._reactor,
            self._configuration,
            Purpose.WATCH,
            self._configuration.members[self._hub],
            self._met_hub,
            on_trouble=self._troubled,
        )

    def _met_hub(self, link: Lines) -> None:
        self._to_hub = link
        link.on_object = self._told
        link.on_end = self._lost_hub
        if self._own_end is not None:
            link.send(self._own_end)

    def _told(self, message: Object) -> None:
        stop = message.get("stop")
        if isinstance(stop, str):
            self._take(stop[:_REASON])
        elif message.get("noted") is True and self._own_end is not None:
            self._done()

    def _troubled(self, trouble: Trouble) -> None:
        if trouble is Trouble.REFUSED:
            if self._caller is not None:
                self._caller.stop()
            self._hub += 1
            self._go_to_hub()

    def _lost_hub(self, why: str) -> None:
        self._to_hub = None
        hub = self._hub
        if self._own_end is not None and "ended" in self._own_end:
            self._done()
            return
        self._mention_later(hub, why)
        self._go_to_hub()

    # --- both

    def _take(self, failure: str) -> None:
        """A failure that another companion has seen."""
        if self._failure is None:
            self._failure = failure
            self._members.send_to_all({"stop": failure})
            if self._own_end is None:
                self._on_stop(failure)

    def _done_if_all_is_said(self) -> None:
        """A failure is said when every member that could be told has come; a good end needs nobody to hear it."""
        if self._own_end is None:
            return
        if self._to_hub is not None:
            return  # the hub answers that it has noted the end
        if self.is_hub and self._failure is not None:
            # Whoever's failure it is: who comes late hears of it from nobody else. Lower ranks have been found gone.
            told = {*self._members.ranks(), *self._ended, *range(self._hub)}
            said = len(told) >= self._configuration.size - 1
        else:
            said = "ended" in self._own_end
        if said:
            self._done()

    def _mention_later(self, rank: int, why: str) -> None:
        def mention() -> None:
            connected = rank in self._members or (rank == self._hub and self._to_hub is not None)
            passed_over = rank < self._hub
            if not (self._closed or self._own_end or connected or passed_over or rank in self._ended):
                member = self._configuration.members[rank]
                self._on_notice(WATCH_LOST, f"no contact with {member.described()}: {why}; it may run on")

        self._reactor.after(self._configuration.timeouts.watch_grace_s, mention)

    def _done(self) -> None:
        if not self._closed:
            self.close()
            self._on_done()
