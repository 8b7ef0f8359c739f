"""Output arrives complete, in order and at once, whatever it looks like and whatever breaks on the way."""

import hashlib
import sys
from pathlib import Path

import pytest
from tests.agent.conftest import Agent, SmallDisk
from tests.agent.peer import JOB, master, spec

from quorate.agent.redaction import Redactor
from quorate.agent.shipments import OutOfStep, Shipments
from quorate.model.logframes import Stream
from quorate.model.messages import LogAck, LogRefuse

pytestmark = pytest.mark.anyio

M = f"{JOB}-1.0.1"


def python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


async def test_progress_bars_long_lines_rubbish_and_a_missing_newline_arrive_byte_for_byte(agent: Agent) -> None:
    script = """
import os, sys, hashlib, random
data = b"".join(b"\\r%3d%%" % i for i in range(101)) + b"x" * (1 << 20) + b"\\n"
data += random.Random(1).randbytes(3 << 20) + b"no newline"
sys.stdout.buffer.write(data); sys.stdout.flush()
sys.stderr.write(hashlib.sha256(data).hexdigest())
"""
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(python(script)))
        await peer.state(M, "exited")
        await peer.whole_log(M)
        assert hashlib.sha256(peer.output(M)).hexdigest().encode() == peer.output(M, Stream.STDERR)


async def test_a_log_is_sent_again_from_what_was_acknowledged_after_the_link_broke(agent: Agent) -> None:
    async with master() as peer:
        peer.ack_logs = False
        agent.start(peer.port)
        await peer.run(M, spec(("sh", "-c", "seq 1 200000")))
        await peer.state(M, "exited")
        await peer.until(lambda: peer.logs.get(M))
        peer.ack_logs = True
        assert peer.log_link is not None
        peer.log_link.transport.abort()
        await peer.whole_log(M)
        assert peer.output(M).split() == [b"%d" % i for i in range(1, 200_001)]


async def test_an_agent_killed_in_a_rush_of_output_neither_loses_nor_doubles_a_line(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("sh", "-c", "seq 1 2000000")))
        for lines in (b"\n1000\n", b"\n100000\n"):
            await peer.until(lambda lines=lines: lines in peer.output(M))
            hellos = len(peer.hellos)
            agent.kill()
            agent.start(peer.port)
            await peer.until(lambda hellos=hellos: len(peer.hellos) > hellos)
        await peer.state(M, "exited")
        await peer.whole_log(M)
        assert peer.output(M) == b"".join(b"%d\n" % i for i in range(1, 2_000_001))


async def test_a_master_that_lost_its_tail_gets_it_again(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("sh", "-c", "seq 1 50000")))
        await peer.state(M, "exited")
        await peer.whole_log(M)
        whole = bytes(peer.logs[M])
        del peer.logs[M][1000:]
        hellos = len(peer.hellos)
        agent.kill()
        (agent.folder(M) / "acked").write_text(f"{len(whole) - 500:020d}")
        agent.start(peer.port)
        await peer.until(lambda: len(peer.hellos) > hellos)
        await peer.until(lambda: len(peer.logs[M]) == len(whole))
        assert bytes(peer.logs[M]) == whole


@pytest.mark.lab
async def test_a_full_disk_makes_the_member_wait_and_loses_nothing(agent: Agent, small_disk: SmallDisk) -> None:
    small_disk.mount("1m")
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("sh", "-c", "seq 1 200000; echo end; exit 6")))
        await peer.until(lambda: any(f.code == "DISK-FULL" for f in peer.findings))
        assert [f.member for f in peer.findings if f.code == "DISK-FULL"] == [M]
        assert peer.statuses[M].state == "running"
        small_disk.mount("16m")
        status = await peer.state(M, "exited")
        assert status.exit is not None
        assert status.exit.code == 6
        await peer.whole_log(M)
        assert peer.output(M).split() == [*(b"%d" % i for i in range(1, 200_001)), b"end"]
        await peer.until(lambda: all(f.code != "DISK-FULL" for f in peer.findings))


@pytest.mark.lab
async def test_a_member_on_a_full_disk_can_be_stopped_and_its_end_is_known(agent: Agent, small_disk: SmallDisk) -> None:
    small_disk.mount("1m")
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("sh", "-c", "seq 1 10000000"), grace_s=0.2))
        await peer.until(lambda: any(f.code == "DISK-FULL" for f in peer.findings))
        await peer.want((M,), stop={M: "cancelled"})
        status = await peer.state(M, "exited")
        assert status.code == "DISK-FULL"
        assert "bytes of output are lost" in status.reason


@pytest.mark.lab
async def test_a_member_that_cannot_even_be_prepared_on_a_full_disk_says_why(
    agent: Agent, small_disk: SmallDisk
) -> None:
    small_disk.mount("1m")
    (small_disk.path / "ballast").write_bytes(b"x" * (1 << 20))
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("true",)))
        status = await peer.state(M, "failed")
        assert status.code == "DISK-FULL"


def redact(secrets: list[bytes], pieces: list[bytes]) -> bytes:
    redactor = Redactor(secrets)
    return b"".join(redactor.feed(piece) for piece in pieces) + redactor.flush()


@pytest.mark.parametrize("size", range(1, 12))
def test_secrets_are_blanked_wherever_a_read_cuts_them(size: int) -> None:
    text = b"key=hunter2, again hunter2hunter2 and hunt, hunter; abcab abcabcab end hunt"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    expected = text.replace(b"hunter2", b"[secret]").replace(b"abcab", b"[secret]")
    assert redact([b"hunter2", b"abcab"], pieces) == expected


def test_a_secret_within_a_longer_one_does_not_save_the_longer_one() -> None:
    assert redact([b"abc", b"abcdef"], [b"xabc", b"def abc"]) == b"x[secret] [secret]"


def test_a_secret_of_several_lines_is_blanked_line_by_line() -> None:
    key = b"-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n"
    assert b"MIIEvQ" not in redact([key], [b"> MIIEvQIBADANBg\n> kqhkiG9w0BAQEF\n"])


def test_what_is_no_secret_is_not_held_back() -> None:
    redactor = Redactor([b"hunter2"])
    assert redactor.feed(b"line\n") == b"line\n"


def test_a_refusal_in_the_middle_of_a_link_begins_the_link_again(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * 1_000_000)
    shipments = Shipments()
    shipments.follow("m", tmp_path)
    first = shipments.take()
    assert first is not None
    assert shipments.take() is None, "one chunk is tried first"
    shipments.answered(LogAck("m", len(first.data)))
    assert shipments.take() is not None
    assert shipments.take() is not None
    with pytest.raises(OutOfStep):
        shipments.answered(LogRefuse("m", 10, "gap"))
    shipments.restart()
    again = shipments.take()
    assert again is not None
    assert again.offset == len(first.data)


def test_logs_take_turns(tmp_path: Path) -> None:
    shipments = Shipments()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log").write_bytes(b"x" * 1_000_000)
        shipments.follow(name, tmp_path / name)
    for _ in range(2):
        chunk = shipments.take()
        assert chunk is not None
        shipments.answered(LogAck(chunk.member, len(chunk.data)))
    chunks = [shipments.take() for _ in range(4)]
    assert [chunk.member for chunk in chunks if chunk] == ["a", "b", "a", "b"]
