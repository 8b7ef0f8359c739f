"""`quorate down`: stops the local cluster and everything that runs on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quorate.cli.app import new_group
from quorate.cli.output import note

app = new_group("Stop the local cluster.")


@app.command()
def down(
    purge: Annotated[bool, typer.Option("--purge", help="Remove its jobs and logs as well.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="FOLDER", help="Where the cluster's state lies.")
    ] = None,
) -> None:
    """Stop the local cluster: jobs are cancelled, agents and master end. Its jobs and logs stay for the next `up`."""
    from quorate.cli.localcluster import LocalCluster, default_folder
    from quorate.cli.steps import Steps
    from quorate.client.settings import forget

    place = folder.resolve() if folder else default_folder()
    cluster = LocalCluster.load(place)
    if cluster is None:
        note(f"no local cluster is known in {place}")
        return
    ran = bool(cluster.running())
    with Steps() as told:
        cluster.stop(told)
    forget(cluster.url)
    if purge:
        cluster.remove()
    note("the local cluster is down" if ran else "the local cluster was not running")
    if not purge:
        note(f"its jobs and logs are kept in {place}; --purge removes them")
