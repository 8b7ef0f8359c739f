"""What the audit says of random nftables rule sets is what real sockets meet in a real network namespace.

Two namespaces and a wire between them; the server's one loads the rules. Every flow is asked about twice, as one that
must pass and as one that must fail, and is tried from ports of every kind that a rule tells apart. A connection of TCP
is tried with every packet that it needs: data and bare acknowledgements both ways, and an end with data and without.
Then the rules of which the audit says that they do nothing are deleted, by its own commands, and everything is asked
and tried again; and once more when its commands have opened what is blocked. Only what the audit says is open is waited
for: a slow machine can hide a difference, never make one up.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import selectors
import socket
import struct
import subprocess
import termios
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
#: From where a connection of a plan may come, and from where another may as well. Of each kind that a rule tells apart
#: there are two: a client that comes from an even port ends together with its last data, one from an odd port after it.
USUAL, UNUSUAL = (33000, 33001, 60000, 60001), (53, 700)
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
            # Ports are used again at once.
            run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=0")
        yield client, server


STATES = ("new", "established", "new,established", "established,related", "!= new", "new,untracked", "!= invalid")
#: How many rule sets leave some connections untracked.
UNTRACKING = 0.25
SOURCES = ("1024-65535", "1-1023", "!= 1-1023", "53", "!= 53", "1024-50000")


#: The usual ones, and such as tell apart what one connection consists of.
FLAGS = (
    *("syn", "syn / fin,syn,rst,ack", "!= syn / fin,syn,rst,ack", "& (fin|syn|rst|ack) == syn", "== syn", "! syn"),
    *("fin,syn / fin,syn", "ack", "& (syn|ack) != 0", "& (syn|ack) == syn|ack", "{ syn, ack, syn|ack, psh|ack }"),
    *("!= { fin|ack, fin|psh|ack }", "psh", "! psh", "fin", "== fin|ack", "!= fin|psh|ack", "== 0x10", "< 0x10"),
)


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
        lambda: f"tcp flags {rng.choice(FLAGS)}",
    )
    udp = (lambda: f"udp dport {ports()}", lambda: f"udp sport {rng.choice(SOURCES)}")
    both = (lambda: f"meta l4proto {rng.choice(('tcp', 'udp', '{ tcp, udp }'))}",)
    either = (lambda: f"meta l4proto {{ tcp, udp }} th dport {ports()}",)
    anything = (
        lambda: f"ct state {rng.choice(STATES)}",
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
        if rng.random() < 0.04:
            return "tcp flags vmap { syn : accept, ack : accept, fin|ack : drop }"
        if rng.random() < 0.04:
            return "tcp flags & (fin|syn|rst|ack) vmap { syn : accept, ack : accept }"
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
    if rng.random() < UNTRACKING:
        # Mostly both ways, as those do it who know what they do.
        for name, hook, side in (("raw_in", "prerouting", "d"), ("raw_out", "output", "s")):
            lines = [
                f"    {way} {side}port {rng.choice(PORTS)} notrack" for way in ("tcp", "udp") if rng.random() < 0.7
            ]
            lines += [f"    ip {side}addr 10.9.8.1 notrack"] * (rng.random() < 0.3)
            head = f"    type filter hook {hook} priority raw; policy accept;"
            parts.append("\n".join([f"  chain {name} {{", head, *lines, "  }"]))
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

    def determined(self, flows: Sequence[Flow]) -> list[Flow]:
        """The flows of which everything is known."""
        unsure = {
            verdict.flow.flow
            for verdict in (*self.planned.flows, *self.forbidden.forbidden)
            if verdict.outcome is Outcome.UNKNOWN
        }
        return [flow for number, flow in enumerate(flows) if f"flow-{number}" not in unsure]

    def spare(self) -> list[str]:
        """The commands that delete what has no effect."""
        return [found.remedy for found in self.planned.findings if found.code in ("RULE-SHADOWED", "RULE-REDUNDANT")]

    def openings(self) -> list[str]:
        """The commands that let pass what is blocked."""
        return [found.remedy for found in self.planned.findings if found.code == "NET-BLOCKED"]


def unacknowledged(connection: socket.socket) -> bool:
    """Whether some of what was sent has not been acknowledged."""
    return bool(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])


def reset_at_close(connection: socket.socket) -> None:
    """Nothing of it is left when it is closed, whatever the rules let through."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def end(connection: socket.socket, *, last: bytes = b"") -> None:
    """Ends this side, in one packet with its last data if there are any."""
    if last:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        connection.send(last)
    connection.shutdown(socket.SHUT_WR)


class Server:
    """Listens on every port, on TCP and UDP and both families; answers what begins with a question mark."""

    def __init__(self, namespace: str) -> None:
        self.selector = selectors.DefaultSelector()
        #: Every datagram that came.
        self.came: set[bytes] = set()
        #: Connections by both ends.
        self.connections: dict[tuple[str, int, str, int], socket.socket] = {}
        self.end_with_data: set[socket.socket] = set()
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
                    connection, peer = ready.accept()
                    connection.setblocking(False)
                    reset_at_close(connection)
                    self.connections[(*peer[:2], *connection.getsockname()[:2])] = connection
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
            if data.startswith(b"?"):
                connection.send(b"!")
            if data.endswith(b"last"):
                self.end_with_data.add(connection)
            if not data:
                end(connection, last=b"last" if connection in self.end_with_data else b"")
        except ConnectionError:
            data = b""
        if not data:
            self.selector.unregister(connection)

    def was_heard(self, ends: tuple[str, int, str, int]) -> bool:
        """Whether what was sent on a connection was acknowledged."""
        return ends in self.connections and not unacknowledged(self.connections[ends])

    def forget(self) -> None:
        """Ends all connections on this side."""
        watched = {key.fileobj for key in self.selector.get_map().values()}
        for connection in self.connections.values():
            if connection in watched:
                self.selector.unregister(connection)
            connection.close()
        self.connections.clear()
        self.end_with_data.clear()

    def close(self) -> None:
        self.forget()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self.selector.close()


@dataclass(frozen=True)
class Met:
    """Which attempts were answered, with all that belongs to a connection; which began, and which datagrams came."""

    answered: dict[Attempt, bool]
    begun: set[Attempt]
    came: set[Attempt]


class Client:
    """One attempt: a datagram and its answer, or a connection from its first packet to its last."""

    def __init__(self, number: int, attempt: Attempt) -> None:
        flow = self.flow = attempt.flow
        self.tcp = flow.transport is Transport.TCP
        self.ends = (flow.source, attempt.source_port, flow.to, flow.port)
        self.stage = 0
        self.socket = socket.socket(
            socket.AF_INET6 if ":" in flow.source else socket.AF_INET,
            socket.SOCK_STREAM if self.tcp else socket.SOCK_DGRAM,
        )
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reset_at_close(self.socket)
        self.socket.bind(self.ends[:2])
        self.socket.connect_ex(self.ends[2:])
        if not self.tcp:
            self.socket.send(str(number).encode())

    def go_on(self, server: Server) -> bool:
        """Goes as far as it can; says whether it is over. Raises OSError where the next step is not possible yet."""
        if not self.tcp:
            return bool(self.socket.recv(64))
        if self.stage == 0:
            self.socket.getpeername()
            self.socket.send(b"?")
            self.stage = 1
        if self.stage == 1:
            # The bare acknowledgement of the answer comes, too.
            assert self.socket.recv(64) == b"!"
            self.stage = 2
        if self.stage == 2 and server.was_heard(self.ends):
            if self.ends[1] % 2:
                self.socket.send(b".")
                self.stage = 3
            else:
                end(self.socket, last=b"last")
                self.stage = 4
        if self.stage == 3 and not unacknowledged(self.socket):
            end(self.socket)
            self.stage = 4
        if self.stage == 4:
            while self.socket.recv(64):
                continue
            self.stage = 5
        return self.stage == 5


def meet(client: str, server: Server, attempts: Sequence[Attempt], awaited: set[Attempt]) -> Met:
    """Try everything at once."""
    server.came.clear()
    with inside(client):
        clients = {attempt: Client(number, attempt) for number, attempt in enumerate(attempts)}
    answered = dict.fromkeys(attempts, False)
    waiting = set(attempts)
    began = time.monotonic()
    while waiting:
        server.serve()
        for attempt in list(waiting):
            one = clients[attempt]
            try:
                answered[attempt] = one.go_on(server)
                over = answered[attempt]
            except (BlockingIOError, InterruptedError):
                continue
            except ConnectionRefusedError:
                over = True
            except OSError:
                # Not connected yet, or refused: the pending error tells which.
                over = bool(one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            if over:
                waiting.discard(attempt)
        if time.monotonic() - began > (PATIENCE if waiting & awaited else GLANCE):
            break
    for one in clients.values():
        one.socket.close()
    server.forget()
    numbered = {str(number).encode(): attempt for number, attempt in enumerate(attempts)}
    begun = {attempt for attempt, one in clients.items() if one.stage}
    return Met(answered, begun, {numbered[data] for data in server.came if data in numbered})


def usual(number: int) -> tuple[int, ...]:
    """Return other ports for every round, so that none meets what the one before it has left."""
    return tuple(port + 2 * (number % 400) for port in USUAL)


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
        self.rounds = 0

    def shell(self, command: str, text: str | None = None) -> str:
        return run("ip", "netns", "exec", self.namespace, "sh", "-ec", command, text=text)

    def listed(self) -> str:
        return self.shell("nft -j list ruleset")

    def check(self, flows: list[Flow], said: Said, where: str) -> dict[Flow, bool]:
        """Compare what the audit says with what sockets meet; returns which flows are open."""
        self.rounds += 1
        wanted = usual(self.rounds)
        attempts = [Attempt(flow, port) for flow in flows for port in (*wanted, *UNUSUAL)]
        is_said = dict(zip(flows, said.open, strict=True))
        met = meet(
            self.client, self.server, attempts, {a for a in attempts if is_said[a.flow] and a.source_port in wanted}
        )
        forget(self.namespace)
        is_open = {flow: all(met.answered[Attempt(flow, port)] for port in wanted) for flow in flows}
        for number, flow in enumerate(flows):
            assert said.open[number] == is_open[flow], f"{where}: {flow}: {said.planned.flows[number]}"
            tried = {Attempt(flow, port) for port in (*wanted, *UNUSUAL)}
            if tried & met.begun:
                assert said.possible[number], f"{where}: {flow} is possible"
            if flow.transport is Transport.UDP:
                assert said.possible[number] == bool(tried & met.came), f"{where}: {flow}"
        return is_open


def test_real_sockets_meet_what_the_audit_says(wire: tuple[str, str]) -> None:
    bench = Bench(*wire)
    cases, deleted, opened, unsure = {True: 0, False: 0}, 0, 0, 0
    try:
        for seed in range(RULE_SETS):
            rng = random.Random(seed)
            rules, flows = random_rules(rng), random_flows(rng)
            bench.shell("nft -f -", "flush ruleset\n" + rules)
            said = Said.of(flows, bench.listed())
            if said.undetermined:
                # A connection that connection tracking sees in part only may be taken for this or that.
                assert "notrack" in rules, f"seed {seed}: {said.undetermined}\n{rules}"
                unsure += len(flows)
                flows = said.determined(flows)
                unsure -= len(flows)
                said = Said.of(flows, bench.listed())
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
    assert unsure < 100 and min(cases.values()) > 400 and min(deleted, opened) > 30, (cases, deleted, opened, unsure)
