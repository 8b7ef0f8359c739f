"""What the audit says of random nftables rule sets is what real sockets meet in a real network namespace.

Two namespaces and a wire between them; the server's one loads the rules. Only what the audit says is open is waited
for: a slow machine can hide a difference, never make one up.
"""

from __future__ import annotations

import ctypes
import os
import random
import selectors
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address

import pytest

from quorate.model.ports import PortRange
from quorate.network.audit import audit
from quorate.network.audit.space import Outcome
from quorate.network.flows import Role, Transport
from quorate.network.plan import Party, Plan, PlannedFlow, addresses

pytestmark = pytest.mark.lab

RULE_SETS, FLOWS = 125, 20
CLIENTS = ("10.9.0.1", "10.9.0.2", "10.9.1.1", "fd09::1", "fd09::2")
SERVERS = ("10.9.8.1", "10.9.8.2", "fd09:8::1")
PORTS = (1734, 1750, 8080, 12350, 29400, 29500)
#: Seconds. An open flow on a veth answers in microseconds; the first bound only ends a test that has failed.
PATIENCE, GLANCE = 10.0, 0.12
MACS = ("02:00:00:00:09:01", "02:00:00:00:09:02")

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets made here belong to the namespace for good."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if _libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        yield
        if _libc.setns(home, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns back")
    finally:
        os.close(home)
        os.close(there)


def run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}\n{text or ''}"
    return done.stdout


@pytest.fixture(scope="module")
def wire() -> Iterator[tuple[str, str]]:
    """Two namespaces whose neighbours are known for good, so that no rule can come in the way of finding them."""
    names = tuple(f"q{os.getpid()}{end}" for end in "cs")
    with ExitStack() as stack:
        for name in names:
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name)
        client, server = names
        run("ip", "link", "add", "c", "netns", client, "address", MACS[0], "type", "veth",
            "peer", "name", "s", "netns", server, "address", MACS[1])  # fmt: skip
        for name, device, mine, theirs, mac in (
            (client, "c", CLIENTS, SERVERS, MACS[1]),
            (server, "s", SERVERS, CLIENTS, MACS[0]),
        ):
            lines = ["link set lo up", f"link set {device} up"]
            for address in mine:
                nodad = " nodad" if ":" in address else ""
                lines.append(f"addr add {address}/{128 if ':' in address else 32} dev {device}{nodad}")
            for address in theirs:
                lines.append(f"route add {address}/{128 if ':' in address else 32} dev {device}")
                lines.append(f"neigh add {address} lladdr {mac} dev {device} nud permanent")
            run("ip", "-n", name, "-batch", "-", text="\n".join(lines) + "\n")
        yield client, server


def random_rules(rng: random.Random) -> str:
    """A rule set out of everything that the audit claims to model."""

    def some(items: tuple[str, ...]) -> str:
        chosen = rng.sample(items, rng.randint(1, len(items)))
        return chosen[0] if len(chosen) == 1 else "{ " + ", ".join(chosen) + " }"

    def ports() -> str:
        shapes = [
            str(rng.choice(PORTS)),
            f"{rng.choice(PORTS)}-{29500 + rng.randint(0, 9)}" if rng.random() < 0.5 else "1024-2047",
            "{ " + ", ".join(map(str, rng.sample(PORTS, 2))) + ", 8000-8999 }",
        ]
        return rng.choice(shapes)

    v4 = (
        lambda: f"ip saddr {rng.choice(('', '!= '))}{rng.choice((*CLIENTS[:3], '10.9.0.0/24', '10.9.1.0/24'))}",
        lambda: f"ip saddr {some(CLIENTS[:3])}",
        lambda: "ip saddr 10.9.0.0-10.9.0.1",
        lambda: f"ip daddr {rng.choice(('', '!= '))}10.9.8.1",
        lambda: "ip saddr @friends",
        lambda: "ip protocol tcp",
        lambda: "meta nfproto ipv4",
    )
    v6 = (
        lambda: f"ip6 saddr {rng.choice(('', '!= '))}{some(CLIENTS[3:])}",
        lambda: "ip6 daddr fd09:8::/64",
        lambda: "meta nfproto ipv6",
    )
    tcp = (
        lambda: f"tcp dport {rng.choice(('', '!= '))}{ports()}",
        lambda: f"tcp sport {rng.choice(('1024-65535', '1-1023', '!= 1-1023'))}",
        lambda: "tcp dport > 20000",
        lambda: "tcp dport <= 8080",
    )
    udp = (lambda: f"udp dport {ports()}", lambda: f"udp sport {rng.choice(('1024-65535', '1-1023'))}")
    both = (lambda: f"meta l4proto {rng.choice(('tcp', 'udp', '{ tcp, udp }'))}",)
    either = (lambda: f"meta l4proto {{ tcp, udp }} th dport {ports()}",)
    anything = (
        lambda: f"ct state {rng.choice(('new', 'established', 'new,established', 'established,related', '!= new'))}",
        lambda: f"iifname {rng.choice(('', '!= '))}lo",
    )

    def match() -> str:
        """At most one match of each layer: nft refuses what contradicts itself."""
        if rng.random() < 0.08:
            return "ip saddr . tcp dport @pairs"
        chosen = [rng.choice((v4, v4, v6)), rng.choice((tcp, tcp, udp, both, either)), anything]
        return " ".join(rng.choice(layer)() for layer in rng.sample(chosen, rng.choice((0, 1, 1, 2, 2, 3))))

    def rule(targets: tuple[str, ...]) -> str:
        if rng.random() < 0.08:
            return f"tcp dport vmap {{ {rng.choice(PORTS[:3])} : accept, {rng.choice(PORTS[3:])} : drop }}"
        if rng.random() < 0.08:
            return "ct state vmap { established : accept, invalid : drop }"
        ends = ["accept"] * 5 + ["drop"] * 3 + ["reject", "return", "counter"]
        ends += [f"{rng.choice(('jump', 'jump', 'goto'))} {target}" for target in targets]
        end = rng.choice(ends)
        return f"{match()} {end}".strip()

    def rules(count: int, targets: tuple[str, ...]) -> str:
        return "\n".join(f"    {rule(targets)}" for _ in range(count))

    def base(name: str, hook: str, priority: int, count: int) -> str:
        policy = rng.choice(("accept", "drop"))
        head = f"    type filter hook {hook} priority {priority}; policy {policy};"
        return f"  chain {name} {{\n{head}\n{rules(count, ('first', 'second'))}\n  }}"

    friends = ", ".join(rng.sample(("10.9.0.1", "10.9.0.2", "10.9.1.0/24"), 2))
    pairs = ", ".join(f"{rng.choice(CLIENTS[:3])} . {port}" for port in rng.sample(PORTS, 3))
    parts = [
        "table inet one {",
        f"  set friends {{ type ipv4_addr; flags interval; elements = {{ {friends} }}\n  }}",
        f"  set pairs {{ type ipv4_addr . inet_service; elements = {{ {pairs} }}\n  }}",
        f"  chain second {{\n{rules(rng.randint(0, 3), ())}\n  }}",
        f"  chain first {{\n{rules(rng.randint(1, 3), ('second',))}\n  }}",
        base("in", "input", 0, rng.randint(1, 6)).replace("chain in ", "chain inbound "),
    ]
    if rng.random() < 0.6:
        parts.append(base("outbound", "output", 0, rng.randint(0, 4)))
    if rng.random() < 0.3:
        parts.append(base("early", "input", -10, rng.randint(1, 3)))
    if rng.random() < 0.15:
        parts.append(base("very_early", "prerouting", -300, rng.randint(0, 2)))
    parts.append("}")
    text = "\n".join(parts) + "\n"
    if rng.random() < 0.3:
        more = rng.choice(("tcp dport 8080 drop", "ip saddr 10.9.0.2 drop", "ip daddr 10.9.8.2 tcp dport != 1750 drop"))
        text += (
            "table ip two {\n  chain inbound {\n    type filter hook input priority 5; policy accept;\n"
            f"    {more}\n  }}\n}}\n"
        )
    return text


def random_flows(rng: random.Random) -> list[tuple[str, str, Transport, int]]:
    found = []
    while len(found) < FLOWS:
        source, to = rng.choice(CLIENTS), rng.choice(SERVERS)
        if ip_address(source).version == ip_address(to).version:
            found.append((source, to, rng.choice((Transport.TCP, Transport.TCP, Transport.UDP)), rng.choice(PORTS)))
    return list(dict.fromkeys(found))


def planned(flows: list[tuple[str, str, Transport, int]]) -> Plan:
    return Plan(
        "random",
        tuple(
            PlannedFlow(
                f"flow-{number}",
                Party(Role.USER, source, addresses([source])),
                Party(Role.MASTER, to, addresses([to])),
                transport,
                (PortRange.of(port),),
                "",
            )
            for number, (source, to, transport, port) in enumerate(flows)
        ),
    )


class Server:
    """Listens on every port, on TCP and UDP and both families; answers with what it was sent."""

    def __init__(self, namespace: str) -> None:
        self.selector = selectors.DefaultSelector()
        with inside(namespace):
            for port in PORTS:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    # One socket an address, so that an answer comes from where the question went.
                    for address in SERVERS:
                        family = socket.AF_INET6 if ":" in address else socket.AF_INET
                        listener = socket.socket(family, kind)
                        listener.setblocking(False)
                        listener.bind((address, port))
                        if kind == socket.SOCK_STREAM:
                            listener.listen(256)
                        what = "listener" if kind == socket.SOCK_STREAM else "datagrams"
                        self.selector.register(listener, selectors.EVENT_READ, what)

    def serve(self) -> None:
        for key, _ in self.selector.select(0):
            ready = key.fileobj
            assert isinstance(ready, socket.socket)
            try:
                if key.data == "listener":
                    connection = ready.accept()[0]
                    connection.setblocking(False)
                    self.selector.register(connection, selectors.EVENT_READ, "connection")
                elif key.data == "connection":
                    if data := ready.recv(64):
                        ready.send(data)
                    else:
                        self.selector.unregister(ready)
                        ready.close()
                else:
                    data, peer = ready.recvfrom(64)
                    ready.sendto(data, peer)
            except OSError:
                # A refused answer (EPERM from the output hook) is what the client is to see as silence.
                continue

    def close(self) -> None:
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self.selector.close()


def attempt(
    client: str, server: Server, flows: list[tuple[str, str, Transport, int]], expected: list[bool]
) -> list[bool]:
    """Open every flow at once; say which were answered."""
    sockets: list[socket.socket] = []
    with inside(client):
        for source, to, transport, port in flows:
            kind = socket.SOCK_STREAM if transport is Transport.TCP else socket.SOCK_DGRAM
            connection = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, kind)
            connection.setblocking(False)
            connection.bind((source, 0))
            connection.connect_ex((to, port))
            if transport is Transport.UDP:
                connection.send(b"?")
            sockets.append(connection)
    answered, greeted = [False] * len(flows), [False] * len(flows)
    settled = [False] * len(flows)
    began = time.monotonic()
    while True:
        server.serve()
        for index, connection in enumerate(sockets):
            if settled[index]:
                continue
            try:
                if flows[index][2] is Transport.TCP and not greeted[index]:
                    connection.getpeername()
                    connection.send(b"?")
                    greeted[index] = True
                answered[index] = bool(connection.recv(64))
                settled[index] = True
            except (BlockingIOError, InterruptedError):
                continue
            except ConnectionRefusedError:
                settled[index] = True
            except OSError:
                # Not connected yet, or refused: the pending error tells which.
                settled[index] = bool(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        waited = time.monotonic() - began
        awaited = any(wanted and not done for wanted, done in zip(expected, settled, strict=True))
        if all(settled) or waited > (PATIENCE if awaited else GLANCE):
            break
    for connection in sockets:
        connection.close()
    return answered


def test_real_sockets_meet_what_the_audit_says(wire: tuple[str, str]) -> None:
    client, server_namespace = wire
    server = Server(server_namespace)
    cases = {True: 0, False: 0}
    try:
        for seed in range(RULE_SETS):
            rng = random.Random(seed)
            rules, flows = random_rules(rng), random_flows(rng)
            run("ip", "netns", "exec", server_namespace, "nft", "-f", "-", text="flush ruleset\n" + rules)
            listed = run("ip", "netns", "exec", server_namespace, "nft", "-j", "list", "ruleset")
            verdicts = audit(planned(flows), "nftables", listed, Role.MASTER).flows
            assert len(verdicts) == len(flows)
            said = [verdict.outcome is Outcome.ALLOW for verdict in verdicts]
            for verdict in verdicts:
                assert verdict.outcome is not Outcome.UNKNOWN, f"seed {seed}: {verdict.why}\n{rules}"
            met = attempt(client, server, flows, said)
            for flow, verdict, is_open in zip(flows, verdicts, met, strict=True):
                cases[is_open] += 1
                assert (verdict.outcome is Outcome.ALLOW) == is_open, f"seed {seed}: {flow}: {verdict}\n{rules}"
    finally:
        server.close()
    assert sum(cases.values()) >= 2000
    # A test in which everything is open, or nothing, would prove little.
    assert min(cases.values()) > 400, cases
