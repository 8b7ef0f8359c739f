"""Members with an image are entered like any other: in their container, as their user, with no right more."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest
from tests.agent.conftest import until
from tests.agent.runtime.conftest import Cluster, serving
from tests.docker_engine import DockerEngine

from quorate.agent.processes import groups_of, marked
from quorate.client.inside import entered

pytestmark = [pytest.mark.docker, pytest.mark.anyio]

#: What the kernel lets a process do, and where it is.
RIGHTS = "grep -E 'Cap|NoNewPrivs|Seccomp|Uid|Gid' /proc/self/status; readlink /proc/self/ns/pid /proc/self/ns/ipc"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def inside(
    cluster: Cluster, script: str = "sleep 600", **spec: object
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    job = await asyncio.to_thread(cluster.submit, script, **spec)
    try:
        await asyncio.to_thread(cluster.until_running, job)
        async with entered(cluster.client, job, "main1") as connection:
            yield connection
    finally:
        cluster.client.cancel(job)
        await asyncio.to_thread(cluster.ended, job)


async def test_a_command_has_exactly_the_rights_of_the_member_s_own(cluster: Cluster) -> None:
    async with inside(cluster, f"({RIGHTS}) > rights; sleep 600") as connection:
        done = await connection.run(f"cat rights; echo --; {RIGHTS}; pwd; echo $QUORATE_RANK; exit 7")
        own, _, ours = str(done.stdout).partition("--\n")
        assert done.exit_status == 7
        assert ours.splitlines()[:-2] == own.splitlines()
        assert "CapBnd:\t0000000000000000" in own
        assert ours.splitlines()[-2:] == ["/quorate/work", "0"]


async def test_a_session_has_the_command_s_variables_with_what_its_bootstrap_has_exported(cluster: Cluster) -> None:
    spec = {"environment": {"MINE": "yes $HOME"}, "bootstrap": 'export MADE="of  $QUORATE_HOST"'}
    async with inside(cluster, "touch begun; sleep 600", **spec) as connection:
        await connection.run("until [ -e begun ]; do sleep 0.05; done")
        assert (await connection.run('echo "$MINE, $MADE"')).stdout == "yes $HOME, of  main1\n"


async def test_input_output_and_errors_pass_unchanged(cluster: Cluster) -> None:
    async with inside(cluster) as connection:
        data = os.urandom(1_000_000)
        done = await connection.run("cat; echo oops >&2", input=data, encoding=None)
        assert done.stdout == data
        assert done.stderr == b"oops\n"


async def test_a_shell_has_a_terminal_of_the_client_s_size(cluster: Cluster) -> None:
    async with inside(cluster) as connection:
        shell = await connection.create_process(term_type="xterm", term_size=(100, 40))
        shell.stdin.write("stty size; echo $TERM$((40+2))\n")
        assert "40 100" in await shell.stdout.readuntil("xterm42")
        shell.change_terminal_size(120, 50)
        shell.stdin.write("sleep 0.3; stty size; exit 5\n")
        assert "50 120" in await shell.stdout.read()
        await shell.wait_closed()
        assert shell.exit_status == 5


async def test_files_are_the_container_s_and_the_member_s_user_s(cluster: Cluster, tmp_path: Path) -> None:
    async with inside(cluster, "echo here > /dev/shm/mine; sleep 600") as connection:
        (tmp_path / "sent").write_bytes(b"x" * 100_000)
        async with connection.start_sftp_client() as sftp:
            assert await sftp.getcwd() == "/quorate/work"
            await sftp.put(str(tmp_path / "sent"), "sent")
            await sftp.get("/dev/shm/mine", str(tmp_path / "mine"))
            with pytest.raises(asyncssh.SFTPError):
                await sftp.put(str(tmp_path / "sent"), "/etc/sent")
        await asyncssh.scp((connection, "sent"), str(tmp_path / "back"))
        assert (tmp_path / "mine").read_text() == "here\n"
        assert (tmp_path / "back").read_bytes() == b"x" * 100_000
        assert (
            str((await connection.run("stat -c %u sent; id -u")).stdout).split()[0]
            == str((await connection.run("id -u")).stdout).strip()
        )


async def test_who_hangs_up_takes_the_command_along(cluster: Cluster) -> None:
    async with inside(cluster) as connection:
        process = await connection.create_process("echo up; exec sleep 4321")
        assert await process.stdout.readline() == "up\n"
        async with entered_again(cluster) as other:
            connection.abort()
            for _ in range(200):
                left = str((await other.run("pgrep -f 'sleep 4321' || true")).stdout)
                if not left:
                    break
                await asyncio.sleep(0.05)
            assert not left


@asynccontextmanager
async def entered_again(cluster: Cluster) -> AsyncIterator[asyncssh.SSHClientConnection]:
    (job,) = (job for job in cluster.client.jobs(state="running"))
    async with entered(cluster.client, job.id, "0") as connection:
        yield connection


async def test_nothing_is_left_of_a_session_when_its_member_ends(cluster: Cluster) -> None:
    job = await asyncio.to_thread(cluster.submit, "sleep 600")
    member = await asyncio.to_thread(cluster.until_running, job)
    async with entered(cluster.client, job, "main1") as connection:
        process = await connection.create_process("echo up; sleep 600")
        assert await process.stdout.readline() == "up\n"
        cluster.client.cancel(job)
        await asyncio.to_thread(cluster.ended, job)
        with pytest.raises((asyncssh.Error, ConnectionError)):
            await connection.run("true", check=True)
    await asyncio.to_thread(until, lambda: not marked(member))
    await asyncio.to_thread(until, lambda: not cluster.docker.names())


async def test_root_in_a_container_comes_in_as_root_there_and_nowhere_else(
    docker: DockerEngine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nobody but the engine and the server itself takes root's rights on the machine away."""
    made = serving(docker, tmp_path_factory.mktemp("rooted"), allow={"run_as": ["root"], "host_root": True})
    cluster = await asyncio.to_thread(next, made)
    try:
        async with inside(cluster, f"({RIGHTS}) > rights; sleep 600", run_as="root") as connection:
            done = await connection.run(f"cat rights; echo --; {RIGHTS}")
            own, _, ours = str(done.stdout).partition("--\n")
            assert ours == own
            assert "Uid:\t0\t" in own
            (server,) = (pid for pid in marked_servers() if rights_of(pid)["NSpid"].split()[1:])
            assert {rights_of(server)[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0000000000000000"}
            assert rights_of(server)["NoNewPrivs"] == "1"
            (job,) = cluster.client.jobs(state="running")
            member = cluster.client.job(job.id).members[0].id
            (first,) = (pid for pid in marked(member) if rights_of(pid)["NSpid"].split()[1:] == ["1"])
            assert groups_of(server) == groups_of(first)
            async with connection.start_sftp_client() as sftp:
                assert "rights" in await sftp.listdir(".")
    finally:
        await asyncio.to_thread(made.close)


def marked_servers() -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"quorate.agent.ssh.server" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def rights_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
