"""What the master may ask an agent: handlers by name, each run as a task of its own, off the core, and bounded.

An answer changes nothing that a member depends on. Handlers that block take a thread of `Answers.in_thread`.
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

import msgspec

from quorate.model.messages import MAX_ANSWER_BYTES, Answer, Ask

log = logging.getLogger(__name__)

#: Takes what was asked, decoded from JSON; returns what is encoded as JSON. Raises CannotAnswer.
Handler = Callable[[Any], Awaitable[Any]]

#: Questions under way at once, whoever asks, and threads for those that block: apart from those that start members.
MOST: Final = 32
_THREADS: Final = 8

P = ParamSpec("P")
R = TypeVar("R")


class CannotAnswer(Exception):
    """There is no answer; the sentence says why, for people."""


class Answers:
    """The handlers, and what is being answered on the present link."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(_THREADS, "answers")

    def register(self, what: str, handler: Handler) -> None:
        """Answers `what` by `handler` from now on."""
        assert what not in self._handlers, f"{what} is answered already"
        self._handlers[what] = handler

    @property
    def busy(self) -> int:
        """How many questions are being answered."""
        return len(self._tasks)

    async def in_thread(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What `work` returns, which may block: for handlers."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(work, *args, **kwargs))

    def take(self, ask: Ask, send: Callable[[Answer], None], *, trusted: bool = True) -> None:
        """Answers, soon, by `send`: once, within the time that is left, whatever happens.

        A master that is not `trusted` is told so: its store has gone back, or it is none of this agent's.
        """
        if not trusted:
            send(Answer(ask.sequence, error="it does not trust this master's store (STORE-REGRESSED)"))
        elif len(self._tasks) >= MOST:
            send(Answer(ask.sequence, error=f"it answers {MOST} questions already"))
        else:
            task = asyncio.create_task(self._answer(ask, send))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def drop(self) -> None:
        """The link is gone: nobody waits any more."""
        for task in self._tasks:
            task.cancel()

    async def _answer(self, ask: Ask, send: Callable[[Answer], None]) -> None:
        try:
            async with asyncio.timeout(ask.timeout_s):
                body = msgspec.json.encode(await self._handled(ask))
        except CannotAnswer as error:
            send(Answer(ask.sequence, error=str(error)))
        except TimeoutError:
            send(Answer(ask.sequence, error=f"{ask.what!r} took longer than {ask.timeout_s:g} s"))
        except Exception as error:
            log.exception("the question %s", ask.what)
            send(Answer(ask.sequence, error=f"{ask.what!r} failed there: {type(error).__name__}; its log says more"))
        else:
            if len(body) > MAX_ANSWER_BYTES:
                send(Answer(ask.sequence, error=f"the answer to {ask.what!r} has {len(body)} bytes, which is too much"))
            else:
                send(Answer(ask.sequence, body))

    async def _handled(self, ask: Ask) -> Any:
        handler = self._handlers.get(ask.what)
        if handler is None:
            raise CannotAnswer(f"this agent does not know the question {ask.what!r}: upgrade Quorate there")
        if len(ask.body) > MAX_ANSWER_BYTES:
            raise CannotAnswer(f"a question of {len(ask.body)} bytes is too large")
        try:
            body = msgspec.json.decode(ask.body)
        except msgspec.DecodeError as error:
            raise CannotAnswer(f"the question is no JSON: {error}") from None
        return await handler(body)


def asked(kind: type[Any], body: Any) -> Any:
    """The question as `kind`. Raises CannotAnswer where it is none."""
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise CannotAnswer(f"the question is not understood: {error}") from None
