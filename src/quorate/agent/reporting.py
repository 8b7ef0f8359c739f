"""What the master has not acknowledged yet: changed members and the findings as they stand."""

from collections.abc import Callable

from quorate.model.messages import Finding, MemberStatus, Report

#: In the place of a report's sequence: it was in none yet.
_NONE = 0


class Reporting:
    """Gathers changes into reports, and keeps them until they are acknowledged."""

    def __init__(self) -> None:
        self._sequence = _NONE
        #: Changed members by the sequence of the report that carried them last.
        self._members: dict[str, int] = {}
        self._findings: tuple[Finding, ...] = ()
        #: Of the report that carried the findings last; None if those are acknowledged.
        self._findings_in: int | None = None
        #: Something is in no report yet that cannot wait for company.
        self.urgent = False

    @property
    def waiting(self) -> bool:
        """Whether anything is in no report yet."""
        return self._findings_in == _NONE or _NONE in self._members.values()

    @property
    def unanswered(self) -> bool:
        """Whether anything was reported and not acknowledged."""
        return bool(self._findings_in) or any(self._members.values())

    @property
    def outstanding(self) -> bool:
        """Whether anything is not acknowledged."""
        return bool(self._members) or self._findings_in is not None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings of this agent."""
        return self._findings

    @findings.setter
    def findings(self, findings: tuple[Finding, ...]) -> None:
        if findings != self._findings:
            self._findings, self._findings_in = findings, _NONE
            self.urgent = True

    def changed(self, member: str, *, urgent: bool = False) -> None:
        """There is news of a member."""
        self._members[member] = _NONE
        self.urgent = self.urgent or urgent

    def forgotten(self, member: str) -> None:
        """Nobody asks for the member any more."""
        self._members.pop(member, None)

    def acknowledged(self, sequence: int) -> None:
        """The master has this report and those before it."""
        self._members = {m: at for m, at in self._members.items() if at == _NONE or at > sequence}
        if self._findings_in and self._findings_in <= sequence:
            self._findings_in = None

    def again(self) -> None:
        """What was reported and not acknowledged may be lost."""
        self.urgent = self.outstanding
        self._members = dict.fromkeys(self._members, _NONE)
        if self._findings_in is not None:
            self._findings_in = _NONE

    def renew(self) -> None:
        """A new link: what was not acknowledged, and the findings, of which a new master knows nothing."""
        self.again()
        if self._findings:
            self._findings_in = _NONE
        self.urgent = self.outstanding

    def next(self, status: Callable[[str], MemberStatus]) -> Report | None:
        """One report of all that is in none yet; None if that is nothing."""
        fresh = [member for member, sequence in self._members.items() if sequence == _NONE]
        if not fresh and self._findings_in != _NONE:
            return None
        self.urgent = False
        self._sequence += 1
        for member in fresh:
            self._members[member] = self._sequence
        if self._findings_in is not None:
            self._findings_in = self._sequence
        return Report(self._sequence, tuple(map(status, fresh)), self._findings)
