"""Questions to agents: numbered, bounded, sent on the agents' control links, and lost with the link at once.

A question changes no state, so nothing of it is durable and nobody repeats it but whoever asked.
"""

import asyncio
import itertools
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol

from quorate.model.messages import FIRST_PROTOCOL_WITH_ASKS, MAX_ANSWER_BYTES, Answer, Ask, MasterMessage

#: Questions that one agent may have before it at once, and all agents together.
MOST_OF_AN_AGENT: Final = 32
MOST: Final = 4096
#: The agent has this share of the time, so that its own sentence on what took so long is heard.
_SHARE: Final = 0.9


class Unanswered(Enum):
    """Why there is no answer: the code of the problem, and the HTTP status for it."""

    AGENT_UNKNOWN = ("AGENT-UNKNOWN", 404)
    AGENT_AWAY = ("AGENT-AWAY", 503)
    AGENT_OLD = ("AGENT-OLD", 501)
    TOO_MANY = ("ASK-TOO-MANY", 503)
    TOO_LARGE = ("ASK-TOO-LARGE", 413)
    LINK_LOST = ("AGENT-LOST", 503)
    TOO_LATE = ("ASK-TIMEOUT", 504)
    REFUSED = ("ASK-REFUSED", 502)

    @property
    def code(self) -> str:
        """The stable code."""
        return self.value[0]

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value[1]


class AskError(Exception):
    """There is no answer; the text says of which agent and why."""

    def __init__(self, why: Unanswered, sentence: str) -> None:
        super().__init__(sentence)
        self.why = why


class _Out(Protocol):
    def put(self, message: MasterMessage) -> None: ...


class AskLink(Protocol):
    """What is needed of a control link."""

    number: int
    protocol: int

    @property
    def out(self) -> _Out: ...


class Asks:
    """All questions that are under way. Lives on the event loop."""

    def __init__(self, link_of: Callable[[str], AskLink | None], known: Callable[[str], bool]) -> None:
        """`link_of`: the link on which an agent was welcomed; `known`: whether there is an agent of that name."""
        self._link_of = link_of
        self._known = known
        self._sequence = itertools.count(1)
        #: By link, then by sequence: an agent can answer only what it was asked itself.
        self._waiting: dict[int, dict[int, asyncio.Future[Answer]]] = {}
        self._count = 0

    async def ask(self, agent: str, what: str, body: bytes = b"null", timeout_s: float = 30.0) -> bytes:
        """The agent's answer, JSON as the question is. Raises AskError."""
        link = self._checked(agent, body)
        waiting = self._waiting.setdefault(link.number, {})
        if len(waiting) >= MOST_OF_AN_AGENT or self._count >= MOST:
            raise AskError(Unanswered.TOO_MANY, f"agent {agent} has {len(waiting)} questions before it already")
        sequence = next(self._sequence)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting[sequence] = answered
        self._count += 1
        try:
            link.out.put(Ask(sequence, what, body, _SHARE * timeout_s))
            async with asyncio.timeout(timeout_s):
                answer = await answered
        except TimeoutError:
            sentence = f"agent {agent} did not answer {what!r} within {timeout_s:g} s"
            raise AskError(Unanswered.TOO_LATE, sentence) from None
        except ConnectionError:
            sentence = f"the link to agent {agent} broke before it answered {what!r}"
            raise AskError(Unanswered.LINK_LOST, sentence) from None
        finally:
            self._count -= 1
            waiting.pop(sequence, None)
            if not waiting:
                self._waiting.pop(link.number, None)
        if answer.error:
            raise AskError(Unanswered.REFUSED, f"agent {agent}: {answer.error}")
        if len(answer.body) > MAX_ANSWER_BYTES:
            sentence = f"agent {agent} answered {what!r} with {len(answer.body)} bytes"
            raise AskError(Unanswered.TOO_LARGE, sentence)
        return answer.body

    def _checked(self, agent: str, body: bytes) -> AskLink:
        if not self._known(agent):
            raise AskError(Unanswered.AGENT_UNKNOWN, f"there is no agent {agent[:64]}")
        if len(body) > MAX_ANSWER_BYTES:
            raise AskError(Unanswered.TOO_LARGE, f"a question of {len(body)} bytes is too large")
        link = self._link_of(agent)
        if link is None:
            raise AskError(Unanswered.AGENT_AWAY, f"agent {agent} is not connected")
        if link.protocol < FIRST_PROTOCOL_WITH_ASKS:
            sentence = f"agent {agent} is too old to be asked anything: upgrade Quorate there"
            raise AskError(Unanswered.AGENT_OLD, sentence)
        return link

    def answered(self, link: int, answer: Answer) -> None:
        """An agent has answered; what nobody waits for any more is dropped."""
        waiting = self._waiting.get(link, {}).get(answer.sequence)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def lost(self, link: int) -> None:
        """The link is gone, and with it all that was asked on it."""
        for waiting in self._waiting.get(link, {}).values():
            if not waiting.done():
                waiting.set_exception(ConnectionError())
