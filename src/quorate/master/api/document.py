"""The OpenAPI document: what the framework makes of the routes, with bodies, examples, problems, and who may call."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from quorate.master.api.calls import agent_calling, authenticated, operating
from quorate.model.problem import MEDIA_TYPE, Problem

#: Arguments of every route: any of them may answer with a problem.
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"model": Problem, "description": "A problem, with its stable code and a hint."}
}
_EXAMPLE: Final = Problem(
    title="there is no job 9nn3889p",
    status=404,
    code="JOB-UNKNOWN",
    detail="there is no job 9nn3889p",
    hint="quorate job list",
)
#: Who may call, by the dependency that finds out; the first that a route has is what it asks for.
_CALLERS: Final[dict[Callable[..., Any], tuple[str, str]]] = {
    operating: ("operator", "A user's token with an operator's rights: quorate token create --user NAME --operator"),
    authenticated: ("user", "A user's token: quorate token create --user NAME"),
    agent_calling: ("agent", "The key that an agent made for itself when it joined."),
}
_BODY: Final = "x-quorate-body"
_bodies: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {}


def documented(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a route that reads `model` with body_of."""
    # Only named here: the schema is made when somebody asks for the document, not whenever a master starts.
    _bodies[model.__name__] = model, example
    return {"openapi_extra": {_BODY: model.__name__}}


def operation_id(route: APIRoute) -> str:
    """How generated clients call the route, such as `jobs_submit`: as its function is called here."""
    return f"{route.endpoint.__module__.rpartition('.')[2]}_{route.name}"


def made_of(app: FastAPI, routers: Iterable[APIRouter]) -> dict[str, Any]:
    """The whole document; `routers` are all that the app includes."""
    document = app.openapi()
    schemes = {name: {"type": "http", "scheme": "bearer", "description": text} for name, text in _CALLERS.values()}
    document["components"]["securitySchemes"] = schemes
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    callers = {operation_id(route): _caller(route) for route in routes}
    for operations in document["paths"].values():
        for operation in operations.values():
            _complete(operation, callers[operation["operationId"]])
    return document


def _complete(operation: dict[str, Any], caller: str) -> None:
    operation["security"] = [{caller: []}] if caller else []
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": _EXAMPLE.model_dump(mode="json")}
    operation["responses"]["default"]["content"] = {MEDIA_TYPE: problem}
    if _BODY in operation:
        model, example = _bodies[operation.pop(_BODY)]
        schema = model.model_json_schema(by_alias=True)
        content = {"schema": _inlined(schema, schema), "example": example}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}


def _caller(route: APIRoute) -> str:
    asked = set(_calls(route.dependant))
    return next((name for call, (name, _) in _CALLERS.items() if call in asked), "")


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)


def _inlined(node: Any, root: dict[str, Any]) -> Any:
    """The schema without references of its own, which would point nowhere in the whole document."""
    if isinstance(node, list):
        return [_inlined(item, root) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _inlined(root["$defs"][name], root) | rest
    return {key: _inlined(value, root) for key, value in node.items() if key != "$defs"}
