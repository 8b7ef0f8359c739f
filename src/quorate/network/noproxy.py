"""What must not go through an HTTP proxy: the cluster itself, as the value of NO_PROXY."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from quorate.network.catalogue import METADATA_ADDRESSES, METADATA_NAMES
from quorate.network.flows import Role
from quorate.network.plan import Network, Plan

#: Reached directly, wherever a plan has them; what else is in a plan is outside and goes through the proxy.
_DIRECT = (Role.MASTER, Role.AGENT, Role.MEMBER)
#: Larger networks stand as CIDRs, which gRPC and older HTTP libraries do not read: a list of them all would be too long
#: for an environment (MAX_ARG_STRLEN is 128 KiB).
_SPELLED_OUT = 4096
_PORT = re.compile(r":[0-9]+$")


def no_proxy(plan: Plan, names: Iterable[str] = (), extra: Iterable[str] = ()) -> str:
    """Return the value of NO_PROXY for a machine or a member of the plan.

    `names` are its members' names, which a plan does not know one by one; `extra` is what the operator adds. Addresses
    of members stand one by one, for gRPC reads no CIDR here. Set it as `no_proxy` too: libraries differ in the case.
    """
    found = ["localhost", "127.0.0.1", "::1", *names]
    for party in plan.parties:
        if party.role in _DIRECT:
            found += party.hosts
            for network in party.addresses:
                found += _spelled(network, one_by_one=party.role is Role.MEMBER)
    found += (address.partition("/")[0] for address in METADATA_ADDRESSES)
    found += METADATA_NAMES
    return ",".join(dict.fromkeys([*found, *extra]))


def names_one(entries: Iterable[str], hosts: Iterable[str], networks: Iterable[Network]) -> bool:
    """Whether entries of NO_PROXY name one of the hosts, or an address of one of the networks.

    Clients differ: for some `example.org` is that host alone, for others its domain too, and for some `.example.org`
    is the host as well. Where one of them goes directly, so does this.
    """
    hosts, networks = [host.lower().rstrip(".") for host in hosts], list(networks)
    return any(_names(entry.strip().lower(), hosts, networks) for entry in entries)


def _names(entry: str, hosts: Iterable[str], networks: Iterable[Network]) -> bool:
    if entry == "*":
        return True
    try:
        named = ip_network(entry, strict=False)
    except ValueError:
        # An entry may end with a port, and an IPv6 address before one stands in brackets.
        bare = entry.rpartition(":")[0] if _PORT.search(entry) else entry
        if bare != entry or bare.startswith("["):
            return _names(bare.strip("[]"), hosts, networks)
        domain = entry.removeprefix("*").strip(".")
        return bool(domain) and any(host == domain or host.endswith(f".{domain}") for host in hosts)
    return any(named.version == each.version and named.overlaps(each) for each in networks)


def _spelled(network: Network, *, one_by_one: bool) -> Iterator[str]:
    if network.num_addresses == 1 or (one_by_one and network.num_addresses <= _SPELLED_OUT):
        yield from map(str, network)
    else:
        yield str(network)
