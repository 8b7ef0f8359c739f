"""What goes wrong in networks, by name. Each fault lasts for the body of its `with`."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

from tests.lab.hosts import DEVICE, Host, Lab

_numbers = itertools.count(1)


@contextlib.contextmanager
def link_cut(lab: Lab, host: Host) -> Iterator[None]:
    """The host's cable is out: no carrier, no packets."""
    lab.switch.run("ip", "link", "set", lab.switch.port(host), "down")
    try:
        yield
    finally:
        lab.switch.run("ip", "link", "set", lab.switch.port(host), "up")


@contextlib.contextmanager
def port_dropped(
    lab: Lab, ports: str | int, *, source: Host | None = None, destination: Host | None = None, transport: str = "tcp"
) -> Iterator[None]:
    """A firewall in between drops what goes to a port (`29500`, `32768-60999`), from and to whom is named."""
    with _dropped(lab, f"{_between(source, destination)} {transport} dport {ports}"):
        yield


@contextlib.contextmanager
def port_dropped_in_overlays(
    lab: Lab, ports: str | int, *, source: Host | None = None, destination: Host | None = None, transport: str = "tcp"
) -> Iterator[None]:
    """Something in between looks into VXLAN and drops what would open a connection of a member's to a port, from and
    to whose host is named."""
    # From the outer UDP header on: 8 of its own, 8 of VXLAN (RFC 7348), 14 of Ethernet, 20 of IPv4 without options.
    number = {"tcp": 6, "udp": 17}[transport]
    ip, ports_at = 8 + 8 + 14, 8 + 8 + 14 + 20
    inner = f"udp dport 4789 @th,{8 * (ip + 9)},8 {number} @th,{8 * (ports_at + 2)},16 {ports}"
    if transport == "tcp":
        # SYN without ACK: answers go to ports of a window, too.
        inner += f" @th,{8 * (ports_at + 13)},8 & 0x12 == 0x02"
    with _dropped(lab, f"{_between(source, destination)} {inner}"):
        yield


@contextlib.contextmanager
def one_way(lab: Lab, source: Host, destination: Host) -> Iterator[None]:
    """Packets from `source` reach `destination`; none come back."""
    with _dropped(lab, f"ip saddr {destination.address} ip daddr {source.address}"):
        yield


@contextlib.contextmanager
def apart(lab: Lab, one: Host, other: Host) -> Iterator[None]:
    """The two do not hear each other; everybody else hears both."""
    with one_way(lab, one, other), one_way(lab, other, one):
        yield


@contextlib.contextmanager
def black_hole(lab: Lab, mtu: int, *, source: Host | None = None, destination: Host | None = None) -> Iterator[None]:
    """IP packets of more than `mtu` bytes vanish on the way, and no ICMP says so."""
    # The kernel hands packets of many segments from one namespace to the next; on a wire there are none.
    for host in lab.hosts.values():
        host.run("ip", "link", "set", DEVICE, "gso_max_segs", "1")
    try:
        with _dropped(lab, f"{_between(source, destination)} ip length > {mtu}"):
            yield
    finally:
        for host in lab.hosts.values():
            host.run("ip", "link", "set", DEVICE, "gso_max_segs", "65535")


@contextlib.contextmanager
def packets_lost(
    lab: Lab, percent: int, *, source: Host | None = None, destination: Host | None = None
) -> Iterator[None]:
    """So many of a hundred packets are lost, by chance."""
    with _dropped(lab, f"{_between(source, destination)} numgen random mod 100 < {percent}"):
        yield


@contextlib.contextmanager
def resolves_to_loopback(host: Host, *names: str) -> Iterator[None]:
    """Those names (the host's own, if none is named) mean 127.0.1.1 there, as Debian's installer writes them."""
    hosts = host.file("/etc/hosts")
    before = hosts.read_text()
    wrong = set(names or (host.name,))
    kept = [line for line in before.splitlines() if not wrong & set(line.split()[1:])]
    hosts.write_text("\n".join([*kept, *(f"127.0.1.1 {name}" for name in sorted(wrong))]) + "\n")
    try:
        yield
    finally:
        hosts.write_text(before)


@contextlib.contextmanager
def clock_ahead(host: Host, seconds: float) -> Iterator[None]:
    """Programs that are started on that host take it to be so much later."""
    host.clock_ahead(seconds)
    try:
        yield
    finally:
        host.clock_right()


@contextlib.contextmanager
def without_rule(host: Host, rules: str, line: str) -> Iterator[None]:
    """The host's firewall holds all of `rules` but that line."""
    lines = rules.splitlines()
    lines.remove(line)
    host.firewall("\n".join(lines) + "\n")
    try:
        yield
    finally:
        host.firewall(rules)


def _between(source: Host | None, destination: Host | None) -> str:
    words = [f"ip saddr {source.address}"] if source else []
    return " ".join([*words, *([f"ip daddr {destination.address}"] if destination else [])])


@contextlib.contextmanager
def _dropped(lab: Lab, match: str) -> Iterator[None]:
    """Each fault is a table of its own, so that any number of them can be there."""
    table = f"fault{next(_numbers)}"
    chain = "type filter hook forward priority 0; policy accept;"
    lab.switch.run(
        "nft", "-f", "-", text=f"table bridge {table} {{\nchain way {{\n{chain}\n{match} counter drop\n}}\n}}\n"
    )
    try:
        yield
    finally:
        lab.switch.run("nft", "delete", "table", "bridge", table)
