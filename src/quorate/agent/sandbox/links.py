"""The few things asked of rtnetlink, with one error for all of them."""

import errno
import fcntl
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from quorate.agent.sandbox import namespaces
from quorate.agent.sandbox.entries import (
    AF_BRIDGE,
    NTF_MASTER,
    NTF_SELF,
    NUD_NOARP,
    NUD_PERMANENT,
    Entry,
    opened_route,
    replace,
)

#: netdevice(7): the number of a link by its name.
_SIOCGIFINDEX: Final = 0x8933
_IFREQ: Final = "16si20x"
#: Seconds for links to come up; the kernel takes at most one.
_SETTLE_S: Final = 5.0
_PAUSE_S: Final = 0.005
#: Operational states (RFC 2863); a device that has no carrier to speak of stays UNKNOWN.
_CARRYING: Final = ("UP", "UNKNOWN")


class LinkError(OSError):
    """The kernel refused a request about a link; the text says which."""


class Links:
    """Links, addresses and neighbours of the namespace that the thread was in when this was opened."""

    def __init__(self) -> None:
        self._ip = IPRoute()
        self._entries = opened_route()

    def close(self) -> None:
        """Lets go of the namespace."""
        self._ip.close()
        self._entries.close()

    def aliases(self) -> dict[str, str | None]:
        """The alias of each link, by the link's name."""
        with _refused("list links"):
            return {str(link.get("ifname")): link.get("ifalias") for link in self._ip.get_links()}

    def addresses(self) -> list[tuple[str, str]]:
        """Every IPv4 address, with its link's label."""
        with _refused("list addresses"):
            listed = self._ip.get_addr(family=socket.AF_INET)
            return [(str(found.get("label")), str(found.get("address"))) for found in listed]

    def outward(self) -> tuple[str, ...]:
        """The links over which IPv4 goes that has no route of its own."""
        numbers: list[int | None] = []
        with _refused("list default routes"):
            for route in self._ip.get_default_routes(family=socket.AF_INET):
                hops = [hop.get("oif") for hop in route.get("multipath") or ()]
                numbers += hops or [route.get("oif")]
            found = {int(link["index"]): str(link.get("ifname")) for link in self._ip.get_links()}
        return tuple(dict.fromkeys(found[number] for number in numbers if number in found))

    def make(self, name: str, kind: str, **how: Any) -> None:
        """Makes a link; down."""
        with _refused(f"make {kind} {name}"):
            self._ip.link("add", ifname=name, kind=kind, **how)

    def remove(self, name: str) -> None:
        """Removes a link, and with it what stands on it and at its other end; one that is gone is no error."""
        index = self._index(name)
        if index is not None:
            with _refused(f"remove {name}"):
                self._ip.link("del", index=index)

    def change(self, name: str, **how: Any) -> None:
        """Sets what `ip link set` sets."""
        with _refused(f"set {name}"):
            self._ip.link("set", index=self._need(name), **how)

    def bridge_port(self, name: str, **how: Any) -> None:
        """Sets what `bridge link set` sets."""
        with _refused(f"set bridge port {name}"):
            self._ip.brport("set", index=self._need(name), **how)

    def address(self, name: str, address: str, prefix: int) -> None:
        """Gives the link an address."""
        with _refused(f"give {address}/{prefix} to {name}"):
            self._ip.addr("replace", index=self._need(name), address=address, prefixlen=prefix)

    def default_route(self, gateway: str) -> None:
        """Everything that is not on a link goes to the gateway."""
        with _refused(f"route by {gateway}"):
            self._ip.route("replace", dst="default", gateway=gateway)

    def neighbours(self, name: str, pairs: Iterable[tuple[str, str]]) -> None:
        """Pairs of address and MAC, for good: they are never asked for."""
        permanent = (Entry(socket.AF_INET, NUD_PERMANENT, 0, mac, address) for address, mac in pairs)
        self._replace(f"set neighbours of {name}", name, permanent)

    def forwarding(self, name: str, macs: Iterable[str]) -> None:
        """MACs behind a port of a bridge, for good."""
        static = (Entry(AF_BRIDGE, NUD_NOARP, NTF_MASTER, mac) for mac in macs)
        self._replace(f"set what is behind {name}", name, static)

    def tunnels(self, name: str, pairs: Iterable[tuple[str, str]]) -> None:
        """Pairs of MAC and, for a VXLAN link, the underlay address behind which it is; for good."""
        state = NUD_NOARP | NUD_PERMANENT
        remote = (Entry(AF_BRIDGE, state, NTF_SELF, mac, behind) for mac, behind in pairs)
        self._replace(f"set the tunnels of {name}", name, remote)

    def _replace(self, what: str, name: str, entries: Iterable[Entry]) -> None:
        index = self._need(name)
        try:
            replace(self._entries, index, entries)
        except OSError as error:
            raise LinkError(error.errno, f"cannot {what}: {error}") from error

    def settle(self, *names: str) -> None:
        """Comes back when the links carry packets: the kernel may take a second to notice that one is up, unless it is
        asked for that link by itself (linkwatch_sync_dev in rtnl_getlink, Linux 6.8). Raises LinkError."""
        deadline = time.monotonic() + _SETTLE_S
        for name in names:
            index = self._need(name)
            while (state := self._state(name, index)) not in _CARRYING:
                if time.monotonic() > deadline:
                    raise LinkError(f"{name} is still {state} after {_SETTLE_S:.0f} s")
                time.sleep(_PAUSE_S)

    def _state(self, name: str, index: int) -> str:
        with _refused(f"look at {name}"):
            (link,) = self._ip.link("get", index=index)
        return str(link.get("operstate"))

    def index(self, name: str) -> int:
        """The number of a link; raises LinkError."""
        return self._need(name)

    def _index(self, name: str) -> int | None:
        # Of the namespace that the socket belongs to. To be told all of the link takes fifty times as long.
        request = struct.pack(_IFREQ, name.encode(), 0)
        try:
            _, index = struct.unpack(_IFREQ, fcntl.ioctl(self._entries, _SIOCGIFINDEX, request))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise LinkError(error.errno, f"cannot find {name}: {error}") from error
        return int(index)

    def _need(self, name: str) -> int:
        index = self._index(name)
        if index is None:
            raise LinkError(f"there is no link {name}")
        return index


@contextmanager
def opened(namespace: Path | None = None) -> Iterator[Links]:
    """Links of a namespace, or of the one that this thread is in."""
    if namespace is None:
        links = Links()
    else:
        with namespaces.entered(namespace):
            links = Links()
    try:
        yield links
    finally:
        links.close()


@contextmanager
def _refused(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise LinkError(error.code, f"cannot {what}: {error}") from error
