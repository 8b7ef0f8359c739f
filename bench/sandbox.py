"""What private networks cost: made and removed per member, bytes carried, and rules loaded for ten thousand members.

    python bench/sandbox.py            as root; prints, and writes bench/results/sandbox.json

Two hosts are namespaces joined by a bridge. Throughput is one TCP stream of a fixed size between two processes, taken
in turn: between sandboxes over the overlay with a plan's rules, the same without rules, over a VXLAN made by hand with
ip(8), and over the bare link of the hosts. Rules are timed against nft loading the same text from a file.
"""

from __future__ import annotations

import functools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.sandbox.hosts import Host, Inside, Lab, both_ways, hub, run, sandbox

from quorate.agent.sandbox import namespaces, nft, rules
from quorate.agent.sandbox.spec import HubSpec, Mode, Peer

MEMBERS = 16
ROUNDS = 15
STREAM_BYTES = 192 * 1024 * 1024
GANG = 10_000
PLAN = both_ways("torch-rendezvous", 29400) + both_ways("gloo", 5001)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder) / "lab")
        try:
            lab.open(2)
            figures = {
                "members": members(lab.hosts[0]),
                "throughput_gbit_s": throughput(lab),
                "rules_ms": gang_rules(lab.hosts[0]),
            }
        finally:
            lab.close()
    harness.write("sandbox", figures, how=" ".join((__doc__ or "").split()))


def members(host: Host) -> dict[str, object]:
    """Milliseconds per member: the hub of 16 members on one host and their sandboxes, made and removed."""
    whole = hub(host, *[host] * MEMBERS)
    boxes = [sandbox(f"jjjj-1.{rank}.1", PLAN) for rank in range(MEMBERS)]
    samples: dict[str, list[float]] = {"hub": [], "sandbox": [], "nothing_to_do": [], "removed": []}
    for _ in range(ROUNDS):
        samples["hub"].append(harness.timed(lambda: host.converge(whole)))
        samples["sandbox"].append(harness.timed(lambda: host.converge(whole, *boxes)) / MEMBERS)
        samples["nothing_to_do"].append(harness.timed(lambda: host.converge(whole, *boxes)) / MEMBERS)
        samples["removed"].append(harness.timed(lambda: host.converge()) / MEMBERS)
    return {f"{name}_ms": harness.summary(taken, 1) for name, taken in samples.items()}


def throughput(lab: Lab) -> dict[str, object]:
    """Gbit/s of each way, and the ratios of the pairs taken in turn."""
    near, far = lab.hosts
    for host, rank in ((near, 0), (far, 1)):
        host.converge(
            hub(host, near, far), sandbox(f"jjjj-1.{rank}.1", PLAN),
            hub(host, near, far, allocation="kkkk-1", vni=8), sandbox(f"kkkk-1.{rank}.1", mode=Mode.OFF),
        )  # fmt: skip
    hand = by_hand(lab)
    sides: dict[str, Callable[[], float]] = {
        "sandbox": lambda: stream(near.member("jjjj-1.0.1"), far.member("jjjj-1.1.1"), "10.128.0.11"),
        "without_rules": lambda: stream(near.member("kkkk-1.0.1"), far.member("kkkk-1.1.1"), "10.128.0.11"),
        "vxlan_by_hand": lambda: stream(*hand, "10.128.0.11"),
        "bare_link": lambda: stream(near.outside, far.outside, far.address),
    }
    for side in sides.values():
        side()
    taken = harness.in_turn(ROUNDS, **sides)
    figures: dict[str, object] = {name: harness.summary(values, 2) for name, values in taken.items()}
    for other in ("vxlan_by_hand", "without_rules", "bare_link"):
        ratios = [own / theirs for own, theirs in zip(taken["sandbox"], taken[other], strict=True)]
        figures[f"sandbox_to_{other}"] = round(statistics.median(ratios), 3)
    return figures


def by_hand(lab: Lab) -> tuple[Inside, Inside]:
    """A bridge, a VXLAN device and a veth on each host: what one would type."""
    ends = []
    for number, (host, other) in enumerate((lab.hosts, lab.hosts[::-1])):
        box = lab.folder / f"hand{number}"
        namespaces.make(box)
        lab.cleanup(functools.partial(namespaces.remove, box))
        with namespaces.entered(host.namespace), box.open() as inside:
            run("ip", "link", "add", "hand", "type", "vxlan", "id", "99", "local", host.address, "dstport", "4790")
            run("ip", "link", "add", "handbr", "type", "bridge")
            run("bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "hand", "dst", other.address)
            peer = ("type", "veth", "peer", "name", "eth0", "mtu", "1450", "netns", f"/proc/self/fd/{inside.fileno()}")
            os.set_inheritable(inside.fileno(), True)
            subprocess.run(["ip", "link", "add", "handp", "mtu", "1450", *peer], check=True, pass_fds=[inside.fileno()])
            for link in ("handbr", "hand", "handp"):
                if link != "handbr":
                    run("ip", "link", "set", link, "master", "handbr")
                run("ip", "link", "set", link, "mtu", "1450", "up")
        end = Inside(box)
        end.run("ip", "address", "add", f"10.128.0.{10 + number}/24", "dev", "eth0")
        end.run("ip", "link", "set", "eth0", "up")
        ends.append(end)
    return ends[0], ends[1]


def stream(source: Inside, sink: Inside, address: str) -> float:
    """Gbit/s of one stream, from its first byte to the sink's word that it has the last."""
    with namespaces.entered(sink.path):
        listener = socket.create_server((address, 5001))
    with listener:
        child = os.fork()
        if child == 0:
            try:
                connection, _ = listener.accept()
                buffer, left = bytearray(1024 * 1024), STREAM_BYTES
                while left:
                    left -= connection.recv_into(buffer)
                connection.sendall(b".")
            finally:
                os._exit(0)
        with namespaces.entered(source.path):
            connection = socket.create_connection((address, 5001), 10)
        with connection:
            piece = bytes(1024 * 1024)
            began = time.perf_counter()
            for _ in range(STREAM_BYTES // len(piece)):
                connection.sendall(piece)
            assert connection.recv(1) == b"."
            took = time.perf_counter() - began
        os.waitpid(child, 0)
    return STREAM_BYTES * 8 / took / 1e9


def gang_rules(host: Host) -> dict[str, object]:
    """Milliseconds to write and load one member's rules in a gang of 10,000, whose addresses do not lie together."""
    addresses = [f"10.{64 + number // 32768}.{number // 128 % 256}.{number % 128 * 2 + 1}" for number in range(GANG)]
    spec = HubSpec(
        "llll-1", 9, "10.64.0.0/10", "10.127.255.254", host.address,
        tuple(Peer(host.address if rank == 0 else "10.77.0.11", address) for rank, address in enumerate(addresses)),
    )  # fmt: skip
    everyone = tuple(f"{address}/32" for address in addresses)
    planned = [rule.__class__(rule.flow, rule.direction, rule.transport, everyone, rule.ports) for rule in PLAN]
    box = sandbox("llll-1.0.1", tuple(planned))
    text = rules.sandbox_rules(spec, box)
    with namespaces.entered(host.namespace), tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
        file.write(text)
        file.flush()
        taken = harness.in_turn(
            ROUNDS,
            written_and_loaded=lambda: harness.timed(lambda: nft.load(rules.sandbox_rules(spec, box))),
            nft_alone=lambda: harness.timed(lambda: subprocess.run(["nft", "-f", file.name], check=True)),
        )
        run("nft", "delete", "table", "inet", "quorate")
    figures: dict[str, object] = {name: harness.summary(values, 1) for name, values in taken.items()}
    figures["bytes"] = len(text)
    return figures


if __name__ == "__main__":
    main()
