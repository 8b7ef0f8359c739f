"""The vocabulary of the tests of launch."""

from __future__ import annotations

import dataclasses
import random
import secrets
import socket
from typing import Any

from quorate.launch.config import Configuration, Member, Network, Preflight, ProbeFlow, Timeouts

PURPOSES = ("rendezvous", "watch", "torch", "main")


def free_port(address: str) -> int:
    """A port on which nobody listens at this moment, and from which the kernel connects nowhere by itself."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
            try:
                listener.bind((address, port))
            except OSError:
                continue
            return port


def gang(size: int, *, rank: int = 0, slots: int = 1, network: Network = Network.HOST, **fields: Any) -> Configuration:
    """An allocation on loopback: main1 at 127.0.0.11, sub1 at 127.0.0.12, …, each with ports of its own."""
    members = tuple(
        Member(
            rank=position,
            role="main" if position == 0 else "sub",
            index=max(1, position),
            name="main1" if position == 0 else f"sub{position}",
            address=f"127.0.{position // 200}.{11 + position % 200}",
            agent=f"agent-{position}",
            slots=tuple(range(slots)),
            ports={purpose: free_port(f"127.0.{position // 200}.{11 + position % 200}") for purpose in PURPOSES},
        )
        for position in range(size)
    )
    fields.setdefault("timeouts", Timeouts(rendezvous_s=20.0, watch_grace_s=20.0))
    return Configuration(
        allocation="qqqq2222-1", members=members, rank=rank, nonce=secrets.token_hex(16), network=network, **fields
    )


#: What nothing else on this machine connects from: the kernel's own choice begins above it.
WINDOW = (32_000, 32_700)


def with_preflight(configuration: Configuration, **fields: Any) -> Configuration:
    """The same allocation, as the planned flows of a torch job; each member's ports are its own."""
    flows = [
        ProbeFlow(flow, (member.ports[flow], member.ports[flow]), f"{flow} of members", destinations=(member.rank,))
        for member in configuration.members
        for flow in ("rendezvous", "watch")
    ]
    torch = configuration.first.ports["torch"]
    flows += [
        ProbeFlow("torch-rendezvous", (torch, torch), "torchrun's rendezvous", destinations=(0,)),
        ProbeFlow("gloo", WINDOW, "Gloo between ranks", remedy="open it from {source} to {destination}"),
    ]
    fields.setdefault("preflight", Preflight.REQUIRE)
    return dataclasses.replace(configuration, flows=tuple(flows), **fields)


def seen_by(configuration: Configuration, rank: int) -> Configuration:
    """The same allocation as another member is told it."""
    return dataclasses.replace(configuration, rank=rank)
