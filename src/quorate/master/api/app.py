"""The application: every route under its path, agents' links beside the framework, limits around it all."""

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import cache, partial
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from starlette.routing import compile_path

from quorate import __version__
from quorate.master import streams
from quorate.master.api import agents, agentside, contexts, diagnosis, jobs, logs, master, net, problems, tokens
from quorate.master.api.calls import Master, Operator, User
from quorate.master.api.document import PROBLEMS, made_of, operation_id
from quorate.master.api.limits import BodyLimit
from quorate.master.link import CONTROL_PATH, LOGS_PATH, deny
from quorate.master.services import Services, wall
from quorate.master.writer import now
from quorate.model.asks import STREAM_PATH

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

OPENAPI_PATH = "/api/v1/openapi.json"

_MODULES = (jobs, logs, contexts, agents, tokens, master, net, diagnosis)
_open = APIRouter(tags=["health"])


@_open.head("/healthz", response_class=PlainTextResponse, include_in_schema=False)
@_open.get("/healthz", response_class=PlainTextResponse)
async def healthz(master: Master) -> PlainTextResponse:
    """Whether the master takes requests."""
    return PlainTextResponse(
        "stopping\n" if master.notices.stopping else "ok\n", 503 if master.notices.stopping else 200
    )


@_open.get("/ca.pem", response_class=PlainTextResponse)
async def authority(master: Master) -> Response:
    """The authority behind the master's certificate; compare its SHA-256 with the one in a join token."""
    if not master.authority:
        raise problems.ApiProblem(
            404, "NO-AUTHORITY", "the system's authorities vouch for this master, or it speaks no TLS"
        )
    return Response(master.authority, media_type="application/x-pem-file")


@_open.get(OPENAPI_PATH)
async def openapi(request: Request, _caller: User) -> JSONResponse:
    """This document."""
    return JSONResponse(request.app.state.document())


@_open.get("/metrics", response_class=PlainTextResponse)
async def metrics(master: Master, _caller: Operator) -> Response:
    """For Prometheus, with an operator's token."""
    # Imported at the first scrape: half of all masters are never scraped, and all of them start.
    from quorate.master.metrics import MEDIA_TYPE, exposition

    return Response(exposition(master), media_type=MEDIA_TYPE)


def make_app(services: Services) -> Asgi:
    """The whole of what the listeners serve."""
    app = FastAPI(
        title="Quorate",
        version=__version__,
        summary="Jobs, agents and logs of one cluster.",
        # Served by a route of our own, which completes it.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        responses=PROBLEMS,
        generate_unique_id_function=operation_id,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.services = services
    problems.install(app)
    routers = [*((module.router, "/api/v1") for module in _MODULES), (agentside.router, "/agent/v1"), (_open, "")]
    for router, prefix in routers:
        app.include_router(router, prefix=prefix)
    app.state.document = cache(lambda: made_of(app, [router for router, _ in routers]))
    app.state.methods = partial(_methods, routers)
    links: dict[str, Asgi] = {
        CONTROL_PATH: services.links.control,
        LOGS_PATH: services.links.logs,
        STREAM_PATH: partial(_dialled, services),
    }
    http = BodyLimit(app)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            link = links.get(scope["path"])
            if link is not None:
                await _guarded(link, scope, receive, send)
            elif streams.PATH.fullmatch(scope["path"]):
                await _guarded(partial(_enter, services), scope, receive, send)
            else:
                await _guarded(_no_link, scope, receive, send)
            return
        await http(scope, receive, send)

    return _logged(serve) if services.config.verbose else serve


def _methods(routers: Sequence[tuple[APIRouter, str]], path: str) -> list[str]:
    """All that the path takes; the framework itself names those of the first route alone."""
    found: set[str] = set()
    for router, prefix in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and compile_path(prefix + route.path)[0].fullmatch(path):
                found |= route.methods or set()
    return sorted(found)


def _logged(app: Asgi) -> Asgi:
    """One line for each request: never its query, its headers or its body, where secrets could be."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.perf_counter(), 0

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await app(scope, receive, watched)
        finally:
            took_ms = (time.perf_counter() - began) * 1000
            log.info("%s %s %s %.1f ms", scope.get("method", "WS"), scope.get("path"), status or 101, took_ms)

    return serve


async def _enter(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    await services.writer.settled()
    problem = await services.streams.enter(scope, receive, send, wall)
    if problem is not None:
        client = scope.get("client")
        if problem.status == 401:
            services.failures.failed(client[0] if client else "", now())
        await deny(send, problem)


async def _no_link(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await deny(send, problems.path_unknown(scope["path"]).problem)


async def _dialled(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    problem = await services.streams.dialled(scope, receive, send)
    if problem is not None:
        await deny(send, problem)


async def _guarded(link: Asgi, scope: Scope, receive: Receive, send: Send) -> None:
    """A link that fails ends alone; a peer that goes away in the middle is nothing to talk about."""
    try:
        await link(scope, receive, send)
    except OSError:
        return
    except Exception:
        log.exception("%s failed", scope["path"])
