"""What passed between members and what was refused, read back from the rules in their sandboxes."""

from typing import Any

import msgspec

from quorate.agent.sandbox import names, namespaces, nft
from quorate.agent.sandbox.place import Place
from quorate.network.flows import Direction

_CHAINS = {"inbound": Direction.INGRESS, "outbound": Direction.EGRESS}
_REFUSED = {"refused_in": Direction.INGRESS, "refused_out": Direction.EGRESS}


class FlowCount(msgspec.Struct, frozen=True):
    """A planned flow as one member saw it; only the packets that open a connection are counted."""

    member: str
    flow: str
    direction: Direction
    packets: int
    bytes: int


class Refusal(msgspec.Struct, frozen=True):
    """What a member's rules refused, or would have refused in observe mode: from or to that peer, at that port."""

    member: str
    direction: Direction
    peer: str
    transport: str
    port: int
    packets: int


class Counters(msgspec.Struct, frozen=True):
    """All of an allocation's members on this machine. `spoofed` packets fell in the hub: no member's, or forged."""

    flows: tuple[FlowCount, ...] = ()
    refused: tuple[Refusal, ...] = ()
    spoofed: int = 0


def read(place: Place, allocation: str) -> Counters:
    """Reads them; empty for an allocation that is not here. Raises NftError."""
    flows: list[FlowCount] = []
    refused: list[Refusal] = []
    prefix = f"{names.SANDBOX}{allocation}."
    for path in sorted(place.namespaces.glob(f"{prefix}*")):
        if not namespaces.exists(path):
            continue
        member = path.name.removeprefix(names.SANDBOX)
        with namespaces.entered(path):
            items = nft.tables("inet", names.TABLE)
        for item in items:
            if "rule" in item:
                flows += _flow(member, item["rule"])
            elif "set" in item:
                refused += _refusals(member, item["set"])
    return Counters(tuple(flows), tuple(refused), _spoofed(place, allocation))


def _flow(member: str, rule: nft.Item) -> list[FlowCount]:
    comment, counter = rule.get("comment"), _counter(rule["expr"])
    if comment is None or counter is None:
        return []
    return [
        FlowCount(member, comment.split(":")[0], _CHAINS[rule["chain"]], counter["packets"], counter["bytes"]),
    ]


def _refusals(member: str, found: nft.Item) -> list[Refusal]:
    direction = _REFUSED.get(found["name"])
    if direction is None:
        return []
    refusals = []
    for wrapped in found.get("elem", ()):
        element = wrapped["elem"]
        peer, transport, port = element["val"]["concat"]
        refusals.append(Refusal(member, direction, peer, str(transport), int(port), element["counter"]["packets"]))
    return refusals


def _spoofed(place: Place, allocation: str) -> int:
    path = place.hub(allocation)
    if not namespaces.exists(path):
        return 0
    with namespaces.entered(path):
        items = nft.tables("bridge", names.TABLE)
    counted = (_counter(item["rule"]["expr"]) for item in items if item.get("rule", {}).get("comment") == "spoofed")
    return sum(counter["packets"] for counter in counted if counter)


def _counter(expressions: list[Any]) -> dict[str, int] | None:
    return next((part["counter"] for part in expressions if isinstance(part, dict) and "counter" in part), None)
