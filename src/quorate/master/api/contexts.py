"""Uploads of contexts."""

import re
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from quorate.master.api.calls import Master, User
from quorate.master.api.problems import ApiProblem
from quorate.master.contexts import ContextError, ContextMismatch, ContextTooLarge, NoRoom, TooMany

router = APIRouter(tags=["contexts"])

SHA256 = re.compile(r"[0-9a-f]{64}")
Digest = Annotated[str, Path(alias="sha256", pattern=f"^{SHA256.pattern}$", description="SHA-256 of the archive, hex.")]


@router.put(
    "/contexts/{sha256}",
    status_code=201,
    response_class=Response,
    responses={200: {"description": "It was there already."}, 201: {"description": "It was taken."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload(request: Request, master: Master, caller: User, digest: Digest) -> Response:
    """Upload a context (a tar.gz). It is on the master's disk, and checked, when the answer comes."""
    if master.contexts.has(digest):
        # The body is read all the same: a client that is still sending would take its end for a broken connection.
        async for _chunk in request.stream():
            pass
        return Response(status_code=200)
    try:
        await master.contexts.receive(digest, request.stream(), "" if caller.operator else caller.user)
    except NoRoom as error:
        hint = f"an operator makes room under {master.config.state_directory} on the master; then submit again"
        raise ApiProblem(507, "DISK-FULL", str(error), hint) from None
    except TooMany as error:
        hint = (
            "those that no unfinished job needs go a day after their last use; an operator can raise "
            "contexts.per_user_mib in master.yaml"
        )
        raise ApiProblem(507, "CONTEXTS-FULL", str(error), hint) from None
    except ContextTooLarge as error:
        raise ApiProblem(
            413, "CONTEXT-TOO-LARGE", str(error), "name what the job does not need in .quorateignore"
        ) from None
    except ContextMismatch as error:
        raise ApiProblem(422, "CONTEXT-MISMATCH", str(error), "upload it again") from None
    except ContextError as error:
        raise ApiProblem(422, "CONTEXT-INVALID", str(error)) from None
    return Response(status_code=201)


@router.head("/contexts/{sha256}", response_class=Response)
async def has(master: Master, _caller: User, digest: Digest) -> Response:
    """Whether the context is there."""
    return Response(status_code=200 if master.contexts.has(digest) else 404)
