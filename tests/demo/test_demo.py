"""The demo's training ships with the package and is the example that the README shows."""

from pathlib import Path

import yaml

from quorate import demo
from quorate.model.job import JobSpec

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"


def test_the_example_is_the_demo() -> None:
    assert (EXAMPLE / "train.py").read_text() == (demo.CONTEXT / "train.py").read_text()


def test_the_example_is_a_job() -> None:
    spec = JobSpec.model_validate(yaml.safe_load((EXAMPLE / "job.yaml").read_text()))
    assert spec.entrypoint[:2] == demo.ENTRYPOINT
    assert spec.resources.nodes == 2


def test_the_training_states_its_result_as_the_demo_reads_it() -> None:
    assert demo.ACCURACY_LINE in (demo.CONTEXT / "train.py").read_text()
