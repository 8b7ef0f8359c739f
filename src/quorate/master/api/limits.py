"""Bounds on what a request may bring, before anything reads it: a raw ASGI layer around the app."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from starlette.exceptions import HTTPException

from quorate.master.api.problems import TOO_LARGE_HINT
from quorate.model.contextlimits import MAX_PACKED_BYTES
from quorate.model.problem import MEDIA_TYPE, Problem
from quorate.model.size import format_size

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: A job with 64 secrets of 64 KiB, escaped in JSON, fits.
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
_UPLOADS: Final = "/api/v1/contexts/"
#: The one path whose body is read before anybody is known: whoever reaches the master could fill its memory there.
JOIN: Final = "/agent/v1/join"
MAX_JOIN_BYTES: Final = 64 * 1024


class BodyLimit:
    """Refuses bodies beyond the limit: at once where the length is told, else when it is passed."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        limit = _limit(scope["path"])
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            await _refuse(send, limit)
            return
        seen = 0

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                # The only exception that the framework lets through from where it reads a body.
                raise HTTPException(413, too_large(limit))
            return message

        await self._app(scope, bounded, send)


def _limit(path: str) -> int:
    if path == JOIN:
        return MAX_JOIN_BYTES
    return MAX_PACKED_BYTES if path.startswith(_UPLOADS) else MAX_BODY_BYTES


def too_large(limit: int) -> str:
    """What is said of a body beyond `limit` bytes."""
    return f"the body is larger than {format_size(limit)}"


async def _refuse(send: Send, limit: int) -> None:
    problem = Problem(
        title=too_large(limit), status=413, code="BODY-TOO-LARGE", detail=too_large(limit), hint=TOO_LARGE_HINT
    )
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": problem.model_dump_json().encode()})
