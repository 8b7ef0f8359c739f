"""`quorate cluster`: sets of members that wait for their user, with names and a network of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quorate.cli import clusterexec, complete, joboptions
from quorate.cli.app import new_group
from quorate.cli.exits import Exit
from quorate.cli.find import find_job
from quorate.cli.output import Json, ago, bold, coloured, first_line, note, print_json, table
from quorate.cli.session import Master, Token, connect

if TYPE_CHECKING:
    from quorate.client.api import Client
    from quorate.model.views import JobView

app = new_group("Start, list, show, enter and stop clusters.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="CLUSTER", help="Its id, or its name.", autocompletion=complete.clusters)]


@app.command(epilog="Exit codes: 0 once all members run; 125 when the platform failed, 130 when it was cancelled.")
def start(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A job file.")] = None,
    option: Annotated[Path | None, typer.Option("-f", "--file", help="The job file.", metavar="FILE")] = None,
    name: joboptions.Name = None,
    nodes: joboptions.Nodes = None,
    slots: joboptions.Slots = None,
    pool: joboptions.Pool = None,
    label: joboptions.Labels = None,
    placement: joboptions.Placement = None,
    image: joboptions.Image = None,
    network: joboptions.Network = None,
    env: joboptions.Variables = None,
    mount: joboptions.Mounts = None,
    memory: joboptions.Memory = None,
    cpus: joboptions.Cpus = None,
    shm: joboptions.Shm = None,
    bootstrap: joboptions.Bootstrap = None,
    run_as: joboptions.RunAs = None,
    preflight: joboptions.Preflight = None,
    idle_timeout: Annotated[
        str | None, typer.Option(help="Stop it when nobody has used it for so long, such as 2h.", metavar="DURATION")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would happen, and start nothing.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Do not wait until its members run.")] = False,
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> int:
    """Start a cluster: members that run their image's command, or wait for you.

    \b
      quorate cluster start --nodes 3 --image python:3.12
      quorate cluster start cluster.yaml
    """
    from quorate.cli import jobfile
    from quorate.cli.errors import usage
    from quorate.cli.run import show_plan_of, submitted

    if file and option:
        usage(f"two job files are named: {file} and {option}", "name one")
    flags: dict[str, Any] = {
        "kind": "cluster",
        "name": name,
        "image": image,
        "placement": placement,
        "resources": joboptions.resources(nodes, slots, pool, label),
        "network": {"mode": network},
        "environment": joboptions.variables(env),
        "mounts": joboptions.mounts(mount),
        "memory": memory,
        "cpus": cpus,
        "shm": shm,
        "bootstrap": bootstrap,
        "run_as": run_as,
        "preflight": preflight,
        "idle_timeout": idle_timeout,
    }
    loaded = jobfile.load(file or option, flags)
    with connect(master, token) as client:
        if plan:
            return show_plan_of(client, loaded, as_json)
        job = submitted(client, loaded)
        if isinstance(job, Exit):
            return job
        if not detach:
            try:
                job = _wait_until_it_runs(client, job)
            except KeyboardInterrupt:
                note(f"\n{job.id} stays; quorate cluster show {job.id} shows it, quorate cluster stop {job.id} ends it")
                return Exit.CANCELLED
    if as_json:
        print_json(job)
    elif detach:
        print(job.id)
        note(f"quorate cluster show {job.id} shows it, quorate cluster stop {job.id} ends it")
    elif not job.state.final:
        show_members(job)
        note(f"quorate cluster stop {job.id} ends it")
    if job.state.final:
        from quorate.cli import outcome

        return outcome.exit_code(job) if as_json else outcome.show(job)
    return Exit.OK


@app.command("list")
def list_clusters(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Those that have ended, too.")] = False,
    owner: Annotated[str, typer.Option(metavar="USER", help="Only clusters of this user.")] = "",
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """List clusters, newest first."""
    with connect(master, token) as client:
        found = client.jobs(kind="cluster", owner=owner, limit=10_000)
        clusters = [job for job in found if everything or not job.state.final]
    if as_json:
        print_json(clusters)
        return
    table(
        ["ID", "NAME", "?OWNER", "STATE", "?>MEMBERS", "??STARTED", "WHY"],
        (
            (
                job.id,
                job.spec.name,
                job.owner,
                job.state,
                str(job.spec.resources.nodes),
                ago(job.submitted_at),
                first_line(job.reason),
            )
            for job in clusters
        ),
        empty="no clusters; quorate cluster start starts one",
    )


@app.command()
def show(cluster: Id, as_json: Json = False, master: Master = None, token: Token = None) -> None:
    """Show a cluster: its members, their names, addresses and agents."""
    with connect(master, token) as client:
        job = find_job(client, cluster)
    if as_json:
        print_json(job)
    else:
        show_members(job)


app.command("exec", epilog=clusterexec.EPILOG)(clusterexec.execute)


@app.command()
def stop(
    clusters: Annotated[
        list[str],
        typer.Argument(metavar="CLUSTER...", help="Their ids, or their names.", autocompletion=complete.clusters),
    ],
    wait_for_end: Annotated[bool, typer.Option("--wait", help="Return only when they have ended.")] = False,
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """Stop clusters: SIGTERM to their members, SIGKILL after the grace period.

    \b
      quorate cluster stop k3x9q2ab --wait
    """
    from quorate.cli.job import stopped

    with connect(master, token) as client:
        views = stopped(client, clusters, wait_for_end=wait_for_end)
    if as_json:
        print_json(views)
        return
    for view in views:
        print(f"{view.id} {coloured(view.state)}")


def show_members(job: JobView) -> None:
    """The cluster in a line, and its members with where they are."""
    print(f"{bold(job.id)}  {job.spec.name}  {coloured(job.state)}")
    if job.reason:
        print(f"  {job.reason}")
    if job.network is not None:
        print(f"  network {job.network.mode} {job.network.subnet}, members {job.network.members}")
    rows = ((m.name, m.role, m.address, m.agent, m.state) for m in job.members)
    table(["MEMBER", "ROLE", "ADDRESS", "AGENT", "STATE"], rows, empty="no members yet")


def _wait_until_it_runs(client: Client, job: JobView) -> JobView:
    """The cluster once all its members run, or have ended; says what it waits for when that changes."""
    from quorate.model.state import JobState

    told = ""
    for view in client.states(job.id):
        job = view
        if job.state is JobState.RUNNING or job.state.final:
            break
        says = f"{job.id} {job.state}" + (f": {first_line(job.reason)}" if job.reason else "")
        if says != told:
            note(says)
            told = says
    return job
