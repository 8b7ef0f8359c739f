"""The vocabulary of the sandbox tests: machines as namespaces on one wire, networks on them, and what members try."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from quorate.agent.sandbox import namespaces
from quorate.agent.sandbox.counters import Counters
from quorate.agent.sandbox.foreign import Obstacle
from quorate.agent.sandbox.links import opened
from quorate.agent.sandbox.network import Network
from quorate.agent.sandbox.place import Place
from quorate.agent.sandbox.reconcile import Action
from quorate.agent.sandbox.spec import Desired, FlowRule, HostMembers, HubSpec, Peer, SandboxSpec
from quorate.network.flows import Direction, Transport

#: Seconds after which an attempt counts as silent; what works takes a thousandth of it.
TIMEOUT_S = 0.5
#: From linux/in.h; Python does not name them.
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO = 10, 2
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=30)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_until(holds: Callable[[], bool], deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, "it has not come to hold"
        time.sleep(0.005)


@dataclass
class Host:
    """A machine: a namespace on the wire, with a network of its own on it."""

    namespace: Path
    address: str
    network: Network

    def converge(self, *parts: HubSpec | SandboxSpec, distrust: tuple[str, ...] = ()) -> tuple[Action, ...]:
        desired = Desired(
            tuple(part for part in parts if isinstance(part, HubSpec)),
            tuple(part for part in parts if isinstance(part, SandboxSpec)),
        )
        with namespaces.entered(self.namespace):
            return self.network.converge(desired, distrust)

    def has_members(self, *members: HostMembers, users: tuple[int, int] | None = None) -> None:
        """These allocations have members in the host's own network, and nobody else; `users` are allocations' own."""
        with namespaces.entered(self.namespace):
            self.network.converge(Desired(on_host=members, users=users))

    def run(self, *command: str, text: str | None = None) -> str:
        with namespaces.entered(self.namespace):
            return run(*command, text=text)

    def counters(self, allocation: str) -> Counters:
        with namespaces.entered(self.namespace):
            return self.network.counters(allocation)

    def drift(self) -> tuple[str, ...]:
        with namespaces.entered(self.namespace):
            return self.network.drift()

    def obstacles(self) -> tuple[Obstacle, ...]:
        with namespaces.entered(self.namespace):
            return self.network.obstacles()

    def links(self) -> set[str]:
        return {link["ifname"] for link in json.loads(self.run("ip", "-j", "link"))}

    def member(self, member: str) -> Inside:
        return Inside(self.network.place.sandbox(member))

    def hub(self, allocation: str) -> Inside:
        return Inside(self.network.place.hub(allocation))

    @property
    def outside(self) -> Inside:
        return Inside(self.namespace)


@contextlib.contextmanager
def _acting_as(user: int) -> Iterator[None]:
    """A file, and so a socket, belongs to whom its thread then acts as (setfsuid(2))."""
    libc = ctypes.CDLL(None)
    libc.setfsuid(user)
    try:
        yield
    finally:
        libc.setfsuid(0)


@dataclass
class Inside:
    """A namespace to try things from. Sockets belong to the namespace in which they were made."""

    path: Path

    def run(self, *command: str, text: str | None = None) -> str:
        with namespaces.entered(self.path):
            return run(*command, text=text)

    def tries(
        self,
        address: str,
        port: int,
        transport: str = "tcp",
        source: str = "",
        timeout_s: float = TIMEOUT_S,
        user: int = 0,
    ) -> str:
        """`open NAME sees ADDRESS`, `silent`, or the name of the error. `user`: whose socket it is."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with namespaces.entered(self.path), _acting_as(user):
            tried = socket.socket(family, _KINDS[transport])
        with tried:
            tried.settimeout(timeout_s)
            try:
                if source:
                    tried.bind((source, 0))
                tried.connect((address, port))
                if transport == "udp":
                    tried.send(b"?")
                return f"open {tried.recv(100).decode()}"
            except TimeoutError:
                return "silent"
            except OSError as error:
                return errno.errorcode.get(error.errno or 0, str(error))

    @contextlib.contextmanager
    def overheard(self) -> Iterator[socket.socket]:
        """Everything that passes the namespace's links, as frames."""
        with namespaces.entered(self.path):
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        with tap:
            tap.settimeout(10)
            yield tap

    def sends_whole(self, size: int, address: str, port: int) -> str:
        """One packet of that many bytes, IP and UDP with them, that nobody may cut: how does it end?"""
        with namespaces.entered(self.path):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.settimeout(TIMEOUT_S)
            sender.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
            try:
                sender.connect((address, port))
                sender.send(bytes(size - 28))
                return f"open {sender.recv(100).decode()}"
            except TimeoutError:
                return "silent"
            except OSError as error:
                return errno.errorcode[error.errno or 0]

    def sends(self, payload: bytes, address: str, port: int) -> None:
        """One UDP packet, which a filter on the way out may refuse."""
        with namespaces.entered(self.path):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender, contextlib.suppress(PermissionError):
            sender.sendto(payload, (address, port))

    @contextlib.contextmanager
    def serves(self, name: str, *places: str) -> Iterator[list[bytes]]:
        """Listens at each `transport/address/port` and tells who came; yields what UDP has heard so far."""
        heard: list[bytes] = []
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            stop, told = socket.socketpair()
            stack.enter_context(told)
            selector.register(told, selectors.EVENT_READ, "stop")
            for place in places:
                transport, address, port = place.split("/")
                with namespaces.entered(self.path):
                    family = socket.AF_INET6 if ":" in address else socket.AF_INET
                    listener = stack.enter_context(socket.socket(family, _KINDS[transport]))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((address, int(port)))
                if transport == "tcp":
                    listener.listen(100)
                selector.register(listener, selectors.EVENT_READ, transport)
            server = threading.Thread(target=_serve, args=(selector, name.encode(), heard))
            server.start()
            try:
                yield heard
            finally:
                stop.close()
                server.join()


def _serve(selector: selectors.BaseSelector, name: bytes, heard: list[bytes]) -> None:
    while True:
        for key, _ in selector.select():
            found = key.fileobj
            assert isinstance(found, socket.socket)
            if key.data == "stop":
                return
            if key.data == "tcp":
                connection, peer = found.accept()
                connection.sendall(name + b" sees " + peer[0].encode())
                connection.close()
            else:
                data, peer = found.recvfrom(65535)
                heard.append(data)
                found.sendto(name + b" sees " + peer[0].encode(), peer)


@dataclass
class Lab:
    """Hosts on one wire, 10.77.0.0/24 from .10 on, and a neighbour that is no agent at .99."""

    folder: Path
    hosts: list[Host] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def open(self, count: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        wire = self._namespace("wire")
        with namespaces.entered(wire):
            run("ip", "link", "add", "wire", "type", "bridge")
            run("ip", "link", "set", "wire", "up")
        for index in range(count):
            self.hosts.append(self._host(f"h{index}", f"10.77.0.{10 + index}"))
        self.neighbour = self._host("neighbour", "10.77.0.99")

    def close(self) -> None:
        self._stack.close()

    def cleanup(self, action: Callable[[], object]) -> None:
        """Done before the hosts go."""
        self._stack.callback(action)

    def container(self, host: Host) -> Inside:
        """Somebody else's on that host: 172.17.0.2, behind docker0."""
        path = self._namespace("container")
        with opened(host.namespace) as links, opened(path) as inside, path.open() as namespace:
            links.make("docker0", "bridge")
            links.make("c0", "veth", peer={"ifname": "eth0", "net_ns_fd": namespace.fileno()})
            links.change("c0", master=links.index("docker0"))
            links.address("docker0", "172.17.0.1", 16)
            inside.address("eth0", "172.17.0.2", 16)
            for ends, name in ((links, "docker0"), (links, "c0"), (inside, "eth0")):
                ends.change(name, state="up")
            inside.default_route("172.17.0.1")
            links.settle("c0", "docker0")
            inside.settle("eth0")
        return Inside(path)

    def _namespace(self, name: str) -> Path:
        path = self.folder / name
        namespaces.make(path)
        self._stack.callback(namespaces.remove, path)
        with namespaces.entered(path):
            run("ip", "link", "set", "lo", "up")
        return path

    def _host(self, name: str, address: str) -> Host:
        host = Host(self._namespace(name), address, Network(Place(self.folder / f"{name}.network")))
        self._stack.callback(lambda: host.converge())
        with namespaces.entered(self.folder / "wire"), host.namespace.open() as inside:
            peer = f"/proc/self/fd/{inside.fileno()}"
            os.set_inheritable(inside.fileno(), True)
            subprocess.run(
                ["ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "u0", "netns", peer],
                check=True, pass_fds=[inside.fileno()],
            )  # fmt: skip
            run("ip", "link", "set", f"to-{name}", "master", "wire", "up")
        host.run("ip", "address", "add", f"{address}/24", "dev", "u0")
        host.run("ip", "link", "set", "u0", "up")
        with opened(host.namespace) as links, opened(self.folder / "wire") as wire:
            links.settle("u0")
            wire.settle(f"to-{name}", "wire")
        return host


def hub(host: Host, *placed: Host, allocation: str = "jjjj-1", vni: int = 7, **more: Any) -> HubSpec:
    """The hub of an allocation on `host`, whose rank N lives on the Nth of `placed`."""
    subnet = IPv4Network(more.pop("subnet", "10.128.0.0/24"))
    peers = tuple(Peer(place.address, str(subnet[10 + rank])) for rank, place in enumerate(placed))
    return HubSpec(allocation, vni, str(subnet), str(subnet[1]), host.address, peers, **more)


def both_ways(flow: str, *ports: int, subnet: str = "10.128.0.0/24", transport: str = "tcp") -> tuple[FlowRule, ...]:
    """A flow that every member may open to every other."""
    return tuple(
        FlowRule(flow, direction, Transport(transport), (subnet,), tuple((port, port) for port in ports))
        for direction in Direction
    )


def everything(subnet: str = "10.128.0.0/24") -> tuple[FlowRule, ...]:
    """What an open network lets pass between members."""
    return tuple(
        FlowRule("open", direction, transport, (subnet,), ((0, 65535),))
        for direction in Direction
        for transport in Transport
    )


def sandbox(member: str, *rules: tuple[FlowRule, ...], **more: Any) -> SandboxSpec:
    return SandboxSpec(member, tuple(rule for group in rules for rule in group), **more)
