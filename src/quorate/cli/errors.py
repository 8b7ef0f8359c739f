"""How the command line shows an error: cause, evidence, next command; never a traceback.

Always on stderr, so that what a command prints is its result alone; as problem JSON (RFC 9457) with --json.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, NoReturn

from quorate.cli.colour import BOLD, FAINT, RED, paint
from quorate.cli.exits import Exit

if TYPE_CHECKING:
    from quorate.model.problem import QuorateError


#: Whether a program reads what this command prints.
FOR_PROGRAMS = ContextVar("for_programs", default=False)
#: Code and status of what the command line refuses by itself.
_REFUSED, _BAD_REQUEST = "COMMAND-REFUSED", 400


class CommandError(Exception):
    """What a command refuses by itself. `lines` are the evidence, `hint` is the next command."""

    def __init__(
        self, cause: str, *, hint: str = "", lines: tuple[str, ...] = (), code: Exit | int = Exit.FAILED
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint
        self.lines = lines
        self.code = code


def usage(cause: str, hint: str = "") -> NoReturn:
    """Refuses a command line that makes no sense."""
    raise CommandError(cause, hint=hint, code=Exit.USAGE)


def show(cause: str, lines: tuple[str, ...] = (), hint: str = "") -> None:
    """Writes an error to stderr, in colour on a terminal."""
    if FOR_PROGRAMS.get():
        from quorate.model.problem import FieldProblem, Problem

        errors = tuple(FieldProblem(path="", message=line) for line in lines)
        problem = Problem(title=cause, status=_BAD_REQUEST, code=_REFUSED, hint=hint, errors=errors)
        print(problem.model_dump_json(), file=sys.stderr)
        return
    text = [f"{paint('error:', f'{BOLD};{RED}', sys.stderr)} {cause}"]
    text += [f"  {line}" for line in lines]
    if hint:
        text.append(f"{paint('try:', FAINT, sys.stderr)}   {hint}")
    print("\n".join(text), file=sys.stderr)


def show_problem(error: QuorateError) -> Exit:
    """Shows what the master or the client said, and returns the exit code for it."""
    problem = error.problem
    if FOR_PROGRAMS.get():
        print(problem.model_dump_json(), file=sys.stderr)
        return exit_code(error)
    cause = problem.detail or problem.title
    # A detail that only repeats the list of mistakes would say everything twice.
    lines = tuple(
        f"{item.path}: {item.message}{f' ({item.hint})' if item.hint else ''}" if item.path else item.message
        for item in problem.errors
    )
    show(f"{cause} [{problem.code}]", lines, problem.hint)
    return exit_code(error)


def exit_code(error: QuorateError) -> Exit:
    """The exit code of a problem."""
    problem = error.problem
    if problem.code in ("MASTER-UNREACHABLE", "MASTER-UNTRUSTED", "NOT-A-MASTER"):
        return Exit.UNREACHABLE
    if problem.code in ("CLIENT-SETTINGS", "CONTEXT-REFUSED") or problem.status in (400, 422):
        return Exit.USAGE
    return {401: Exit.NOT_ALLOWED, 403: Exit.NOT_ALLOWED, 404: Exit.UNKNOWN}.get(problem.status, Exit.FAILED)
