"""How long the barrier before a member's start takes: for two members, and for up to a thousand at the first one.

    python bench/rendezvous.py            prints, and writes bench/results/rendezvous.json

The pair is two companions, each forked as the agent's zygote forks them, timed from the first byte of the configuration
to both goes. The curve is one companion against many arrivals of the shipped code that share a second process, timed
from the first connection to the last go; both sides share this machine's cores.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import secrets
import socket
import time
from collections.abc import Callable

import harness

from quorate.launch.companion import serve
from quorate.launch.config import Configuration, Member, Timeouts
from quorate.launch.reactor import Reactor
from quorate.launch.rendezvous import Arrival, Failure

PAIRS = 200
SIZES = (2, 8, 64, 256, 1000)
ROUNDS = 15
DEADLINE_S = 60


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    pair = harness.summary([1000 * one_pair() for _ in range(PAIRS)])
    curve = {str(size): harness.summary([1000 * one_gang(size) for _ in range(ROUNDS)]) for size in SIZES}
    figures = {"pair_ms": pair, "members_at_the_first_ms": curve}
    harness.write("rendezvous", figures, how=" ".join((__doc__ or "").split()))


def one_pair() -> float:
    """Seconds from the configuration to both goes."""
    configuration = gang(2)
    told = [dataclasses.replace(configuration, rank=rank).to_json().encode() + b"\n" for rank in range(2)]
    channels = [forked(serve) for _ in range(2)]
    began = time.monotonic()
    for (channel, _), configured in zip(channels, told, strict=True):
        channel.sendall(configured)
    for channel, _ in channels:
        assert b'"go"' in channel.recv(4096)
    took = time.monotonic() - began
    end(channels)
    return took


def one_gang(size: int) -> float:
    """Seconds from the first connection of `size - 1` members to their last go."""
    configuration = gang(size)
    first, others = forked(serve), forked(lambda channel: arrive(channel, configuration))
    first[0].sendall(configuration.to_json().encode() + b"\n")
    others[0].sendall(b"begin\n")
    took = float(others[0].recv(100))
    assert b'"go"' in first[0].recv(4096)
    end([first, others])
    return took


def arrive(channel: socket.socket, configuration: Configuration) -> None:
    """All members but the first, in one process."""
    channel.recv(10)
    # The first member listens before the clock starts: what is measured is the barrier, not its start.
    where = (configuration.first.address, configuration.first.port("rendezvous"))
    while True:
        with socket.socket() as knock:
            if knock.connect_ex(where) == 0:
                break
    reactor = Reactor()
    waiting = set(range(1, configuration.size))

    def gone(rank: int) -> None:
        waiting.discard(rank)
        if not waiting:
            reactor.stop()

    def failed(failure: Failure) -> None:
        raise SystemExit(failure.sentence)

    began = time.monotonic()
    for rank in range(1, configuration.size):
        Arrival(reactor, dataclasses.replace(configuration, rank=rank), lambda rank=rank: gone(rank), failed)
    reactor.run()
    channel.sendall(str(time.monotonic() - began).encode())


def forked(work: Callable[[socket.socket], None]) -> tuple[socket.socket, int]:
    """A process that has everything loaded, as the agent's zygote has, and the channel to it."""
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        # The other channels above all: while a copy is open, nobody sees their end.
        os.closerange(3, there.fileno())
        os.closerange(there.fileno() + 1, 1024)
        try:
            work(there)
        finally:
            os._exit(0)
    there.close()
    here.settimeout(DEADLINE_S)
    return here, pid


def end(channels: list[tuple[socket.socket, int]]) -> None:
    for channel, pid in channels:
        channel.close()
        os.waitpid(pid, 0)


def gang(size: int) -> Configuration:
    members = tuple(
        Member(
            rank=rank,
            role="main" if rank == 0 else "sub",
            index=max(1, rank),
            name="main1" if rank == 0 else f"sub{rank}",
            address="127.0.0.11" if rank == 0 else "127.0.0.12",
            ports={purpose: free_port() for purpose in ("rendezvous", "watch")} if rank < 2 else {},
        )
        for rank in range(size)
    )
    return Configuration(
        "bench222-1", members, rank=0, nonce=secrets.token_hex(16), timeouts=Timeouts(rendezvous_s=60.0)
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
