"""What passed between members and what was refused, read back from the rules of sandboxes, hubs and the host."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from quorate.agent.sandbox import names, namespaces, nft
from quorate.agent.sandbox.place import Place
from quorate.model.asks import RefusedBy
from quorate.model.ids import MemberId, split_member
from quorate.network.flows import Direction

_CHAINS = {"inbound": Direction.INGRESS, "outbound": Direction.EGRESS}
_REFUSED = {names.REFUSED_IN: Direction.INGRESS, names.REFUSED_OUT: Direction.EGRESS}
_OUTSIDE = {names.FORBIDDEN: RefusedBy.FORBIDDEN, names.UNNAMED: RefusedBy.EGRESS}


class FlowCount(msgspec.Struct, frozen=True):
    """A planned flow as one member saw it; only the packets that open a connection are counted."""

    member: str
    flow: str
    direction: Direction
    packets: int
    bytes: int


class Refusal(msgspec.Struct, frozen=True):
    """What rules refused a member, or would have refused in observe mode: from or to that peer, at that port.

    `member` is empty on the host's network, where one of its allocation's members on this machine was refused.
    """

    member: str
    direction: Direction
    peer: str
    transport: str
    port: int
    packets: int
    by: RefusedBy = RefusedBy.PLAN


class Counters(msgspec.Struct, frozen=True):
    """All of an allocation's members on this machine. In packets: `spoofed` are no member's, or forged; `crowded` would
    have opened more connections to the outside than an allocation may have; `hasty` asked for names too fast.

    What is refused `unlisted` members from now on may not be told: so much was refused already that no list holds more.
    On the host's network only `refused` and `unlisted` are known.
    """

    flows: tuple[FlowCount, ...] = ()
    refused: tuple[Refusal, ...] = ()
    spoofed: int = 0
    crowded: int = 0
    hasty: int = 0
    unlisted: tuple[str, ...] = ()


def read(place: Place, allocation: str) -> Counters:
    """Reads them; empty for an allocation that is not here. Raises NftError or OSError."""
    flows: list[FlowCount] = []
    refused: list[Refusal] = []
    unlisted: list[str] = []
    members: dict[int, str] = {}
    for path in sorted(place.namespaces.glob(f"{names.SANDBOX}{allocation}.*")):
        if not namespaces.exists(path):
            continue
        member = path.name.removeprefix(names.SANDBOX)
        members[split_member(MemberId(member))[1]] = member
        for item in _listed(path, "inet"):
            if "rule" in item:
                flows += _flow(member, item["rule"])
            elif "set" in item and item["set"]["name"] in _REFUSED:
                refused += _refusals(member, _REFUSED[item["set"]["name"]], item["set"])
                unlisted += [member] if _is_full(item["set"]) else []
    path = place.hub(allocation)
    if not namespaces.exists(path):
        return Counters(tuple(flows), tuple(refused)) if members else _on_host(allocation)
    bridge = _listed(path, "bridge")
    found = _members_at(bridge, members)
    inet = _listed(path, "inet")
    for item in inet:
        if "set" in item and item["set"]["name"] in _OUTSIDE:
            refused += _outside(found, item["set"])
            unlisted += members.values() if _is_full(item["set"]) else ()
    return Counters(
        tuple(flows),
        tuple(refused),
        _packets(bridge, names.SPOOFED),
        _packets(inet, names.CROWDED),
        _packets(inet, names.HASTY),
        tuple(dict.fromkeys(unlisted)),
    )


def _on_host(allocation: str) -> Counters:
    sets = {
        names.on_host(which, family, allocation): direction
        for which, direction in _REFUSED.items()
        for family in ("ip", "ip6")
    }
    listed = (item["set"] for item in nft.tables("inet", names.TABLE) if "set" in item)
    found = [each for each in listed if each["name"] in sets]
    refused = tuple(refusal for each in found for refusal in _refusals("", sets[each["name"]], each))
    return Counters(refused=refused, unlisted=("",) if any(map(_is_full, found)) else ())


def _listed(path: Path, family: str) -> list[nft.Item]:
    with namespaces.entered(path):
        return nft.tables(family, names.TABLE)


def _flow(member: str, rule: nft.Item) -> list[FlowCount]:
    direction, comment, counter = _CHAINS.get(rule["chain"]), rule.get("comment"), _counter(rule["expr"])
    if direction is None or comment is None or counter is None:
        return []
    return [FlowCount(member, comment.split(":")[0], direction, counter["packets"], counter["bytes"])]


def _refusals(member: str, direction: Direction, found: nft.Item) -> list[Refusal]:
    refusals = []
    for element in _elements(found):
        peer, transport, port = element["val"]["concat"]
        packets = element["counter"]["packets"]
        refusals.append(Refusal(member, direction, peer, str(transport), int(port), packets))
    return refusals


def _outside(members: Mapping[str, str], found: nft.Item) -> list[Refusal]:
    """What the hub refused; `members` by their addresses."""
    refusals = []
    for element in _elements(found):
        source, peer, transport, port = element["val"]["concat"]
        if source in members:
            packets, by = element["counter"]["packets"], _OUTSIDE[found["name"]]
            refusals.append(Refusal(members[source], Direction.EGRESS, peer, str(transport), int(port), packets, by))
    return refusals


def _members_at(bridge: list[nft.Item], members: Mapping[int, str]) -> dict[str, str]:
    """Members by address, which the hub's rules against forged ones hold beside each rank's port."""
    ports = {names.port(rank): member for rank, member in members.items()}
    local: nft.Item = next((item["set"] for item in bridge if item.get("set", {}).get("name") == names.LOCAL), {})
    return {
        address: ports[port] for port, _, address in (each["concat"] for each in local.get("elem", ())) if port in ports
    }


def _elements(found: nft.Item) -> list[nft.Item]:
    return [wrapped["elem"] for wrapped in found.get("elem", ())]


def _is_full(found: nft.Item) -> bool:
    return len(found.get("elem", ())) >= int(found["size"])


def _packets(items: list[nft.Item], comment: str) -> int:
    """By all rules with that comment."""
    counted = (_counter(item["rule"]["expr"]) for item in items if item.get("rule", {}).get("comment") == comment)
    return sum(counter["packets"] for counter in counted if counter)


def _counter(expressions: list[Any]) -> dict[str, int] | None:
    return next((part["counter"] for part in expressions if isinstance(part, dict) and "counter" in part), None)
