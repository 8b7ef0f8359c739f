"""The agent's part in checks of the network: answers probes for a while, and tries the other agents' listeners."""

import asyncio
import errno
import ipaddress
import itertools
import random
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from quorate.agent.answers import Answers, CannotAnswer, asked
from quorate.launch import probe, probelisten
from quorate.model import asks

#: Checks in which this agent listens at once, and how long a check may last at most.
_MOST_CHECKS: Final = 8
_LONGEST_S: Final = 300.0
#: Ports that are tried before it is said that none is free.
_TRIES: Final = 50
_MASTER_TIMEOUT_S: Final = 2.0
_MOST_TARGETS: Final = 4096


class Probing:
    """Listeners of the checks that are under way."""

    def __init__(
        self,
        name: str,
        address: str,
        leasable: tuple[int, int],
        master: str,
        answers: Answers,
        networked: Callable[[], bool] = lambda: False,
    ) -> None:
        """`name` is the agent's, `master` its master's URL; ports are taken out of `leasable`.

        `networked`: whether members here have private networks; then no process of this machine may speak VXLAN.
        """
        self._networked = networked
        self._name = name
        self._address = address
        self._leasable = leasable
        self._master = master
        self._in_thread = answers.in_thread
        self._open: dict[str, probelisten.Listeners] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        answers.register(asks.LISTEN, self._listen)
        answers.register(asks.PROBE, self._probe)
        answers.register(asks.UNLISTEN, self._unlisten)

    async def _listen(self, body: Any) -> asks.Listening:
        wanted: asks.Listen = asked(asks.Listen, body)
        if len(self._open) >= _MOST_CHECKS or wanted.check in self._open:
            raise CannotAnswer(f"it takes part in {len(self._open)} checks already")
        nonce = _nonce(wanted.nonce)
        listeners, heard = await self._in_thread(self._open_listeners, wanted, nonce)
        # Not asked for again by whoever is gone meanwhile: it closes by itself.
        self._open[wanted.check] = listeners
        loop = asyncio.get_running_loop()
        self._timers[wanted.check] = loop.call_later(min(wanted.for_s, _LONGEST_S), self._close, wanted.check)
        return heard

    def _open_listeners(self, wanted: asks.Listen, nonce: bytes) -> tuple[probelisten.Listeners, asks.Listening]:
        device, network, mtu = _interface(self._address)
        tcp, why = _free_port(self._address, self._leasable)
        places = [probe.Place(self._address, tcp)] if tcp else []
        if wanted.udp and not self._networked():
            places.append(probe.Place(self._address, wanted.udp, "udp"))
        listeners = probelisten.Listeners(nonce, self._name, places)
        failed = {place.transport: text for place, text in listeners.failed.items()}
        closed = [why] if why else []
        closed += [
            f"{place.transport} {place.port}: {failed[place.transport]}"
            for place in places
            # An overlay that is up is no trouble; there is only nothing to be tried beside it.
            if place.transport in failed and not (place.transport == "udp" and _is_kernels(place.port))
        ]
        master, near, rtt = _way_to(self._master)
        return listeners, asks.Listening(
            address=self._address,
            tcp=0 if "tcp" in failed else tcp,
            udp=0 if "udp" in failed or self._networked() else wanted.udp,
            closed="; ".join(closed),
            overlaid=bool(wanted.udp) and (self._networked() or ("udp" in failed and _is_kernels(wanted.udp))),
            device=device,
            mtu=mtu,
            network=network,
            master=master,
            master_near=near,
            master_rtt_s=rtt,
        )

    async def _probe(self, body: Any) -> asks.Probed:
        wanted: asks.Probes = asked(asks.Probes, body)
        if len(wanted.targets) > _MOST_TARGETS:
            raise CannotAnswer(f"{len(wanted.targets)} targets are more than {_MOST_TARGETS}")
        targets = [self._target(target) for target in wanted.targets]
        found = await self._in_thread(probe.probe, targets, _nonce(wanted.nonce), timeout_s=wanted.timeout_s)
        return asks.Probed(tuple(asks.Result(one.outcome.value, one.evidence, one.round_trip_s) for one in found))

    def _target(self, target: asks.Target) -> probe.Target:
        try:
            ipaddress.ip_address(target.address)
        except ValueError:
            raise CannotAnswer(f"{target.address!r} is no IP address") from None
        place = probe.Place(target.address, target.port, target.transport)
        # From the address at which others know it: a check says something of the way that members take.
        return probe.Target(place, target.who, _source(self._address, target.address), target.packet_bytes)

    async def _unlisten(self, body: Any) -> None:
        self._close(asked(asks.Unlisten, body).check)

    def _close(self, check: str) -> None:
        timer, listeners = self._timers.pop(check, None), self._open.pop(check, None)
        if timer is not None:
            timer.cancel()
        if listeners is not None:
            listeners.close()


def _nonce(text: str) -> bytes:
    try:
        nonce = bytes.fromhex(text)
    except ValueError:
        nonce = b""
    if len(nonce) < 16:
        raise CannotAnswer("the nonce is none")
    return nonce


def _source(own: str, other: str) -> str:
    """The own address as the source, where it is of the other's family and a machine's at all."""
    return own if (":" in own) == (":" in other) and _interface(own)[0] else ""


def _free_port(address: str, leasable: tuple[int, int]) -> tuple[int, str]:
    """A TCP port that can be listened on now, or 0 and why there is none.

    The master may lease the same port to a member in the same second; that member is then placed once more.
    """
    first, last = leasable
    begin = random.randint(first, last)  # noqa: S311 (spreads load, guards nothing)
    why = ""
    for port in itertools.islice(itertools.chain(range(begin, last + 1), range(first, begin)), _TRIES):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind((address, port))
            return port, ""
        except OSError as error:
            why = f"{address} port {port}: {(error.strerror or str(error)).lower()}"
            if error.errno == errno.EADDRNOTAVAIL:
                return 0, f"{address} is no address of this machine; advertise_address says that it is"
    return 0, f"no port of {first}-{last} can be listened on ({why})"


def _is_kernels(port: int) -> bool:
    """Whether the kernel itself listens on the UDP port, as it does for VXLAN: its sockets have no inode."""
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[9] == "0" and int(fields[1].rpartition(":")[2], 16) == port:
                    return True
    return False


def _interface(address: str) -> tuple[str, str, int]:
    """Device, network and MTU of an own address; empty and 0 for any other."""
    stats = psutil.net_if_stats()
    for device, entry, network in _networks():
        own = ipaddress.ip_address(address)
        # All of 127.0.0.0/8 is the loopback's own.
        if entry == address or (own.is_loopback and ipaddress.ip_address(entry).is_loopback):
            prefix = ipaddress.ip_interface(network).network.prefixlen
            return device, f"{address}/{prefix}", stats[device].mtu if device in stats else 0
    return "", "", 0


def _networks() -> Iterable[tuple[str, str, str]]:
    """Device, address and `address/prefix` of every address of this machine."""
    for device, entries in psutil.net_if_addrs().items():
        for entry in entries:
            if entry.family in (socket.AF_INET, socket.AF_INET6) and entry.netmask:
                address = entry.address.partition("%")[0]
                with suppress(ValueError):
                    prefix = bin(int(ipaddress.ip_address(entry.netmask))).count("1")
                    yield device, address, f"{address}/{prefix}"


def _way_to(master: str) -> tuple[str, bool, float | None]:
    """The master's address, whether it lies in a network of this machine, and seconds to it and back."""
    parts = urlsplit(master)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        began = time.monotonic()
        with socket.create_connection((parts.hostname or "", port), _MASTER_TIMEOUT_S) as connection:
            rtt = time.monotonic() - began
            address = str(connection.getpeername()[0]).partition("%")[0]
    except OSError:
        return "", True, None
    there = ipaddress.ip_address(address)
    networks = [ipaddress.ip_interface(network).network for _, _, network in _networks()]
    return address, any(there in network for network in networks if network.version == there.version), rtt
