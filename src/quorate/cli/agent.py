"""`quorate agent`: without a command it is this machine's agent; with one it manages the cluster's agents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quorate.cli import complete
from quorate.cli.app import new_group
from quorate.cli.output import Json, bold, coloured, dim, note, print_json, span, table
from quorate.cli.session import Master, Token, connect, read_token

if TYPE_CHECKING:
    from quorate.model.views import AgentView

app = new_group("Run this machine's agent; list, drain, resume and revoke agents.", invoke_without_command=True)

Id = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.", autocompletion=complete.agents)]


@app.callback(
    epilog="Settings: a flag, else its variable (of --state-dir: $QUORATE_AGENT_STATE_DIR), else the file: --config, "
    "$QUORATE_CONFIG or /etc/quorate/agent.yaml."
)
def agent(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option("--config", help="Its settings, agent.yaml.", metavar="FILE")] = None,
    master: Annotated[str | None, typer.Option("--master", help="The master to join.", metavar="URL")] = None,
    token: Annotated[
        str | None, typer.Option("--token", help="Join token, @FILE, or - for stdin; needed once.", metavar="TOKEN")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The agent's name; else the host's.")] = None,
    advertise_address: Annotated[
        str | None, typer.Option(help="Where other machines reach this one.", metavar="ADDRESS")
    ] = None,
    slots: Annotated[int | None, typer.Option(min=0, help="CPU slots; else one, or the GPUs that are found.")] = None,
    fake_slots: Annotated[int | None, typer.Option(min=0, help="Pretend to have so many GPUs, for tests.")] = None,
    pool: Annotated[str | None, typer.Option(help="The pool that the token must be for; else it is refused.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", metavar="K=V", help="A label. Repeatable.")] = None,
    members_as: Annotated[
        str | None,
        typer.Option(
            metavar="auto|users|self",
            help="users: each allocation under a user of its own (as root); self: as the agent.",
            autocompletion=complete.words("auto", "users", "self"),
        ),
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="Authority of the master (PEM).", metavar="FILE")] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Where its key and its members' files lie.", metavar="FOLDER")
    ] = None,
) -> int | None:
    """Without a command: run the agent of this machine, in the foreground.

    \b
      quorate agent --master https://master.example:8443 --token @join.token
      quorate agent list
    """
    from quorate.cli.errors import usage
    from quorate.cli.pairs import pairs

    given = {
        "master": master,
        "token": read_token(token),
        "name": name,
        "advertise_address": advertise_address,
        "slots": slots,
        "fake_slots": fake_slots,
        "pool": pool,
        "labels": pairs("--label", label) or None,
        "members_as": members_as,
        "ca_file": str(ca.resolve()) if ca else None,
        "state_dir": str(state_dir.resolve()) if state_dir else None,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if ctx.invoked_subcommand is not None:
        if given or config:
            usage(
                "options between `agent` and its command are those of the daemon",
                f"quorate agent {ctx.invoked_subcommand} --help",
            )
        return None
    from quorate.cli import daemons

    return daemons.run_agent(config, given)


@app.command("list")
def list_agents(as_json: Json = False, master: Master = None, token: Token = None) -> None:
    """List agents, by name."""
    with connect(master, token) as client:
        agents = list(client.agents())
    if as_json:
        print_json(agents)
        return
    table(
        ["AGENT", "??POOL", "STATE", ">FREE", ">SLOTS", "?>MEMBERS", "??ADDRESS", "?HEARD", "FINDINGS"],
        (
            (
                a.id,
                a.pool,
                a.state,
                str(a.free),
                str(len(a.slots)),
                str(len(a.members)),
                a.address,
                f"{span(a.silent)} ago" if a.silent is not None else "-",
                ", ".join(finding.code for finding in a.findings),
            )
            for a in agents
        ),
        empty="no agents yet; quorate token create makes the token to join with",
    )


@app.command()
def show(agent: Id, as_json: Json = False, master: Master = None, token: Token = None) -> None:
    """Show an agent: its slots, its members, its findings."""
    with connect(master, token) as client:
        view = client.agent(agent)
    if as_json:
        print_json(view)
    else:
        _show(view)


@app.command()
def drain(agent: Id, as_json: Json = False, master: Master = None, token: Token = None) -> None:
    """Give an agent no new work; what runs there runs on."""
    _tell(agent, "drain", as_json, master, token, "it takes no new work; quorate agent resume {id} ends that")


@app.command()
def resume(agent: Id, as_json: Json = False, master: Master = None, token: Token = None) -> None:
    """Let a drained agent take work again."""
    _tell(agent, "resume", as_json, master, token, "it takes work again")


@app.command()
def revoke(
    agent: Id,
    gone: Annotated[bool, typer.Option("--gone", help="The machine runs no more: its members are lost now.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """Take an agent's key away, for good.

    Its members are told to stop, and count as lost once they surely have; at once with --gone, which is for a machine
    that is switched off. Nobody comes back under its name.
    """
    if not yes:
        lost = "Its members count as lost at once" if gone else "Its members are stopped"
        typer.confirm(f"Revoke agent {agent}? {lost}", abort=True, err=True)
    _tell(agent, "revoke", as_json, master, token, "its key is worth nothing any more", gone=gone)


def _tell(
    agent: str, what: str, as_json: bool, master: str | None, token: str | None, said: str, *, gone: bool = False
) -> None:
    with connect(master, token) as client:
        view = client.tell_agent(agent, what, gone=gone)
    if as_json:
        print_json(view)
        return
    print(f"{view.id} {coloured(view.state)}")
    note(said.format(id=view.id))


def _show(agent: AgentView) -> None:
    print(f"{bold(agent.id)}  pool {agent.pool}  {coloured(agent.state)}")
    facts = {
        "address": agent.address,
        "host": agent.host,
        "version": agent.version,
        "can": ", ".join(sorted(agent.features)),
        "MTU": str(agent.mtu or ""),
        "labels": ", ".join(f"{k}={v}" for k, v in agent.labels.items()),
        "heard": f"{span(agent.silent)} ago" if agent.silent is not None else "never",
    }
    for name, value in facts.items():
        if value:
            print(f"  {dim(name.ljust(8))} {value}")
    print()
    table(
        [">SLOT", "KIND", "DEVICE", "HELD BY"],
        ((str(s.index), s.kind, s.brand or s.device or "-", s.held_by or "-") for s in agent.slots),
        empty="no slots",
    )
    for finding in agent.findings:
        print(f"\n{coloured(finding.severity)} {bold(finding.code)} {finding.title}")
        for line in (finding.evidence, finding.remedy and f"remedy: {finding.remedy}"):
            if line:
                print(f"  {line}")
