"""`quorate pool`: the pools and what is free in them."""

from __future__ import annotations

from quorate.cli.app import new_group
from quorate.cli.output import Json, print_json, table
from quorate.cli.session import Master, Token, connect

app = new_group("List the pools.", no_args_is_help=True)


@app.callback()
def _group() -> None: ...


@app.command("list")
def list_pools(as_json: Json = False, master: Master = None, token: Token = None) -> None:
    """List the pools, by name."""
    with connect(master, token) as client:
        pools = list(client.pools())
    if as_json:
        print_json(pools)
        return
    table(
        ["POOL", ">AGENTS", ">READY", ">SLOTS", ">FREE", ">RUNNING", ">QUEUED"],
        ((p.name, *map(str, (p.agents, p.ready, p.slots, p.free, p.running, p.queued))) for p in pools),
        empty="no pools yet; a pool is there when an agent joins it",
    )
