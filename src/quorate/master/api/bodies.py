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
