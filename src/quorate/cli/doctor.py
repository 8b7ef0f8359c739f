"""`quorate doctor`: is this machine fit for a master or an agent?"""

from __future__ import annotations

import os
import shutil
import textwrap
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quorate.cli.app import new_group
from quorate.cli.exits import Exit
from quorate.cli.output import Json, bold, coloured, dim, note, on_terminal, print_json

app = new_group("Check whether this machine is fit for a master or an agent.")


#: Where the evidence begins, behind level and code.
_INDENT = 26


class Role(StrEnum):
    """What the machine is to be."""

    MASTER = "master"
    AGENT = "agent"


@app.command()
def doctor(
    roles: Annotated[
        list[Role] | None, typer.Argument(metavar="ROLE", help="master or agent; without one, both.")
    ] = None,
    master: Annotated[
        str | None, typer.Option("--master", metavar="URL", help="Is this master reached from here?")
    ] = None,
    state_dir: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the state will lie.")] = None,
    as_json: Json = False,
) -> int:
    """Check whether this machine is fit for a master or an agent; changes nothing.

    \b
      quorate doctor
      quorate doctor agent --master https://master.example:8443

    Exit code 1 if something is in the way.
    """
    from quorate.cli import checks

    state = state_dir or (Path("/var/lib/quorate") if os.geteuid() == 0 else Path.home())
    url = (master or os.environ.get("QUORATE_MASTER") or _saved()).rstrip("/")
    results = {
        role: list(checks.run(checks.Subject(role, state.absolute(), url)))
        for role in roles or [Role.MASTER, Role.AGENT]
    }
    found = [result for of_role in results.values() for result in of_role]
    code = Exit.FAILED if any(result.level is checks.Level.ERROR for result in found) else Exit.OK
    if as_json:
        print_json({role: [asdict(result) for result in of_role] for role, of_role in results.items()})
        return code
    told: set[checks.Result] = set()
    for role, of_role in results.items():
        print(bold(f"{role}"))
        for result in of_role:
            if result in told:
                continue
            told.add(result)
            evidence, *more = _folded(result.evidence)
            print(f"  {coloured(result.level, 8)} {result.code.ljust(14)} {evidence}")
            for line in more:
                print(f"{'':{_INDENT}}{line}")
            # A command is never folded: it is copied.
            if result.remedy and result.level is not checks.Level.OK:
                print(dim(f"{'':{_INDENT}}{result.remedy}"))
    wrong = [result for result in told if result.level in (checks.Level.WARNING, checks.Level.ERROR)]
    note(f"to look at: {', '.join(result.code for result in wrong)}" if wrong else "this machine is fit")
    return code


def _folded(evidence: str) -> list[str]:
    """What fits beside the level and the code on a terminal; a line elsewhere."""
    room = shutil.get_terminal_size().columns - _INDENT
    return textwrap.wrap(evidence, max(30, room)) if on_terminal() else [evidence]


def _saved() -> str:
    """The master that commands talk to, if one was ever named."""
    from quorate.client.settings import load
    from quorate.model.problem import QuorateError

    try:
        known = load()
    except QuorateError:
        return ""
    return known.master if known else ""
