"""Whether members here wait for others at their rendezvous, which only their agents can tell where no packet passes."""

from typing import Any

from quorate.agent.answers import Answers, asked
from quorate.agent.members import Members
from quorate.agent.processes import boottime
from quorate.model import asks


class Gathering:
    """Answers for the first member of an allocation, and passes on to others what was answered."""

    def __init__(self, members: Members, answers: Answers) -> None:
        self._members = members
        answers.register(asks.WAITS, self._waits)
        answers.register(asks.FIRST_WAITS, self._first_waits)

    async def _waits(self, body: Any) -> asks.Waits:
        wanted: asks.OfAllocation = asked(asks.OfAllocation, body)
        since = self._members.waits_since(wanted.allocation)
        return asks.Waits(None if since is None else max(0.0, boottime() - since))

    async def _first_waits(self, body: Any) -> None:
        told: asks.FirstWaits = asked(asks.FirstWaits, body)
        self._members.first_waits(told.allocation, float(told.seconds))
