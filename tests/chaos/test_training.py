"""The demo's own training, on two agents, goes through the death of everybody whom it can do without."""

import re
from collections.abc import Iterator

import psutil
import pytest
from tests.chaos.cluster import PATIENCE_S, Cluster, Work, kill, member_of, running, until

from quorate import demo
from quorate.client.context import packed
from quorate.model.state import JobState

pytestmark = [pytest.mark.slow, pytest.mark.torch]

#: Enough for the accidents to come one after the other, and still a few seconds.
EPOCHS = 160


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("a", "b") as cluster:
        yield cluster


def train(cluster: Cluster, epochs: int, **spec: object) -> Work:
    with packed(demo.CONTEXT) as context:
        cluster.client.upload(context)
        entrypoint = (*demo.ENTRYPOINT, "--epochs", str(epochs))
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
