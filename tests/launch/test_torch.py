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


def test_two_members_train_the_demo(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the demo's extra")
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
