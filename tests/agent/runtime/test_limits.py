"""A limit that a job asks for is kept, or somebody is told: what an engine leaves out, and who comes in past it."""

import json
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.runtime.scripted import Scripted

from quorate.agent import processes
from quorate.agent.command import CommandError
from quorate.agent.runtime.container import ContainerRunner
from quorate.agent.ssh.door import UNLIMITED, Door, Offer
from quorate.model.logframes import Stream

#: As Docker Engine says it on a kernel without the controller.
NO_MEMORY = "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
NO_SWAP = (
    "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
)
#: As Podman says it where it finds no catatonit.
NO_INIT = (
    b'{"message": "container create: container-init binary not found on the host: stat /usr/libexec/podman/catatonit"}'
)
ASKED = {"Memory": 1 << 26, "MemorySwap": 1 << 26, "PidsLimit": 50}


class Lacking:
    """An engine on a machine that lacks controllers: what it says of limits, and what it then keeps. Or an init."""

    def __init__(self, path: Path, warnings: list[str], kept: dict[str, int], *, init: bool = True) -> None:
        self.asked: list[str] = []
        self._init = init
        self._warnings, self._kept = warnings, kept
        self._held: list[socket.socket] = []
        self.scripted = Scripted(path, self._hear)

    def _hear(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as request:
            asked = b" ".join(request.readline().split()[:2]).decode()
            self.asked.append(asked)
            length = 0
            while line := request.readline().strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            body = request.read(length)
        if not self._init and b'"Init": true' in body:
            connection.sendall(b"HTTP/1.0 500 Internal Server Error\r\n\r\n" + NO_INIT)
            connection.close()
            return
        answer = self._answer(asked)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        if answer is None:
            # The output of the container, or its end, which does not come.
            self._held.append(connection)
        else:
            connection.sendall(json.dumps(answer).encode())
            connection.close()

    def _answer(self, asked: str) -> object | None:
        if "/attach" in asked or "/wait" in asked:
            return None
        if "/create" in asked:
            return {"Id": "c1", "Warnings": self._warnings}
        if asked.startswith("GET") and "/containers/" in asked:
            return {"Id": "c1", "HostConfig": self._kept, "State": {"Pid": 4711}}
        return {}


@pytest.fixture
def lacking(tmp_path: Path) -> Iterator[list[Lacking]]:
    made: list[Lacking] = []
    yield made
    for engine in made:
        engine.scripted.close()


def runner_of(
    made: list[Lacking], folder: Path, warnings: list[str], kept: dict[str, int], *, init: bool = True
) -> ContainerRunner:
    made.append(Lacking(folder / "engine.sock", warnings, kept, init=init))
    body = {"Image": "train", "HostConfig": {"Mounts": [], "Init": True, **ASKED}}
    return ContainerRunner(
        {"engine": made[0].scripted.path, "api": "1.41", "podman": True, "stage": "/nowhere",
         "name": "quorate-x", "image": "train", "body": body, "mounts": [], "memory": 1 << 26,
         "stop_signal": "SIGTERM", "kept": []}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kept", "named"),
    [({**ASKED, "Memory": 0}, "its memory."), ({"Memory": 0, "PidsLimit": None}, "its memory and pids.")],
)
def test_a_member_whose_engine_leaves_its_limits_out_does_not_start(
    lacking: list[Lacking], tmp_path: Path, kept: dict[str, int], named: str
) -> None:
    runner = runner_of(lacking, tmp_path, [NO_MEMORY], kept)
    with pytest.raises(CommandError) as raised:
        runner.start({})
    assert raised.value.code == "LIMITS-UNENFORCED"
    assert f"this machine does not keep {named}" in str(raised.value) and NO_MEMORY in str(raised.value)
    asked = lacking[0].asked
    assert not any("/start" in one for one in asked)
    assert any(one.startswith("DELETE") for one in asked[asked.index(next(o for o in asked if "/create" in o)) :])


def test_what_an_engine_warns_of_besides_is_said_in_the_members_log(lacking: list[Lacking], tmp_path: Path) -> None:
    runner = runner_of(lacking, tmp_path, [NO_SWAP], {**ASKED, "MemorySwap": -1})
    runner.start({})
    (output,) = runner.outputs
    assert runner.read(output) == ((Stream.PLATFORM, NO_SWAP.encode()),)
    runner.remove()


def test_a_command_runs_also_where_an_engine_has_no_init_and_the_members_log_says_so(
    lacking: list[Lacking], tmp_path: Path
) -> None:
    runner = runner_of(lacking, tmp_path, [], ASKED, init=False)
    runner.start({})
    assert [one for one in lacking[0].asked if "/start" in one]
    (output,) = runner.outputs
    ((stream, said),) = runner.read(output)
    assert stream is Stream.PLATFORM
    assert b"no init for containers (apt install catatonit)" in said
    runner.remove()


# --- who comes in by SSH ---------------------------------------------------------------------------------------------

#: Enters the groups of a process, and says how that went.
ENTERING = """
import os
import sys
from quorate.agent import processes
from quorate.agent.ssh import server as sshserver
pid, limits = int(sys.argv[1]), sys.argv[2].split()
if "--nobody" in sys.argv:
    os.setuid(65534)
try:
    sshserver.enter_groups(pid, limits)
except sshserver.Unlimited as error:
    sys.exit(f"kept out: {error}")
print(all(processes.group_names(pid)[one] == processes.group_names(os.getpid())[one] for one in limits))
"""
WITHOUT_GROUPS = ("unshare", "--mount", "sh", "-c", 'umount -R /sys/fs/cgroup && exec "$@"', "sh")


@pytest.fixture
def grouped() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a control group of its own, as an engine makes them."""
    if os.geteuid() != 0 or not processes.hierarchies():
        pytest.skip("only root may make control groups, where there are any")
    # The one that counts processes comes last.
    group = processes.Cgroup(processes.hierarchies()[-1] / f"quorate-limits-{os.getpid()}")
    group.path.mkdir()
    process = subprocess.Popen(["sleep", "1000"])
    try:
        (group.path / "cgroup.procs").write_text(str(process.pid))
        yield process
    finally:
        process.kill()
        process.wait()
        group.remove()


def enter(
    process: "subprocess.Popen[bytes]", limits: str, *more: str, within: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*within, sys.executable, "-c", ENTERING, str(process.pid), limits, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.lab
def test_who_comes_in_by_ssh_counts_towards_the_members_limits(grouped: "subprocess.Popen[bytes]") -> None:
    assert enter(grouped, "pids").stdout == "True\n"


@pytest.mark.lab
@pytest.mark.parametrize(
    ("more", "within", "why"),
    [(("--nobody",), (), "Permission denied"), ((), WITHOUT_GROUPS, "this machine does not show them")],
    ids=["may not", "cannot be seen"],
)
def test_nobody_comes_in_past_a_limit_that_the_job_has_asked_for(
    grouped: "subprocess.Popen[bytes]", more: tuple[str, ...], within: tuple[str, ...], why: str
) -> None:
    done = enter(grouped, "pids", *more, within=within)
    assert done.returncode == 1
    assert "kept out: the control groups for pids cannot be entered" in done.stderr and why in done.stderr
    # A job that asked for none is open as before.
    assert enter(grouped, "", *more, within=within).stdout == "True\n"


def test_a_member_whose_limits_keep_everybody_out_says_so_in_its_log() -> None:
    said: list[str] = []
    offer = Offer("ab" * 32, 0, "/work", container=("/sock", "1.41", "quorate-x"), limits=("memory", "pids"))
    with selectors.DefaultSelector() as selector:
        door = Door(selector, "jjjj-1.0.1", offer, None, said.append)
        door.pid = 4711
        door.reaped(4711, UNLIMITED << 8)
    (sentence,) = said
    assert sentence.startswith("SSH-UNAVAILABLE: ") and "memory and pids" in sentence


def test_visitors_who_cannot_be_sent_away_do_not_end_the_shim() -> None:
    with selectors.DefaultSelector() as selector, socket.socket() as nobody_listens:
        door = Door(selector, "jjjj-1.0.1", Offer("ab" * 32, 0, "/work"), None, lambda _: None)
        door._listeners = {3: nobody_listens}
        door.pid = 4711
        door.reaped(4711, 1 << 8)
        assert selector.get_key(nobody_listens)
