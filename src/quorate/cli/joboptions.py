"""The options with which `run` and `cluster start` describe a job, and the keys of a job file that they stand for."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from quorate.cli import complete
from quorate.cli.errors import usage
from quorate.cli.pairs import pairs

Name = Annotated[str | None, typer.Option("--name", help="Name, for people.")]
Nodes = Annotated[int | None, typer.Option("--nodes", "-n", help="Members of the job.")]
Slots = Annotated[int | None, typer.Option("--slots", help="Slots of each member.")]
Pool = Annotated[str | None, typer.Option("--pool", help="Pool that runs it.", autocompletion=complete.pools)]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="K=V", help="A label that each agent must have. Repeatable.")
]
Placement = Annotated[str | None, typer.Option("--placement", help="spread, pack or single.")]
Variables = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="K=V", help="A variable; K alone takes yours. Repeatable."),
]
Image = Annotated[str | None, typer.Option("--image", metavar="REF", help="Run members in containers of this image.")]
Network = Annotated[
    str | None, typer.Option("--network", metavar="MODE", help="How members are joined: auto, bridge, overlay or host.")
]
Mounts = Annotated[
    list[str] | None,
    typer.Option("--mount", metavar="SOURCE:TARGET[:ro]", help="A folder of the agents' machines. Repeatable."),
]
Memory = Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Most memory of a member, such as 16GiB.")]
Cpus = Annotated[float | None, typer.Option("--cpus", help="Most CPUs of a member, such as 2.5.")]
Shm = Annotated[str | None, typer.Option("--shm", metavar="SIZE", help="Size of /dev/shm of a container.")]
Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap", metavar="SCRIPT", help="Run by sh -c before the entry point.")
]
Workdir = Annotated[str | None, typer.Option("--workdir", metavar="FOLDER", help="Where the entry point starts.")]
RunAs = Annotated[str | None, typer.Option("--run-as", metavar="USER", help="USER or USER:GROUP of the members.")]
Preflight = Annotated[
    str | None, typer.Option("--preflight", help="What a failed check of the network does: off, warn or require.")
]


def resources(
    nodes: int | None, slots: int | None, pool: str | None, labels: list[str] | None, min_nodes: int | None = None
) -> dict[str, Any]:
    """The keys below `resources`."""
    wanted = {"nodes": nodes, "min_nodes": min_nodes, "slots": slots, "pool": pool}
    return {**wanted, "labels": pairs("--label", labels) or None}


def mounts(items: list[str] | None) -> list[dict[str, Any]] | None:
    """`/data:/data:ro` as a mount."""
    found = []
    for item in items or []:
        source, _, rest = item.partition(":")
        target, _, mode = rest.partition(":")
        if not target or mode not in ("", "ro", "rw"):
            usage(f"--mount {item!r} is not SOURCE:TARGET or SOURCE:TARGET:ro")
        found.append({"source": source, "target": target, "read_only": mode == "ro"})
    return found or None


def variables(items: list[str] | None) -> dict[str, str]:
    """K=V as it stands, and K with the value that it has here."""
    for item in items or []:
        if "=" not in item and item not in os.environ:
            usage(f"--env {item}: the variable {item} is not set here", f"--env {item}=VALUE")
    return pairs("--env", [item if "=" in item else f"{item}={os.environ[item]}" for item in items or []])
