"""Logs on their way from an agent to a reader, through a real master."""

import asyncio
import hashlib
import json
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from quorate.master.loglines import LogReader
from quorate.master.logs import INDEX_EVERY, LogGap, LogStore, NoLog
from quorate.model.ids import JobId, MemberId
from quorate.model.logframes import Stream, encode_frame
from quorate.model.messages import (
    Desired,
    ExitStatus,
    LogAck,
    LogChunk,
    LogRefuse,
    MemberStatus,
    Report,
    ReportAck,
    Welcome,
)

from .serving import MasterProcess, hear, hello, running, say, until

CONTROL, LOGS = "/agent/v1/control", "/agent/v1/logs"
OUT, ERR = Stream.STDOUT, Stream.STDERR
SECOND = 1_000_000_000


def told(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(40):
            await story()

    asyncio.run(bounded())


class Agent:
    """An agent that says what the test wants."""

    def __init__(self, master: MasterProcess, control: ClientConnection, logs: ClientConnection) -> None:
        self.master = master
        self.control = control
        self.logs = logs
        self.sequence = 0

    async def member(self) -> MemberId:
        """The first member that it is to have, of a job that is submitted now."""
        await asyncio.to_thread(submit, self.master)
        return await self.wanted()

    async def wanted(self) -> MemberId:
        """The first member that it is to have."""
        while True:
            message = await hear(self.control)
            if isinstance(message, Desired) and message.members:
                return MemberId(message.members[0])

    async def report(self, *members: MemberStatus) -> None:
        """Returns when the report is committed."""
        self.sequence += 1
        await say(self.control, Report(self.sequence, members))
        while True:
            message = await hear(self.control)
            if isinstance(message, ReportAck) and message.sequence == self.sequence:
                return

    async def ship(self, member: MemberId, offset: int, data: bytes) -> None:
        """Returns when all of it is acknowledged."""
        await say(self.logs, LogChunk(member, offset, data))
        await self.acknowledged(member, offset + len(data))

    async def acknowledged(self, member: MemberId, offset: int) -> None:
        while True:
            message = await hear(self.logs)
            assert isinstance(message, LogAck), message
            if message.member == member and message.offset >= offset:
                return


@asynccontextmanager
async def agent_of(master: MasterProcess, key: str, *members: MemberStatus) -> AsyncIterator[Agent]:
    async with master.link(CONTROL, key) as control, master.link(LOGS, key) as logs:
        await say(control, hello("a", slots=4, members=members))
        assert isinstance(await hear(control), Welcome)
        yield Agent(master, control, logs)


def submit(master: MasterProcess) -> str:
    with master.client() as client:
        answer = client.post("/api/v1/jobs", json={"spec": {"entrypoint": "true"}})
    return str(answer.json()["id"])


def only_job(master: MasterProcess) -> str:
    """The id of the first job that was submitted."""
    with master.client() as client:
        return str(client.get("/api/v1/jobs").json()["items"][-1]["id"])


def lines(master: MasterProcess, job: str, query: str = "") -> list[dict[str, Any]]:
    with master.client() as client:
        answer = client.get(f"/api/v1/jobs/{job}/logs?{query}")
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.split("\n") if line]


def test_lines_are_read_back_with_time_rank_and_stream(own_master: MasterProcess) -> None:
    key = own_master.join("a")
    log = encode_frame(OUT, SECOND, b"one\n\r10%\r20%\n") + encode_frame(ERR, 2 * SECOND, b"bad \xff end")

    async def story() -> None:
        async with agent_of(own_master, key) as agent:
            member = await agent.member()
            await agent.report(MemberStatus(member, "running"))
            await agent.ship(member, 0, log)
            status = MemberStatus(member, "exited", ExitStatus(code=0), log_bytes=len(log))
            await agent.report(status)

    told(story)
    job = only_job(own_master)
    found = lines(own_master, job)
    assert [(line["stream"], line["text"], line["end"]) for line in found] == [
        ("stdout", "one", "\n"),
        ("stdout", "\r10%\r20%", "\n"),
        ("stderr", "bad \ufffd end", ""),
    ]
    assert {(line["member"], line["rank"], line["incarnation"]) for line in found} == {(f"{job}-1.0.1", 0, 1)}
    assert found[0]["time"].startswith("1970-01-01T00:00:01")
    assert [line["text"] for line in lines(own_master, job, f"cursor=1.0.1:{found[0]['offset']}")] == [
        "\r10%\r20%",
        "bad \ufffd end",
    ]
    assert [line["text"] for line in lines(own_master, job, "tail=1")] == ["bad \ufffd end"]
    assert lines(own_master, job, "member=main1") == lines(own_master, job, "member=0") == found


def test_followers_get_each_line_as_it_comes_and_the_end_with_the_job(own_master: MasterProcess) -> None:
    key = own_master.join("a")
    seen: list[tuple[str, str]] = []

    def follow(job: str) -> None:
        with own_master.client() as client, client.stream("GET", f"/api/v1/jobs/{job}/logs?follow=true") as stream:
            for raw in stream.iter_lines():
                if raw:
                    line = json.loads(raw)
                    seen.append((line["text"], line["end"]))

    readers: list[threading.Thread] = []

    async def story() -> None:
        async with agent_of(own_master, key) as agent:
            member = await agent.member()
            await agent.report(MemberStatus(member, "running"))
            reader = threading.Thread(target=follow, args=[only_job(own_master)])
            reader.start()
            readers.append(reader)
            log = b""

            async def say_and_see(text: bytes, expected: tuple[str, str]) -> None:
                nonlocal log
                frame = encode_frame(OUT, SECOND, text)
                await agent.ship(member, len(log), frame)
                log += frame
                await asyncio.to_thread(until, lambda: seen[-1:] == [expected], f"{expected}")

            await say_and_see(b"one\n", ("one", "\n"))
            # A bar that has no newline yet is shown as far as it is drawn.
            await say_and_see(b"\r10%", ("\r10%", ""))
            await say_and_see(b"\r20%\n", ("\r20%", "\n"))
            await agent.report(MemberStatus(member, "exited", ExitStatus(code=0), log_bytes=len(log) + 20))
            # The job has ended, but its log is not whole yet: nobody is sent away without the rest.
            await say_and_see(encode_frame(OUT, SECOND, b"end\n")[16:], ("end", "\n"))

    told(story)
    readers[0].join(20)
    assert not readers[0].is_alive()
    assert seen == [("one", "\n"), ("\r10%", ""), ("\r20%", "\n"), ("end", "\n")]


def test_a_log_that_ends_before_its_member_did_says_how_much_is_missing(own_master: MasterProcess) -> None:
    key = own_master.join("a")
    log = encode_frame(OUT, SECOND, b"one\n")

    async def story() -> None:
        async with agent_of(own_master, key) as agent:
            member = await agent.member()
            await agent.report(MemberStatus(member, "running"))
            await agent.ship(member, 0, log)
            await agent.report(MemberStatus(member, "exited", ExitStatus(code=0), log_bytes=len(log) + 20))

    told(story)
    # A job that ended in the time of an earlier master is not waited for.
    own_master.stop()
    own_master.start()
    for query in ("", "follow=true"):
        one, last = lines(own_master, only_job(own_master), query)
        assert (one["text"], last["text"], last["end"]) == ("one", "", "")
        assert (last["member"], last["missing"], last["offset"]) == (one["member"], 20, one["offset"])


def test_duplicates_and_overlaps_do_no_harm_and_gaps_are_refused(own_master: MasterProcess) -> None:
    key = own_master.join("a")
    log = b"".join(encode_frame(OUT, SECOND, b"line %d\n" % number) for number in range(100))

    async def story() -> None:
        async with agent_of(own_master, key) as agent:
            member = await agent.member()
            await agent.ship(member, 0, log[:1000])
            await say(agent.logs, LogChunk(member, 1500, log[1500:]))
            assert await hear(agent.logs) == LogRefuse(member, 1000, "the log ends at byte 1000")
            await agent.ship(member, 0, log[:1000])
            await agent.ship(member, 500, log[500:])

    told(story)
    assert [line["text"] for line in lines(own_master, only_job(own_master))] == [
        f"line {number}" for number in range(100)
    ]


def test_a_log_of_somebody_elses_member_is_not_taken(own_master: MasterProcess) -> None:
    key, other = own_master.join("a"), own_master.join("b")

    async def story() -> None:
        async with agent_of(own_master, key) as agent, own_master.link(LOGS, other) as stranger:
            member = await agent.member()
            frame = encode_frame(OUT, SECOND, b"forged\n")
            for name in (member, "nobody-1.0.1", "../../etc/passwd"):
                await say(stranger, LogChunk(name, 0, frame))
                refuse = await hear(stranger)
                assert isinstance(refuse, LogRefuse)
                assert (refuse.member, refuse.expected) == (name, -1)

    told(story)
    assert lines(own_master, only_job(own_master)) == []


def test_what_was_acknowledged_survives_the_masters_death(own_master: MasterProcess) -> None:
    key = own_master.join("a")
    frames = [encode_frame(OUT, SECOND, b"%06d\n" % number) for number in range(30_000)]
    log = b"".join(frames)
    acked = 0

    async def first_life() -> None:
        nonlocal acked
        async with agent_of(own_master, key) as agent:
            member = await agent.member()
            await agent.report(MemberStatus(member, "running"))
            for start in range(0, len(log), 20_000):
                await say(agent.logs, LogChunk(member, start, log[start : start + 20_000]))
            while acked < 100_000:
                message = await hear(agent.logs)
                assert isinstance(message, LogAck)
                acked = message.offset
            own_master.kill()

    async def second_life() -> None:
        member = MemberId(f"{only_job(own_master)}-1.0.1")
        async with agent_of(own_master, key, MemberStatus(member, "running")) as agent:
            await agent.ship(member, acked, log[acked : acked + 200_000])
            for start in range(acked + 200_000, len(log), 200_000):
                await agent.ship(member, start, log[start : start + 200_000])

    told(first_life)
    own_master.start()
    job = only_job(own_master)
    assert own_master.state.joinpath("logs", job[0], f"{job}-1.0.1.log").stat().st_size >= acked
    told(second_life)
    assert [line["text"] for line in lines(own_master, job)] == [f"{number:06d}" for number in range(30_000)]


def test_a_full_disk_holds_logs_back_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    file = tmp_path / "master.yaml"
    file.write_text("logs: {reserve_mib: 8}\n")
    chunk = b"".join(encode_frame(OUT, SECOND, b"x" * 65_000 + b"\n") for _ in range(3))
    count = 60
    ballast = small_disk / "ballast"

    with running(small_disk / "state", file=file) as master:
        key = master.join("a")

        def findings() -> list[str]:
            with master.client() as client:
                return [finding["code"] for finding in client.get("/api/v1/master").json()["findings"]]

        async def story() -> None:
            async with agent_of(master, key) as agent:
                member = await agent.member()
                ballast.write_bytes(b"\0" * 4 * 1024 * 1024)

                async def send_all() -> None:
                    for number in range(count):
                        await say(agent.logs, LogChunk(member, number * len(chunk), chunk))

                sending = asyncio.create_task(send_all())
                await asyncio.to_thread(until, lambda: findings() == ["DISK-FULL"], "the finding")
                # The store has the room that logs leave alone: everything else goes on.
                submit(master)
                assert master.process is not None
                assert master.process.poll() is None
                acked = 0
                await asyncio.to_thread(ballast.unlink)
                await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=64m", small_disk], check=True)
                while acked < count * len(chunk):
                    message = await hear(agent.logs)
                    assert isinstance(message, LogAck), message
                    acked = message.offset
                await sending

        told(story)
        assert len(lines(master, only_job(master))) == 3 * count
        until(lambda: findings() == [], "the end of the finding")


# --- the store alone -------------------------------------------------------------------------------------------------

MEMBER = MemberId("k3jd-1.0.1")


def with_store(directory: Path, use: Callable[[LogStore], Awaitable[None]]) -> None:
    async def run() -> None:
        store = LogStore(directory)
        try:
            await use(store)
        finally:
            await store.close()

    asyncio.run(run())


def test_bytes_that_are_no_frames_are_refused_and_leave_no_trace(tmp_path: Path) -> None:
    async def use(store: LogStore) -> None:
        good = encode_frame(OUT, SECOND, b"good\n")
        with pytest.raises(NoLog):
            await store.append(MEMBER, 0, good + b"no frame begins like this")
        assert await store.append(MEMBER, len(good), good) == 2 * len(good)
        with pytest.raises(LogGap) as gap:
            await store.append(MEMBER, 1000, good)
        assert gap.value.expected == 2 * len(good)

    with_store(tmp_path, use)


@pytest.mark.parametrize("headers_too", [True, False])
def test_a_tail_of_rubbish_after_a_loss_of_power_is_overwritten(tmp_path: Path, headers_too: bool) -> None:
    frames = [encode_frame(OUT, SECOND, b"x" * 60_000) for _ in range(20)]
    log = b"".join(frames)

    async def before(store: LogStore) -> None:
        for start in range(0, len(log), 250_000):
            await store.append(MEMBER, start, log[start : start + 250_000])

    with_store(tmp_path, before)
    path = tmp_path / "k" / f"{MEMBER}.log"
    assert path.with_suffix(".idx").stat().st_size >= 8 * (len(log) // INDEX_EVERY - 1)
    # Of what was never synced, a file system may keep the length and not the bytes, and of the index even less.
    acknowledged = len(frames[0]) * 17
    index = path.with_suffix(".idx")
    index.write_bytes(index.read_bytes()[:24])
    with path.open("r+b") as file:
        file.seek(len(frames[0]) * 18 + (5 if headers_too else 16))
        file.write(b"\0" * (len(frames[0]) - 16))
        if headers_too:
            file.write(b"\0" * len(frames[0]))

    async def after(store: LogStore) -> None:
        reader = LogReader(store, MEMBER)
        while reader.read() is not None:
            pass
        rest = log[acknowledged:]
        # Nothing is vouched for but what was sent again.
        assert await store.append(MEMBER, acknowledged, rest[:100_000]) == acknowledged + 100_000
        assert await store.append(MEMBER, acknowledged + 100_000, rest[100_000:]) == len(log)

    with_store(tmp_path, after)
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(log).digest()


def test_old_logs_of_ended_jobs_go_and_all_others_stay(tmp_path: Path) -> None:
    async def use(store: LogStore) -> None:
        frame = encode_frame(OUT, SECOND, b"x\n")
        running_job, ended = MemberId("k3jd-1.0.1"), MemberId("b2cd-1.0.1")
        for member in (running_job, ended):
            await store.append(member, 0, frame)
        assert await store.forget_before(0.0, keep=lambda job: job == "k3jd") == 0
        assert await store.forget_before(2e10, keep=lambda job: job == "k3jd") == 1
        assert (store.size(running_job), store.size(ended)) == (len(frame), 0)

    with_store(tmp_path, use)


def test_the_logs_of_a_forgotten_job_go_with_it(tmp_path: Path) -> None:
    async def use(store: LogStore) -> None:
        frame = encode_frame(OUT, SECOND, b"x\n")
        gone, near = MemberId("k3jd-2.0.1"), MemberId("k3jdx-1.0.1")
        for member in (gone, near):
            await store.append(member, 0, frame)
        await store.forget(JobId("k3jd"))
        assert (store.size(gone), store.size(near)) == (0, len(frame))

    with_store(tmp_path, use)
