"""The barrier before a member's command starts: all come to the first member, or all learn who is missing.

The first member may be the last to start: the others knock until their deadline. Whoever lost its connection comes
again, and the barrier stays open after its end, so that a lost "go" is only late.

With a preflight, its trial (preflight.py) stands between the arrival of the last member and the verdict. Then each side
also looks for the other (search.py): who cannot come although the other is there is told so at once.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Callable, List, Sequence

from quorate.launch import preflight
from quorate.launch.config import MAX_BYTES, Configuration, Member, Preflight, Purpose
from quorate.launch.lines import Lines, Object
from quorate.launch.links import Caller, Door, Links, Trouble
from quorate.launch.names import Finding
from quorate.launch.reactor import Reactor, Timer
from quorate.launch.search import SearchForFirst, SearchForMissing

#: A finding's code: the deadline has passed, and members have not come.
MEMBERS_MISSING = "MEMBERS-MISSING"
#: The first member's sentence names all who are missing; the others' deadlines wait this long for it.
FIRST_SPEAKS_S = 2.0
#: A port may be leased again while its former holder still ends; an answer from elsewhere that lasts is a mistake.
FOREIGN_S = 10.0
#: After these seconds, then after twice as many, and so on, whoever reads the logs is told what is waited for.
PATIENCE_S = 10.0
#: As many missing members as a sentence bears.
_NAMED = 8


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why the barrier was not passed."""

    #: A finding's code.
    code: str
    sentence: str


class _Reminder:
    """Says now and then what is waited for, until it is stopped."""

    def __init__(self, reactor: Reactor, say: Callable[[], None]) -> None:
        self._reactor = reactor
        self._say = say
        self._pause_s = PATIENCE_S
        self._timer = reactor.after(self._pause_s, self._remind)

    def stop(self) -> None:
        self._timer.cancel()

    def _remind(self) -> None:
        self._pause_s *= 2
        self._timer = self._reactor.after(self._pause_s, self._remind)
        self._say()


class Gathering:
    """The barrier at the first member. Raises PortTaken."""

    def __init__(
        self,
        reactor: Reactor,
        configuration: Configuration,
        on_go: Callable[[], None],
        on_failed: Callable[[Failure], None],
        on_notice: Callable[[str, str], None] = lambda code, sentence: None,
        on_waits: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`on_waits`: see SearchForMissing."""
        self._reactor = reactor
        self._configuration = configuration
        self._on_go = on_go
        self._on_failed = on_failed
        self._on_notice = on_notice
        self._links = Links()
        #: When all were here for the first time, on the reactor's clock.
        self._complete_s: float | None = None
        self._verdict: Object | None = None
        self._door = Door(reactor, configuration, Purpose.RENDEZVOUS, self._arrived)
        self._part: preflight.Part | None = None
        self._trial: preflight.Trial | None = None
        self._search: SearchForMissing | None = None
        if preflight.wanted(configuration):
            self._part = preflight.Part(reactor, configuration)
            self._trial = preflight.Trial(reactor, configuration, self._part, self._tell, self._judged)
            self._search = SearchForMissing(reactor, configuration, self.missing, self._found_blocked, on_waits)
        self._deadline = reactor.after(configuration.timeouts.rendezvous_s, self._too_late)
        self._reminder = _Reminder(reactor, self._remind)
        # Not at once: whoever makes a Gathering wants to hold it before it calls back.
        reactor.after(0, self._go_if_complete)

    def missing(self) -> Sequence[Member]:
        """Who has not come, or has gone away again."""
        own = self._configuration.rank
        return [m for m in self._configuration.members if m.rank != own and m.rank not in self._links]

    def close(self) -> None:
        self._deadline.cancel()
        self._reminder.stop()
        self._door.close()
        self._end_preflight()
        self._links.close_all_when_sent()

    def _arrived(self, rank: int, link: Lines) -> None:
        link.on_object = lambda message: self._said(rank, message)
        link.on_end = lambda _: self._left(rank, link)
        self._links.put(rank, link)
        if self._verdict is not None:
            link.send(self._verdict)
        else:
            self._go_if_complete()

    def _left(self, rank: int, link: Lines) -> None:
        self._links.drop(rank, link)

    def _said(self, rank: int, message: Object) -> None:
        if self._trial is not None and self._verdict is None:
            self._trial.hear(rank, message)
            self._go_if_complete()

    def _go_if_complete(self) -> None:
        if self._verdict is not None or len(self._links) < self._configuration.size - 1:
            return
        self._deadline.cancel()
        self._reminder.stop()
        if self._search is not None:
            self._search.stop()
        if self._complete_s is None:
            self._complete_s = self._reactor.now()
        if self._trial is None:
            self._go()
        else:
            self._trial.begin_if_ready()

    def _go(self) -> None:
        self._verdict = {"go": True}
        self._end_preflight()
        self._links.send_to_all(self._verdict)
        self._on_go()

    def _judged(self, findings: List[Finding]) -> None:
        """The trial's findings, the worst first. Each is worth a line; one that is fatal is the end."""
        fatal = [finding for finding in findings if finding.fatal]
        if fatal and self._configuration.preflight is Preflight.REQUIRE:
            assert self._complete_s is not None
            after = f"{self._reactor.now() - self._complete_s:.1f} s after all had come"
            self._fail(Failure(fatal[0].code, _found(_with_others(fatal), after)))
            return
        for finding in findings:
            self._on_notice(finding.code, finding.sentence)
        self._go()

    def _found_blocked(self, finding: Finding, both_s: float) -> None:
        if self._verdict is None and self._configuration.preflight is Preflight.REQUIRE:
            self._fail(Failure(finding.code, _found(finding.sentence, f"{both_s:.1f} s after both had begun")))
        elif self._verdict is None:
            self._on_notice(finding.code, finding.sentence)

    def _tell(self, rank: int | None, message: Object) -> None:
        if rank is None:
            self._links.send_to_all(message)
        else:
            self._links.send(rank, message)

    def _end_preflight(self) -> None:
        if self._search is not None:
            self._search.stop()
        if self._part is not None:
            self._part.close()

    def _remind(self) -> None:
        missing = self.missing()
        came = self._configuration.size - len(missing)
        sentence = f"{came} of {self._configuration.size} members are here; still waiting for {_named(missing)}"
        self._on_notice(MEMBERS_MISSING, sentence)

    def _too_late(self) -> None:
        self._fail(Failure(MEMBERS_MISSING, _who_is_missing(self._configuration, self.missing())))

    def _fail(self, failure: Failure) -> None:
        self._deadline.cancel()
        self._reminder.stop()
        self._end_preflight()
        self._verdict = {"failed": dataclasses.asdict(failure)}
        self._links.send_to_all(self._verdict)
        self._on_failed(failure)


class Arrival:
    """The barrier at every other member."""

    def __init__(
        self,
        reactor: Reactor,
        configuration: Configuration,
        on_go: Callable[[], None],
        on_failed: Callable[[Failure], None],
        on_notice: Callable[[str, str], None] = lambda code, sentence: None,
    ) -> None:
        self._reactor = reactor
        self._configuration = configuration
        self._on_go = on_go
        self._on_failed = on_failed
        self._on_notice = on_notice
        self._link: Lines | None = None
        self._foreign: Timer | None = None
        self._deadline = reactor.after(configuration.timeouts.rendezvous_s + FIRST_SPEAKS_S, self._too_late)
        self._reminder = _Reminder(reactor, self._remind)
        self._part: preflight.Part | None = None
        self._search: SearchForFirst | None = None
        if preflight.wanted(configuration):
            self._part = preflight.Part(reactor, configuration)
            self._search = SearchForFirst(reactor, configuration, lambda: self._caller, self._blocked)
        self._caller = self._call()

    def close(self) -> None:
        self._deadline.cancel()
        self._reminder.stop()
        self._all_is_well()
        self._caller.stop()
        if self._search is not None:
            self._search.stop()
        if self._part is not None:
            self._part.close()
        if self._link is not None:
            self._link.close()

    def first_waits(self, seconds: float) -> None:
        """The first member has waited for so long, as its agent says."""
        if self._search is not None:
            self._search.first_waits(seconds)

    def _call(self) -> Caller:
        return Caller(
            self._reactor,
            self._configuration,
            Purpose.RENDEZVOUS,
            self._configuration.first,
            self._met,
            on_trouble=self._troubled,
        )

    def _met(self, link: Lines) -> None:
        self._all_is_well()
        self._link = link
        link.on_object = self._told
        link.on_end = lambda _: self._lost()
        if self._search is not None:
            self._search.rest()
        if self._part is not None:
            # Of thousands of members it tells some ports each.
            link.max_line = MAX_BYTES
            link.send(self._part.ready())
            self._report()

    def _lost(self) -> None:
        self._link = None
        self._caller = self._call()

    def _told(self, message: Object) -> None:
        failed = message.get("failed")
        trial = message.get("probe")
        if message.get("go") is True:
            self.close()
            self._on_go()
        elif isinstance(trial, dict) and self._part is not None and self._link is not None:
            self._link.send({"clock": time.time()})
            self._part.try_all(trial["ports"], trial["within_s"], self._report)
        elif isinstance(failed, dict):
            self._fail(Failure(str(failed.get("code", "")), str(failed.get("sentence", ""))))

    def _report(self) -> None:
        if self._part is not None and self._part.report is not None and self._link is not None:
            self._link.send({"report": self._part.report.to_object()})

    def _blocked(self, finding: Finding, both_s: float) -> None:
        if self._configuration.preflight is Preflight.REQUIRE:
            self._fail(Failure(finding.code, _found(finding.sentence, f"{both_s:.1f} s after both had begun")))
        else:
            self._on_notice(finding.code, finding.sentence)

    def _troubled(self, trouble: Trouble) -> None:
        if trouble is not Trouble.WRONG_HOST:
            self._all_is_well()
        elif self._foreign is None:
            self._foreign = self._reactor.after(FOREIGN_S, self._too_late)

    def _all_is_well(self) -> None:
        if self._foreign is not None:
            self._foreign.cancel()
            self._foreign = None

    def _too_late(self) -> None:
        first, timeout = self._configuration.first, self._configuration.timeouts.rendezvous_s
        if self._link is not None:
            self._fail(
                Failure(
                    MEMBERS_MISSING, f"{first.described()} was reached, but did not open the barrier in {timeout:g} s"
                )
            )
            return
        self._fail(self._trouble())

    def _remind(self) -> None:
        if self._link is None:
            trouble = self._trouble()
            self._on_notice(trouble.code, f"{trouble.sentence}; still trying")

    def _trouble(self) -> Failure:
        caller, own, first = self._caller, self._configuration.own, self._configuration.first
        whom = f"{own.name} could not reach {first.described()} at {caller.where}"
        if caller.trouble is Trouble.WRONG_HOST:
            whom = f"{own.name} reached {caller.where} but not {first.described()}"
        return Failure(caller.trouble.value, f"{whom} for the rendezvous: {caller.evidence}")

    def _fail(self, failure: Failure) -> None:
        self.close()
        self._on_failed(failure)


def _found(sentence: str, after: str) -> str:
    """The sentence with when it was found; what mends it stays at its end, to be pasted."""
    what, mend, command = sentence.partition("; mend: ")
    return f"{what}, found {after}{mend}{command}"


def _with_others(findings: Sequence[Finding]) -> str:
    others = "; also: ".join(finding.sentence for finding in findings[1:_NAMED])
    beyond = f"; and {len(findings) - _NAMED} findings more" if len(findings) > _NAMED else ""
    return findings[0].sentence + (f"; also: {others}" if others else "") + beyond


def _who_is_missing(configuration: Configuration, missing: Sequence[Member]) -> str:
    size, timeout = configuration.size, configuration.timeouts.rendezvous_s
    came = f"{size - len(missing)} of {size} members came to the rendezvous within {timeout:g} s"
    return f"{came}; missing: {_named(missing)}"


def _named(members: Sequence[Member]) -> str:
    named = ", ".join(member.described() for member in members[:_NAMED])
    return named if len(members) <= _NAMED else f"{named} and {len(members) - _NAMED} more"
