"""The container that holds a member's network namespace: there when it is asked for, and gone when nobody needs it."""

import asyncio
import json
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.conftest import eventually
from tests.docker_engine import DockerEngine, busybox, docker_engine, missing

from quorate.agent.runtime import pause, waiter
from quorate.agent.runtime.body import WAITER
from quorate.agent.runtime.containers import Containers, pause_pid, sweep
from quorate.agent.runtime.policy import Allow, Policy

pytestmark = [pytest.mark.docker, pytest.mark.anyio]

M = "jjjj-1.0.1"


def namespace_of(pid: int | str) -> int:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def routes_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/net/route").read_text().splitlines()[1:]


def rights_of(pid: int) -> str:
    """The most that it could ever have."""
    status = Path(f"/proc/{pid}/status").read_text()
    return status.partition("CapBnd:")[2].split()[0]


def program_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/exe").read_bytes()


def command_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


@pytest.fixture
def containers(docker: DockerEngine, tmp_path: Path) -> Containers:
    return Containers(docker.engine, tmp_path, {"quorate.folder": str(tmp_path)}, Policy(Allow()), None)


async def test_it_is_the_same_one_each_time_and_has_a_namespace_without_a_way_out(
    containers: Containers, tmp_path: Path
) -> None:
    made = await containers.pause(M, "main1", tmp_path)
    assert await containers.pause(M, "main1", tmp_path) == made
    assert pause_pid(tmp_path) == made.pid
    assert namespace_of(made.pid) != namespace_of("self")
    assert routes_of(made.pid) == []
    said = containers.engine.inspect(made.container)
    assert said["Config"]["Hostname"] == "main1"
    assert rights_of(made.pid) == "0000000000000000"
    await containers.forget(M)
    assert pause.find(containers.engine, M) is None
    assert pause_pid(tmp_path) is None


async def test_one_that_has_died_is_made_anew(containers: Containers, tmp_path: Path) -> None:
    first = await containers.pause(M, "main1", tmp_path)
    containers.engine.kill(first.container, "SIGKILL")
    second = await containers.pause(M, "main1", tmp_path)
    assert second.container != first.container
    await containers.forget(M)


async def test_a_member_that_is_cancelled_while_its_own_is_made_leaves_none(
    containers: Containers, tmp_path: Path
) -> None:
    starting = asyncio.create_task(containers.pause(M, "main1", tmp_path))
    await eventually(lambda: M in containers._pausing)
    under_way = containers._pausing[M]
    starting.cancel()
    await containers.forget(M)
    await asyncio.wait([starting, under_way])
    assert sweep(containers.engine, containers.labels, ()) == ()


#: Stands before the engine's own runtime, and notes how far that is from its container's limits before it becomes the
#: container's program: what is in use, and what is allowed, of threads and of bytes.
_LOOKS = """#!{python}
import json, os, sys

def read(*places):
    for controller, name in places:
        try:
            with open(os.path.join(groups.get(controller, ""), name)) as file:
                said = file.read().strip()
                return None if said == "max" else int(said)
        except FileNotFoundError:
            pass

if "start" in sys.argv:
    with open(os.path.join(sys.argv[sys.argv.index("--root") + 1], sys.argv[-1], "state.json")) as file:
        state = json.load(file)
    groups = state["cgroup_paths"]
    threads = len(os.listdir("/proc/%d/task" % state["init_process_pid"]))
    used = read(("memory", "memory.max_usage_in_bytes"), ("", "memory.peak"))
    with open({seen!r}, "w") as file:
        json.dump([[threads, read(("pids", "pids.max"), ("", "pids.max"))],
                   [used, read(("memory", "memory.limit_in_bytes"), ("", "memory.max"))]], file)
os.execv({runc!r}, [{runc!r}, *sys.argv[1:]])
"""


async def test_the_engines_runtime_stays_far_below_its_limits_while_it_becomes_its_program(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    seen, runtime = tmp_path / "seen", tmp_path / "runtime"
    runtime.write_text(_LOOKS.format(python=sys.executable, seen=str(seen), runc=shutil.which("runc")))
    runtime.chmod(0o755)
    with docker_engine("--add-runtime", f"looks={runtime}", "--default-runtime", "looks") as docker:
        containers = Containers(docker.engine, tmp_path, {"quorate.folder": str(tmp_path)}, Policy(Allow()), None)
        await containers.pause(M, "main1", tmp_path)
        for used, most in json.loads(seen.read_text()):
            assert used is not None
            assert most is None or most >= 4 * used
        await containers.forget(M)


@pytest.fixture
def another_image_of_its_name(docker: DockerEngine) -> Iterator[None]:
    """What a job leaves that had it pulled: to Docker `quorate/pause` is a name like any other."""
    changes = ['ENTRYPOINT ["sh", "-c", "sleep 1000"]', 'HEALTHCHECK --interval=1s CMD ["true"]', "VOLUME /quorate"]
    docker.image("quorate/pause:1", busybox(), changes)
    yield
    docker.engine._do("DELETE", "/images/quorate/pause:1?force=1")


@pytest.mark.usefixtures("another_image_of_its_name")
async def test_nothing_of_its_image_runs_whoever_has_given_that_its_name(
    containers: Containers, tmp_path: Path
) -> None:
    made = await containers.pause(M, "main1", tmp_path)
    assert program_of(made.pid) == waiter.program(platform.machine())
    said = containers.engine.inspect(made.container)
    assert command_of(made.pid) == [WAITER]
    assert not said["State"].get("Health", {}).get("Status")
    await containers.forget(M)
