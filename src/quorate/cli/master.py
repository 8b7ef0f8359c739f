"""`quorate master`: without a command it is the master; with one it looks after the master that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cli.app import new_group
from quorate.cli.output import Json, bold, coloured, dim, note, print_json, span
from quorate.cli.session import Master, Token, connect

app = new_group("Run the master; stop, back up, restore and adopt it.", invoke_without_command=True)


@app.callback(
    epilog="Settings: a flag, else its variable (of --state-dir: $QUORATE_MASTER_STATE_DIR), else the file: --config, "
    "$QUORATE_CONFIG or /etc/quorate/master.yaml."
)
def master(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option("--config", help="Its settings, master.yaml.", metavar="FILE")] = None,
    listen: Annotated[
        str | None, typer.Option(help="Address to listen on; every one by default.", metavar="ADDRESS")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, metavar="PORT", help="Else 8443 with TLS, 8080 without.")
    ] = None,
    tls: Annotated[
        bool | None, typer.Option("--tls/--no-tls", help="Else TLS wherever it listens beyond loopback.")
    ] = None,
    names: Annotated[
        str | None, typer.Option(help="Names for its own certificate, with commas.", metavar="NAME,NAME")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Your own certificate with its chain (PEM).", metavar="FILE")
    ] = None,
    certificate_key: Annotated[Path | None, typer.Option(help="The key to it.", metavar="FILE")] = None,
    certificate_authority: Annotated[
        Path | None, typer.Option(help="The authority that signed it, if agents do not know it.", metavar="FILE")
    ] = None,
    secrets_key: Annotated[
        Path | None, typer.Option(help="Where the key of the jobs' secrets lies.", metavar="FILE")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Where the store, the logs and the contexts lie.", metavar="FOLDER")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every request.")] = False,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> int | None:
    """Without a command: run the master, in the foreground.

    \b
      quorate master --listen 0.0.0.0
      quorate master stop --for 2h
    """
    from quorate.cli.errors import usage

    flags = {
        "listen": listen,
        "port": port,
        "tls": tls,
        "names": names,
        "certificate": _text(certificate),
        "certificate_key": _text(certificate_key),
        "certificate_authority": _text(certificate_authority),
        "secrets_key": _text(secrets_key),
        "state_dir": _text(state_dir),
    }
    given = {key: value for key, value in flags.items() if value is not None}
    if ctx.invoked_subcommand is not None:
        if given or config:
            usage(
                "options between `master` and its command are those of the daemon",
                f"quorate master {ctx.invoked_subcommand} --help",
            )
        return None
    from quorate.cli import daemons

    return daemons.run_master(config, given, ready_fd=ready_fd, verbose=verbose)


@app.command()
def show(as_json: Json = False, master: Master = None, token: Token = None) -> None:
    """Show the master: its version, its cluster, and what is wrong with it."""
    with connect(master, token) as client:
        view = client.master()
        url = client.settings.master
    if as_json:
        print_json(view)
        return
    print(f"{bold(view.cluster)} at {url}")
    facts = {
        "version": f"{view.version}, protocol {view.protocol}",
        "store": f"epoch {view.epoch}, generation {view.generation}",
        "agents": str(view.agents),
        "authority": f"sha256 {view.fingerprint}" if view.fingerprint else "",
    }
    for name, value in facts.items():
        if value:
            print(f"  {dim(name.ljust(9))} {value}")
    for finding in view.findings:
        print(f"\n{coloured(finding.severity)} {bold(finding.code)} {finding.title}")
        for line in (finding.evidence, finding.remedy and f"remedy: {finding.remedy}"):
            if line:
                print(f"  {line}")


@app.command()
def stop(
    for_: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="DURATION", help="How long it will be away: agents wait that long, and nothing stops."
        ),
    ] = None,
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """Stop the master; members run on. With --for, every agent first agrees to wait so long for it."""
    from quorate.cli.errors import usage
    from quorate.cli.steps import Steps
    from quorate.model.duration import DurationError, parse_duration

    try:
        seconds = parse_duration(for_) if for_ else 0.0
    except DurationError as error:
        usage(f"--for: {error}")
    with connect(master, token) as client, Steps() as told:
        told("telling the agents" if seconds else "stopping the master")
        answer = client.stop_master(seconds)
    if as_json:
        print_json(answer)
        return
    if seconds:
        note(f"the agents wait {span(seconds)} for the master; start it again before that")
    if answer.untold:
        note(f"these agents could not be told and follow their usual timers: {', '.join(answer.untold)}")
    print("the master is stopping")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes; must not exist.")],
    master: Master = None,
    token: Token = None,
) -> None:
    """Write a consistent copy of the store while the master runs.

    \b
      quorate master backup quorate.tar
    """
    from quorate.cli.backup import download

    with connect(master, token) as client:
        download(client, file)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.")],
    state_dir: Annotated[Path | None, typer.Option(help="The master's state folder.", metavar="FOLDER")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="The master.yaml with it.", metavar="FILE")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a store that is there; it is kept beside.")] = False,
) -> int:
    """Put a backup in the place of the store; the master must not run. Agents then wait until you `adopt` it.

    \b
      quorate master restore quorate.tar --force
    """
    from quorate.cli import daemons

    return daemons.restore_master(file, {"state_dir": _text(state_dir)}, config, force=force)


@app.command()
def adopt(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """Take the store as it is after a restore: agents end what it does not know of."""
    if not yes:
        typer.confirm("Agents will end every member that this store does not know. Go on", abort=True, err=True)
    with connect(master, token) as client:
        client.adopt()
    print("the store is adopted; agents follow it")
    note(
        "nothing is placed until each of them has said what it runs; one whose machine is off for good: "
        "quorate agent revoke NAME --gone"
    )


def _text(path: Path | None) -> str | None:
    return str(path.resolve()) if path else None
