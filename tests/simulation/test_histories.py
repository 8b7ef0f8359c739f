"""Thousands of histories keep every invariant. One that does not is told by `python -m tests.simulation --seed N`."""

import subprocess
import sys
from pathlib import Path

import pytest

from .story import Story

HISTORIES = 2000
PROCESSES = 2


@pytest.mark.slow
def test_every_history_keeps_every_invariant_and_settles() -> None:
    share = HISTORIES // PROCESSES
    players = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.simulation", "--seed", str(first), "--count", str(share)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in range(0, HISTORIES, share)
    ]
    told = "".join(player.communicate()[0] for player in players)
    assert [player.returncode for player in players] == [0] * PROCESSES, f"{told}\ntell one with --seed N"


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
        "revokes",
        "agent killed",
        "shim of",
        "reboots",
        "cut off",
        "paused",
        "agent stopped",
        "cancelled by ann",
    ):
        assert accident in diary, accident
