"""`kill -9` of an agent, of a shim, or of both at each step of making a container: nothing is left or runs twice.

The steps are those that an engine is asked for. Who dies before one has done all that comes before it; who dies after
one does not know that it is done.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.agent.conftest import until
from tests.agent.runtime.conftest import Cluster, serving
from tests.agent.runtime.middle import Middle, Moment, Step
from tests.docker_engine import DockerEngine, busybox

from quorate.agent.runtime import mounts
from quorate.model.state import JobState
from quorate.model.views import JobDetail

pytestmark = [pytest.mark.docker, pytest.mark.lab, pytest.mark.slow]

BEFORE, AFTER = Moment.BEFORE, Moment.AFTER
STRUCK_S = 30.0
_NUMBERS = count(1)
#: So that there is something to stage.
MOUNTS = [{"source": "/usr/share", "target": "/seen", "read_only": True}]
#: What the agent asks for, until the shim has its order.
AGENTS = (
    (Step("create", "look"), BEFORE), (Step("create", "look"), AFTER), (Step("archive", "look"), AFTER),
    (Step("create", "pause"), BEFORE), (Step("create", "pause"), AFTER), (Step("start", "pause"), AFTER),
    (Step("inspect", "pause"), AFTER),
)  # fmt: skip
#: What the shim asks for until the member's command runs…
BEFORE_IT_RUNS = (
    (Step("remove", "member"), BEFORE), (Step("create", "member"), BEFORE), (Step("create", "member"), AFTER),
    (Step("attach", "member"), AFTER), (Step("start", "member"), BEFORE),
)  # fmt: skip
#: …and once it may run.
ONCE_IT_MAY_RUN = (
    (Step("start", "member"), AFTER), (Step("wait", "member"), AFTER), (Step("inspect", "member"), AFTER),
)  # fmt: skip


@pytest.fixture(scope="module")
def middle(docker: DockerEngine) -> Iterator[Middle]:
    middle = Middle(docker.folder / "middle.sock", docker.socket)
    yield middle
    middle.close()


@pytest.fixture(scope="module")
def cluster(docker: DockerEngine, middle: Middle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from serving(
        docker, tmp_path_factory.mktemp("cluster"), sandboxes=True, drift_check_s=0.5,
        runtime={"socket": str(middle.path)}, allow={"mounts": [{"path": "/usr/share"}]},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_left(cluster: Cluster) -> Iterator[None]:
    """At the end of each test neither the engine nor the machine has anything of any member."""
    yield
    for job in cluster.client.jobs():
        if not job.state.final:
            cluster.client.cancel(job.id)
    until(lambda: not cluster.docker.names())
    until(lambda: not list((cluster.agent.state / "members").iterdir()))
    until(lambda: not [path for path in (cluster.agent.state / "network").glob("*/*") if "host" not in path.name])
    until(lambda: not [path for path in Path("/sys/class/net").iterdir() if path.name.startswith("quorate")])
    until(lambda: not _staged())


def _staged() -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {mounts.STAGES}/" in line]


def submit(cluster: Cluster) -> str:
    script = "echo begun; until [ -e go ]; do sleep 0.1; done; echo done"
    # An image of its own each time: one that is known is not looked into again.
    image = f"quorate-test/death:{next(_NUMBERS)}"
    cluster.docker.image(image, {**busybox(), "etc/passwd": image.encode()})
    return cluster.submit(script, image=image, network={"mode": "bridge"}, mounts=MOUNTS)


def goes_on(cluster: Cluster, middle: Middle, job: str, attempt: int = 1) -> JobDetail:
    """The job completes in that attempt, and its command was started in no other."""
    until(lambda: cluster.output(job)[-1:] == ["begun"] or cluster.client.job(job).state.final)
    view = cluster.client.job(job)
    assert not view.state.final, view.reason
    (cluster.agent.folder(view.members[0].id) / "work" / "go").touch()
    view = cluster.ended(job)
    assert (view.state, view.attempt) == (JobState.COMPLETED, attempt), view.history
    assert cluster.output(job) == ["begun", "done"]
    assert starts(middle, job) == {f"quorate-{view.members[0].id}": 1}
    return view


def starts(middle: Middle, job: str) -> dict[str, int]:
    return {name: count for name, count in middle.started.items() if name.startswith(f"quorate-{job}-")}


def names(value: object) -> str:
    return str(value)


@pytest.mark.parametrize(("step", "moment"), AGENTS, ids=names)
def test_an_agent_dies_before_the_shim_has_its_order(
    cluster: Cluster, middle: Middle, step: Step, moment: Moment
) -> None:
    dies = middle.kill(step, moment)
    job = submit(cluster)
    assert dies.wait(STRUCK_S)
    cluster.agent.kill()
    cluster.agent.come_back(cluster.master.url)
    goes_on(cluster, middle, job, attempt=2)


@pytest.mark.parametrize(("step", "moment"), (*BEFORE_IT_RUNS, *ONCE_IT_MAY_RUN), ids=names)
def test_an_agent_dies_while_its_shim_makes_the_container(
    cluster: Cluster, middle: Middle, step: Step, moment: Moment
) -> None:
    dies = middle.kill(step, moment, lambda shim: [agent_of(cluster)])
    job = submit(cluster)
    assert dies.wait(STRUCK_S)
    cluster.agent.kill()
    cluster.agent.come_back(cluster.master.url)
    goes_on(cluster, middle, job)


@pytest.mark.parametrize(("step", "moment"), (*BEFORE_IT_RUNS, *ONCE_IT_MAY_RUN), ids=names)
def test_a_shim_dies(cluster: Cluster, middle: Middle, step: Step, moment: Moment) -> None:
    dies = middle.kill(step, moment)
    job = submit(cluster)
    assert dies.wait(STRUCK_S)
    ends(cluster, middle, job)


@pytest.mark.parametrize(("step", "moment"), (*BEFORE_IT_RUNS, *ONCE_IT_MAY_RUN), ids=names)
def test_agent_and_shim_die_together(cluster: Cluster, middle: Middle, step: Step, moment: Moment) -> None:
    dies = middle.kill(step, moment, lambda shim: [agent_of(cluster), shim])
    job = submit(cluster)
    assert dies.wait(STRUCK_S)
    cluster.agent.kill()
    cluster.agent.come_back(cluster.master.url)
    ends(cluster, middle, job)


def test_what_a_slow_engine_makes_for_a_shim_that_is_long_dead_is_removed(cluster: Cluster, middle: Middle) -> None:
    dies = middle.kill(Step("create", "member"), Moment.LONG_BEFORE)
    job = cluster.submit("true")
    container = f"quorate-{job}-1.0.1"
    assert dies.wait(STRUCK_S)
    assert cluster.master.process is not None
    # As long as the master does not know of the end, the member's folder stays, without which nothing would be made.
    cluster.master.process.send_signal(signal.SIGSTOP)
    try:
        # By the shim, to begin with, and by the agent, after it.
        until(lambda: middle.removals[container] == 2)
        middle.go_on()
        until(lambda: middle.created[container])
    finally:
        cluster.master.process.send_signal(signal.SIGCONT)
    ends(cluster, middle, job)


def agent_of(cluster: Cluster) -> int:
    assert cluster.agent.process is not None
    return cluster.agent.process.pid


def ends(cluster: Cluster, middle: Middle, job: str) -> None:
    view = cluster.ended(job)
    assert (view.state, view.exit_code, view.attempt) == (JobState.FAILED, 125, 1)
    assert "(MEMBER-LOST)" in view.reason
    assert sum(starts(middle, job).values()) <= 1
