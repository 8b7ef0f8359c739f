"""The options that every command of a cluster takes, and the client made from them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from quorate.client.api import Client

#: Under this, help shows the two.
WHICH = "Which master, and as whom"

Master = Annotated[
    str | None,
    typer.Option(
        "--master",
        metavar="URL",
        help="Else $QUORATE_MASTER, else what `quorate login` saved.",
        rich_help_panel=WHICH,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="Your token, @FILE, or - for stdin; else $QUORATE_TOKEN.",
        rich_help_panel=WHICH,
    ),
]


def connect(master: str | None = None, token: str | None = None, ca: Path | None = None) -> Client:
    """The client for a command; nothing is sent yet."""
    from quorate.client.api import Client
    from quorate.client.settings import resolve

    return Client(resolve(master, read_token(token), ca))


def read_token(token: str | None) -> str | None:
    """`@FILE` and `-` keep a token out of the list of processes, where anyone on the machine may read it."""
    from quorate.cli.errors import usage

    if token == "-":  # noqa: S105
        return sys.stdin.readline().strip()
    if token and token.startswith("@"):
        try:
            return Path(token[1:]).read_text().strip()
        except OSError as error:
            usage(f"the token cannot be read from {token[1:]}: {error.strerror}")
    return token
