"""What every route needs: the services, who is calling, and answers that are encoded once."""

import base64
import binascii
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from quorate.master.api.problems import ApiProblem, refused
from quorate.master.auth import Caller, agent_of, bearer, caller_of
from quorate.master.effects import Answer, Refused
from quorate.master.events import Event
from quorate.master.firstwords import is_known
from quorate.master.services import Services, wall
from quorate.master.writer import now

MAX_PAGE = 200
A = TypeVar("A", bound=Answer)


async def services(request: HTTPConnection) -> Services:
    """The parts of this master, at a moment at which all that a reader could be shown is on the disk."""
    found = cast(Services, request.app.state.services)
    if request.scope["method"] in ("GET", "HEAD"):
        await found.writer.settled()
    return found


Master = Annotated[Services, Depends(services)]


async def authenticated(request: Request, master: Master) -> Caller:
    """Who is calling; ends the request with 401 where the token is none of ours."""
    caller = caller_of(master.state, bearer(request.headers.get("authorization")), wall())
    if caller is None:
        raise unauthenticated(request, master, "a user's token", "quorate login URL --token TOKEN")
    is_known(request.scope)
    if caller.job and not _looks_at_its_job(request, caller.job):
        raise ApiProblem(
            403, "MEMBER-TOKEN", f"a member's token sees job {caller.job} and nothing else", "use a user's token"
        )
    return caller


def _looks_at_its_job(request: Request, job: str) -> bool:
    return request.method == "GET" and request.path_params.get("id") == job and "/api/v1/jobs/" in request.url.path


async def while_valid(request: Request, master: Services, body: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """A stream that ends before the first piece after its caller's token is revoked or has run out."""
    credential = bearer(request.headers.get("authorization"))
    async with aclosing(body):
        async for piece in body:
            if caller_of(master.state, credential, wall()) is None:
                return
            yield piece


async def operating(caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
    """An operator; ends the request with 403 for anybody else."""
    if not caller.operator:
        raise ApiProblem(
            403,
            "OPERATORS-ONLY",
            f"{caller.user} is no operator",
            "ask an operator, who can also make you one: quorate token create --user NAME --operator",
        )
    return caller


async def agent_calling(request: Request, master: Master) -> str:
    """The agent that calls, known by its key."""
    agent = agent_of(master.state, bearer(request.headers.get("authorization")))
    if agent is None:
        raise unauthenticated(request, master, "an agent's key", "quorate agent --token TOKEN joins anew")
    is_known(request.scope)
    return agent


User = Annotated[Caller, Depends(authenticated)]
Operator = Annotated[Caller, Depends(operating)]
Agent = Annotated[str, Depends(agent_calling)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="How many at most.")]
Cursor = Annotated[str, Query(max_length=256, description="`next` of the page before.")]


def unauthenticated(
    request: Request, master: Services, wanted: str, hint: str, *, presented: bool = False
) -> ApiProblem:
    """401; or 429 for an address from which too many wrong ones came. `presented`: otherwise than by the header."""
    if not presented and not request.headers.get("authorization"):
        return ApiProblem(401, "TOKEN-MISSING", f"{wanted} is needed", hint, headers={"WWW-Authenticate": "Bearer"})
    wait_s = master.failures.failed(request.client.host if request.client else "", now())
    if wait_s:
        after = str(max(1, round(wait_s)))
        return ApiProblem(429, "TOO-MANY-FAILURES", "too many wrong tokens", hint, headers={"Retry-After": after})
    return ApiProblem(
        401,
        "TOKEN-UNKNOWN",
        f"this is not {wanted} of this cluster, or it has expired or was revoked",
        hint,
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )


async def ask(master: Services, event: Event, kind: type[A]) -> A:
    """The core's answer once it is durable; what it refuses ends the request."""
    answer = await master.writer.ask(event)
    if isinstance(answer, Refused):
        raise refused(answer)
    assert isinstance(answer, kind), f"{type(event).__name__} was answered with {type(answer).__name__}"
    return answer


def moment() -> dict[str, float]:
    """The times that every event carries."""
    return {"now": now(), "wall": wall()}


def answer(view: BaseModel, status: int = 200) -> Response:
    """The view as JSON. Views are built from what is valid already, so they are not validated a second time."""
    return Response(view.model_dump_json(), status, media_type="application/json")


def encode_cursor(position: str) -> str:
    """A cursor that nobody is tempted to compute."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """What encode_cursor was given; ends the request for anything else."""
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise bad_cursor() from None


def bad_cursor() -> ApiProblem:
    """The cursor is none of ours."""
    return ApiProblem(422, "CURSOR-INVALID", "this cursor did not come from this API", "begin without a cursor")


def shows(view: type[BaseModel], **more: Any) -> dict[str, Any]:
    """Arguments of a route that answers with `view` as a finished response: for the OpenAPI document."""
    return {"response_model": view, **more}
