"""The demo's own training, on two agents, goes through the death of everybody whom it can do without."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.chaos.cluster import (
    IMPATIENT,
    PATIENCE_S,
    Cluster,
    Work,
    kill,
    member_of,
    running,
    until,
    until_placed_again,
)

from quorate import demo
from quorate.client.context import packed
from quorate.model.state import JobState

pytestmark = [pytest.mark.slow, pytest.mark.torch]

#: Enough for the accidents to come one after the other, and still a few seconds.
EPOCHS = 160
#: Of an attempt that nothing happens to any more.
FEW_EPOCHS = 30
#: The same training, which is in the middle whenever an accident comes: what starts before the gate is open has no end.
_ENDLESS = f"""
import os, runpy, sys
last = os.path.exists(os.path.join(os.environ["CHAOS"], "gate"))
sys.argv = ["train.py", "--epochs", "{FEW_EPOCHS}" if last else "1000000"]
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("a", "b") as cluster:
        yield cluster


@pytest.fixture
def impatient() -> Iterator[Cluster]:
    """A cluster that places a silent agent's job again after thirteen seconds: the lease, the grace, the margin."""
    with running("a", "b", timers=IMPATIENT | {"margin_s": 9.0}) as cluster:
        yield cluster


def train(cluster: Cluster, epochs: int, **spec: object) -> Work:
    return submitted(cluster, demo.CONTEXT, (*demo.ENTRYPOINT, "--epochs", str(epochs)), **spec)


def train_endlessly(cluster: Cluster, folder: Path, **spec: object) -> Work:
    shutil.copy(demo.CONTEXT / "train.py", folder)
    (folder / "main.py").write_text(_ENDLESS)
    return submitted(cluster, folder, ("python", "main.py"), **spec)


def submitted(cluster: Cluster, folder: Path, entrypoint: tuple[str, ...], **spec: object) -> Work:
    with packed(folder) as context:
        cluster.client.upload(context)
        environment = {"OMP_NUM_THREADS": "1", "PATH": cluster.path}
        return cluster.submit(
            entrypoint=entrypoint, launcher="torch", context=context.sha256, environment=environment, **spec
        )


def epochs_of(work: Work, attempt: int) -> list[int]:
    """The epochs that the progress bar has shown so far, in order."""
    said = "".join("\r".join(lines) for lines in work.output(attempt).values())
    return [int(epoch) for epoch in re.findall(r"epoch +(\d+)/", said)]


def until_epoch(work: Work, epoch: int, attempt: int = 1) -> None:
    def shown() -> bool:
        view = work.view()
        assert not view.state.final, f"it ended before epoch {epoch}: {work}"
        return epoch <= max(epochs_of(work, attempt), default=0)

    until(shown, f"epoch {epoch}", 2 * PATIENCE_S)


def finished(work: Work, attempt: int, epochs: int) -> None:
    """The training came to its end with a good result, and its log tells of each epoch once."""
    end = until(lambda: (view := work.view()).state.final and view, "the end of the training", 2 * PATIENCE_S)
    assert (end.state, end.exit_code, end.attempt) == (JobState.COMPLETED, 0, attempt), end.reason
    until(lambda: not work.left(), "that nothing is left of the training")
    said = [line for lines in work.output(attempt).values() for line in lines]
    (accuracy,) = (float(line.removeprefix(demo.ACCURACY_LINE)) for line in said if line.startswith(demo.ACCURACY_LINE))
    assert accuracy > demo.ACCURACY_GOAL
    assert epochs_of(work, attempt) == list(range(1, epochs + 1))


def worker(work: Work, name: str) -> psutil.Process:
    """The process that torchrun started: the one that trains."""
    member = work.member(name).id
    mine = [process for process in psutil.process_iter() if member_of(process) == member]
    return next(p for p in mine if "train.py" in " ".join(p.cmdline()) and "torch.distributed.run" not in p.cmdline())


def test_a_training_does_not_notice_that_master_agents_zygote_and_companion_die(cluster: Cluster) -> None:
    work = train(cluster, EPOCHS)
    until_epoch(work, 5)
    cluster.kill_master()
    cluster.start_master()
    until_epoch(work, 20)
    for agent in cluster.agents.values():
        cluster.kill_agent(agent)
        cluster.start_agent(agent)
    until_epoch(work, 35)
    kill(cluster.zygote(cluster.agent_of(work)))
    kill(work.companion())
    until_epoch(work, 50)
    cluster.kill_master()
    for agent in cluster.agents.values():
        cluster.kill_agent(agent)
        cluster.start_agent(agent)
    cluster.start_master()
    finished(work, 1, EPOCHS)


def test_a_training_starts_anew_after_its_worker_and_then_everything_died(cluster: Cluster) -> None:
    work = train(cluster, EPOCHS, restarts=1)
    until_epoch(work, 5)
    kill(worker(work, "sub1"))
    until_epoch(work, 5, attempt=2)
    first = work.view().attempts[-2]
    assert first.reason.startswith("member sub1 on agent "), "the first failure is the reason, not its echo"
    assert work.view().restarts_left == 0
    kill(*cluster.everybody(work))
    cluster.kill_master()
    for agent in cluster.agents.values():
        cluster.kill_agent(agent)
        cluster.start_agent(agent)
    cluster.start_master()
    finished(work, 3, EPOCHS)


def test_a_training_starts_anew_after_a_shim_alone_died_and_leaves_nobody_behind(
    cluster: Cluster, tmp_path: Path
) -> None:
    work = train_endlessly(cluster, tmp_path, restarts=1)
    until_epoch(work, 5)
    work.open_gate()
    kill(work.shim())
    until(lambda: work.commands(2), "the second attempt")
    assert not work.commands(1)
    finished(work, 2, FEW_EPOCHS)
    view = work.view()
    assert "MEMBER-LOST" in view.attempts[-2].reason
    assert view.attempts[-2].reason.startswith("member sub1 on agent ")
    assert view.restarts_left == 1, "that a supervisor dies is no failure of the job"


def test_a_training_goes_on_elsewhere_when_an_agent_is_stopped_beyond_its_timers(
    impatient: Cluster, tmp_path: Path
) -> None:
    work = train_endlessly(impatient, tmp_path, restarts=1, stop_after=3.0, grace=1.0)
    until_epoch(work, 5)
    agent = impatient.agent_of(work, "main1")
    work.open_gate()
    with impatient.stopped(agent):
        until_placed_again(impatient, work)
        assert impatient.client.agent(agent.name).state == "unreachable"
        assert {member.agent for member in work.view().members} == impatient.agents.keys() - {agent.name}
        until_epoch(work, 5, attempt=2)
    impatient.until_ready()
    finished(work, 2, FEW_EPOCHS)
    view = work.view()
    assert f"agent {agent.name}" in view.attempts[-2].reason
    assert view.restarts_left == 1, "that an agent is silent is no failure of the job"
