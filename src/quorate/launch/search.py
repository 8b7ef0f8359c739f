"""While the members gather: whether those who do not come are there already, and something is in the way.

Whoever is not there yet looks the same as whoever is behind a firewall. So both ends look for each other: the first
member goes to those that it misses, and each end looks for connections that arrive and to whose answer nothing comes.
Where neither reaches the other for the rendezvous, the first member's other door, for watching, says that it is there.
Where nothing passes at all, on the hosts' network silence says so, for a machine that is up answers; in an overlay the
first member's agent says through the master that it waits, too.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Sequence

from quorate.launch import halfopen, preflightjudge
from quorate.launch.config import Configuration, Member, Network, ProbeFlow, Purpose
from quorate.launch.lines import Lines, Object
from quorate.launch.links import Caller, Door, Trouble
from quorate.launch.names import Finding
from quorate.launch.preflight import own_source
from quorate.launch.probe import Outcome, Place, Probe, Probing, Target
from quorate.launch.reactor import Reactor, Timer

#: Members begin within milliseconds of each other, mostly; before that, nobody need be looked for.
PATIENCE_S = 1.0
#: Half-open connections are looked for so often; one that is there twice is no handshake that was under way. The first
#: look comes a little after the moment at which the first member goes to those that it misses.
LOOK_S, _FIRST_LOOK_S = 1.25, 1.3
#: Whoever has been found waits so long for its own attempts: the kernel sends its second packet after 1 s.
CONCLUDE_S = 2.3
#: An attempt at the other door, which is made again until somebody answers there.
_SEEK_S = 0.9
#: Whoever answers there has so long to answer at the door of the rendezvous: the kernel sends again after 1 s, and the
#: attempts to meet it go on meanwhile.
_KNOCK_S = 2.2
#: So long an attempt must have been without an answer by then, and what cannot be told yet is looked at again.
_SILENT_S, _AGAIN_S = 2.0, 0.5
#: A machine answers, if only with a refusal. On the hosts' network, whoever is silent for so long is behind a filter:
#: the kernel has sent for the third time after 3 s.
SILENCE_S, _THREE_TIMES_S = 3.5, 3.2
#: In an overlay nothing answers for a member that is not there yet. Both are known to have been there for so long, each
#: has sent several times, and whatever passes in one direction alone has been seen by then.
NOTHING_S = 3.5
#: The last attempt at the first member's other door must have begun so long after both were there.
_FRESH_S = 1.0
_NO_WAY = (Trouble.FILTERED, Trouble.UNROUTABLE)
#: Members that the first one looks for at once.
_MOST = 64


class _HalfOpen:
    """Tells of addresses that were seen trying to connect, twice; and when they were not seen yet."""

    def __init__(self, reactor: Reactor, port: int, seen_twice: Callable[[str, float], None]) -> None:
        self._reactor = reactor
        self._port = port
        self._seen_twice = seen_twice
        self._before: set[str] = set()
        #: Of the last looks, on the reactor's clock; the oldest first.
        self._looks = [reactor.now()] * 2
        self._timer = reactor.after(_FIRST_LOOK_S, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._reactor.after(LOOK_S, self._look)
        now = halfopen.seen_at(self._port)
        twice, self._before = now & self._before, now
        for address in twice:
            self._seen_twice(address, self._looks[0])
        self._looks = [self._looks[1], self._reactor.now()]


class SearchForMissing:
    """The first member's. `found` comes once, for a member that is there and cannot be met: with the finding, and for
    how many seconds both are known to have been there."""

    def __init__(
        self,
        reactor: Reactor,
        configuration: Configuration,
        missing: Callable[[], Sequence[Member]],
        found: Callable[[Finding, float], None],
        waits: Callable[[float], None],
    ) -> None:
        """`waits` comes once, where some are missed for longer than usual: for how many seconds."""
        self._reactor = reactor
        self._configuration = configuration
        self._missing = missing
        self._waits = waits
        self._found: Callable[[Finding, float], None] | None = found
        self._began_s = reactor.now()
        self._callers: List[Caller] = []
        self._met: Dict[int, Lines] = {}
        self._half_open = _HalfOpen(reactor, configuration.own.port(Purpose.RENDEZVOUS), self._tries_in_vain)
        self._timer = reactor.after(PATIENCE_S, self._look)

    def stop(self) -> None:
        self._timer.cancel()
        self._half_open.stop()
        for caller in self._callers:
            caller.stop()
        for link in self._met.values():
            link.close()
        self._callers, self._met = [], {}

    def _look(self) -> None:
        self._waits(self._reactor.now() - self._began_s)
        for member in list(self._missing())[:_MOST]:
            if Purpose.RENDEZVOUS in member.ports:
                self._callers.append(self._call(member))

    def _call(self, member: Member) -> Caller:
        return Caller(
            self._reactor, self._configuration, Purpose.RENDEZVOUS, member, lambda link: self._reached(member, link)
        )

    def _reached(self, member: Member, link: Lines) -> None:
        """It is there, and it will say what keeps it from coming."""
        self._met[member.rank] = link
        link.on_object = self._told
        link.on_end = lambda _: None
        link.send({"here_s": self._reactor.now() - self._began_s})

    def _told(self, message: Object) -> None:
        blocked = message.get("blocked")
        if isinstance(blocked, dict):
            finding = Finding(str(blocked.get("code")), str(blocked.get("sentence")), fatal=True)
            self._say(finding, self._reactor.now() - _seconds(blocked.get("both_s")))

    def _tries_in_vain(self, address: str, since_s: float) -> None:
        for member in self._missing():
            if member.address == address:
                own = self._configuration.own
                evidence = f"{member.name} is there and tries to connect, but what answers it never arrives"
                self._say(_filtered(self._configuration, own, member, evidence), since_s)
                return

    def _say(self, finding: Finding, since_s: float) -> None:
        """`since_s`: when the other one had begun, on the reactor's clock."""
        found, self._found = self._found, None
        if found is not None:
            found(finding, self._reactor.now() - max(self._began_s, since_s))


class SearchForFirst:
    """Every other member's: opens a door for the first one. `blocked` comes once, as `found` does. Raises PortTaken."""

    def __init__(
        self,
        reactor: Reactor,
        configuration: Configuration,
        caller: Callable[[], Caller],
        blocked: Callable[[Finding, float], None],
    ) -> None:
        self._reactor = reactor
        self._configuration = configuration
        self._caller = caller
        self._blocked: Callable[[Finding, float], None] | None = blocked
        self._began_s = reactor.now()
        #: The first member had not begun, or just then, when this attempt to reach its other door began.
        self._sought_s = self._began_s
        #: It answered there.
        self._answered_s = self._began_s
        #: When it had, as it says itself.
        self._first_began_s = self._began_s
        #: Since when both have been there, as far as the first member's agent says so.
        self._both_s: float | None = None
        self._met = False
        self._links: List[Lines] = []
        self._timers: List[Timer] = []
        self._door: Door | None = Door(reactor, configuration, Purpose.RENDEZVOUS, self._came)
        self._half_open = _HalfOpen(reactor, configuration.own.port(Purpose.RENDEZVOUS), self._tries_in_vain)
        self._probing: Probing | None = None
        if configuration.network is Network.HOST:
            self._timers.append(reactor.after(SILENCE_S, self._too_silent))
        if Purpose.WATCH in configuration.first.ports:
            self._timers.append(reactor.after(PATIENCE_S, self._seek))

    def rest(self) -> None:
        """The first member was met."""
        self._met = True
        for timer in self._timers:
            timer.cancel()
        if self._probing is not None:
            self._probing.stop()
        self._half_open.stop()

    def first_waits(self, seconds: float) -> None:
        """The first member is there and has waited for so long: its agent says so. It may be said often."""
        own, first, network = self._configuration.own, self._configuration.first, self._configuration.network
        apart = network is Network.OVERLAY and own.agent != first.agent
        if self._met or self._both_s is not None or not apart:
            return
        now = self._reactor.now()
        self._both_s = max(self._began_s, now - seconds)
        self._timers.append(self._reactor.after(max(0.0, self._both_s + NOTHING_S - now), self._nothing_came))

    def stop(self) -> None:
        self.rest()
        door, self._door = self._door, None
        if door is not None:
            door.close()
        for link in self._links:
            link.close_when_sent()

    def _seek(self) -> None:
        """Whoever answers at its other door listens at that of the rendezvous as well: it has opened both."""
        began_s = self._reactor.now()
        self._probe(Purpose.WATCH, _SEEK_S, lambda found: self._sought(found, began_s))

    def _sought(self, found: Probe, began_s: float) -> None:
        if found.outcome is Outcome.OPEN:
            self._answered_s = self._reactor.now()
            # Only what is sent now counts: what was sent before may have come to a place that was not there yet.
            self._probe(Purpose.RENDEZVOUS, _KNOCK_S, self._knocked)
        else:
            self._sought_s = began_s
            self._timers.append(self._reactor.after(_AGAIN_S, self._seek))

    def _nothing_came(self) -> None:
        """Both are there, and neither has heard anything of the other."""
        own, first, caller = self._configuration.own, self._configuration.first, self._caller()
        assert self._both_s is not None
        # A refusal is an answer, too.
        silent = caller.trouble in _NO_WAY or (caller.failed_since_s is None and caller.silent_since_s is not None)
        # What arrives from there although its answer does not is told as that, at the next look.
        heard = bool(self._links) or first.address in halfopen.seen_at(own.port(Purpose.RENDEZVOUS))
        if not silent or heard or self._sought_s < self._both_s + _FRESH_S:
            self._timers.append(self._reactor.after(_AGAIN_S, self._nothing_came))
            return
        code = caller.trouble.value if caller.trouble in _NO_WAY else Trouble.FILTERED.value
        evidence = f"nothing that either sends arrives, though {first.name} is there: its agent says so"
        self._say(preflightjudge.severed(self._configuration, own, first, code, evidence), self._both_s)

    def _knocked(self, found: Probe) -> None:
        own, first = self._configuration.own, self._configuration.first
        if found.outcome not in (Outcome.FILTERED, Outcome.REFUSED):
            # It gets in, and the other attempts will, too; or another allocation is about to make room.
            self._timers.append(self._reactor.after(_AGAIN_S, self._seek))
            return
        evidence = f"{found.evidence}, though {first.name} listens: it answers at port {first.port(Purpose.WATCH)}"
        port, code = first.port(Purpose.RENDEZVOUS), preflightjudge.CODES[found.outcome.value]
        finding = preflightjudge.one_flow(_flow(self._configuration), own, first, port, code, evidence)
        # A refusal comes at once. If the first member can come here, it does so by then, and is to be told.
        left_s = 0.0 if self._links else max(0.0, self._answered_s + CONCLUDE_S - self._reactor.now())
        self._timers.append(self._reactor.after(left_s, lambda: self._say(finding, self._sought_s)))

    def _probe(self, purpose: str, timeout_s: float, done: Callable[[Probe], None]) -> None:
        own, first = self._configuration.own, self._configuration.first
        target = Target(Place(first.address, first.port(purpose)), first.name, own_source(own.address))
        secret = self._configuration.secret
        self._probing = Probing(self._reactor, [target], secret, lambda found: done(found[0]), timeout_s=timeout_s)

    def _came(self, rank: int, link: Lines) -> None:
        link.on_object = self._told
        link.on_end = lambda _: None
        self._links.append(link)
        if rank == self._configuration.first.rank:
            now = self._reactor.now()
            self._timers.append(self._reactor.after(CONCLUDE_S, lambda: self._conclude(now)))

    def _told(self, message: Object) -> None:
        if "here_s" in message:
            self._first_began_s = self._reactor.now() - _seconds(message["here_s"])

    def _conclude(self, since_s: float) -> None:
        """The first member is there and has come here: what keeps this one from going there is in the way for good.

        Only what began after its coming counts, for a process that gets no time sees what was, not what is.
        """
        caller, own, first = self._caller(), self._configuration.own, self._configuration.first
        trouble, evidence = caller.trouble, caller.evidence
        if caller.silent_since_s is not None and self._reactor.now() - caller.silent_since_s >= _SILENT_S:
            trouble, evidence = Trouble.FILTERED, f"no answer, though {first.name} is there and can come here"
        elif caller.failed_since_s is None or caller.failed_since_s < since_s or trouble is Trouble.UNDETERMINED:
            self._timers.append(self._reactor.after(_AGAIN_S, lambda: self._conclude(since_s)))
            return
        elif trouble is Trouble.REFUSED:
            evidence = f"connection refused, though {first.name} listens: a firewall rejects it"
        port = first.port(Purpose.RENDEZVOUS)
        finding = preflightjudge.one_flow(_flow(self._configuration), own, first, port, trouble.value, evidence)
        self._say(finding, self._first_began_s)

    def _tries_in_vain(self, address: str, since_s: float) -> None:
        first = self._configuration.first
        if address == first.address:
            evidence = f"{first.name} is there and tries to connect, but what answers it never arrives"
            self._say(_filtered(self._configuration, self._configuration.own, first, evidence), since_s)

    def _too_silent(self) -> None:
        caller, own, first = self._caller(), self._configuration.own, self._configuration.first
        trouble, evidence = caller.trouble, caller.evidence
        if trouble not in _NO_WAY:
            silent_s = 0.0 if caller.silent_since_s is None else self._reactor.now() - caller.silent_since_s
            if silent_s < _THREE_TIMES_S:
                self._timers.append(self._reactor.after(_AGAIN_S, self._too_silent))
                return
            trouble, evidence = Trouble.FILTERED, f"no answer within {silent_s:.1f} s"
        port = first.port(Purpose.RENDEZVOUS)
        # Nothing else was tried, so nothing else is named.
        finding = preflightjudge.one_flow(_flow(self._configuration), own, first, port, trouble.value, evidence)
        self._say(finding, self._began_s)

    def _say(self, finding: Finding, since_s: float) -> None:
        """`since_s`: when the first member had begun, on the reactor's clock."""
        both_s = self._reactor.now() - max(self._began_s, since_s)
        blocked, self._blocked = self._blocked, None
        if blocked is None:
            return
        for link in self._links:
            link.send({"blocked": {"code": finding.code, "sentence": finding.sentence, "both_s": both_s}})
        blocked(finding, both_s)


def _seconds(said: object) -> float:
    """As another member says it."""
    return float(said) if isinstance(said, (int, float)) and said >= 0 else 0.0


def _filtered(configuration: Configuration, source: Member, destination: Member, evidence: str) -> Finding:
    return preflightjudge.blocked(configuration, source, destination, Trouble.FILTERED.value, evidence)


def _flow(configuration: Configuration) -> ProbeFlow:
    """The rendezvous, as the plan has it."""
    port = configuration.first.port(Purpose.RENDEZVOUS)
    known = (flow for flow in configuration.flows if flow.ports == (port, port) and flow.transport == "tcp")
    return next(known, ProbeFlow("rendezvous", (port, port)))
