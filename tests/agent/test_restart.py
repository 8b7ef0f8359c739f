"""Agent, shim and member are killed at named points; nothing starts twice, nothing is lost, no orphan is left."""

import asyncio
import os
import signal

import pytest
from tests.agent.conftest import Agent, eventually
from tests.agent.peer import JOB, Peer, master, spec

from quorate.agent import daemon, processes
from quorate.agent.core import UNBEGUN_REASON
from quorate.agent.processes import boottime

pytestmark = pytest.mark.anyio

M = f"{JOB}-1.0.1"
OTHER = f"{JOB}2-1.0.1"


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


async def again(agent: Agent, peer: Peer) -> None:
    """The agent's next life, connected."""
    hellos = len(peer.hellos)
    agent.start(peer.port)
    await peer.until(lambda: len(peer.hellos) > hellos)


async def test_killing_the_agent_stops_no_member_and_the_next_one_finds_it(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(
            M, spec(shell("echo $$ > pid; echo before; while [ ! -e go ]; do sleep 0.02; done; echo after; exit 5"))
        )
        await peer.until(lambda: b"before" in peer.output(M))
        agent.kill()
        member = processes.process(int((agent.folder(M) / "work" / "pid").read_text()))
        assert member is not None
        await again(agent, peer)
        assert [(s.member, s.state) for s in peer.hellos[-1].members] == [(M, "running")]
        assert member.alive
        (agent.folder(M) / "work" / "go").touch()
        status = await peer.state(M, "exited")
        assert status.exit is not None
        assert status.exit.code == 5
        await peer.whole_log(M)
        assert peer.output(M) == b"before\nafter\n"
        assert peer.history[M].count("starting") <= 1


async def test_a_member_that_ends_while_no_agent_lives_is_told_by_the_next_one(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        began = boottime()
        await peer.run(M, spec(shell("while [ ! -e go ]; do sleep 0.02; done; echo done; exit 4")))
        await peer.state(M, "running")
        agent.kill()
        (agent.folder(M) / "work" / "go").touch()
        await eventually(lambda: (agent.folder(M) / "exit.json").exists())
        longest = boottime() - began
        await again(agent, peer)
        hello = peer.hellos[-1].members[0]
        assert hello.state == "exited"
        assert hello.exit is not None
        assert hello.exit.code == 4
        assert 0 < hello.running_s <= longest
        await peer.whole_log(M)
        assert peer.output(M) == b"done\n"


async def test_a_terminated_agent_leaves_its_members_running(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("sleep", "1000")))
        await peer.state(M, "running")
        assert agent.terminate() == 0
        assert processes.marked(M)
        await again(agent, peer)
        assert peer.hellos[-1].members[0].state == "running"


async def test_a_killed_shim_is_a_failed_member_without_orphans(any_agent: Agent) -> None:
    agent = any_agent
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(shell("setsid sleep 1000 & sleep 1000")))
        await peer.state(M, "running")
        os.kill(agent.shim(M), signal.SIGKILL)
        status = await peer.state(M, "failed")
        assert status.code == "MEMBER-LOST"
        assert not processes.marked(M)
        assert not processes.Cgroup.find(M)


async def test_shim_and_agent_killed_together_leave_a_failed_member_without_orphans(any_agent: Agent) -> None:
    agent = any_agent
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(shell("setsid sleep 1000 & sleep 1000")))
        await peer.state(M, "running")
        agent.kill()
        os.kill(agent.shim(M), signal.SIGKILL)
        assert processes.marked(M)
        await again(agent, peer)
        assert (await peer.state(M, "failed")).code == "MEMBER-LOST"
        assert not processes.marked(M)
        assert peer.history[M].count("starting") <= 1


async def test_a_killed_zygote_costs_no_member_and_is_replaced(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("sleep", "1000")))
        await peer.state(M, "running")
        assert agent.process is not None
        zygote = processes.children(agent.process.pid)
        assert len(zygote) == 1
        os.kill(zygote[0], signal.SIGKILL)
        other = OTHER
        await peer.run(other, spec(("true",), f"{JOB}2-1"))
        await peer.state(other, "exited")
        assert peer.statuses[M].state == "running"


async def test_an_intent_whose_agent_died_before_the_start_is_failed_and_not_started(agent: Agent) -> None:
    """The context cannot be had, so the agent is killed between the intent and the start."""
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("touch", str(agent.state / "started")), context="ab" * 32))
        await peer.state(M, "starting")
        agent.kill()
        await again(agent, peer)
        assert (await peer.state(M, "failed")).reason
        assert not (agent.state / "started").exists()


#: An agent that dies by SIGKILL as soon as it comes to a point.
_DIES = """
import os, signal
from quorate.agent.{module} import {name}
def dies(*values, _goes_on={name}.{method}, **named):
    if {when}:
        os.kill(os.getpid(), signal.SIGKILL)
    return _goes_on(*values, **named)
{name}.{method} = dies
"""


async def died_at(agent: Agent, peer: Peer, module: str, name: str, method: str, when: str = "True") -> None:
    """The agent has M to start and dies at that point; its next life is connected."""
    agent.first = _DIES.format(module=module, name=name, method=method, when=when)
    agent.start(peer.port)
    await peer.run(M, spec(shell(f"echo $$ >> {agent.state}/started")))
    assert agent.process is not None
    assert await asyncio.to_thread(agent.process.wait, 20) == -signal.SIGKILL
    agent.first = ""
    await again(agent, peer)


async def test_an_intent_whose_agent_died_right_after_it_is_told_as_never_begun(agent: Agent) -> None:
    async with master() as peer:
        await died_at(agent, peer, "preparing", "Preparing", "prepare")
        status = await peer.state(M, "failed")
        assert (status.code, status.reason) == ("START-INTERRUPTED", UNBEGUN_REASON)
        assert not (agent.state / "started").exists()
        await peer.want(())
        await eventually(lambda: not agent.folder(M).exists())


async def test_a_member_whose_agent_died_right_before_the_intent_is_started_once_by_the_next_one(agent: Agent) -> None:
    async with master() as peer:
        await died_at(agent, peer, "journal", "FileJournal", "_append", when="named.get('durable')")
        assert peer.hellos[-1].members == ()
        await peer.want(peer.wanted)
        await peer.state(M, "exited")
        assert len((agent.state / "started").read_text().split()) == 1


async def test_a_second_agent_with_the_same_folder_is_refused(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.until(lambda: peer.hellos)
        twin = Agent(agent.state)
        twin.start(peer.port)
        assert twin.process is not None
        assert twin.process.wait(20) == 1
        assert len(peer.hellos) == 1


async def test_an_agent_that_has_not_yet_said_who_it_is_is_not_taken_for_a_dead_one(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "_LOCK_WAIT_S", 0.2)
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(("sleep", "1000")))
        await peer.state(M, "running")
        (agent.state / "agent.lock").write_bytes(b"")
        assert not await asyncio.to_thread(daemon.end, agent.state)
        assert processes.marked(M)


async def test_members_and_their_output_survive_a_master_that_goes_away(agent: Agent) -> None:
    peer = Peer()
    async with master(peer):
        agent.start(peer.port)
        script = "i=0; while [ ! -e go ]; do i=$((i+1)); echo $i; sleep 0.01; done"
        await peer.run(M, spec(shell(script)))
        await peer.until(lambda: b"\n10\n" in peer.output(M))
    await eventually(lambda: (agent.folder(M) / "log").stat().st_size > 2 * len(peer.logs[M]))
    async with master(peer):
        (agent.folder(M) / "work" / "go").touch()
        await peer.state(M, "exited")
        await peer.whole_log(M)
        numbers = [int(line) for line in peer.output(M).split()]
        assert numbers == list(range(1, len(numbers) + 1))
