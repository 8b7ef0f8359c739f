"""The options with which `run` and `cluster start` describe a job, and the keys of a job file that they stand for."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from quorate.cli import complete
from quorate.cli.errors import usage
from quorate.cli.pairs import pairs

#: Under what help shows an option; the rest stands under "Options".
PLACE, MEMBERS, NETWORK, TIME = "How many, and where", "Members", "Network", "Order and time"

Name = Annotated[str | None, typer.Option("--name", help="Name, for people.")]
Nodes = Annotated[int | None, typer.Option("--nodes", "-n", help="Members of the job.", rich_help_panel=PLACE)]
Slots = Annotated[int | None, typer.Option("--slots", help="Slots of each member.", rich_help_panel=PLACE)]
Pool = Annotated[
    str | None, typer.Option("--pool", help="Pool that runs it.", autocompletion=complete.pools, rich_help_panel=PLACE)
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label", metavar="K=V", help="A label that each agent must have. Repeatable.", rich_help_panel=PLACE
    ),
]
Placement = Annotated[
    str | None,
    typer.Option(
        "--placement",
        metavar="spread|pack|single",
        help="Over many agents, over few, or on one.",
        autocompletion=complete.words("spread", "pack", "single"),
        rich_help_panel=PLACE,
    ),
]
Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--env", "-e", metavar="K=V", help="A variable; K alone takes yours. Repeatable.", rich_help_panel=MEMBERS
    ),
]
Image = Annotated[
    str | None,
    typer.Option("--image", metavar="REF", help="Run members in containers of this image.", rich_help_panel=MEMBERS),
]
Network = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="auto|bridge|overlay|host",
        help="How members are joined.",
        autocompletion=complete.words("auto", "bridge", "overlay", "host"),
        rich_help_panel=NETWORK,
    ),
]
Mounts = Annotated[
    list[str] | None,
    typer.Option(
        "--mount",
        metavar="SOURCE:TARGET[:ro]",
        help="A folder of the agents' machines. Repeatable.",
        rich_help_panel=MEMBERS,
    ),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Most memory of a member, such as 16GiB.", rich_help_panel=MEMBERS),
]
Cpus = Annotated[
    float | None, typer.Option("--cpus", help="Most CPUs of a member, such as 2.5.", rich_help_panel=MEMBERS)
]
Shm = Annotated[
    str | None, typer.Option("--shm", metavar="SIZE", help="Size of /dev/shm of a container.", rich_help_panel=MEMBERS)
]
Bootstrap = Annotated[
    str | None,
    typer.Option("--bootstrap", metavar="SCRIPT", help="Run by sh -c before the entry point.", rich_help_panel=MEMBERS),
]
Workdir = Annotated[
    str | None,
    typer.Option("--workdir", metavar="FOLDER", help="Where the entry point starts.", rich_help_panel=MEMBERS),
]
RunAs = Annotated[
    str | None,
    typer.Option("--run-as", metavar="USER", help="USER or USER:GROUP of the members.", rich_help_panel=MEMBERS),
]
Preflight = Annotated[
    str | None,
    typer.Option(
        "--preflight",
        metavar="off|warn|require",
        help="What a failed check of the network does.",
        autocompletion=complete.words("off", "warn", "require"),
        rich_help_panel=NETWORK,
    ),
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
