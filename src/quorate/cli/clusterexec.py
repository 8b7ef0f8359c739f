"""`quorate cluster exec` and `quorate job exec`: a command or a shell in a member, as if it ran here."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from quorate.cli import complete
from quorate.cli.exits import Exit
from quorate.cli.find import find_job
from quorate.cli.session import Master, Token, connect

if TYPE_CHECKING:
    from quorate.client.api import Client

Target = Annotated[
    str,
    typer.Argument(
        metavar="[ID/]MEMBER",
        autocompletion=complete.members,
        help="Such as sub1, or k3x9q2ab/sub1. The id may be left out where only one cluster runs.",
    ),
]
Words = Annotated[list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="Without one, a shell.")]
Tty = Annotated[
    bool | None, typer.Option("--tty/--no-tty", "-t/-T", help="A terminal there; by default where there is one here.")
]

EPILOG = "Exit codes: the command's own; 128 and the signal that ended it; 125 when the connection broke."


def execute(target: Target, command: Words = None, tty: Tty = None, master: Master = None, token: Token = None) -> int:
    """Run a command in a member, or open a shell there.

    \b
      quorate cluster exec sub1
      quorate cluster exec k3x9q2ab/main1 -- nvidia-smi
      tar c data | quorate cluster exec main1 -- tar x
    """
    # Two hundred milliseconds that no other command has use for.
    from quorate.cli import inside

    with connect(master, token) as client:
        job, member = _which(client, target)
        if tty is None:
            tty = sys.stdin.isatty() and sys.stdout.isatty()
        line = shlex.join(command) if command else None
        return inside.run(client, job, member, line, os.environ.get("TERM", "xterm") if tty else None)


def _which(client: Client, target: str) -> tuple[str, str]:
    from quorate.cli.errors import CommandError, usage

    job, slash, member = target.rpartition("/")
    if slash:
        if not job or not member:
            usage(f"{target!r} names no member", "write ID/MEMBER, such as k3x9q2ab/sub1")
        return find_job(client, job).id, member
    running = [job.id for job in client.jobs(state="running", kind="cluster", limit=3)]
    if not running:
        raise CommandError(
            "no cluster runs", hint=f"quorate cluster start, or name a job: ID/{member}", code=Exit.UNKNOWN
        )
    if len(running) > 1:
        usage(f"more than one cluster runs, so {member} could be of any", f"quorate cluster exec {running[0]}/{member}")
    return running[0], member
