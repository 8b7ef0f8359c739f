"""The few things asked of rtnetlink, with one error for all of them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import ndmsg


class LinkError(OSError):
    """The kernel refused a request about a link; the text says which."""


class Links:
    """Links, addresses and neighbours of the namespace that the thread was in when this was opened."""

    def __init__(self) -> None:
        self._ip = IPRoute()

    def close(self) -> None:
        """Lets go of the namespace."""
        self._ip.close()

    def aliases(self) -> dict[str, str | None]:
        """The alias of each link, by the link's name."""
        return {str(link.get("ifname")): link.get("ifalias") for link in self._ip.get_links()}

    def addresses(self) -> list[tuple[str, str]]:
        """Every IPv4 address, with its link's label."""
        return [(str(found.get("label")), str(found.get("address"))) for found in self._ip.get_addr(family=2)]

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
        index = self._need(name)
        with _refused(f"set neighbours of {name}"):
            for address, mac in pairs:
                self._ip.neigh("replace", ifindex=index, dst=address, lladdr=mac, state=ndmsg.NUD_PERMANENT, family=2)

    def forwarding(self, name: str, pairs: Iterable[tuple[str, str | None]]) -> None:
        """Pairs of MAC and, on a VXLAN link, the underlay address behind which it is; for good."""
        index = self._need(name)
        with _refused(f"set forwarding of {name}"):
            for mac, behind in pairs:
                # The bridge learns where to send the frame; the VXLAN link, to whom.
                self._ip.fdb("replace", ifindex=index, lladdr=mac, flags=ndmsg.NTF_MASTER, state=ndmsg.NUD_NOARP)
                if behind is not None:
                    self._ip.fdb(
                        "replace", ifindex=index, lladdr=mac, dst=str(ip_address(behind)), flags=ndmsg.NTF_SELF,
                        state=ndmsg.NUD_NOARP | ndmsg.NUD_PERMANENT,
                    )  # fmt: skip

    def index(self, name: str) -> int:
        """The number of a link; raises LinkError."""
        return self._need(name)

    def _index(self, name: str) -> int | None:
        found = self._ip.link_lookup(ifname=name)
        return int(found[0]) if found else None

    def _need(self, name: str) -> int:
        index = self._index(name)
        if index is None:
            raise LinkError(f"there is no link {name}")
        return index


@contextmanager
def opened() -> Iterator[Links]:
    """Links of the namespace that this thread is in."""
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
