"""JSON bodies, read by hand: what is wrong with one is told in the words of the command line, with "did you mean"."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from quorate.master.api.problems import ApiProblem, invalid

Model = TypeVar("Model", bound=BaseModel)


def body_of(model: type[Model]) -> Any:
    """A dependency that reads the request's body as `model`; an empty one is an empty object."""

    async def read(request: Request) -> Model:
        raw = await request.body()
        try:
            data = json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError) as error:
            raise ApiProblem(422, "INVALID", f"the body is no JSON: {error}") from None
        try:
            return model.model_validate(data)
        except ValidationError:
            raise invalid(model, data) from None

    reader: Callable[[Request], Awaitable[Model]] = read
    return Depends(reader)


def documented(model: type[BaseModel]) -> dict[str, Any]:
    """Arguments of a route that reads `model` with body_of: for the OpenAPI document."""
    # Only named here: the schema is made when somebody asks for the document, not whenever a master starts.
    _documented[model.__name__] = model
    return {"openapi_extra": {_BODY: model.__name__}}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with the schemas of the bodies that `documented` named."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if _BODY in operation:
                schema = _documented[operation.pop(_BODY)].model_json_schema(by_alias=True)
                operation["requestBody"] = {"content": {"application/json": {"schema": _inlined(schema, schema)}}}
    return document


_BODY = "x-quorate-body"
_documented: dict[str, type[BaseModel]] = {}


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
