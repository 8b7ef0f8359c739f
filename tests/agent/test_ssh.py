"""A member can be entered by SSH: its commands, shells and files, with its rights, at no cost until somebody comes."""

import asyncio
import contextlib
import os
import selectors
import signal
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
from tests.agent.conftest import Agent, eventually
from tests.agent.peer import DEADLINE_S, JOB, Peer, master, spec

from quorate.agent.processes import marked
from quorate.agent.ssh.door import Door, Offer

pytestmark = pytest.mark.anyio

MEMBER = f"{JOB}-1.0.1"
WAITS = ("sh", "-c", "echo ready; exec sleep 600")


@contextlib.asynccontextmanager
async def inside(agent: Agent, **fields: object) -> AsyncIterator[tuple[Peer, asyncssh.SSHClientConnection]]:
    """A running member, and a connection through its folder."""
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(MEMBER, spec(WAITS, **fields))
        await peer.state(MEMBER, "running")
        connection = await knock(agent)
        async with connection:
            yield peer, connection


async def knock(agent: Agent) -> asyncssh.SSHClientConnection:
    path = agent.folder(MEMBER) / "ssh.sock"
    await eventually(path.exists)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.connect(str(path))
    return await asyncssh.connect(sock=made, known_hosts=None, config=None, username="anybody", client_keys=None)


def server_of(agent: Agent) -> list[int]:
    """The servers that run for the member."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            marked = f"QUORATE_MEMBER={MEMBER}".encode() in (folder / "environ").read_bytes().split(b"\0")
            if b"quorate.agent.ssh.server" in words and marked:
                found.append(int(folder.name))
    return found


async def test_nothing_runs_until_somebody_knocks(any_agent: Agent) -> None:
    async with master() as peer:
        any_agent.start(peer.port)
        await peer.run(MEMBER, spec(WAITS))
        await peer.state(MEMBER, "running")
        assert server_of(any_agent) == []
        async with await knock(any_agent) as connection:
            assert (await connection.run("exit 7")).exit_status == 7
            assert len(server_of(any_agent)) == 1


async def test_many_who_come_at_once_are_all_served_by_one_server(agent: Agent) -> None:
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(MEMBER, spec(WAITS))
        await peer.state(MEMBER, "running")

        async def visit(number: int) -> str:
            async with await knock(agent) as connection:
                done = await connection.run(f"echo {number}")
                # A fork that has not become its program yet looks like the one who forked.
                await eventually(lambda: len(server_of(agent)) == 1)
                return str(done.stdout).strip()

        assert await asyncio.gather(*map(visit, range(24))) == [str(number) for number in range(24)]


async def test_a_command_is_one_of_the_member(any_agent: Agent) -> None:
    async with inside(any_agent, environment={"MINE": "kept $HOME"}) as (_, connection):
        done = await connection.run('id -u; pwd; echo "$MINE" $QUORATE_RANK; cat /proc/self/cgroup; echo oops >&2')
        uid, folder, mine, *groups = done.stdout.splitlines()
        assert folder == str(any_agent.folder(MEMBER) / "work")
        assert int(uid) == owner(Path(folder))
        assert mine == "kept $HOME 0"
        assert done.stderr == "oops\n"
        if not any_agent.within and os.geteuid() == 0:
            assert any(MEMBER in group for group in groups)


async def test_output_comes_whole_before_the_exit_code(agent: Agent) -> None:
    async with inside(agent) as (_, connection):
        done = await connection.run("head -c 3000000 /dev/zero; exit 3", encoding=None)
        assert (len(done.stdout), done.exit_status) == (3_000_000, 3)


async def test_a_command_that_is_ended_by_a_signal_ends_its_session_whether_ssh_has_a_name_for_it_or_not(
    agent: Agent,
) -> None:
    async with inside(agent) as (_, connection), asyncio.timeout(DEADLINE_S):
        killed = await connection.run("kill -KILL $$")
        assert killed.exit_signal is not None
        assert killed.exit_signal[0] == "KILL"
        real_time = await connection.run(f"kill -{signal.SIGRTMIN + 1} $$")
        assert real_time.exit_status == 128 + signal.SIGRTMIN + 1


async def test_input_arrives_whole_and_its_end_too(agent: Agent) -> None:
    async with inside(agent) as (_, connection):
        data = os.urandom(3_000_000)
        done = await connection.run("cat", input=data, encoding=None)
        assert len(done.stdout) == len(data)
        assert done.stdout == data


async def test_a_command_that_does_not_read_does_not_fill_the_memory(agent: Agent) -> None:
    async with inside(agent) as (_, connection):
        process = await connection.create_process("sleep 600", encoding=None)
        process.stdin.write(b"x" * 20_000_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await process.stdin.drain()
        (server,) = server_of(agent)
        assert resident(server) < 100_000_000
        process.kill()


async def test_a_signal_ends_a_command_and_is_told(agent: Agent) -> None:
    async with inside(agent) as (_, connection):
        process = await connection.create_process("echo up; exec sleep 600")
        assert await process.stdout.readline() == "up\n"
        process.send_signal("TERM")
        done = await process.wait()
        assert done.exit_signal is not None
        assert done.exit_signal[0] == "TERM"


async def test_a_terminal_has_the_client_s_kind_and_size_and_follows_it(any_agent: Agent) -> None:
    async with inside(any_agent) as (_, connection):
        process = await connection.create_process(term_type="xterm-256color", term_size=(100, 40))
        process.stdin.write("stty -echo; PS1=; echo $TERM; stty size; tty\n")
        said = await until(process, "/dev/pts/")
        assert "xterm-256color" in said
        assert "40 100" in said
        process.change_terminal_size(120, 50)
        process.stdin.write("stty size\n")
        await until(process, "50 120")
        process.stdin.write("exit 5\n")
        assert (await process.wait()).exit_status == 5


async def test_control_c_in_a_terminal_ends_the_program_and_not_the_shell(agent: Agent) -> None:
    async with inside(agent) as (_, connection):
        process = await connection.create_process(term_type="xterm", env={"LANG": "C.UTF-8"})
        process.stdin.write("stty -echo; PS1=; sh -c 'echo go$((1+1)); exec sleep 600'\n")
        await until(process, "go2")
        process.stdin.write("\x03")
        process.stdin.write("echo still$((1+1))\n")
        await until(process, "still2")
        process.stdin.write("exit\n")
        await process.wait()


async def test_who_hangs_up_takes_the_session_along(agent: Agent) -> None:
    async with inside(agent) as (_, connection):
        process = await connection.create_process("echo $$; sleep 600; true")
        pid = int(await process.stdout.readline())
        connection.abort()
        await eventually(lambda: not alive(pid))


async def test_files_come_and_go_by_sftp_and_scp(any_agent: Agent, tmp_path: Path) -> None:
    async with inside(any_agent) as (_, connection):
        (tmp_path / "weights").write_bytes(os.urandom(200_000))
        async with connection.start_sftp_client() as sftp:
            await sftp.put(str(tmp_path / "weights"), "weights")
            await sftp.get("weights", str(tmp_path / "back"))
        await asyncssh.scp((connection, "weights"), str(tmp_path / "again"))
        written = any_agent.folder(MEMBER) / "work" / "weights"
        assert written.read_bytes() == (tmp_path / "back").read_bytes() == (tmp_path / "again").read_bytes()
        assert written.stat().st_uid == written.parent.stat().st_uid
        assert stat.S_IMODE(written.stat().st_mode) == 0o644


async def test_the_end_of_the_member_ends_its_sessions_and_is_not_held_up(agent: Agent) -> None:
    async with inside(agent) as (peer, connection):
        process = await connection.create_process(term_type="xterm")
        process.stdin.write("trap '' TERM; echo $((40+2))\n")
        await until(process, "42")
        (command,) = (pid for pid in marked(MEMBER) if name_of(pid) == "sleep")
        os.kill(command, signal.SIGTERM)
        await peer.state(MEMBER, "exited")
        await process.wait_closed()
        assert server_of(agent) == []


def test_a_closed_door_leaves_no_connection_that_nobody_would_hear_the_end_of(tmp_path: Path) -> None:
    door = Door(selectors.DefaultSelector(), MEMBER, Offer("00", 0, str(tmp_path)), None, print)
    door.pid = server = os.posix_spawn("/bin/sleep", ["sleep", "600"], {})
    door.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(server, os.WNOHANG)


async def test_the_door_outlives_the_agent(agent: Agent) -> None:
    async with inside(agent) as (peer, connection):
        assert agent.process is not None
        agent.kill()
        assert (await connection.run("echo here")).stdout == "here\n"
        agent.start(peer.port)
        await peer.state(MEMBER, "running")
        async with await knock(agent) as another:
            assert (await another.run("echo again")).stdout == "again\n"


async def until(process: asyncssh.SSHClientProcess, text: str) -> str:
    said = ""
    async with asyncio.timeout(DEADLINE_S):
        while text not in said:
            data = await process.stdout.read(4096)
            assert data, f"it ended after {said!r}"
            said += data
    return said


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has ended since it was found


def owner(path: Path) -> int:
    return path.stat().st_uid


def resident(pid: int) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
