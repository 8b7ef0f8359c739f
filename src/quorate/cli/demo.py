"""`quorate demo`: a master, two agents, a real training on both, and nothing left behind."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quorate.cli.app import new_group
from quorate.cli.errors import CommandError
from quorate.cli.exits import Exit
from quorate.cli.output import bold, dim, note, span

if TYPE_CHECKING:
    from quorate.cli.localcluster import LocalCluster
    from quorate.model.job import JobSpec
    from quorate.model.views import JobView, LogLine

app = new_group("Train a real model on two agents on this machine, in under a minute.")


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster up afterwards.")] = False,
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="How long to train.")] = 30,
) -> int:
    """Train a real model on two agents on this machine: a master, two agents, a gang of two, PyTorch DDP.

    No root and no Docker are needed, and nothing is left behind.
    """
    from quorate.cli.steps import Steps

    _needs_torch()
    with _ended_in_order(), _place(keep) as folder:
        from quorate.cli.localcluster import create
        from quorate.cli.up import remember, warn_of_one_trust_domain

        cluster = create(folder, None if keep else _any_port())
        if not keep:
            # Torch leaves files in the folder for temporary ones; here they go with everything else.
            cluster.environment["TMPDIR"] = str(folder)
        warn_of_one_trust_domain()
        with Steps() as told:
            kept = False
            try:
                cluster.start(2, None, told)
                told.done()
                job, accuracy = _train(cluster, epochs)
                code = _verdict(job, accuracy)
                if code is Exit.OK and job is not None and accuracy is not None:
                    _summary(cluster, job, accuracy, keep=keep)
                kept = keep and code is not Exit.CANCELLED
            finally:
                if not kept:
                    cluster.stop(told)
                    told.done()
        if kept:
            remember(cluster.url, cluster.token_file)
            _how_to_use(cluster)
    return code


def _needs_torch() -> None:
    missing = [module for module in ("torch", "sklearn") if importlib.util.find_spec(module) is None]
    if missing:
        raise CommandError(
            f"the demo trains with PyTorch on scikit-learn's digits; {' and '.join(missing)} cannot be imported here",
            hint="make demo, or pip install 'quorate[demo]'",
        )


def _any_port() -> int:
    from quorate.cli.localcluster import free_port

    return free_port(0)


@contextmanager
def _place(keep: bool) -> Iterator[Path]:
    """The cluster's folder: the user's own for one that stays, else one that is gone afterwards."""
    from quorate.cli.localcluster import default_folder

    if keep:
        yield default_folder()
        return
    folder = Path(tempfile.mkdtemp(prefix="quorate-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Turns SIGTERM and SIGHUP into Ctrl-C, so that they clean up as well."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _spec(epochs: int) -> JobSpec:
    from quorate import demo as shipped
    from quorate.model.job import JobSpec

    return JobSpec.model_validate(
        {
            "name": "digits",
            "kind": "train",
            "entrypoint": [*shipped.ENTRYPOINT, "--epochs", str(epochs)],
            "launcher": "torch",
            "resources": {"nodes": 2, "slots": 1},
            "placement": "spread",
            "environment": {"OMP_NUM_THREADS": "1"},
            # On a machine that does other things as well, a port may be taken at the wrong moment.
            "restarts": 2,
            "grace": 5,
        }
    )


def _train(cluster: LocalCluster, epochs: int) -> tuple[JobView | None, float | None]:
    """Submits the training and follows it; returns how it ended and the accuracy that it printed."""
    from quorate import demo as shipped
    from quorate.cli.follow import watch
    from quorate.client.api import Client
    from quorate.client.context import packed

    accuracy: float | None = None

    def look(line: LogLine) -> None:
        nonlocal accuracy
        if line.text.startswith(shipped.ACCURACY_LINE):
            accuracy = float(line.text.removeprefix(shipped.ACCURACY_LINE))

    with Client(cluster.settings()) as client, packed(shipped.CONTEXT) as context:
        client.upload(context)
        job = client.submit(_spec(epochs).model_copy(update={"context": context.sha256}))
        return watch(client, job, look), accuracy


def _verdict(job: JobView | None, accuracy: float | None) -> int:
    from quorate import demo as shipped
    from quorate.cli import errors, outcome
    from quorate.model.state import JobState

    if job is None:
        return Exit.CANCELLED
    if job.state is not JobState.COMPLETED:
        return outcome.show(job)
    if accuracy is None or accuracy <= shipped.ACCURACY_GOAL:
        found = "no accuracy was printed" if accuracy is None else f"the test accuracy is {accuracy:.3f}"
        errors.show(f"{found}, and above {shipped.ACCURACY_GOAL} is needed: something is broken")
        return Exit.FAILED
    return Exit.OK


def _summary(cluster: LocalCluster, job: JobView, accuracy: float, *, keep: bool) -> None:
    members = ", ".join(f"{member.name} on agent {member.agent} ({member.address})" for member in job.members)
    print()
    print(bold(f"Done: {accuracy:.1%} of the digits that the model had never seen are read right."))
    print(f"  {dim('members')}  {members}")
    print(f"  {dim('waited')}   {span(job.waited)} in the queue")
    print(f"  {dim('started')}  in {span(job.starting)}, from placement until both members ran")
    print(f"  {dim('ran')}      {span(job.ran)}")
    if not keep:
        print("\nTry next:")
        _activate()
        print("  quorate up                                                   a local cluster that stays")
        print("  quorate run --nodes 2 --launcher torch -- python train.py    your own training on it")
        print("  quorate demo --keep                                          this one, to look around in")


def _activate() -> None:
    """What makes the shell find this Quorate, if it does not yet."""
    script = Path(sys.prefix) / "bin" / "activate"
    found = shutil.which("quorate")
    if script.exists() and (found is None or Path(found).parent != script.parent):
        here = script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script
        print(f"  source {here}")


def _how_to_use(cluster: LocalCluster) -> None:
    print(f"\nThe cluster stays up at {cluster.url}. Try next:")
    _activate()
    print("  quorate job list      what ran")
    print("  quorate agent list    where")
    print("  quorate down          stop it all")
    note(f"its state lies in {cluster.folder}")
