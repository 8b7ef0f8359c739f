"""Errors as the API and the CLI show them: a stable code, the cause, the evidence and the next command."""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

MEDIA_TYPE: Final = "application/problem+json"


class FieldProblem(BaseModel):
    """One place in the input that is wrong."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    path: str = Field(description="Dotted path in the input, such as resources.nodes.")
    message: str
    hint: str = ""


class Problem(BaseModel):
    """application/problem+json (RFC 9457) with Quorate's own members: code, hint, errors."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(description="Stable, in capitals, such as JOB-UNKNOWN.")
    detail: str = ""
    hint: str = Field("", description="The next command to try.")
    errors: tuple[FieldProblem, ...] = ()


class QuorateError(Exception):
    """An error that a person is to read; carries the whole problem.

    QuorateError
    ├── (client) ApiError, Unreachable
    └── (cli)    whatever a command refuses by itself
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem
