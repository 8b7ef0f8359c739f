"""`quorate up`: a local cluster, ready for jobs when the command returns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from quorate.cli.app import new_group
from quorate.cli.output import Json, counted, note, print_json

app = new_group("Start a local cluster.")

#: Each has an address of its own, and all of them are in one 127.0.n.0/24.
_MOST_AGENTS = 200


@app.command()
def up(
    agents: Annotated[int, typer.Option("--agents", min=1, max=_MOST_AGENTS, help="How many agents.")] = 2,
    slots: Annotated[int | None, typer.Option(min=0, help="Slots of each agent; else what it finds.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, metavar="PORT", help="The master's port; else 8080 if free.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", metavar="FOLDER", help="Where the cluster's state lies; else below the XDG state folder."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a local cluster: a master and agents on loopback addresses of their own.

    \b
      quorate up
      quorate up --agents 3 --slots 2

    Where one was not stopped by `quorate down`, what has ended of it is started again, and its jobs run on.
    """
    from quorate.cli.localcluster import LocalCluster, create, default_folder
    from quorate.cli.steps import Steps

    folder = folder.resolve() if folder else default_folder()
    if cluster := LocalCluster.broken(folder):
        with Steps() as told:
            again = cluster.start_again(told)
        if as_json:
            print_json({"url": cluster.url, "dir": str(cluster.folder), "started_again": again})
        else:
            print(f"{', '.join(again)} started again; the cluster is up at {cluster.url}")
        return
    cluster = create(folder, port)
    with Steps() as told:
        try:
            cluster.start(agents, slots, told)
        except BaseException:
            cluster.stop(told)
            raise
    remembered = remember(cluster.url, cluster.token_file)
    if as_json:
        print_json({"url": cluster.url, "dir": str(cluster.folder), "agents": agents})
        return
    print(f"A cluster of {counted(agents, 'agent')} is up at {cluster.url}")
    if not remembered:
        print(f"  export QUORATE_MASTER={cluster.url} QUORATE_TOKEN=$(cat {cluster.token_file})")
    print("  quorate agent list        who is there")
    print("  quorate run -- hostname   run something on it")
    print("  quorate down              stop it")
    warn_of_one_trust_domain()


def remember(url: str, token_file: Path) -> bool:
    """Makes this the master that commands talk to, unless the user has logged in to another one."""
    from quorate.client.settings import Settings, load, save

    known = load()
    if known and not known.master.startswith("http://127."):
        note(f"commands go on talking to {known.master}, as you have logged in there")
        return False
    save(Settings(url, token_file.read_text().strip()))
    return True


def warn_of_one_trust_domain() -> None:
    """Members of a local cluster run as whoever started it."""
    who = "root" if os.geteuid() == 0 else "you"
    note(f"members run as {who}, in this host's network: one trust domain, for a machine of your own")
