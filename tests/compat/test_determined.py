"""Determined's key names are taken where they mean the same, and refused with the right word where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.compat.determined import translate
from quorate.model.job import JobSpec
from quorate.model.yamlfile import FileProblems, parse_yaml, validate


def spec(text: str) -> JobSpec:
    return validate(translate(parse_yaml(text, "job.yaml")), JobSpec)


def mistakes(text: str) -> list[str]:
    with pytest.raises(FileProblems) as caught:
        spec(text)
    return [str(problem) for problem in caught.value.problems]


def test_names_that_mean_the_same_are_taken() -> None:
    text = """\
name: digits
entrypoint: python train.py
max_restarts: 3
resources: {slots_per_trial: 8, nodes: 2, resource_pool: gpu}
environment:
  environment_variables: [A=1, B=x=y]
"""
    found = spec(text)
    assert (found.restarts, found.resources.pool, found.resources.slots) == (3, "gpu", 4)
    assert found.environment == {"A": "1", "B": "x=y"}


def test_a_single_node_is_a_placement() -> None:
    assert spec("entrypoint: [a]\nresources: {is_single_node: true}\n").placement == "single"
    assert spec("entrypoint: [a]\nresources: {is_single_node: false}\n").placement == "spread"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("entrypoint: [a]\nresources: {priority: 42}\n", "job.yaml:2:13: resources.priority: is Determined's"),
        ("entrypoint: [a]\nresources: {slots_per_trial: 3, nodes: 2}\n", "3 slots cannot be shared equally by 2"),
        ("entrypoint: [a]\nmax_restarts: 1\nrestarts: 2\n", "job.yaml:2:1: max_restarts: is the same as restarts"),
        ("entrypoint: [a]\nmax_restarts: many\n", "job.yaml:2:15: restarts"),
        ("entrypoint: [a]\nenvironment: {environment_variables: {cpu: [A=1]}}\n", "a list of NAME=VALUE"),
        ("entrypoint: [a]\nsearcher: {name: single}\n", "job.yaml:2:1: searcher"),
    ],
)
def test_what_means_something_else_is_refused_at_its_place(text: str, said: str) -> None:
    assert any(said in problem for problem in mistakes(text)), mistakes(text)


@pytest.mark.parametrize("data", ["- a\n", "resources: 5\n", "environment: [a]\n", "", "resources: {}\n"])
def test_what_is_no_job_is_left_to_the_model(data: Any) -> None:
    translate(parse_yaml(data, "job.yaml"))
