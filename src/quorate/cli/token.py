"""`quorate token`: the tokens by which agents join and users are let in."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from quorate.cli.app import new_group
from quorate.cli.errors import usage
from quorate.cli.output import Json, ago, note, print_json, span, table
from quorate.cli.session import Master, Token, connect

app = new_group("Create, list and revoke tokens.", no_args_is_help=True)


@app.command()
def create(
    pool: Annotated[str | None, typer.Option(help="A join token: lets agents into this pool.")] = None,
    user: Annotated[str | None, typer.Option(help="A user's token: calls the API under this name.")] = None,
    operator: Annotated[bool, typer.Option("--operator", help="With --user: may do everything.")] = False,
    ttl: Annotated[str | None, typer.Option(metavar="DURATION", help="Valid for so long; a join token: 1h.")] = None,
    uses: Annotated[int | None, typer.Option(min=1, help="How many agents may join with it.")] = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it is for, for people.")] = "",
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """Create a token and print it, once: only its hash is kept.

    \b
      quorate token create --pool default --ttl 1h --uses 4
      quorate token create --user ada
    """
    from quorate.model.duration import DurationError, parse_duration

    if (pool is None) == (user is None):
        usage("say whom the token is for", "quorate token create --pool default, or quorate token create --user NAME")
    if operator and user is None:
        usage("--operator goes with --user")
    if uses is not None and pool is None:
        usage("--uses goes with --pool")
    try:
        seconds = parse_duration(ttl) if ttl else 3600.0 if pool else None
    except DurationError as error:
        usage(f"--ttl: {error}")
    if seconds == 0:
        usage("--ttl 0s: such a token would let nobody in")
    with connect(master, token) as client:
        url = client.settings.master
        # Asked first: a token that was made and could not be printed would be lost.
        speaks_tls = bool(pool and client.master().fingerprint)
        known = [one.name for one in client.pools()] if pool else []
        made = client.create_token(
            kind="join" if pool else "user",
            pool=pool,
            uses=uses,
            user=user,
            operator=operator,
            ttl=seconds,
            description=description,
        )
    if as_json:
        print_json(made)
        return
    print(made.token)
    life = f"valid for {span(seconds)}" if seconds else "valid until it is revoked"
    if pool:
        from quorate.network import catalogue

        local = "//127." in url or "//localhost" in url
        where = "on this machine" if local and not speaks_tls else "on the agent's machine"
        # A URL of this machine alone is of no use on another one.
        there = f"https://THIS-MACHINE:{catalogue.port('api-tls')}" if local and speaks_tls else url
        if known and pool not in known:
            note(f"pool {pool} is new (there is {', '.join(known)}): it is there once an agent has joined it")
        note(f"{life}; {where}: quorate agent --master {there} --token @FILE")
    else:
        note(f"{life}; {user} runs: quorate login {url}")


@app.command("list")
def list_tokens(as_json: Json = False, master: Master = None, token: Token = None) -> None:
    """List tokens; the tokens themselves are not kept."""
    with connect(master, token) as client:
        tokens = list(client.tokens())
    if as_json:
        print_json(tokens)
        return
    table(
        ["ID", "KIND", "FOR", "?CREATED", "??EXPIRES", ">USES LEFT", "DESCRIPTION"],
        (
            (
                item.id,
                item.kind,
                item.pool or item.user,
                ago(item.created_at),
                _until(item.expires_at),
                "-" if item.uses_left is None else str(item.uses_left),
                item.description,
            )
            for item in tokens
        ),
    )


@app.command()
def revoke(
    tokens: Annotated[list[str], typer.Argument(metavar="TOKEN_ID...", help="Ids of tokens.")],
    master: Master = None,
    token: Token = None,
) -> None:
    """Revoke tokens; agents that have joined stay (quorate agent revoke ends those)."""
    with connect(master, token) as client:
        for item in tokens:
            client.revoke_token(item)
            print(f"{item} revoked")


def _until(moment: datetime | None) -> str:
    if moment is None:
        return "never"
    left = (moment - datetime.now(moment.tzinfo)).total_seconds()
    return f"in {span(left)}" if left > 0 else "expired"
