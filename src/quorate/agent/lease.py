"""How long an agent that hears nothing may leave members running that can be started elsewhere."""

from contextlib import suppress

import msgspec

from quorate.agent.journal import Journal, JournalFull, Lease


class LeaseKeeper:
    """Counts from the *sending* of the last acknowledged heartbeat, across restarts of the agent.

    All times are seconds of CLOCK_BOOTTIME.
    """

    def __init__(self, journal: Journal, remembered: Lease | None, boot: str) -> None:
        self._journal = journal
        # Nothing that ran under another boot runs now, and its clock began anew.
        self._lease = remembered if remembered and remembered.boot == boot else Lease(boot, 0.0)

    def renew(self, sent: float) -> None:
        """The master answered what was sent at `sent`."""
        if sent > self._lease.renewed:
            self._lease = msgspec.structs.replace(self._lease, renewed=sent)
            # Without room, a restart finds an older lease and stops members too early: never too late.
            with suppress(JournalFull):
                self._journal.renew_lease(self._lease)

    def plan(self, now: float, for_s: float) -> bool:
        """Planned maintenance for so long; 0 ends it. False if it could not be made durable: then it is no promise."""
        self._lease = msgspec.structs.replace(self._lease, planned=now + for_s if for_s > 0 else 0.0)
        try:
            self._journal.save_plan(self._lease)
        except JournalFull:
            return False
        return True

    def ends(self, stop_after_s: float) -> float:
        """When a member with this `stop_after` has to stop, if no word comes until then."""
        return max(self._lease.renewed, self._lease.planned) + stop_after_s

    def silence(self, now: float) -> float:
        """How long nothing was heard."""
        return now - self._lease.renewed
