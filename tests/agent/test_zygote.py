"""The zygote's spare: one shim that waits for the next member's order."""

import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.agent.peer import spec

from quorate.agent.memberfolder import EXIT, IDENTITY
from quorate.agent.order import Order
from quorate.agent.orders import Machine, Places, compose
from quorate.agent.outcome import read_outcome
from quorate.agent.processes import Process, children, process
from quorate.agent.zygote import Zygote
from quorate.model.messages import PlannedMember

PATIENCE_S = 20.0


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    made = Zygote(lock)
    yield made
    made.close()
    os.close(lock)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def spare_of(zygote: Zygote) -> Process:
    zygote.spare()
    until(lambda: children(zygote.pid))
    spare = process(children(zygote.pid)[0])
    assert spare is not None
    return spare


def test_the_next_member_gets_the_spare(zygote: Zygote) -> None:
    spare = spare_of(zygote)
    with zygote.fork() as first, zygote.fork() as second:
        until(lambda: len(children(zygote.pid)) == 2)
        assert spare.alive
        first.close()
        until(lambda: not spare.alive)
        assert not select.select([second], [], [], 0)[0]


def test_a_spare_that_was_killed_is_not_given_out(zygote: Zygote) -> None:
    spare = spare_of(zygote)
    spare.kill(signal.SIGKILL)
    until(lambda: not spare.alive)
    with zygote.fork() as connection:
        until(lambda: children(zygote.pid))
        assert not select.select([connection], [], [], 0)[0]


def test_a_spare_is_given_out_by_an_agent_with_thousands_of_descriptors(zygote: Zygote) -> None:
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    held = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(1100)]
    try:
        spare = spare_of(zygote)
        with zygote.fork() as connection:
            assert connection.fileno() > 1023
            assert spare.alive
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


def test_a_spare_ends_with_its_agent(zygote: Zygote) -> None:
    spare = spare_of(zygote)
    zygote.close()
    until(lambda: not spare.alive)


def test_a_stop_that_comes_right_behind_the_order_ends_the_member_with_an_outcome(
    zygote: Zygote, tmp_path: Path
) -> None:
    folder = tmp_path / "abcd-1.0.1"
    (folder / "work").mkdir(parents=True)
    order = Order(
        member="abcd-1.0.1",
        folder=str(folder),
        argv=("sleep", "60"),
        user_environment={},
        environment={"PATH": os.environ["PATH"]},
        work=str(folder / "work"),
        grace_s=1.0,
    )
    stop = {"stop": {"reason": "cancelled", "echo": False, "grace_s": 1.0}}
    with zygote.fork() as agent:
        agent.sendall(order.to_json() + b"\n" + json.dumps(stop).encode() + b"\n")
        until(lambda: read_outcome(str(folder / EXIT)))
        outcome = read_outcome(str(folder / EXIT))
    assert outcome is not None
    assert outcome.reason == "cancelled"


def test_a_shim_that_waits_for_its_companion_alone_takes_no_time_of_a_processor(zygote: Zygote, tmp_path: Path) -> None:
    """Also where its agent, and its children, have more to say."""
    folder = tmp_path / "abcd-1.0.1"
    order = first_of_two(folder)
    with zygote.fork() as agent:
        agent.sendall(order.to_json() + b"\n")
        shim = process_in(folder / IDENTITY)
        until(lambda: children(shim.pid))
        companion = children(shim.pid)[0]
        os.kill(companion, signal.SIGSTOP)
        try:
            agent.sendall(json.dumps({"stop": {"reason": "over", "echo": False, "grace_s": 1.0}}).encode() + b"\n")
            until(lambda: read_outcome(str(folder / EXIT)))
            agent.sendall(b'{"read": 0}\n')
            began, used = time.process_time(), seconds_of(shim.pid)
            while time.process_time() < began + 0.3:
                pass
            assert seconds_of(shim.pid) - used < 0.1
            assert shim.alive
        finally:
            os.kill(companion, signal.SIGCONT)
        until(lambda: not shim.alive)


def test_why_a_companion_could_not_come_to_its_member_is_told(zygote: Zygote, tmp_path: Path) -> None:
    folder = tmp_path / "abcd-1.0.1"
    order = replace(first_of_two(folder), netns=str(tmp_path / "gone"))
    with zygote.fork() as agent:
        agent.sendall(order.to_json() + b"\n")
        until(lambda: read_outcome(str(folder / EXIT)))
    outcome = read_outcome(str(folder / EXIT))
    assert outcome is not None
    assert (outcome.ran, outcome.finding) == (False, "COMPANION-FAILED")
    assert "the member's network namespace is gone" in outcome.reason


def first_of_two(folder: Path) -> Order:
    """A member that waits for another one, which never comes."""
    (folder / "work").mkdir(parents=True)
    ports = {"rendezvous": 1, "watch": 2}
    members = tuple(
        PlannedMember(rank, "main", rank + 1, f"main{rank + 1}", "alpha", "127.0.0.1", (), ports) for rank in range(2)
    )
    pair = spec(("true",), "abcd-1", members=members, preflight="off")
    return compose("abcd-1.0.1", pair, Machine(), Places(str(folder), str(folder / "work"), "/none"), None, {})


def process_in(path: Path) -> Process:
    until(lambda: Process.kept(path))
    kept = Process.kept(path)
    assert kept is not None
    return kept


def seconds_of(pid: int) -> float:
    """Of a processor that it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
