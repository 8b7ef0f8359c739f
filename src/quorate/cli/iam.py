"""`quorate iam`: the permissions that a cluster needs in a cloud, written, checked and explained."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from quorate.iam.finding import Finding
    from quorate.iam.reading import Input

app = typer.Typer(
    name="iam",
    help="Cloud permissions: the least that works, each statement with its reason; and a check of what is there.",
    no_args_is_help=True,
    add_completion=False,
)

_FINDINGS, _BAD_INPUT = 1, 2


def _fail(message: str, next_step: str) -> NoReturn:
    typer.echo(f"error: {message}\n  {next_step}", err=True)
    raise typer.Exit(_BAD_INPUT)


def _bytes(file: str) -> bytes:
    """The file's content; `-` is standard input. Ends the command with a sentence where it cannot be read."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        _fail(f"{file}: {error.strerror or error}", "name a file that can be read, or - for standard input")


@app.command()
def lint(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="OCI statements, an AWS policy, a GCP role; - for stdin.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Findings as JSON.")] = False,
    for_agents: Annotated[
        bool, typer.Option("--for-agents", help="An AWS policy of machines that run users' code.")
    ] = False,
) -> None:
    """Check policies without asking a cloud. Exit code 0: clean, 1: findings, 2: not a policy."""
    from quorate.iam.finding import UnreadableFile
    from quorate.iam.lint import is_clean, lint_file

    reports: list[tuple[str, Input, list[Finding]]] = []
    unreadable = False
    for file in files:
        data = _bytes(file)
        try:
            reports.append((file, *lint_file(data, for_agents=for_agents)))
        except UnreadableFile as error:
            unreadable = True
            typer.echo(f"{file}:{error.place}: error: {error.reason}", err=True)
    if as_json:
        typer.echo(
            json.dumps(
                [each.as_json(file) for file, _, found in reports for each in found], indent=2, ensure_ascii=False
            )
        )
    else:
        for file, source, found in reports:
            _print_report(file, source, found)
    if unreadable:
        raise typer.Exit(_BAD_INPUT)
    if not all(is_clean(found) for _, _, found in reports):
        raise typer.Exit(_FINDINGS)


def _print_report(file: str, source: Input, found: list[Finding]) -> None:
    for each in found:
        typer.echo(f"{file}:{each.place}: {each.severity.value} {each.code.name}: {each.evidence}")
        typer.echo(f"    {each.mend}")
        if each.replacement is not None:
            typer.echo(f"    => {each.replacement}")
    if not found:
        typer.echo(f"{file}: no findings ({_extent(source)})")


def _extent(source: Input) -> str:
    if source.document is not None:
        return f"{source.kind.value.upper()} document"
    parts = [(len(source.statements), "statement"), (len(source.rules), "matching rule")]
    return ", ".join(f"{count} {noun}{'s' if count != 1 else ''}" for count, noun in parts if count)
