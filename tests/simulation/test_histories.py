"""Thousands of histories hold every invariant. One that does not is told by `python -m tests.simulation --seed N`."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from .story import Story

HISTORIES = 2000
#: Seeds to a task: enough that starting one costs nothing, few enough that both processes end together.
_SHARE = 100


def play(first: int) -> list[str]:
    """Plays a share of the seeds; returns what broke."""
    broken = []
    for seed in range(first, first + _SHARE):
        try:
            Story(seed).run()
        except Exception as error:
            broken.append(f"seed {seed}: {type(error).__name__} {error}")
    return broken


@pytest.mark.slow
def test_every_history_keeps_every_invariant_and_settles() -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        broken = [line for lines in pool.map(play, range(0, HISTORIES, _SHARE)) for line in lines]
    told = "\n".join(broken[:10])
    assert not broken, f"{told}\ntell one with: python -m tests.simulation --seed N"


def test_one_seed_always_tells_the_same_history() -> None:
    first, second = Story(77, verbose=True), Story(77, verbose=True)
    assert first.run() == second.run()
    assert first.world.diary == second.world.diary


def test_histories_hold_what_they_are_to_test() -> None:
    """A simulation in which nothing happens proves nothing."""
    told = []
    for seed in range(60):
        story = Story(seed, verbose=True)
        story.run()
        told += story.world.diary
    diary = "\n".join(told)
    for accident in (
        "dies in a commit",
        "is fenced",
        "is usurped",
        "stops as planned",
        "restores the backup",
        "agent killed",
        "shim of",
        "reboots",
        "cut off",
        "paused",
        "agent stopped",
        "cancelled by ann",
    ):
        assert accident in diary, accident
