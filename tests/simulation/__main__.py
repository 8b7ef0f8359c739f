"""Plays histories by hand: `python -m tests.simulation --seed 7` tells one, `--count 2000` plays many."""

import argparse
import sys
import time
import traceback

from .invariants import Broken
from .story import Story


def main() -> int:
    """Returns 1 if an invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the (first) seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds from there on")
    parser.add_argument("--tell", action="store_true", help="print the diary even if nothing breaks")
    asked = parser.parse_args()
    began, steps, broken = time.process_time(), 0, 0
    for seed in range(asked.seed, asked.seed + asked.count):
        story = Story(seed, verbose=asked.count == 1 or asked.tell)
        try:
            steps += story.run()
        except Exception as error:
            broken += 1
            print("\n".join(story.world.diary))
            print(f"seed {seed}: {error}", flush=True)
            if not isinstance(error, Broken):
                traceback.print_exc()
        else:
            if asked.tell:
                print("\n".join(story.world.diary))
    took = time.process_time() - began
    print(f"{asked.count} histories, {steps} steps, {broken} broken, {took:.1f} s of CPU")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
