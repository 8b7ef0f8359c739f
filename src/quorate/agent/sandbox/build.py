"""Makes and removes hubs, sandboxes and the host's part: every step may be the last before a death, and be done again.

A hub or a sandbox is complete when its mark is set, which is the last step. What has no mark, or another one, is made
again; so no step asks what an earlier life has done.
"""

import ipaddress
from functools import lru_cache

from msgspec import structs

from quorate.agent.sandbox import names, namespaces, nft
from quorate.agent.sandbox.hostrules import carried, host_rules
from quorate.agent.sandbox.links import Links, opened
from quorate.agent.sandbox.place import Place
from quorate.agent.sandbox.rules import hub_rules, sandbox_rules
from quorate.agent.sandbox.spec import Egress, HostSpec, HubSpec, SandboxSpec, digest
from quorate.network import catalogue

#: Ethernet's own; an uplink carries packets of at least this size.
_ETHERNET_MTU = 1500


class NoUplinkLeft(Exception):
    """Every pair of addresses for uplinks is in use on this machine."""


def host_digest(host: HostSpec, place: Place) -> str:
    """Names the host's rules."""
    return digest(host_rules(host, str(place.uplinks)))


def make_host(place: Place, host: HostSpec) -> None:
    """The host's table, and forwarding of packets where an uplink needs it; other tables are not touched."""
    place.forget(names.HOST)
    rules, counted = host_rules(host, str(place.uplinks)), carried(nft.tables("inet", names.TABLE), host)
    try:
        nft.load(rules + counted)
    except nft.NftError:
        # Numbers of what was refused are worth less than what refuses it; where it is the rules, this says so again.
        nft.load(rules)
    if host.forward:
        namespaces.sysctl("net.ipv4.ip_forward", "1")
    place.record(names.HOST, f"{host_digest(host, place)} {host_fingerprint()}")


def remove_host(place: Place) -> None:
    """Our table goes. Forwarding stays on: others may have come to rely on it."""
    place.forget(names.HOST)
    nft.load(f"table inet {names.TABLE}\ndelete table inet {names.TABLE}\n")


def host_fingerprint() -> str:
    """Of the rules that are on the host now."""
    return nft.fingerprint(nft.tables("inet", names.TABLE))


def make_hub(place: Place, hub: HubSpec) -> None:
    """A hub from nothing: what is there of an earlier one goes first, and its members' links with it."""
    remove_hub(place, hub.allocation)
    path = place.hub(hub.allocation)
    namespaces.make(path)
    with opened() as host, namespaces.entered(path) as inside, opened() as links:
        _quiet()
        namespaces.sysctl("net.bridge.bridge-nf-call-iptables", "0")
        namespaces.sysctl("net.ipv4.conf.all.send_redirects", "0")
        namespaces.sysctl("net.ipv4.ip_forward", "1")
        # So that the allocation's resolver needs no privilege.
        namespaces.sysctl("net.ipv4.ip_unprivileged_port_start", str(catalogue.port("dns")))
        # Before the first link: there is no moment at which anything passes that should not.
        nft.load(hub_rules(hub))
        place.record(path.name, hub_fingerprint())
        links.change("lo", state="up")
        links.make(names.BRIDGE, "bridge", address=names.gateway_mac(hub.allocation), mtu=hub.mtu, br_mcast_snooping=0)
        links.address(names.BRIDGE, hub.gateway, hub.prefix)
        links.change(names.BRIDGE, state="up")
        if hub.remote:
            _join_overlay(hub, host, inside, links)
        if hub.egress is not Egress.NONE:
            _make_uplink(place, hub, host, inside, links)
        links.change(names.BRIDGE, ifalias=names.mark(hub.allocation, hub_digest(hub)))


@lru_cache(maxsize=1024)
def hub_digest(hub: HubSpec) -> str:
    """Names everything that the hub consists of; its rules too, so that another version's are replaced."""
    return digest(hub, hub_rules(hub))


def hub_fingerprint() -> str:
    """Of the rules in the hub that this thread is in."""
    return nft.fingerprint(nft.tables("bridge", names.TABLE), nft.tables("inet", names.TABLE))


def remove_hub(place: Place, allocation: str) -> None:
    """The hub, its links and what they end in; one that is not there, or half there, is no error."""
    path = place.hub(allocation)
    if namespaces.exists(path):
        with namespaces.entered(path), opened() as links:
            # By name and at once: the kernel would take them down later, and the VNI would be taken till then.
            links.remove(names.VXLAN)
            links.remove(names.UPLINK)
            for link in links.aliases():
                if link.startswith("p"):
                    links.remove(link)
    # The name goes last: it is what the next life finds the rest by.
    place.forget(path.name)
    namespaces.remove(path)


def make_sandbox(place: Place, hub: HubSpec, sandbox: SandboxSpec) -> None:
    """A member's namespace, plugged into its hub. One that exists stays, for a member may live in it."""
    path = place.sandbox(sandbox.member)
    if sandbox.container is not None:
        if not namespaces.same(path, sandbox.container):
            namespaces.adopt(path, sandbox.container)
    elif not namespaces.exists(path):
        namespaces.make(path)
    port, own = names.port(sandbox.rank), hub.peers[sandbox.rank]
    place.forget(path.name)
    with opened(place.hub(hub.allocation)) as hub_links, namespaces.entered(path) as inside, opened() as links:
        _quiet()
        if sandbox.window is not None:
            namespaces.sysctl("net.ipv4.ip_local_port_range", f"{sandbox.window[0]} {sandbox.window[1]}")
        nft.load(sandbox_rules(hub, sandbox))
        place.record(path.name, sandbox_fingerprint())
        links.change("lo", state="up")
        links.remove(names.LINK)
        hub_links.remove(port)
        mac = names.mac(hub.allocation, sandbox.rank)
        other_end = {"ifname": names.LINK, "net_ns_fd": inside, "address": mac, "mtu": hub.mtu}
        hub_links.make(port, "veth", peer=other_end, mtu=hub.mtu)
        _join_bridge(hub_links, port)
        hub_links.forwarding(port, [mac])
        hub_links.neighbours(names.BRIDGE, [(own.address, mac)])
        links.address(names.LINK, own.address, hub.prefix)
        links.change(names.LINK, state="up")
        others = [
            (peer.address, names.mac(hub.allocation, rank))
            for rank, peer in enumerate(hub.peers)
            if rank != sandbox.rank
        ]
        links.neighbours(names.LINK, [(hub.gateway, names.gateway_mac(hub.allocation)), *others])
        if hub.egress is not Egress.NONE:
            links.default_route(hub.gateway)
        links.settle(names.LINK)
        hub_links.settle(port, names.BRIDGE)
        links.change(names.LINK, ifalias=names.mark(sandbox.member, sandbox_digest(hub, sandbox)))


@lru_cache(maxsize=4096)
def sandbox_digest(hub: HubSpec, sandbox: SandboxSpec) -> str:
    """Names everything that the sandbox consists of; whose namespace it was is not asked again once it is bound."""
    return digest(hub_digest(hub), structs.replace(sandbox, container=None), sandbox_rules(hub, sandbox))


def sandbox_fingerprint() -> str:
    """Of the rules in the sandbox that this thread is in."""
    return nft.fingerprint(nft.tables("inet", names.TABLE))


def remove_sandbox(place: Place, member: str) -> None:
    """Unplugs the member and lets go of its namespace; what is not there, or half there, is no error."""
    path = place.sandbox(member)
    if namespaces.exists(path):
        with namespaces.entered(path), opened() as links:
            links.remove(names.LINK)
    place.forget(path.name)
    namespaces.remove(path)


def _quiet() -> None:
    """No IPv6 in the namespace that this thread is in, not even a link-local address."""
    for which in ("all", "default"):
        namespaces.sysctl(f"net.ipv6.conf.{which}.disable_ipv6", "1")


def _join_bridge(links: Links, port: str) -> None:
    """Nothing is learnt and nothing is flooded: whatever has no permanent entry goes nowhere."""
    links.change(port, master=links.index(names.BRIDGE))
    links.bridge_port(port, brport_learning=0, brport_unicast_flood=0, brport_mcast_flood=0, brport_bcast_flood=0)
    links.change(port, state="up")


def _join_overlay(hub: HubSpec, host: Links, inside: int, links: Links) -> None:
    family = "vxlan_local6" if ":" in hub.underlay else "vxlan_local"
    # Asked for from the host's namespace: the device appears in the hub, its socket stays on the host.
    host.make(
        names.VXLAN, "vxlan", net_ns_fd=inside, mtu=hub.mtu, vxlan_id=hub.vni, vxlan_port=hub.vxlan_port,
        vxlan_learning=0, vxlan_df=1, **{family: hub.underlay},
    )  # fmt: skip
    _join_bridge(links, names.VXLAN)
    pairs = [(names.mac(hub.allocation, rank), peer.agent) for rank, peer in hub.remote.items()]
    links.forwarding(names.VXLAN, [mac for mac, _ in pairs])
    links.tunnels(names.VXLAN, pairs)


def _make_uplink(place: Place, hub: HubSpec, host: Links, inside: int, links: Links) -> None:
    taken = {address for label, address in host.addresses() if label.startswith(names.UPLINK_PREFIX)}
    pairs = place.uplinks.subnets(new_prefix=31)
    pair: ipaddress.IPv4Network | None = next((pair for pair in pairs if str(pair[0]) not in taken), None)
    if pair is None:
        raise NoUplinkLeft(f"all pairs of {place.uplinks} are in use by hubs of this machine")
    name, mtu = names.uplink(hub.allocation), max(hub.mtu, _ETHERNET_MTU)
    host.make(name, "veth", mtu=mtu, peer={"ifname": names.UPLINK, "net_ns_fd": inside, "mtu": mtu})
    host.change(name, ifalias=f"{names.UPLINK_PREFIX} {hub.allocation}")
    host.address(name, str(pair[0]), 31)
    host.change(name, state="up")
    links.address(names.UPLINK, str(pair[1]), 31)
    links.change(names.UPLINK, state="up")
    links.default_route(str(pair[0]))
    host.settle(name)
    links.settle(names.UPLINK)
