"""The core's view of its connection to the master: what was said on it, what is due on it, and when to give it up."""

from collections.abc import Iterator
from dataclasses import dataclass

from quorate.model.messages import Heartbeat, Welcome


@dataclass(frozen=True)
class Settings:
    """Timers, in seconds. The heartbeat interval is the master's to say."""

    #: A member's beginning waits this long for company, since each report costs the master a commit; an end does not.
    gather_s: float = 0.01
    #: A report without an acknowledgement is sent again after this.
    report_again_s: float = 5.0
    #: A link on which this many heartbeats in a row stay unanswered is given up.
    silent_heartbeats: int = 3
    #: A journal without room is tried again after this.
    full_again_s: float = 1.0
    #: A Hello without a Welcome, or a desired member without its spec, for this long: the link is given up.
    answer_s: float = 20.0


@dataclass
class LinkState:
    """The connection of the moment."""

    hello_at: float
    welcome: Welcome | None = None
    regressed: bool = False
    heartbeat_sequence: int = 0
    next_heartbeat: float = 0.0
    #: Sequence of the newest acknowledged heartbeat.
    answered: int = 0
    reported_at: float = 0.0
    #: When what has gathered is to be reported; None while there is nothing.
    report_at: float | None = None
    #: Since when a desired member has had no spec.
    specless_since: float | None = None

    @property
    def connected(self) -> bool:
        """Whether the master has welcomed this agent and is its own master."""
        return self.welcome is not None and not self.regressed

    def due(self, settings: Settings, *, unanswered: bool) -> Iterator[float]:
        """When something is to be looked at again. `unanswered`: something was reported and not acknowledged."""
        if self.welcome is None:
            yield self.hello_at + settings.answer_s
            return
        yield self.next_heartbeat
        if self.connected and unanswered:
            yield self.reported_at + settings.report_again_s
        if self.connected and self.report_at is not None:
            yield self.report_at
        if self.specless_since is not None:
            yield self.specless_since + settings.answer_s

    def given_up(self, settings: Settings, now: float) -> str:
        """Why it is of no use any more; empty where it is."""
        if self.welcome is None:
            return "the master did not answer the hello" if now >= self.hello_at + settings.answer_s else ""
        if self.heartbeat_sequence - self.answered >= settings.silent_heartbeats:
            return f"{self.heartbeat_sequence - self.answered} heartbeats were not answered"
        if self.specless_since is not None and now >= self.specless_since + settings.answer_s:
            return "a desired member's allocation was never described"
        return ""

    def heartbeat(self, now: float) -> Heartbeat | None:
        """The next one, if it is due."""
        if self.welcome is None or now < self.next_heartbeat:
            return None
        self.heartbeat_sequence += 1
        self.next_heartbeat = now + self.welcome.heartbeat_s
        return Heartbeat(self.heartbeat_sequence, now)
