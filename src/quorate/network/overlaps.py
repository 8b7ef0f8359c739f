"""Which address ranges of a cluster overlap: those that must not, those that may, and what is named twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, ip_network
from urllib.parse import urlsplit

from quorate.model.clusterfile import ClusterFile, NetworkSettings, Where
from quorate.model.yamlfile import Path
from quorate.network.findings import Finding
from quorate.network.flows import NetworkMode, Role
from quorate.network.plan import Network, literals
from quorate.network.settings import DEFAULT_OVERLAYS, SERVICES, modes_of

#: Says where in the file a key stands, as `master.yaml:12:5`; nothing for what the file does not hold.
At = Callable[[Path], str]

#: What no allocation can have, each with what it is for (RFC 6890, RFC 5771).
_KEPT = {
    "0.0.0.0/8": "this network itself",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "single links, and clouds' metadata",
    "198.18.0.0/15": "the uplinks of private networks",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "nobody",
}
#: What `network.overlays` may be instead: ranges that no usual default meets (decision 7).
_PROPOSED = (*DEFAULT_OVERLAYS, *(f"10.{second}.0.0/13" for second in (72, 80, 48, 56, 112, 120)))
#: As many of those who share a range are named.
_FEW = 3


def nowhere(path: Path) -> str:
    """Stand for the places of a cluster that was read from no file."""
    return ""


class _Kind(StrEnum):
    #: What members' own addresses are taken from.
    MEMBERS = "members"
    KEPT = "kept"
    MASTER = "master"
    POOL = "pool"
    #: Users and operators: a wide range says who may come, not that a machine is at each of its addresses.
    PEOPLE = "people"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class _Range:
    network: Network
    kind: _Kind
    #: What a person calls the owner, such as `pool gpu`.
    owner: str
    #: The owner's key in plans.
    key: str
    path: Path

    @property
    def single(self) -> bool:
        """Whether it is the address of one machine."""
        return self.network.prefixlen == self.network.max_prefixlen

    def __str__(self) -> str:
        return str(self.network.network_address if self.single else self.network)


@dataclass(frozen=True, slots=True)
class _Pair:
    """One range, and another one that holds it."""

    inner: _Range
    outer: _Range

    def first(self, kind: _Kind) -> tuple[_Range, _Range]:
        """Return both, the one of a kind first."""
        return (self.inner, self.outer) if self.inner.kind is kind else (self.outer, self.inner)


_Groups = dict[tuple[str, ...], list[_Pair]]


def find_overlaps(cluster: ClusterFile, at: At) -> Iterator[Finding]:
    """Yield what is to be said of ranges that overlap; `at` tells where in `master.yaml` each stands."""
    ranges = [*_ranges(cluster), *_of_members(cluster)]
    taken: _Groups = defaultdict(list)
    people: _Groups = defaultdict(list)
    twice: _Groups = defaultdict(list)
    confused: _Groups = defaultdict(list)
    for inner, holders in _nested(ranges):
        if beside := [outer for outer in holders if _in_one_list(inner, outer)]:
            yield _named_twice(inner, beside[-1], at)
        for outer in holders:
            pair = _Pair(inner, outer)
            kinds = {inner.kind, outer.kind}
            if _Kind.MEMBERS in kinds:
                members, other = pair.first(_Kind.MEMBERS)
                if other.kind is not _Kind.MEMBERS and other.network.prefixlen:
                    taken[other.owner, str(members)].append(pair)
            elif kinds == {_Kind.PEOPLE, _Kind.POOL}:
                people[tuple(one.owner for one in pair.first(_Kind.PEOPLE))].append(pair)
            elif kinds == {_Kind.POOL} and inner.owner != outer.owner:
                (twice if outer.single else confused)[(inner.owner,)].append(pair)
            elif kinds == {_Kind.POOL, _Kind.MASTER}:
                master, pool = pair.first(_Kind.MASTER)
                # A master at an address of its own in the agents' subnet is as usual as can be.
                if pool.single or not master.single:
                    confused[(inner.owner,)].append(pair)
    free = _free(ranges)
    for groups, say in ((people, _among_agents), (twice, _in_two_pools), (confused, _confused)):
        yield from (say(pairs, at) for pairs in groups.values())
    yield from (_members_range_taken(pairs, free, at) for pairs in taken.values())


# ---- what there is


def _ranges(cluster: ClusterFile) -> Iterator[_Range]:
    yield from _of_where(cluster.master.where, _Kind.MASTER, "the master", "master/master", ("master", "where"))
    yield from _of_where(cluster.users.where, _Kind.PEOPLE, "users", "user/users", ("users", "where"))
    if cluster.operators:
        where = cluster.operators.where
        yield from _of_where(where, _Kind.PEOPLE, "operators", "operator/operators", ("operators", "where"))
    for number, pool in enumerate(cluster.pools):
        path = ("pools", number, "where")
        yield from _of_where(pool.where, _Kind.POOL, f"pool {pool.name}", f"agent/{pool.name}", path)
    for role in (Role.DNS, Role.NTP):
        listed: tuple[Network, ...] = getattr(cluster.outside, role.value)
        yield from _of_outside(role, role.value, listed, (), ("outside", role.value))
    for role, section in SERVICES.items():
        for number, service in enumerate(getattr(cluster.outside, section)):
            name = str((*service.hosts, *service.addresses, *service.service_cidrs)[0])
            at: Path = ("outside", section, number, *(("addresses",) if service.addresses else ()))
            yield from _of_outside(role, name, service.addresses, service.hosts, at)
    yield from _of_proxy(cluster.network, ("network",))
    for number, pool in enumerate(cluster.pools):
        yield from _of_proxy(pool.network, ("pools", number, "network"))


def _of_proxy(settings: NetworkSettings, path: Path) -> Iterator[_Range]:
    if proxy := settings.proxy:
        host, key = urlsplit(proxy.url).hostname or "", "addresses" if proxy.addresses else "url"
        yield from _of_outside(Role.PROXY, host, proxy.addresses, (host,), (*path, "proxy", key))


def _of_where(where: Where, kind: _Kind, owner: str, key: str, path: Path) -> Iterator[_Range]:
    for number, network in enumerate(where.addresses):
        yield _Range(network, kind, owner, key, (*path, "addresses", number))


def _of_outside(
    role: Role, name: str, networks: Sequence[Network], hosts: Sequence[str], path: Path
) -> Iterator[_Range]:
    owner = f"the {role.value} {name}" if name != role.value else f"the {role.value} servers"
    for number, network in enumerate(networks or literals(hosts)):
        place = (*path, number) if networks else path
        yield _Range(network, _Kind.OUTSIDE, owner, f"{role.value}/{name}", place)


def _of_members(cluster: ClusterFile) -> Iterator[_Range]:
    """Yield what members get addresses from, each list of the file once, and what can never be theirs."""
    lists: dict[Path, tuple[Network, ...]] = {}
    for number, pool in enumerate(cluster.pools):
        settings = cluster.settings(pool)
        if modes_of(settings) != {NetworkMode.HOST}:
            path: Path = ("pools", number) if pool.network.overlays else ()
            lists[(*path, "network", "overlays")] = settings.overlays or _networks(DEFAULT_OVERLAYS)
    for path, networks in lists.items():
        for number, network in enumerate(networks):
            yield _Range(network, _Kind.MEMBERS, "network.overlays", "network/overlays", (*path, number))
    for network in _networks(_KEPT) if lists else ():
        yield _Range(network, _Kind.KEPT, _KEPT[str(network)], "network/overlays", ())


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))


# ---- what holds what


def _nested(ranges: Iterable[_Range]) -> Iterator[tuple[_Range, list[_Range]]]:
    """Yield the ranges that lie in others, with those: of two networks that overlap, one holds the other.

    Of equal ones the later lies in the earlier. As many as four times _FEW of them are remembered.
    """
    holders: list[list[_Range]] = []
    for inner in sorted(ranges, key=_in_order):
        while holders and not _holds(holders[-1][0].network, inner.network):
            holders.pop()
        if holders:
            yield inner, [outer for equal in holders for outer in equal]
        if not holders or holders[-1][0].network != inner.network:
            holders.append([inner])
        elif len(holders[-1]) < 4 * _FEW:
            holders[-1].append(inner)


def _in_order(one: _Range) -> tuple[int, int, int]:
    return one.network.version, int(one.network.network_address), one.network.prefixlen


def _holds(outer: Network, inner: Network) -> bool:
    """Say whether one holds the other that does not begin before it."""
    return outer.version == inner.version and int(inner.network_address) <= int(outer.broadcast_address)


def _in_one_list(one: _Range, other: _Range) -> bool:
    return one.path[:-1] == other.path[:-1] and one.path[-2:-1] in (("addresses",), ("overlays",), ("dns",), ("ntp",))


def _free(ranges: Iterable[_Range]) -> str:
    """Return a range for members that nothing of the file meets; empty where none of those proposed is one.

    People's wide ranges do not count, for machines are seldom at all of their addresses.
    """
    used = [
        one for one in ranges if one.kind is not _Kind.MEMBERS and one.network.version == 4 and one.network.prefixlen
    ]
    for text in _PROPOSED:
        network = IPv4Network(text)
        met = (one for one in used if one.network.overlaps(network))
        if all(one.kind is _Kind.PEOPLE and one.network.prefixlen < network.prefixlen for one in met):
            return text
    return ""


# ---- what is said of it


def _named_twice(inner: _Range, outer: _Range, at: At) -> Finding:
    where = f" ({at(outer.path)})" if at(outer.path) else ""
    if inner.network == outer.network:
        evidence, remedy = f"{inner} is in the list twice{where}", f"take one {inner} out"
    else:
        evidence = f"{inner} lies in {outer}{where} of the same list, so it adds nothing"
        remedy = f"take {inner} out, or {outer} where less was meant"
    return Finding("PLAN-REPEATED", inner.key, f"{inner.owner}: {evidence}", remedy=remedy, place=at(inner.path))


def _members_range_taken(pairs: Sequence[_Pair], free: str, at: At) -> Finding:
    """Say what is in the range of members' addresses, of which every member reaches its own subnet alone."""
    members, other = pairs[0].first(_Kind.MEMBERS)
    within = other.network.prefixlen >= members.network.prefixlen
    default = "" if at(members.path) else ", the default"
    ours = f"{members}, out of which members get their addresses (network.overlays{default})"
    remedy = f"set network.overlays to a range that nothing else uses{f', such as [{free}]' if free else ''}"
    if other.kind is _Kind.KEPT:
        evidence = f"{other} is for {other.owner}, and overlaps {ours}"
        return Finding("NET-OVERLAP", members.key, evidence, remedy=remedy, place=at(members.path))
    more = _more(len({pair.first(_Kind.MEMBERS)[1].path for pair in pairs}))
    evidence = f"{other} of {other.owner} {'lies in' if within else 'holds'} {ours}{more}"
    if other.kind is _Kind.PEOPLE and not within:
        evidence += "; that does no harm as long as no machine has an address in there: members would not reach it"
        remedy = "nothing, where none has; else set network.overlays to a range that nothing uses"
        return Finding("PLAN-OVERLAP", other.key, evidence, remedy=remedy, place=at(other.path))
    return Finding("NET-OVERLAP", other.key, f"{evidence}; no member reaches it", remedy=remedy, place=at(other.path))


def _among_agents(pairs: Sequence[_Pair], at: At) -> Finding:
    """Say who is let in as a person from agents' own addresses, and so from wherever a job runs."""
    people, pool = pairs[0].first(_Kind.PEOPLE)
    listed = list(dict.fromkeys(str(pair.first(_Kind.PEOPLE)[0]) for pair in pairs))
    shown = ", ".join(listed[:_FEW]) + (", …" if len(listed) > _FEW else "")
    then = "log in to each other's machines" if people.owner == "operators" else "use the API as users"
    evidence = f"{people.owner}.where {shown} holds agents of {pool.owner}: agents may {then}"
    remedy = f"name the {people.owner}' own machines in {people.owner}.where"
    return Finding("PLAN-WIDE", people.key, evidence, remedy=remedy, place=at(people.path))


def _in_two_pools(pairs: Sequence[_Pair], at: At) -> Finding:
    inner = pairs[0].inner
    more = _more(len({pair.inner.path for pair in pairs}), "of its addresses are")
    evidence = f"{inner} is in {_owners(pairs, at)} and in {inner.owner}{more}, and an agent has one pool"
    remedy = f"take {inner} out of one of them"
    return Finding("PLAN-REPEATED", inner.key, evidence, remedy=remedy, place=at(inner.path))


def _confused(pairs: Sequence[_Pair], at: At) -> Finding:
    inner, outer = pairs[0].inner, pairs[0].outer
    same = "is also" if inner.network == outer.network else f"lies in {outer}"
    more = _more(len({pair.inner.path for pair in pairs}))
    evidence = (
        f"{inner} of {inner.owner} {same} of {_owners(pairs, at)}{more}: rules that go by addresses "
        "cannot tell them apart, so what is open to one's machines is open to the other's"
    )
    remedy = (
        "nothing, where both may do the same; else a subnet for each, or each machine's own address, "
        "or on a cloud tags or groups of their own"
    )
    return Finding("PLAN-OVERLAP", inner.key, evidence, remedy=remedy, place=at(inner.path))


def _owners(pairs: Sequence[_Pair], at: At) -> str:
    """Name those who hold the first range."""
    outers = list(dict.fromkeys(pair.outer for pair in pairs if pair.inner is pairs[0].inner))
    shown = [f"{outer.owner} ({place})" if (place := at(outer.path)) else outer.owner for outer in outers[:_FEW]]
    return ", ".join(shown) + (" and others" if len(outers) > _FEW else "")


def _more(count: int, what: str = "of its ranges do") -> str:
    return f", and {count - 1} more {what}" if count > 1 else ""
