"""Members are started, watched, stopped and ended without a trace: real processes on this machine."""

import os
import signal
import time
from pathlib import Path

import pytest
from tests.agent.conftest import Agent, eventually
from tests.agent.peer import JOB, Peer, master, spec

from quorate.agent import processes
from quorate.model.logframes import Stream

pytestmark = pytest.mark.anyio

M = f"{JOB}-1.0.1"
OTHER = f"{JOB}2-1.0.1"


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


async def test_a_member_runs_and_its_exit_code_and_output_arrive(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(shell("echo out; echo err >&2; exit 3")))
        status = await peer.state(M, "exited")
        assert status.exit is not None
        assert (status.exit.code, status.exit.signal) == (3, None)
        assert set(status.exit.tail.split()) == {"out", "err"}
        await peer.whole_log(M)
        assert peer.output(M) == b"out\n"
        assert peer.output(M, Stream.STDERR) == b"err\n"
        assert peer.history[M][-1] == "exited"


async def test_an_agent_that_can_make_no_rules_says_so(agent: Agent) -> None:
    if os.geteuid() == 0:
        agent.within = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    agent.settings = {"members_as": "auto", "sandboxes": True}
    async with master() as peer:
        agent.start(peer.port)
        await peer.until(lambda: [f.code for f in peer.findings] == ["NET-UNFILTERED"])
        assert "the cloud's metadata" in peer.findings[0].evidence


async def test_what_the_cluster_drops_leaves_nothing_behind(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(shell("echo hello")))
        await peer.state(M, "exited")
        await peer.whole_log(M)
        await peer.want(())
        await eventually(lambda: not agent.folder(M).exists())
        # A shim tells the end before it clears its group away.
        await eventually(lambda: not processes.Cgroup.find(M))


async def test_a_signal_is_told_as_a_signal(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(shell("kill -9 $$")))
        status = await peer.state(M, "exited")
        assert status.exit is not None
        assert (status.exit.code, status.exit.signal) == (None, 9)


async def test_a_program_that_is_missing_is_a_sentence_and_no_traceback(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("no-such-program",)))
        status = await peer.state(M, "failed")
        assert status.reason.startswith("there is no program no-such-program on the PATH /")


async def test_the_environment_is_clean_and_the_users_values_win(agent: Agent) -> None:
    os.environ["QUORATE_TEST_LEAK"] = "secret of the agent"
    agent.settings["environment"] = {"SITE": "operator", "BOTH": "operator"}
    try:
        async with master() as peer:
            agent.start(peer.port)
            mine = {"BOTH": "user", "QUORATE_RANK": "mine", "PATH": "/usr/bin:/bin"}
            await peer.run(M, spec(("env",), environment=mine))
            await peer.state(M, "exited")
            await peer.whole_log(M)
            seen = dict(line.split("=", 1) for line in peer.output(M).decode().splitlines())
    finally:
        del os.environ["QUORATE_TEST_LEAK"]
    assert "QUORATE_TEST_LEAK" not in seen
    assert seen["SITE"] == "operator"
    assert seen["BOTH"] == "user"
    assert seen["QUORATE_RANK"] == "mine"
    assert seen["PATH"] == "/usr/bin:/bin"
    assert seen["QUORATE_MEMBER"] == M
    assert seen["QUORATE_SIZE"] == "1"
    assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} & set(seen)


async def test_standard_input_is_empty_and_broken_pipes_end_a_program(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(shell("cat; yes | head -n 1")))
        await peer.state(M, "exited")
        await peer.whole_log(M)
        assert peer.output(M) == b"y\n"
        assert peer.output(M, Stream.STDERR) == b""


async def test_stopping_reaches_processes_that_left_their_session(any_agent: Agent) -> None:
    """Workers of torchrun have sessions of their own."""
    agent = any_agent
    async with master() as peer:
        agent.start(peer.port)
        script = "setsid sh -c 'echo $$ > worker; trap \"\" TERM; while :; do sleep 1; done' & echo $$ > main; wait"
        await peer.run(M, spec(shell(script), grace_s=0.3))
        work = agent.folder(M) / "work"
        await eventually(lambda: (work / "worker").exists() and (work / "worker").read_text().strip())
        worker = processes.process(int((work / "worker").read_text()))
        assert worker is not None
        await peer.want((M,), stop={M: "cancelled by ann"})
        status = await peer.state(M, "exited")
        assert status.exit is not None
        assert status.exit.signal == 15
        assert status.reason == "cancelled by ann"
        assert status.echo
        assert not worker.alive
        assert not processes.marked(M)


async def test_a_member_that_takes_its_leave_in_time_is_not_killed(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        script = "trap 'echo saving; sleep 0.2; echo saved; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
        await peer.run(M, spec(shell(script), grace_s=20.0))
        await peer.until(lambda: b"ready" in peer.output(M))
        await peer.want((M,), stop={M: "cancelled"})
        status = await peer.state(M, "exited")
        assert status.exit is not None
        assert status.exit.code == 7
        await peer.whole_log(M)
        assert peer.output(M).endswith(b"saving\nsaved\n")


async def test_what_a_command_leaves_running_is_ended_with_it(any_agent: Agent) -> None:
    agent = any_agent
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(shell("setsid sleep 1000 & echo $! > left; exit 0")))
        status = await peer.state(M, "exited")
        assert status.exit is not None
        assert status.exit.code == 0
        left = processes.process(int((agent.folder(M) / "work" / "left").read_text()))
        assert left is None or not left.alive


async def test_a_forgotten_member_is_stopped(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("sleep", "1000")))
        await peer.state(M, "running")
        await peer.want(())
        await eventually(lambda: not agent.folder(M).exists())
        assert not processes.marked(M)


async def test_a_port_that_somebody_else_has_is_named_with_its_holder(agent: Agent) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        allocation = spec(("true",))
        port = other.getsockname()[1]
        planned = allocation.members[0]
        changed = type(planned)(0, "main", 1, "main1", "alpha", "127.0.0.1", (0,), {"main": port})
        async with master() as peer:
            agent.start(peer.port)
            await peer.run(M, spec(("true",), members=(changed,)))
            status = await peer.state(M, "failed")
    assert status.code == "PORT-TAKEN"
    assert f"port {port}, leased for main" in status.reason
    assert f"pid {os.getpid()}" in status.reason


async def test_two_hundred_members_at_once_all_end_with_their_own_code(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        members = tuple(f"{JOB}x{i}-1.0.1" for i in range(200))
        specs = [spec(shell(f"exit {i % 7}"), f"{JOB}x{i}-1") for i in range(200)]
        await peer.want(members, *specs)
        for i, member in enumerate(members):
            status = await peer.state(member, "exited")
            assert status.exit is not None
            assert status.exit.code == i % 7


async def test_the_agent_ends_with_all_its_members_when_it_is_told_to(agent: Agent) -> None:
    from quorate.agent import daemon

    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("sleep", "1000")))
        await peer.state(M, "running")
        import asyncio

        assert await asyncio.to_thread(daemon.end, agent.state)
        assert (await peer.state(M, "exited")).reason == "the agent was told to end its members"
        assert not processes.marked(M)


def test_a_pid_that_was_used_again_is_another_process() -> None:
    own = processes.process(os.getpid())
    assert own is not None
    assert own.alive
    assert not processes.Process(own.boot, own.pid, own.started - 1).alive
    assert not processes.Process("another boot", own.pid, own.started).alive


def test_a_process_is_known_as_dead_while_it_is_a_zombie() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    child = processes.process(pid)
    deadline = time.monotonic() + 10
    while child is not None and child.alive and time.monotonic() < deadline:
        os.sched_yield()
    assert child is None or not child.alive
    os.waitpid(pid, 0)
    assert Path("/proc/self").exists()


async def test_a_command_inherits_no_descriptor_of_ours(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("ls", "/proc/self/fd")))
        await peer.state(M, "exited")
        await peer.whole_log(M)
        # The last one is that of ls itself.
        assert peer.output(M).split() == [b"0", b"1", b"2", b"3"]


async def test_a_member_that_is_stopped_while_it_is_prepared_never_runs(agent: Agent) -> None:
    """Its context never comes, for this master has none."""
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("touch", str(agent.state / "ran")), context="ab" * 32))
        await peer.state(M, "starting")
        await peer.want((M,), stop={M: "cancelled"})
        status = await peer.state(M, "failed")
        assert status.reason == "cancelled"
        assert not (agent.state / "ran").exists()


async def test_an_agent_that_was_stopped_beyond_its_lease_ends_what_may_run_elsewhere(agent: Agent) -> None:
    async with master(Peer(heartbeat_s=0.5)) as peer:
        agent.start(peer.port)
        await peer.want((M, OTHER), spec(("sleep", "1000"), stop_after_s=3.0), spec(("sleep", "1000"), f"{JOB}2-1"))
        await peer.state(M, "running")
        await peer.state(OTHER, "running")
        assert agent.process is not None
        agent.process.send_signal(signal.SIGSTOP)
        paused = time.clock_gettime(time.CLOCK_BOOTTIME)
        await eventually(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > paused + 3.2)
        assert processes.marked(M)
        agent.process.send_signal(signal.SIGCONT)
        status = await peer.state(M, "exited")
        assert "heard nothing from the master" in status.reason
        assert not status.echo
        assert peer.statuses[OTHER].state == "running"


@pytest.mark.parametrize("grace", [0.0, 0.2])
async def test_a_member_that_ignores_everything_is_killed_after_its_grace(any_agent: Agent, grace: float) -> None:
    agent = any_agent
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(shell("trap '' TERM INT HUP; echo up; while :; do sleep 0.1; done"), grace_s=grace))
        await peer.until(lambda: b"up" in peer.output(M))
        await peer.want((M,), stop={M: "cancelled"})
        status = await peer.state(M, "exited")
        assert status.exit is not None
        assert status.exit.signal == 9
        assert not processes.marked(M)
