"""Log lines through one master: shipped by agents, acknowledged once they are on disk, read back and compared."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import time
from typing import Any

import msgspec
import uvloop
from harness import summary, write
from lone_master import LoneMaster, lone_master
from websockets.asyncio.client import ClientConnection, connect

from quorate.model.logframes import Stream, encode_frame
from quorate.model.messages import (
    PROTOCOL,
    AgentMessage,
    Desired,
    Heartbeat,
    Hello,
    LogAck,
    LogChunk,
    SlotInfo,
    decode_from_master,
    encode,
)

MEMBERS = 4
CHUNK = 256 * 1024
KEY = "qa1.bench"


class _Line(msgspec.Struct):
    member: str
    text: str
    end: str


_decoder = msgspec.json.Decoder(_Line)


def text_of(member: int, line: int) -> str:
    """What a training run prints, of 96 characters."""
    return (
        f"{member} step {line:09d} loss 0.12345 accuracy 0.98765 lr 0.00100 samples/s 12345.6 eta 0:12:34 mem 12.3 GiB"
    )


async def say(link: ClientConnection, message: AgentMessage) -> None:
    """Sends one message."""
    await link.send(encode(message))


async def hear(link: ClientConnection) -> Any:
    """Receives one message."""
    data = await link.recv()
    assert isinstance(data, bytes)
    return decode_from_master(data)


async def ship(master: LoneMaster, link: ClientConnection, member: str, log: bytes) -> None:
    """Returns when all of the log is acknowledged."""

    async def acknowledged() -> None:
        while True:
            answer = await hear(link)
            assert isinstance(answer, LogAck), answer
            if answer.offset >= len(log):
                return

    waiting = asyncio.ensure_future(acknowledged())
    for start in range(0, len(log), CHUNK):
        await say(link, LogChunk(member, start, log[start : start + CHUNK]))
    await waiting


async def measure(master: LoneMaster, lines: int, runs: int) -> dict[str, Any]:
    """Lines per second in and out, over `runs` jobs of MEMBERS members."""
    headers = {"Authorization": f"Bearer {KEY}"}
    options: dict[str, Any] = {"additional_headers": headers, "compression": None, "ping_interval": None, "proxy": None}
    base = f"ws://127.0.0.1:{master.port}/agent/v1"
    taken, read, cpu, beats = [], [], [], 0
    async with master.client() as client:
        token = (await client.post("/api/v1/tokens", json={"kind": "join"})).json()["token"]
        key_hash = hashlib.sha256(KEY.encode()).hexdigest()
        joined = await client.post("/agent/v1/join", json={"token": token, "name": "bench", "key_hash": key_hash})
        joined.raise_for_status()
        async with connect(f"{base}/control", **options) as control:
            slots = tuple(SlotInfo(n) for n in range(MEMBERS * runs))
            await say(control, Hello(PROTOCOL, "bench", "bench", "boot", "host", "127.0.0.1", slots, "bench"))
            for _ in range(runs):
                spec = {"entrypoint": "true", "resources": {"nodes": MEMBERS}, "placement": "pack"}
                beats += 1
                await say(control, Heartbeat(beats, time.monotonic()))
                job = (await client.post("/api/v1/jobs", json={"spec": spec})).json()["id"]
                members: list[str] = []
                while not members:
                    message = await hear(control)
                    if isinstance(message, Desired):
                        members = [name for name in message.members if name.startswith(f"{job}-")]
                each = lines // MEMBERS
                stamp = time.time_ns()
                logs = [
                    b"".join(
                        encode_frame(Stream.STDOUT, stamp + n, text_of(m, n).encode() + b"\n") for n in range(each)
                    )
                    for m in range(MEMBERS)
                ]
                links = [await connect(f"{base}/logs", **options) for _ in members]
                used, began = master.cpu_s(), time.perf_counter()
                await asyncio.gather(*map(ship, [master] * MEMBERS, links, sorted(members), logs))
                taken.append(each * MEMBERS / (time.perf_counter() - began))
                cpu.append((master.cpu_s() - used) / (each * MEMBERS) * 1e6)
                for link in links:
                    await link.close()
                began = time.perf_counter()
                await compare(client, job, each)
                read.append(each * MEMBERS / (time.perf_counter() - began))
                await client.post(f"/api/v1/jobs/{job}/cancel")
    return {
        "lines_per_run": lines,
        "in_lines_per_s": summary(taken, 0),
        "out_lines_per_s": summary(read, 0),
        "master_us_per_line_in": summary(cpu, 3),
    }


async def compare(client: Any, job: str, each: int) -> None:
    """Reads the job's logs and checks that every line of every member is there once and in order."""
    at = dict.fromkeys(range(MEMBERS), 0)
    rest = b""
    async with client.stream("GET", f"/api/v1/jobs/{job}/logs") as stream:
        async for data in stream.aiter_bytes():
            *whole, rest = (rest + data).split(b"\n")
            for raw in filter(None, whole):
                line = _decoder.decode(raw)
                member = int(line.text[0])
                if line.text != text_of(member, at[member]):
                    raise SystemExit(f"line {at[member]} of member {member} came back as {line.text!r}")
                at[member] += 1
    if set(at.values()) != {each}:
        raise SystemExit(f"{each} lines were written by each member, {at} came back")


def main() -> None:
    """Measures and writes bench/results/log_lines.json."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--lines", type=int, default=400_000)
    arguments.add_argument("--runs", type=int, default=15)
    arguments.add_argument("--port", type=int, default=18432)
    given = arguments.parse_args()
    with lone_master(given.port) as master:
        figures = uvloop.run(measure(master, given.lines, given.runs))
    how = (
        f"{MEMBERS} members ship {given.lines} lines of 96 characters in all, a frame a line, over links of their own; "
        "in: from the first byte to the last acknowledgement after the sync; out: one reader compares all lines"
    )
    write("log_lines", figures, how=how)


if __name__ == "__main__":
    main()
