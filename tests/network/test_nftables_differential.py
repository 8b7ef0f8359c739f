"""What the audit says of random nftables rule sets is what real sockets meet in a real network namespace.

Two namespaces and a wire between them; the server's one loads the rules. Every flow is asked about twice, as one that
must pass and as one that must fail, and is tried from ports of every kind that a rule tells apart. Then the rules of
which the audit says that they do nothing are deleted, by its own commands, and everything is asked and tried again; and
once more when its commands have opened what is blocked. Only what the audit says is open is waited for: a slow machine
can hide a difference, never make one up.
"""

from __future__ import annotations

import ctypes
import os
import random
import selectors
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from quorate.model.ports import PortRange
from quorate.network.audit import AuditReport, audit
from quorate.network.audit.space import Outcome
from quorate.network.flows import Role, Transport
from quorate.network.plan import Party, Plan, PlannedFlow, addresses

pytestmark = pytest.mark.lab

RULE_SETS, FLOWS = 125, 20
CLIENTS = ("10.9.0.1", "10.9.0.2", "10.9.1.1", "fd09::1", "fd09::2")
SERVERS = ("10.9.8.1", "10.9.8.2", "fd09:8::1")
PORTS = (1734, 1750, 8080, 12350, 29400, 29500)
#: From where a connection of a plan may come, and from where another may as well: one port of each kind.
USUAL, UNUSUAL = (33000, 60000), (53, 700)
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


SOURCES = ("1024-65535", "1-1023", "!= 1-1023", "53", "!= 53", "1024-50000")


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
        lambda: f"tcp sport {rng.choice(SOURCES)}",
        lambda: "tcp dport > 20000",
        lambda: "tcp dport <= 8080",
    )
    udp = (lambda: f"udp dport {ports()}", lambda: f"udp sport {rng.choice(SOURCES)}")
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


@dataclass(frozen=True)
class Flow:
    """From one address to a port of another."""

    source: str
    to: str
    transport: Transport
    port: int


@dataclass(frozen=True)
class Attempt:
    """A flow, and the port that it comes from."""

    flow: Flow
    source_port: int


def random_flows(rng: random.Random) -> list[Flow]:
    found = []
    while len(found) < FLOWS:
        source, to = rng.choice(CLIENTS), rng.choice(SERVERS)
        if ip_address(source).version == ip_address(to).version:
            found.append(Flow(source, to, rng.choice((Transport.TCP, Transport.TCP, Transport.UDP)), rng.choice(PORTS)))
    return list(dict.fromkeys(found))


def as_planned(flows: Sequence[Flow]) -> tuple[PlannedFlow, ...]:
    return tuple(
        PlannedFlow(
            f"flow-{number}",
            Party(Role.USER, flow.source, addresses([flow.source])),
            Party(Role.MASTER, flow.to, addresses([flow.to])),
            flow.transport,
            (PortRange.of(flow.port),),
            "",
        )
        for number, flow in enumerate(flows)
    )


@dataclass(frozen=True)
class Said:
    """What the audit says of flows, once as planned and once as forbidden ones."""

    planned: AuditReport
    forbidden: AuditReport

    @classmethod
    def of(cls, flows: Sequence[Flow], listed: str) -> Said:
        asked = as_planned(flows)
        return cls(
            audit(Plan("random", asked), "nftables", listed, Role.MASTER),
            audit(Plan("random", (), asked), "nftables", listed, Role.MASTER),
        )

    @property
    def open(self) -> list[bool]:
        return [verdict.outcome is Outcome.ALLOW for verdict in self.planned.flows]

    @property
    def possible(self) -> list[bool]:
        found = {verdict.flow.flow for verdict in self.forbidden.forbidden}
        return [verdict.flow.flow in found for verdict in self.planned.flows]

    @property
    def undetermined(self) -> list[str]:
        verdicts = (*self.planned.flows, *self.forbidden.forbidden)
        return [verdict.why for verdict in verdicts if verdict.outcome is Outcome.UNKNOWN]

    def spare(self) -> list[str]:
        """The commands that delete what has no effect."""
        return [found.remedy for found in self.planned.findings if found.code in ("RULE-SHADOWED", "RULE-REDUNDANT")]

    def openings(self) -> list[str]:
        """The commands that let pass what is blocked."""
        return [found.remedy for found in self.planned.findings if found.code == "NET-BLOCKED"]


class Server:
    """Listens on every port, on TCP and UDP and both families; answers with what it was sent."""

    def __init__(self, namespace: str) -> None:
        self.selector = selectors.DefaultSelector()
        #: Every datagram that came.
        self.came: set[bytes] = set()
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
                    self.answer(ready)
                else:
                    data, peer = ready.recvfrom(64)
                    self.came.add(data)
                    ready.sendto(data, peer)
            except OSError:
                # A refused answer (EPERM from the output hook) is what the client is to see as silence.
                continue

    def answer(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(64)
            if data:
                connection.send(data)
        except ConnectionResetError:
            data = b""
        if not data:
            self.selector.unregister(connection)
            connection.close()

    def close(self) -> None:
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self.selector.close()


@dataclass(frozen=True)
class Met:
    """Which attempts were answered, and which datagrams came at all."""

    answered: dict[Attempt, bool]
    came: set[Attempt]


def meet(client: str, server: Server, attempts: Sequence[Attempt], awaited: set[Attempt]) -> Met:
    """Try everything at once."""
    sockets: dict[Attempt, socket.socket] = {}
    with inside(client):
        for number, attempt in enumerate(attempts):
            flow = attempt.flow
            kind = socket.SOCK_STREAM if flow.transport is Transport.TCP else socket.SOCK_DGRAM
            connection = socket.socket(socket.AF_INET6 if ":" in flow.source else socket.AF_INET, kind)
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Reset at the end: nothing is left in TIME-WAIT on a port that is used again.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.bind((flow.source, attempt.source_port))
            connection.connect_ex((flow.to, flow.port))
            if flow.transport is Transport.UDP:
                connection.send(str(number).encode())
            sockets[attempt] = connection
    answered = dict.fromkeys(attempts, False)
    greeted: set[Attempt] = set()
    waiting = set(attempts)
    server.came.clear()
    began = time.monotonic()
    while waiting:
        server.serve()
        for attempt in list(waiting):
            connection = sockets[attempt]
            try:
                if attempt.flow.transport is Transport.TCP and attempt not in greeted:
                    connection.getpeername()
                    connection.send(b"?")
                    greeted.add(attempt)
                answered[attempt] = bool(connection.recv(64))
                waiting.discard(attempt)
            except (BlockingIOError, InterruptedError):
                continue
            except ConnectionRefusedError:
                waiting.discard(attempt)
            except OSError:
                # Not connected yet, or refused: the pending error tells which.
                if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    waiting.discard(attempt)
        if time.monotonic() - began > (PATIENCE if waiting & awaited else GLANCE):
            break
    for connection in sockets.values():
        connection.close()
    return Met(answered, {attempt for number, attempt in enumerate(attempts) if str(number).encode() in server.came})


def forget(namespace: str) -> None:
    """Let conntrack forget all connections: a port that is used again begins a new one."""
    with inside(namespace), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as link:
        # IPCTNL_MSG_CT_DELETE of NFNL_SUBSYS_CTNETLINK for all families, to be acknowledged.
        link.send(struct.pack("=IHHII", 20, 0x102, 5, 1, 0) + bytes(4))
        assert struct.unpack_from("=i", link.recv(128), 16) == (0,)


class Bench:
    """A server's namespace whose rules are audited and tried."""

    def __init__(self, client: str, namespace: str) -> None:
        self.client, self.namespace, self.server = client, namespace, Server(namespace)

    def shell(self, command: str, text: str | None = None) -> str:
        return run("ip", "netns", "exec", self.namespace, "sh", "-ec", command, text=text)

    def listed(self) -> str:
        return self.shell("nft -j list ruleset")

    def check(self, flows: list[Flow], said: Said, where: str) -> dict[Flow, bool]:
        """Compare what the audit says with what sockets meet; returns which flows are open."""
        attempts = [Attempt(flow, port) for flow in flows for port in (*USUAL, *UNUSUAL)]
        awaited = {
            a for a in attempts for index in (flows.index(a.flow),) if said.open[index] and a.source_port in USUAL
        }
        met = meet(self.client, self.server, attempts, awaited)
        forget(self.namespace)
        is_open = {flow: all(met.answered[Attempt(flow, port)] for port in USUAL) for flow in flows}
        for number, flow in enumerate(flows):
            assert said.open[number] == is_open[flow], f"{where}: {flow}: {said.planned.flows[number]}"
            tried = [Attempt(flow, port) for port in (*USUAL, *UNUSUAL)]
            if any(met.answered[attempt] for attempt in tried):
                assert said.possible[number], f"{where}: {flow} is possible"
            if flow.transport is Transport.UDP:
                assert said.possible[number] == any(attempt in met.came for attempt in tried), f"{where}: {flow}"
        return is_open


def test_real_sockets_meet_what_the_audit_says(wire: tuple[str, str]) -> None:
    bench = Bench(*wire)
    cases, deleted, opened = {True: 0, False: 0}, 0, 0
    try:
        for seed in range(RULE_SETS):
            rng = random.Random(seed)
            rules, flows = random_rules(rng), random_flows(rng)
            bench.shell("nft -f -", "flush ruleset\n" + rules)
            said = Said.of(flows, bench.listed())
            assert not said.undetermined, f"seed {seed}: {said.undetermined}\n{rules}"
            for is_open in bench.check(flows, said, f"seed {seed}:\n{rules}").values():
                cases[is_open] += 1
            if spare := said.spare():
                deleted += len(spare)
                bench.shell("\n".join(spare))
                less = Said.of(flows, bench.listed())
                assert (less.open, less.possible) == (said.open, said.possible), f"seed {seed}: {spare}\n{rules}"
                bench.check(flows, less, f"seed {seed}, without {spare}:\n{rules}")
            if openings := said.openings():
                opened += len(openings)
                bench.shell("\n".join(openings))
                more = Said.of(flows, bench.listed())
                assert all(more.open), f"seed {seed}, with {openings}:\n{rules}"
                bench.check(flows, more, f"seed {seed}, with {openings}:\n{rules}")
    finally:
        bench.server.close()
    assert sum(cases.values()) >= 2000
    # A test in which everything is open, or nothing, would prove little.
    assert min(cases.values()) > 400 and min(deleted, opened) > 30, (cases, deleted, opened)
