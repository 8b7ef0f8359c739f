"""What private networks cost: made and removed per member, bytes and round trips, and rules of ten thousand members.

    python bench/sandbox.py            as root; prints, and writes bench/results/sandbox.json

Two hosts are namespaces joined by a bridge. Milliseconds are for each of 16 members: their hubs and sandboxes with a
plan's rules, on one host (bridge) or on two, one host after the other (overlay); beside them as many namespaces with a
veth, an address and the same rules made with ip(8) and nft(8) on a bridge, and removed again. Throughput is one TCP
stream of 192 MiB between two processes, round trips are of 64 bytes over one TCP connection; both are taken in turn
between sandboxes over the overlay with a plan's rules, the same without rules, over a VXLAN made by hand with ip(8),
and over the bare link of the hosts, and a ratio is the median of such pairs. The rules of one member in a gang of
10,000, whose addresses do not lie together, are timed against nft loading the same text from a file.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.sandbox.hosts import Host, Inside, Lab, both_ways, hub, run, sandbox

from quorate.agent.sandbox import namespaces, nft, rules
from quorate.agent.sandbox.spec import HubSpec, Mode, Peer, SandboxSpec

MEMBERS = 16
ROUNDS = 15
STREAM_BYTES = 192 * 1024 * 1024
ROUND_TRIPS = 4000
GANG = 10_000
Parts = list[tuple[Host, list[HubSpec | SandboxSpec]]]
PLAN = both_ways("torch-rendezvous", 29400) + both_ways("gloo", 5001)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder) / "lab")
        try:
            lab.open(2)
            figures = {**members(lab), **ways(lab), **gang_rules(lab.hosts[0])}
        finally:
            lab.close()
    harness.write("sandbox", figures, how=" ".join((__doc__ or "").split()))


def members(lab: Lab) -> dict[str, object]:
    """Milliseconds for each member, made and removed, on one host and on two."""
    near, far = lab.hosts
    samples: dict[str, list[float]] = {}

    def take(name: str, by: int, action: Callable[..., object], *arguments: object) -> None:
        samples.setdefault(name, []).append(harness.timed(functools.partial(action, *arguments)) / by)

    for _ in range(ROUNDS):
        for kind, hosts in (("bridge", [near]), ("overlay", [near, far])):
            placed = hosts * (MEMBERS // len(hosts))
            hubs: Parts = [(host, [hub(host, *placed)]) for host in hosts]
            whole: Parts = [
                (host, [*made, *(sandbox(f"jjjj-1.{rank}.1", PLAN) for rank in range(MEMBERS) if placed[rank] is host)])
                for host, made in hubs
            ]
            take(f"{kind}_hub_made_ms", len(hosts), converge, hubs)
            take(f"{kind}_member_made_ms", MEMBERS, converge, whole)
            take(f"{kind}_member_unchanged_ms", MEMBERS, converge, whole)
            take(f"{kind}_member_removed_ms", MEMBERS, converge, [(host, []) for host in hosts])
        take("by_hand_member_made_ms", MEMBERS, typed_in, near, boxes := [f"hand-{rank}" for rank in range(MEMBERS)])
        take("by_hand_member_removed_ms", MEMBERS, typed_away, near, boxes)
    return {name: harness.summary(taken, 1) for name, taken in samples.items()}


def converge(parts: Parts) -> None:
    """One host after the other."""
    for host, wanted in parts:
        host.converge(*wanted)


def typed_in(host: Host, boxes: list[str]) -> None:
    """A bridge with these namespaces at it, each with an address and a plan's rules, as one would type them."""
    rank = {box: number for number, box in enumerate(boxes)}
    spec = hub(host, *[host] * len(boxes))
    with namespaces.entered(host.namespace):
        run("ip", "link", "add", "hand-bridge", "type", "bridge")
        run("ip", "link", "set", "hand-bridge", "up")
        for box, number in rank.items():
            run("ip", "netns", "add", box)
            run("ip", "link", "add", box, "type", "veth", "peer", "name", "eth0", "netns", box)
            run("ip", "link", "set", box, "master", "hand-bridge", "up")
            run("ip", "-n", box, "address", "add", f"10.128.0.{10 + number}/24", "dev", "eth0")
            run("ip", "-n", box, "link", "set", "lo", "up")
            run("ip", "-n", box, "link", "set", "eth0", "up")
            text = rules.sandbox_rules(spec, sandbox(f"jjjj-1.{number}.1", PLAN))
            subprocess.run(["ip", "netns", "exec", box, "nft", "-f", "-"], input=text, text=True, check=True)


def typed_away(host: Host, boxes: list[str]) -> None:
    """All of it removed; the kernel is done when the bridge's ports are gone."""
    with namespaces.entered(host.namespace):
        for box in boxes:
            run("ip", "link", "delete", box)
            run("ip", "netns", "delete", box)
        run("ip", "link", "delete", "hand-bridge")


def ways(lab: Lab) -> dict[str, object]:
    """Gbit/s and round trips per second of each way, and the ratios of the pairs taken in turn."""
    near, far = lab.hosts
    for host, rank in ((near, 0), (far, 1)):
        host.converge(
            hub(host, near, far), sandbox(f"jjjj-1.{rank}.1", PLAN),
            hub(host, near, far, allocation="kkkk-1", vni=8), sandbox(f"kkkk-1.{rank}.1", mode=Mode.OFF),
        )  # fmt: skip
    hand = by_hand(lab)
    ends = {
        "overlay": (near.member("jjjj-1.0.1"), far.member("jjjj-1.1.1"), "10.128.0.11"),
        "without_rules": (near.member("kkkk-1.0.1"), far.member("kkkk-1.1.1"), "10.128.0.11"),
        "vxlan_by_hand": (*hand, "10.128.0.11"),
        "bare_link": (near.outside, far.outside, far.address),
    }
    figures: dict[str, object] = {}
    for measure, unit, digits in ((stream, "gbit_s", 2), (round_trips, "round_trips_per_s", 0)):
        sides = {name: functools.partial(measure, *end) for name, end in ends.items()}
        for side in sides.values():
            side()
        taken = harness.in_turn(ROUNDS, **sides)
        figures |= {f"{name}_{unit}": harness.summary(values, digits) for name, values in taken.items()}
        for other in ("vxlan_by_hand", "without_rules", "bare_link"):
            ratios = [own / theirs for own, theirs in zip(taken["overlay"], taken[other], strict=True)]
            figures[f"{unit}_to_{other}"] = harness.summary(ratios)
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

    def take(connection: socket.socket) -> None:
        buffer, left = bytearray(1024 * 1024), STREAM_BYTES
        while left:
            left -= connection.recv_into(buffer)
        connection.sendall(b".")

    with _connected(source, sink, address, take) as connection:
        piece = bytes(1024 * 1024)
        began = time.perf_counter()
        for _ in range(STREAM_BYTES // len(piece)):
            connection.sendall(piece)
        assert connection.recv(1) == b"."
        return STREAM_BYTES * 8 / (time.perf_counter() - began) / 1e9


def round_trips(source: Inside, sink: Inside, address: str) -> float:
    """How often in a second 64 bytes go there and back."""

    def answer(connection: socket.socket) -> None:
        while data := connection.recv(64):
            connection.sendall(data)

    with _connected(source, sink, address, answer) as connection:
        began = time.perf_counter()
        for _ in range(ROUND_TRIPS):
            connection.sendall(bytes(64))
            connection.recv(64)
        return ROUND_TRIPS / (time.perf_counter() - began)


@contextlib.contextmanager
def _connected(
    source: Inside, sink: Inside, address: str, serve: Callable[[socket.socket], None]
) -> Iterator[socket.socket]:
    """A connection to a process of its own at the sink, which does `serve`."""
    with namespaces.entered(sink.path):
        listener = socket.create_server((address, 5001))
    with listener:
        child = os.fork()
        if child == 0:
            try:
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                serve(accepted)
            finally:
                os._exit(0)
        with namespaces.entered(source.path):
            connection = socket.create_connection((address, 5001), 10)
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield connection
        os.waitpid(child, 0)


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
            rules_loaded_ms=lambda: harness.timed(lambda: nft.load(rules.sandbox_rules(spec, box))),
            nft_alone_ms=lambda: harness.timed(lambda: subprocess.run(["nft", "-f", file.name], check=True)),
        )
        run("nft", "delete", "table", "inet", "quorate")
    ratios = [own / theirs for own, theirs in zip(taken["rules_loaded_ms"], taken["nft_alone_ms"], strict=True)]
    return {
        **{name: harness.summary(values, 1) for name, values in taken.items()},
        "rules_to_nft_alone": harness.summary(ratios),
        "rules_bytes": len(text),
    }


if __name__ == "__main__":
    main()
