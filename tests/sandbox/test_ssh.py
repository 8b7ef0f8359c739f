"""Members of an allocation reach each other by OpenSSH as it comes, and nobody else does."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.agent.conftest import eventually
from tests.sandbox.agents import Machine, across, machines, run
from tests.sandbox.hosts import Lab

from quorate.model.messages import AllocationSpec

pytestmark = [
    pytest.mark.lab,
    pytest.mark.anyio,
    pytest.mark.skipif(not shutil.which("ssh"), reason="there is no OpenSSH client"),
]

#: Each member does to the other what `DO` says, and ends when the other has done so too.
_BOTH_WAYS = """
import os, pathlib, subprocess, time

def run(*words, **options):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    return done.stdout.strip(), done.returncode

peers = os.environ["QUORATE_HOSTS"].split(",")
other = peers[1 - int(os.environ["QUORATE_RANK"])] if len(peers) > 1 else peers[0]
{do}
print(run("ssh", other, "touch done"))
while not pathlib.Path("done").exists():
    time.sleep(0.05)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def pair(lab: Lab) -> AsyncIterator[list[Machine]]:
    async with machines(lab) as made:
        yield made


async def outputs(spec: AllocationSpec, *placed: Machine) -> list[list[str]]:
    """Runs the allocation; what each member has said, in rank order."""
    await run(spec, *placed)
    said = []
    for member in spec.members:
        machine = next(machine for machine in placed if machine.agent.name == member.agent)
        name = f"{spec.allocation}.{member.rank}.1"
        try:
            status = await machine.peer.state(name, "exited")
        except TimeoutError:
            raise AssertionError([(m.peer.statuses, m.peer.logs) for m in placed]) from None
        await machine.peer.whole_log(name)
        assert status.exit is not None and status.exit.code == 0, machine.peer.logs[name]
        said.append(machine.peer.output(name).decode().splitlines())
    return said


def reachable(*placed: Machine, do: str, **more: object) -> AllocationSpec:
    return msgspec.structs.replace(across(*placed, script=_BOTH_WAYS.format(do=do), **more), ssh=True)  # type: ignore[arg-type]


async def test_ssh_by_name_works_at_once_and_both_ways(pair: list[Machine]) -> None:
    do = """
print(run("ssh", other, "hostname; id -u; echo $QUORATE_RANK; exit 7"), os.getuid())
print(run("ssh", "-tt", other, "tty", stdin=subprocess.DEVNULL)[0].startswith("/dev/pts/"))
"""
    main, sub = await outputs(reachable(*pair, do=do), *pair)
    uid = main[0].rpartition(" ")[2]
    assert int(uid) > 1000
    assert main[:3] == [f"('sub1\\n{uid}\\n1', 7) {uid}", "True", "('', 0)"]
    assert sub[:3] == [f"('main1\\n{uid}\\n0', 7) {uid}", "True", "('', 0)"]


async def test_files_are_copied_by_scp_of_both_protocols_and_by_sftp(pair: list[Machine]) -> None:
    do = """
data = os.urandom(300_000)
pathlib.Path("sent").write_bytes(data)
print(run("scp", "-q", "sent", other + ":by-scp"), run("scp", "-q", "-O", "sent", other + ":by-old-scp"))
print(run("sftp", "-q", "-b", "-", other, input="put sent by-sftp")[1])
for way in ("scp", "old-scp", "sftp"):
    print(run("scp", "-q", other + ":by-" + way, "back"), pathlib.Path("back").read_bytes() == data)
print(run("sh", "-c", "tar c sent | ssh " + other + " 'mkdir tar && tar x -C tar && stat -c %U,%s tar/sent'"))
"""
    for said in await outputs(reachable(*pair, do=do), *pair):
        assert said[:2] == ["('', 0) ('', 0)", "0"]
        assert said[2:5] == ["('', 0) True"] * 3
        assert said[5] == "('quorate,300000', 0)"


async def test_a_member_alone_reaches_itself_by_name(pair: list[Machine]) -> None:
    ((answer, *_),) = await outputs(reachable(pair[0], do='print(run("ssh", other, "hostname"))'), pair[0])
    assert answer == "('main1', 0)"


async def test_only_the_allocation_s_key_is_let_in_and_only_the_right_host_is_trusted(pair: list[Machine]) -> None:
    do = """
run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "stranger")
print(run("ssh", "-F", "none", "-i", "stranger", "-p", "12350", "-o", "StrictHostKeyChecking=no", other, "id"))
print(run("ssh", "-F", "none", "-p", "12350", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes", other, "id")[1])
own = os.environ["QUORATE_HOST"]
print(run("ssh", "-o", "HostKeyAlias=[" + own + "]:12350", other, "id"))
"""
    main, _ = await outputs(reachable(*pair, do=do), *pair)
    assert "Permission denied (publickey)" in "".join(main)
    denied = next(line for line in main if "Permission denied" in line)
    assert denied.endswith("255)")
    assert "255" in main
    assert any("Host key verification failed" in line and line.endswith("255)") for line in main)


async def test_a_member_of_another_allocation_cannot_even_connect(pair: list[Machine]) -> None:
    """Not on the same agent either, nor with the same subnet."""
    first = reachable(pair[0], do='print(run("sleep", "600"))')
    await run(first, pair[0])
    await pair[0].peer.state(f"{first.allocation}.0.1", "running")
    for number, subnet in ((2, "10.128.0.0/24"), (3, "10.128.1.0/24")):
        do = (
            "import socket\n"
            "for host in ('10.128.0.2', '10.128.0.9'):\n"
            "    if host == os.environ['QUORATE_ADDRESS']: continue\n"
            "    try:\n"
            "        socket.create_connection((host, 12350), 3)\n"
            "        print('open', host)\n"
            "    except OSError as error:\n"
            "        print('shut', host)"
        )
        ((*said, _),) = await outputs(reachable(pair[0], do=do, number=number, subnet=subnet), pair[0])
        assert said and not [line for line in said if line.startswith("open")]


async def test_the_keys_are_in_memory_seen_by_the_member_alone_and_go_with_it(pair: list[Machine]) -> None:
    do = """
import stat
config = pathlib.Path("/etc/ssh/ssh_config").read_text()
folder = pathlib.Path(config.split("IdentityFile ")[1].split("/id_ed25519")[0])
print(folder, oct(stat.S_IMODE(folder.stat().st_mode)), folder.stat().st_uid == os.getuid())
"""
    ((said, *_),) = await outputs(reachable(pair[0], do=do), pair[0])
    folder, mode, own = said.split()
    assert folder.startswith("/dev/shm/")
    assert (mode, own) == ("0o700", "True")
    await pair[0].peer.want(())
    await eventually(lambda: not Path(folder).exists())
