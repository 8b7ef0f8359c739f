"""What OCI's command line prints of security rules, lists and subnets, read strictly."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from quorate.network.audit.documents import clamped, is_wider, items, member, networks, not_misspelt, only, strings
from quorate.network.audit.ruleset import Rule, Unreadable
from quorate.network.audit.space import Intervals, join
from quorate.network.flows import Direction

HINT = "oci network nsg rules list --nsg-id OCID --all"

#: Of SecurityRule, IngressSecurityRule, EgressSecurityRule, TcpOptions, UdpOptions, PortRange and IcmpOptions:
#: https://docs.oracle.com/en-us/iaas/api/#/en/iaas/latest/datatypes.
_MATCH = {"description", "icmp-options", "is-stateless", "protocol", "tcp-options", "udp-options"}
RULE_FIELDS: Mapping[Direction | None, frozenset[str]] = {
    Direction.INGRESS: frozenset(_MATCH | {"source", "source-type"}),
    Direction.EGRESS: frozenset(_MATCH | {"destination", "destination-type"}),
    None: frozenset(
        {*_MATCH, "source", "source-type", "destination", "destination-type"}
        | {"direction", "id", "is-valid", "time-created"}
    ),
}
PORT_FIELDS = frozenset({"destination-port-range", "source-port-range"})
SPAN_FIELDS = frozenset({"min", "max"})
ICMP_FIELDS = frozenset({"type", "code"})
_AROUND = (
    *("data", "display-name", "network-security-group-id", "network-security-groups", "security-lists", "calls"),
    *("security-rules", "ingress-security-rules", "egress-security-rules", "security-list-ids", "cidr-block", "id"),
)
_NUMBERS = {"tcp-options": "6", "udp-options": "17"}
_PEERS = ("CIDR_BLOCK", "SERVICE_CIDR_BLOCK", "NETWORK_SECURITY_GROUP")


class Kind(StrEnum):
    """What holds rules, and how one knows whose they are."""

    #: By its OCID or name.
    GROUP = "group"
    #: A group's rules without its name, as OCI prints them.
    UNNAMED = "unnamed"
    #: A list as OCI prints it; the subnets name it.
    LIST = "list"
    #: A list that was made for a party of the plan and has that party's name.
    OWN_LIST = "own-list"


@dataclass(frozen=True, slots=True)
class Holder:
    """A group or list."""

    kind: Kind
    #: Its OCID; empty where the text does not say.
    id: str
    name: str
    #: Whether it is what is there: Quorate's own text is what is to be there.
    printed: bool = False


@dataclass(frozen=True, slots=True)
class Subnet:
    """Where machines are, and which lists hold there."""

    name: str
    addresses: Intervals
    lists: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SecurityRule:
    """One rule of a group or list."""

    rule: Rule
    #: What the group or list goes by among the holders.
    holder: str
    direction: Direction
    protocol: str
    stateless: bool
    peer: Intervals | None
    peer_group: str
    #: What OCI calls the addresses of a service behind the gateway.
    service_label: str
    doubt: str
    source_ports: Intervals | None
    destination_ports: Intervals | None
    #: As it is printed.
    raw: Mapping[str, Any]


@lru_cache(1024)
def dash(key: str) -> str:
    """Return a member of the API as the command line prints it."""
    return re.sub(r"([A-Z])", lambda found: "-" + found[1].lower(), key)


def _dashed(value: Any) -> Any:
    """The command line prints `is-stateless`, the API takes `isStateless`; both are read."""
    if isinstance(value, dict):
        return {dash(key): _dashed(item) for key, item in value.items()}
    return [_dashed(item) for item in value] if isinstance(value, list) else value


class Reader:
    """Collects rules, what holds them, and subnets from documents of any order."""

    def __init__(self) -> None:
        self.found: list[SecurityRule] = []
        self.holders: dict[str, Holder] = {}
        self.subnets: list[Subnet] = []
        self._ids: set[str] = set()

    def document(self, raw: Any, place: str) -> None:
        """Read one document; raises Unreadable with its place."""
        self._document(_dashed(raw), place)

    def _document(self, body: Any, place: str) -> None:
        not_misspelt(body, _AROUND, place)
        if isinstance(body, dict) and "data" in body and "network-security-group-id" in body:
            owner = self._group(body, place)
            for item, at in items(body, "data", place):
                self._rule(item, at, owner, None)
        elif isinstance(body, dict) and "data" in body:
            self._document(body["data"], f"{place}.data")
        elif isinstance(body, dict) and ("network-security-groups" in body or "security-lists" in body):
            for key in ("network-security-groups", "security-lists"):
                for item, where in items(body, key, place):
                    self._document(item, where)
        elif isinstance(body, dict) and "calls" in body:
            owner = self._group(body, place)
            for call, where in items(body, "calls", place):
                for item, at in items(call, "security-rules", where):
                    self._rule(item, at, owner, None)
        elif isinstance(body, dict) and ("ingress-security-rules" in body or "egress-security-rules" in body):
            self._list(body, place)
        elif isinstance(body, dict) and "security-list-ids" in body:
            self._subnet(body, place)
        elif isinstance(body, list):
            self._several(body, place)
        else:
            raise Unreadable(f"it is neither rules of a group nor a security list; print it with: {HINT}", place)

    def _several(self, bodies: list[Any], place: str) -> None:
        rules = [isinstance(body, dict) and "direction" in body for body in bodies]
        if not bodies or any(rules):
            self.holders[place] = Holder(Kind.UNNAMED, "", "", printed=True)
        for number, body in enumerate(bodies):
            where = f"{place}[{number}]"
            if rules[number]:
                self._rule(body, where, place, None)
            else:
                self._document(body, where)

    def _group(self, body: dict[str, Any], place: str) -> str:
        name = str(member(body, "display-name", str, place, ""))
        owner = str(member(body, "network-security-group-id", str, place, "")) or name
        if not owner:
            raise Unreadable("a group or list of rules has an id or a display name", place)
        self.holders[owner] = Holder(Kind.GROUP, owner if owner != name else "", name, printed="data" in body)
        return owner

    def _list(self, body: dict[str, Any], place: str) -> None:
        name, ocid = str(member(body, "display-name", str, place, "")), str(member(body, "id", str, place, ""))
        if not (name or ocid):
            raise Unreadable("a group or list of rules has an id or a display name", place)
        if ocid in self.holders:
            # `list` and `get` after each other print it twice.
            return
        self.holders[ocid or name] = Holder(Kind.LIST if ocid else Kind.OWN_LIST, ocid, name)
        for key, way in (
            ("ingress-security-rules", Direction.INGRESS),
            ("egress-security-rules", Direction.EGRESS),
        ):
            for item, at in items(body, key, place):
                self._rule(item, at, ocid or name, way)

    def _subnet(self, body: dict[str, Any], place: str) -> None:
        blocks = [member(body, key, str, place) for key in ("cidr-block", "ipv6-cidr-block")]
        blocks += strings(body, "ipv4-cidr-blocks", place) + strings(body, "ipv6-cidr-blocks", place)
        name = str(member(body, "display-name", str, place, "") or member(body, "id", str, place, ""))
        given = [block for block in blocks if block and block != "<null>"]
        if not given:
            raise Unreadable("a subnet has a cidr-block", place)
        self.subnets.append(Subnet(name, networks(given, place), tuple(strings(body, "security-list-ids", place))))

    def _rule(self, body: Any, place: str, holder: str, listed: Direction | None) -> None:
        only(body, RULE_FIELDS[listed], place)
        way = listed
        if way is None:
            text = str(member(body, "direction", str, place, ""))
            if text not in ("INGRESS", "EGRESS"):
                raise Unreadable(f"direction is {text!r}, and INGRESS or EGRESS is expected", place)
            way = Direction.INGRESS if text == "INGRESS" else Direction.EGRESS
        far = "source" if way is Direction.INGRESS else "destination"
        peer = str(member(body, far, str, place, ""))
        kind = str(member(body, f"{far}-type", str, place, "CIDR_BLOCK"))
        protocol = str(member(body, "protocol", str, place, ""))
        if not peer or not protocol:
            raise Unreadable(f"a rule has a protocol and a {far}", place)
        if kind not in _PEERS:
            raise Unreadable(f"{far}-type is {kind!r}, and one of {', '.join(_PEERS)} is expected", place)
        options = _options(body, place)
        shown = f"{way.value} protocol {protocol} {far} {peer} {json.dumps(options) if options else 'all ports'}"
        source_ports, why = _ports(options, "source-port-range", place)
        destination_ports, why_too = _ports(options, "destination-port-range", place)
        warning = "; ".join(filter(None, (why, why_too)))
        self.found.append(
            SecurityRule(
                Rule(
                    self._name(body, place, holder, way),
                    shown,
                    True,
                    place,
                    clamped=warning,
                    wider=is_wider(protocol),
                ),
                holder,
                way,
                protocol,
                bool(member(body, "is-stateless", bool, place, False)),
                networks([peer], place) if kind == "CIDR_BLOCK" else None,
                peer if kind == "NETWORK_SECURITY_GROUP" else "",
                peer if kind == "SERVICE_CIDR_BLOCK" else "",
                f"the addresses of the service {peer} are not in the text" if kind == "SERVICE_CIDR_BLOCK" else "",
                source_ports,
                destination_ports,
                body,
            )
        )

    def _name(self, body: Any, place: str, holder: str, way: Direction) -> str:
        named = self.holders[holder].name or (holder if self.holders[holder].id else "rule")
        name = str(member(body, "id", str, place, "")) or f"{named} {way.value} {len(self.found) + 1}"
        if name in self._ids:
            # Ids of rules are short, and of one group.
            name = f"{named} {way.value} {len(self.found) + 1} ({name})"
        self._ids.add(name)
        return name


def _options(body: Any, place: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in ("tcp-options", "udp-options"):
        options = member(body, key, dict, place) or {}
        only(options, PORT_FIELDS, f"{place}.{key}")
        if options and body.get("protocol") != _NUMBERS[key]:
            raise Unreadable(f"{key} are of protocol {_NUMBERS[key]}, and the rule is of {body.get('protocol')}", place)
        found = found or options
    only(member(body, "icmp-options", dict, place), ICMP_FIELDS, f"{place}.icmp-options")
    return found


def _ports(options: Any, key: str, place: str) -> tuple[Intervals | None, str]:
    span = member(options, key, dict, place)
    if span is None:
        return None, ""
    only(span, SPAN_FIELDS, f"{place}.{key}")
    first, last = member(span, "min", int, place, -1), member(span, "max", int, place, -1)
    last, warning = clamped(first, last)
    if not 0 <= first <= last <= 65535:
        raise Unreadable(f"{key} from {first} to {last} is no range of ports", place)
    return join([(first, last)]), warning
