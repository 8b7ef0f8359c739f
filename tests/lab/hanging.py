"""Jobs that hang, and what is asked of Quorate about them: for the tests of diagnoses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.cluster import LabCluster, Work
from tests.lab.hosts import until

from quorate.client.context import packed

#: The second rank never comes to the second collective. What each rank's recorder has of the first is written where
#: NCCL would write it, which Gloo does not do by itself.
SKIPS = """
import os
import time
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
values = torch.ones(8)
dist.all_reduce(values)
with open(os.environ["TORCH_FR_DUMP_TEMP_FILE"] + os.environ["RANK"], "wb") as dump:
    dump.write(torch._C._distributed_c10d._dump_fr_trace())
print("met", flush=True)
if dist.get_rank() == 1:
    time.sleep(1000)
dist.all_reduce(values)
"""
#: The lines of it at which its ranks are.
WAITS_AT, MISSES_AT = "train.py:14", "train.py:13"

#: The first member listens on a port of the plan (Gloo's, in the window) and on one that is in no plan; the other one
#: tries the one that is given, again and again.
_TRIES = """
import os, socket, sys, time
if os.environ["QUORATE_RANK"] == "0":
    listening = [socket.create_server(("0.0.0.0", port)) for port in (8080, 50505)]
    print("listens", flush=True)
    time.sleep(1000)
while True:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=300).close()
        print("connected", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
    time.sleep(0.2)
"""


@contextmanager
def skipping(cluster: LabCluster, folder: Path, python: str = "python", **spec: Any) -> Iterator[Work]:
    """A training of two members, one of which never comes to the second collective."""
    (folder / "train.py").write_text(SKIPS)
    environment = {"OMP_NUM_THREADS": "1", **spec.pop("environment", {})}
    with packed(folder) as context:
        cluster.client.upload(context)
        work = cluster.submit(
            python, "train.py", kind="train", launcher="torch", context=context.sha256, environment=environment, **spec
        )
    try:
        until(lambda: sum(lines.count("met") for lines in work.output().values()) == 2, "both have met", 90)
        yield work
    finally:
        cluster.client.cancel(work.id)
        work.ended()


@contextmanager
def trying(
    cluster: LabCluster, address: str, port: int, says: str = "", python: str = "python", **spec: Any
) -> Iterator[Work]:
    """A training of two members, the second of which tries that place again and again, and has said so once."""
    work = cluster.submit(
        python, "-c", _TRIES, address, str(port),
        kind="train", launcher="torch", preflight="off", network={"members": "planned"}, **spec,
    )  # fmt: skip
    try:
        until(lambda: "listens" in work.output().get("main1", ()), "the members say so", 60)
        if says:
            until(lambda: says in work.output().get("sub1", ()), "the members say so", 60)
        yield work
    finally:
        cluster.client.cancel(work.id)
        work.ended()


def asked(cluster: LabCluster, *arguments: str) -> dict[str, Any]:
    """What a command of Quorate's at the desk tells a program."""
    done = cluster.lab["desk"].quorate(*arguments, "--json")
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def waiting(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a diagnosis, the connections that are still being opened."""
    return [socket for member in found["members"] for socket in member["sockets"] if socket["state"] == "SYN-SENT"]
