"""What the preflight adds to the start of an allocation, for 2 to 256 members, in turn with the rendezvous alone.

    python bench/preflight.py            prints, and writes bench/results/preflight.json

Every member is a companion, forked as the agent's zygote forks them, with an address of its own on loopback and the
planned flows of a torch job. The time is from the first byte of the first configuration to the last go. All of them
share this machine's cores, which members on machines of their own do not. So beyond 16 members the first, the second
and the last are measured, each a companion that does all of its part; the others share one process, which comes,
listens, answers and tries what leads to those three: they have their whole work, the others none among themselves.
Once more 64 members are all measured. Beside the seconds stand those of CPU of one measured member.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import secrets
import select
import socket
import time
from collections.abc import Sequence, Set

import harness
from rendezvous import end, forked

from quorate.launch import preflight
from quorate.launch.companion import serve
from quorate.launch.config import Configuration, Member, Preflight, ProbeFlow, Timeouts
from quorate.launch.preflightplan import Attempt, Pattern
from quorate.launch.reactor import READ, Reactor
from quorate.launch.rendezvous import Arrival, Failure
from quorate.launch.watch import Watch

SIZES = (2, 8, 16, 64, 128, 256)
ROUNDS = {2: 40, 8: 30, 16: 20}
FEW = 7
#: So many members are all measured; and so many once more, to show that the limit holds on a machine that is swamped.
ALL = 16
CROWDED = 64
DEADLINE_S = 120.0
PORTS = {"rendezvous": 1734, "watch": 1750}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=None)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    figures = {
        str(size): one_size(size, options.rounds or ROUNDS.get(size, FEW), whole=size <= ALL) for size in options.sizes
    }
    if CROWDED in options.sizes:
        figures[f"{CROWDED}, all of them on this machine"] = one_size(CROWDED, options.rounds or FEW, whole=True)
    harness.write("preflight", {"by_members": figures}, how=" ".join((__doc__ or "").split()))


def one_size(size: int, rounds: int, *, whole: bool) -> dict[str, object]:
    """Seconds without and with, and what is added, each pair taken in turn."""
    configuration = gang(size)
    measured = range(size) if whole else (0, 1, size - 1)
    cpu: list[float] = []
    untried: list[int] = []

    def seconds(wanted: Preflight) -> float:
        took, used, late = one_start(dataclasses.replace(configuration, preflight=wanted), measured)
        if wanted is Preflight.REQUIRE:
            cpu.append(used / len(measured))
            untried.append(late)
        return took

    samples = harness.in_turn(
        rounds, rendezvous=lambda: seconds(Preflight.OFF), preflight=lambda: seconds(Preflight.REQUIRE)
    )
    added = [there - here for here, there in zip(samples["rendezvous"], samples["preflight"], strict=True)]
    pattern = Pattern(configuration)
    return {
        "members_measured": len(measured),
        "attempts_of_all_members": sum(len(pattern.attempts(rank)) for rank in range(size)),
        "attempts_of_the_measured": sum(len(pattern.attempts(rank)) for rank in measured),
        "rendezvous_s": harness.summary(samples["rendezvous"]),
        "with_preflight_s": harness.summary(samples["preflight"]),
        "added_s": harness.summary(added),
        "cpu_of_one_member_s": harness.summary(cpu),
        "runs_in_which_something_was_not_tried_in_time": sum(map(bool, untried)),
    }


def one_start(configuration: Configuration, measured: Sequence[int]) -> tuple[float, float, int]:
    """Seconds until all of the measured go, their CPU seconds, and how many notices told of what was not tried."""
    told = [dataclasses.replace(configuration, rank=rank).to_json().encode() + b"\n" for rank in measured]
    others = set(range(configuration.size)) - set(measured)
    crowd = [forked(lambda channel: be_all(channel, configuration, others))] if others else []
    for channel, _ in crowd:
        channel.recv(10)
    channels = [forked(serve) for _ in measured]
    began = time.monotonic()
    for (channel, _), configured in zip(channels, told, strict=True):
        channel.sendall(configured)
    untried = sum(until_go(channel) for channel, _ in channels)
    took = time.monotonic() - began
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    end(channels)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    end(crowd)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, used, untried


def be_all(channel: socket.socket, configuration: Configuration, ranks: Set[int]) -> None:
    """The members that are not measured, in one process."""
    pattern = Towards(configuration, ranks)
    reactor = Reactor()
    # What costs each of them little costs one process a lot.
    preflight.Pattern = lambda _: pattern  # type: ignore[assignment,misc]
    preflight.routes = lambda _: []

    def failed(failure: Failure) -> None:
        raise SystemExit(failure.sentence)

    parts: list[object] = []
    for rank in ranks:
        own = dataclasses.replace(configuration, rank=rank)
        parts.append(Watch(reactor, own, lambda _: None, lambda *_: None, lambda: None))
        parts.append(Arrival(reactor, own, lambda: None, failed))
    reactor.watch(channel, READ, lambda _: reactor.stop())
    channel.sendall(b"there\n")
    reactor.run()


class Towards(Pattern):
    """Tries what leads to the measured members alone."""

    def __init__(self, configuration: Configuration, others: Set[int]) -> None:
        super().__init__(configuration)
        # Beforehand: each of them finds its own on a machine of its own.
        self._known = {
            rank: [each for each in super(Towards, self).attempts(rank) if each.rank not in others] for rank in others
        }

    def attempts(self, rank: int) -> list[Attempt]:
        return self._known[rank]


def until_go(channel: socket.socket) -> int:
    """Reads until the companion lets the command start; how much it could not tell."""
    received, untried, deadline = b"", 0, time.monotonic() + DEADLINE_S
    while True:
        ready, _, _ = select.select([channel], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise SystemExit("a companion never let its member go")
        received += channel.recv(65536)
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            message = json.loads(line)
            if "go" in message:
                return untried
            if "failed" in message:
                raise SystemExit(message["failed"]["sentence"])
            untried += 1


def gang(size: int) -> Configuration:
    members = tuple(
        Member(
            rank=rank,
            role="main" if rank == 0 else "sub",
            index=max(1, rank),
            name="main1" if rank == 0 else f"sub{rank}",
            address=f"127.9.{rank // 200}.{11 + rank % 200}",
            agent=f"agent-{rank}",
            ports=PORTS,
        )
        for rank in range(size)
    )
    flows = (
        *(ProbeFlow(flow, (port, port)) for flow, port in PORTS.items()),
        ProbeFlow("torch-rendezvous", (29400, 29400), destinations=(0,)),
        ProbeFlow("gloo", (32768, 60999)),
        ProbeFlow("torch-store", (32768, 60999), destinations=(0,)),
    )
    return Configuration(
        f"bench{os.getpid() % 1000:03d}-1",
        members,
        rank=0,
        nonce=secrets.token_hex(16),
        timeouts=Timeouts(rendezvous_s=DEADLINE_S),
        flows=flows,
    )


if __name__ == "__main__":
    main()
