"""The torch launcher trains the demo's model on two members of one machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from launch_vocabulary import gang, seen_by

from quorate import demo
from quorate.launch import devices, launchers

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.fixture(autouse=True)
def torch() -> None:
    pytest.importorskip("torch", reason="needs the demo's extra")


def started(program: str) -> subprocess.Popen[str]:
    """A single member that runs a Python program under the launcher."""
    launch = launchers.derive("torch", gang(1), (sys.executable, "-c", program), {})
    return subprocess.Popen(
        launch.argv, env={**os.environ, **launch.environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137), ("raise ValueError('a bad day')", 1)]
)
def test_a_member_ends_as_its_script_ended_and_says_no_more(end: str, code: int) -> None:
    member = started(f"import os, sys; print('hi', flush=True); {end}")
    said, complained = member.communicate(timeout=120)
    assert member.returncode == code
    assert said == "hi\n"
    assert "ChildFailedError" not in complained
    assert complained.count("Traceback") == ("raise" in end)


def test_a_stopped_member_ends_without_a_traceback() -> None:
    member = started("import signal; print('hi', flush=True); signal.pause()")
    assert member.stdout is not None
    assert member.stdout.readline() == "hi\n"
    member.terminate()
    _, complained = member.communicate(timeout=120)
    assert member.returncode == 143
    assert "Traceback" not in complained


def test_two_members_train_the_demo(tmp_path: Path) -> None:
    entrypoint = (sys.executable, *demo.ENTRYPOINT[1:])
    configuration = gang(2)
    members = []
    outputs = [tmp_path / "main1", tmp_path / "sub1"]
    for rank, output in enumerate(outputs):
        own = seen_by(configuration, rank)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **devices.variables(own.own.address)}
        launch = launchers.derive("torch", own, entrypoint, environment)
        with output.open("wb") as out:
            member = subprocess.Popen(
                launch.argv,
                env={**environment, **launch.environment},
                cwd=demo.CONTEXT,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        members.append(member)
    try:
        codes = [member.wait(120) for member in members]
    finally:
        for member in members:
            member.kill()
    said, other = (output.read_text() for output in outputs)
    assert codes == [0, 0], said + other
    (result,) = [line for line in said.splitlines() if line.startswith(demo.ACCURACY_LINE)]
    assert float(result.removeprefix(demo.ACCURACY_LINE)) > demo.ACCURACY_GOAL
    # One member speaks; torchrun's warnings about threads would be the other's only output.
    assert other == ""
