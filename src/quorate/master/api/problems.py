"""Every error that leaves the API: application/problem+json with a stable code, the cause and the next command."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from quorate.master.asks import AskError, Unanswered
from quorate.master.effects import Refused
from quorate.master.notices import TooManyWatchers
from quorate.master.writer import Stopped, StoreLost
from quorate.model.problem import MEDIA_TYPE, FieldProblem, Problem, QuorateError
from quorate.model.yamlfile import Document, FileProblems, did_you_mean, validate

log = logging.getLogger(__name__)

TOO_LARGE_HINT = "large data belongs on shared storage"


class ApiProblem(QuorateError):
    """Ends a request with a problem."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        hint: str = "",
        *,
        errors: tuple[FieldProblem, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            Problem(title=_title(detail), status=status, code=code, detail=detail, hint=hint, errors=errors)
        )
        self.headers = dict(headers or {})


def refused(answer: Refused) -> ApiProblem:
    """What the core refused, as a problem."""
    return ApiProblem(answer.status, answer.code, answer.detail, answer.hint)


def respond(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as a response."""
    return Response(problem.model_dump_json(), problem.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Lets no error leave the app in another form."""
    app.add_exception_handler(ApiProblem, _api_problem)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Stopped, _stopped)
    app.add_exception_handler(TooManyWatchers, _too_many)
    app.add_exception_handler(AskError, _unanswered)
    app.add_exception_handler(Exception, _bug)


def invalid(model: type[BaseModel], data: Any, where: str = "the request") -> ApiProblem:
    """Why `data` is no `model`: every place that is wrong, and what was probably meant."""
    try:
        validate(Document("", data), model)
    except FileProblems as found:
        errors = tuple(
            FieldProblem(path=problem.key or "body", message=problem.cause, hint=problem.hint or "")
            for problem in found.problems
        )
        return _with_errors(where, errors)
    return _with_errors(where, ())


def _with_errors(where: str, errors: tuple[FieldProblem, ...]) -> ApiProblem:
    first = f"{errors[0].path}: {errors[0].message}" if errors else "it is not what is expected"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    hint = errors[0].hint if errors else ""
    return ApiProblem(422, "INVALID", f"{where} is not valid: {first}{more}", hint, errors=errors)


async def _api_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiProblem)
    return respond(error.problem, error.headers)


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = tuple(_field(item) for item in error.errors())
    return await _api_problem(request, _with_errors("the request", errors))


def _field(item: Mapping[str, Any]) -> FieldProblem:
    place = [str(part) for part in item["loc"] if part not in ("body",)]
    hint = ""
    expected = str(item.get("ctx", {}).get("expected", ""))
    if expected:
        hint = did_you_mean(str(item.get("input")), [word.strip("' ") for word in expected.split(",")]) or ""
    return FieldProblem(path=".".join(place) or "body", message=item["msg"], hint=hint)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    match error.status_code:
        case 404:
            problem = path_unknown(path)
        case 405:
            allowed = ", ".join(request.app.state.methods(path))
            said = f"{path} does not take {request.method}"
            problem = ApiProblem(405, "METHOD-NOT-ALLOWED", said, f"allowed: {allowed}", headers={"Allow": allowed})
        case 413:
            problem = ApiProblem(413, "BODY-TOO-LARGE", str(error.detail), TOO_LARGE_HINT)
        case status:
            problem = ApiProblem(status, "REQUEST-FAILED", str(error.detail), headers=error.headers)
    return respond(problem.problem, problem.headers)


def path_unknown(path: str) -> ApiProblem:
    """Nothing is served there."""
    return ApiProblem(404, "PATH-UNKNOWN", f"there is no {path[:256]}", "GET /api/v1/openapi.json lists all paths")


async def _stopped(_request: Request, error: Exception) -> Response:
    if isinstance(error, StoreLost):
        detail = "the master's store failed and the master ends; nothing was accepted"
        return respond(ApiProblem(503, "STORE-FAILED", detail, "the master's log says why").problem)
    problem = ApiProblem(503, "STOPPING", "the master stops; nothing was changed", "try again in a moment")
    return respond(problem.problem, {"Retry-After": "1"})


async def _too_many(_request: Request, _error: Exception) -> Response:
    problem = ApiProblem(503, "TOO-MANY-STREAMS", "too many streams are open", "try again in a moment")
    return respond(problem.problem, {"Retry-After": "5"})


async def _unanswered(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AskError)
    hint = "quorate agent list" if error.why is not Unanswered.TOO_MANY else "try again in a moment"
    return respond(ApiProblem(error.why.status, error.why.code, str(error), hint).problem)


async def _bug(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    detail = f"the master failed to answer: {type(error).__name__}; its log has the details"
    return respond(ApiProblem(500, "INTERNAL", detail, "quorate doctor").problem)


def _title(detail: str) -> str:
    return detail if len(detail) <= 120 else detail[:117] + "..."
