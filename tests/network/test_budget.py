"""The port budget is not below what the real libraries were seen to use, and refuses a window by the number needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quorate.model.ports import PortRange
from quorate.network.budget import Shape, budget, check_window
from quorate.network.collisions import collisions

BENCH = Path(__file__).parents[2] / "bench"
MEASURED: dict[str, Any] = json.loads((BENCH / "results" / "port_budget.json").read_text())["figures"]


@pytest.mark.parametrize("run", MEASURED["gloo"], ids=lambda run: f"{run['ranks']}x{run['groups']}")
def test_gloo_stays_within_its_budget(run: dict[str, int]) -> None:
    # All ranks were on one machine: each is a member of one rank here.
    need = budget(Shape("torch", ranks=1, nodes=run["ranks"], groups=run["groups"]))
    assert run["listeners"] <= need.listeners <= run["listeners"] + 1
    assert run["to_one_destination"] <= need.to_one_destination


def test_torchrun_stays_within_its_budget() -> None:
    need = budget(Shape("torch", ranks=MEASURED["torchrun"]["ranks_per_node"], nodes=2, groups=1))
    for node in MEASURED["torchrun"]["nodes"].values():
        assert node["listeners"] <= need.listeners
        assert node["to_one_destination"] <= need.to_one_destination


def test_dask_and_tensorflow_stay_within_their_budgets() -> None:
    dask = budget(Shape("dask", ranks=1, nodes=3))
    assert MEASURED["dask"]["worker"]["listeners"] - 1 <= dask.listeners  # one listens on its planned port
    tensorflow = budget(Shape("tensorflow", ranks=1, nodes=3))
    assert MEASURED["tensorflow"]["worker"]["listeners"] - 1 <= tensorflow.listeners


@pytest.mark.parametrize("trial", MEASURED["kernel"], ids=lambda t: f"{t['destinations']}x{t['connections_to_each']}")
def test_the_kernel_has_room_for_the_listeners_whenever_the_rule_says_so(trial: dict[str, int]) -> None:
    window, to_one = trial["window"], trial["connections_to_each"]
    most = max((n for n in range(window + 1) if max(2 * n + to_one, 2 * to_one) <= window), default=0)
    assert trial["listeners_that_fit"] >= most


def test_a_window_that_is_too_small_is_refused_with_the_number_needed() -> None:
    shape = Shape("torch", ranks=8, nodes=2, groups=4)
    need = budget(shape)
    assert need.needed == 2 * need.listeners + need.to_one_destination == 75
    found = check_window(shape, PortRange(50000, 50073), "job digits")
    assert found is not None
    assert found.code == "PORT-BUDGET"
    assert "has 74 ports, 75 are needed: twice the 33 listeners (TCPStore 1, Gloo 32)" in found.evidence
    assert found.remedy == "window: 50000-50074"
    assert check_window(shape, PortRange(50000, 50074), "job digits") is None


def test_a_wider_window_never_ends_past_the_last_port() -> None:
    found = check_window(Shape("torch", ranks=8, nodes=2), PortRange(65530, 65535), "x")
    assert found is not None and found.remedy == "window: 65461-65535"


def test_a_job_of_one_rank_needs_no_ports() -> None:
    assert budget(Shape("torch", ranks=1, nodes=1)).needed == 0


def test_many_connections_to_one_destination_need_their_half_of_the_window() -> None:
    need = budget(Shape("tensorflow", ranks=40, nodes=2))
    assert (need.listeners, need.needed) == (0, 80)


def test_the_documented_collisions_are_found() -> None:
    found = {finding.subject for finding in collisions(frozenset(["tensorflow", "dask", "none"]), members=4)}
    assert {"dask-nanny and notebook", "notebook and dask-nanny"} & found
    assert "tensorflow and Oracle ADS Horovod" in found
    assert "dask-nanny and Oracle ADS Ray" in found


def test_ranks_past_the_last_port_are_found() -> None:
    found = collisions(frozenset(["none"]), members=40000)
    assert any("69499" in finding.evidence and finding.code == "PORT-BUDGET" for finding in found)


@pytest.mark.torch
def test_gloo_is_still_as_it_was_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(BENCH / "port_budget.py"), "--gloo-ranks", "2"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    seen = [(run["groups"], run["listeners"]) for run in json.loads(done.stdout.splitlines()[-1])]
    assert seen == [(run["groups"], run["listeners"]) for run in MEASURED["gloo"] if run["ranks"] == 2]


@pytest.mark.parametrize(
    ("launcher", "figures"),
    [("torch", {"measured"}), ("dask", {"measured"}), ("horovod", {"measured", "estimate"}), ("mpi", {"estimate"})],
)
def test_what_nobody_counted_is_called_an_estimate(launcher: str, figures: set[str]) -> None:
    shares = budget(Shape(launcher, ranks=8, nodes=4)).shares
    assert {share.figures.value for share in shares} == figures
