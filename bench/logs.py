"""Log lines per second into one master, read back and compared byte for byte.

Two ways in: four agents' log links alone (shipped codec, links and windows, logs that are already written: what the
master can take), and whole, from two members that print through shim, agent and master to a reader who follows.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import shutil
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import fleet
import httpx
import msgspec
import uvloop
from cluster import cluster
from harness import progress, summary, write
from onemaster import one_master

from quorate.agent.events import Action, Ended, Running, Shipped, Start
from quorate.agent.link import Link
from quorate.agent.processes import boottime
from quorate.agent.shim.log import ShimLog
from quorate.agent.shipments import Shipments
from quorate.client.api import Client
from quorate.model.job import JobSpec, Resources
from quorate.model.logframes import Stream
from quorate.model.messages import ExitStatus
from quorate.model.state import JobState

AGENTS = 4
HOW = (
    "Lines of 80 bytes. master: four agents ship {lines} lines each, all at once; from the first chunk to the last "
    "acknowledgement, which comes when the bytes are synced. whole: a job of two members on two agents that print "
    "{lines} lines each; from its submission until a reader who follows has every line. read: the master's answer to "
    "one reader of all four logs. After each run every byte is compared with what was written."
)
#: What the members print, and what the agents' logs hold: line n of rank r.
PRINTER = """
import os, sys
rank, lines = os.environ["NODE_RANK"], int(sys.argv[1])
for n in range(lines):
    sys.stdout.write(f"rank {rank} line {n:8} ".ljust(79, ".") + "\\n")
"""


def output(rank: int, lines: int) -> bytes:
    """What a member prints."""
    return b"".join(f"rank {rank} line {n:8} ".ljust(79, ".").encode() + b"\n" for n in range(lines))


class _Line(msgspec.Struct):
    rank: int
    text: str
    end: str


_decode = msgspec.json.Decoder(_Line).decode


class Feeder(fleet.SimulatedAgent):
    """An agent whose members have printed before they are even started: only their logs travel."""

    def __init__(self, folder: Path, told: Connection, *where: Any) -> None:
        super().__init__(*where, connected=lambda _: None)
        self._folder = folder
        self._told = told
        self._shipments = Shipments()
        self._size = 0
        self._more = asyncio.Event()

    def do(self, action: Action) -> None:
        if not isinstance(action, Start):
            super().do(action)
            return
        member = action.member
        own = self._folder / member
        own.mkdir()
        rank = int(member.split(".")[1])
        os.link(self._folder / f"rank{rank}", own / "log")
        self._size = (own / "log").stat().st_size
        asyncio.get_running_loop().call_soon(self._begin, member)

    def _begin(self, member: str) -> None:
        self.tell(Running(member, boottime()))
        self._told.send(("began", time.monotonic()))
        self._shipments.follow(member, self._folder / member)
        self._more.set()

    async def use_logs(self, link: Link) -> None:
        self._shipments.restart()
        reading = asyncio.create_task(self._answers(link))
        while not reading.done():
            self._more.clear()
            while (chunk := self._shipments.take()) is not None:
                await link.send(chunk)
            await self._more.wait()

    async def _answers(self, link: Link) -> None:
        async for answer in link:
            progressed = self._shipments.answered(answer)
            self._more.set()
            if progressed is not None:
                self.tell(Shipped(progressed.member, progressed.offset))
                if progressed.offset == self._size:
                    self._told.send(("shipped", time.monotonic()))
                    self.tell(Ended(progressed.member, ExitStatus(0, None, ""), log_bytes=self._size))


def feed(folder: Path, url: str, token: str, told: Connection) -> None:
    """The agents' process."""

    async def run() -> None:
        gate = asyncio.Semaphore(1)
        names = [f"agent-{number}" for number in range(AGENTS)]
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            keys = [await fleet.join(client, gate, token, name) for name in names]
        agents = [
            Feeder(folder, told, name, number, url, key)
            for number, (name, key) in enumerate(zip(names, keys, strict=True))
        ]
        await asyncio.gather(*(agent.run() for agent in agents))

    uvloop.run(run())


def read_back(client: Client, job: str, *, follow: bool) -> tuple[dict[int, str], float]:
    """sha256 of each rank's output, and the seconds until its last byte had come."""
    pieces: list[bytes] = []
    began = time.monotonic()
    headers = {"Authorization": f"Bearer {client.settings.token}"}
    query = {"follow": "true"} if follow else {}
    path = f"{client.settings.master}/api/v1/jobs/{job}/logs"
    with httpx.stream("GET", path, params=query, headers=headers, timeout=60, trust_env=False) as answer:
        answer.raise_for_status()
        pieces.extend(answer.iter_bytes())
    took = time.monotonic() - began
    digests: dict[int, Any] = {}
    for text in filter(None, b"".join(pieces).split(b"\n")):
        line = _decode(text)
        digests.setdefault(line.rank, hashlib.sha256()).update(f"{line.text}{line.end}".encode())
    return {rank: digest.hexdigest() for rank, digest in digests.items()}, took


def compare(read: dict[int, str], written: list[str]) -> None:
    if read != dict(enumerate(written)):
        raise SystemExit(f"what was read is not what was written: {read} instead of {written}")


def through_links(lines: int, runs: int) -> tuple[list[float], list[float]]:
    """Lines per second that the master takes, and that one reader gets."""
    folder = Path(tempfile.mkdtemp(prefix="quorate-bench-logs-"))
    written = []
    for rank in range(AGENTS):
        text = output(rank, lines)
        written.append(hashlib.sha256(text).hexdigest())
        log = ShimLog(str(folder / f"rank{rank}"))
        for at in range(0, len(text), 64 * 1024):
            log.take(Stream.STDOUT, text[at : at + 64 * 1024])
    ours, theirs = multiprocessing.Pipe()
    taken, read = [], []
    try:
        with one_master() as master, master.client() as client:
            token = client.create_token(kind="join", pool="default", uses=AGENTS).token
            arguments = (folder, master.url, token, theirs)
            feeder = multiprocessing.get_context("spawn").Process(target=feed, args=arguments, daemon=True)
            feeder.start()
            for run in range(runs):
                progress(f"links {run + 1}/{runs}")
                job = client.submit(JobSpec(entrypoint=("true",), resources=Resources(nodes=AGENTS)))
                moments: dict[str, list[float]] = {"began": [], "shipped": []}
                while len(moments["shipped"]) < AGENTS:
                    if not ours.poll(120):
                        raise SystemExit(f"the logs did not come; job: {client.job(job.id)}")
                    what, at = ours.recv()
                    moments[what].append(at)
                taken.append(AGENTS * lines / (max(moments["shipped"]) - min(moments["began"])))
                client.wait(job.id)
                digests, took = read_back(client, job.id, follow=False)
                compare(digests, written)
                read.append(AGENTS * lines / took)
            feeder.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return taken, read


def whole(lines: int, runs: int) -> list[float]:
    """Lines per second from members that print to a reader."""
    written = [hashlib.sha256(output(rank, lines)).hexdigest() for rank in range(2)]
    rates = []
    spec = JobSpec(entrypoint=("python", "-c", PRINTER, str(lines)), resources=Resources(nodes=2))
    with cluster(agents=2, slots=8) as client:
        for run in range(runs):
            progress(f"whole {run + 1}/{runs}")
            began = time.monotonic()
            job = client.submit(spec)
            digests, _ = read_back(client, job.id, follow=True)
            rates.append(2 * lines / (time.monotonic() - began))
            compare(digests, written)
            ended = client.wait(job.id)
            if ended.state is not JobState.COMPLETED:
                raise SystemExit(f"job {job.id} is {ended.state}: {ended.reason}")
    return rates


def main() -> None:
    """Measures and writes bench/results/logs.json."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=15)
    arguments.add_argument("--lines", type=int, default=100_000)
    options = arguments.parse_args()
    taken, read = through_links(options.lines, options.runs)
    figures = {
        "master_lines_per_s": summary(taken, 0),
        "read_lines_per_s": summary(read, 0),
        "whole_lines_per_s": summary(whole(options.lines, options.runs), 0),
        "reach": {"master_lines_per_s": 50_000},
    }
    progress("")
    write("logs", figures, how=HOW.format(lines=f"{options.lines:,}"))


if __name__ == "__main__":
    main()
