"""What the clouds' readers share: JSON in, with the place of what is wrong, and the names of Quorate's own rules."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_network
from typing import Any

from quorate.model.ports import LAST_PORT, InvalidPorts, PortRange
from quorate.network.audit.ruleset import OTHERS, Scene, Unreadable, of_networks
from quorate.network.audit.space import EVERY_ADDRESS, V6, Act, Entry, Intervals, both, join, outside
from quorate.network.flows import Direction, Role, Transport
from quorate.network.plan import Party

MACHINES = (Role.MASTER, Role.AGENT, Role.MEMBER)
#: IANA numbers and names as the clouds print them; everything else is neither TCP nor UDP.
_PROTOCOLS = {"tcp": Transport.TCP, "6": Transport.TCP, "udp": Transport.UDP, "17": Transport.UDP}
_ALL = ("all", "-1")


#: No platform prints more; parsers recurse for each level, and YAML's takes the square of their number in time.
_MOST_LEVELS = 64


def refuse_depth(text: str) -> None:
    """Raise Unreadable for text whose brackets are nested deeper than any platform's."""
    depth = 0
    for bracket in re.finditer(r"[\[{\]}]", text):
        depth = depth + 1 if bracket[0] in "[{" else max(depth - 1, 0)
        if depth > _MOST_LEVELS:
            line = text.count("\n", 0, bracket.start()) + 1
            raise Unreadable(f"it is nested deeper than {_MOST_LEVELS} levels", f"line {line}")


def documents(text: str, hint: str) -> list[Any]:
    """Return the JSON documents of a text, one after the other as `cat` leaves them; `hint` is the tool's command."""
    refuse_depth(text)
    decoder, place, found = json.JSONDecoder(), 0, []
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        try:
            document, place = decoder.raw_decode(text, place)
        except RecursionError:
            raise Unreadable("it is nested too deep for rules", f"line {text.count(chr(10), 0, place) + 1}") from None
        except ValueError as error:
            at = getattr(error, "pos", place)
            line = text.count("\n", 0, at) + 1
            raise Unreadable(f"it is not JSON ({error}); print it with: {hint}", f"line {line}") from None
        found.append(document)
    if not found:
        raise Unreadable(f"it is empty; print it with: {hint}")
    return found


def member(body: Any, key: str, kind: type, place: str, default: Any = None) -> Any:
    """Return a member of an object; None and absence are the default, another type is Unreadable."""
    if not isinstance(body, Mapping):
        raise Unreadable(f"an object is expected, not {json.dumps(body, default=str)[:40]}", place)
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Unreadable(f"{key} is {json.dumps(value, default=str)[:40]}, and a {kind.__name__} is expected", place)
    return value


def only(body: Any, fields: Collection[str], place: str) -> None:
    """Refuse an object with a field that its platform does not know: what it limits would be passed over."""
    if isinstance(body, Mapping) and not body.keys() <= set(fields):
        wrong = next(str(key) for key in body if key not in fields)
        near = difflib.get_close_matches(wrong, fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(fields))}"
        raise Unreadable(f"there is no field {wrong!r} here; {hint}", place)


def not_misspelt(body: Any, fields: Collection[str], place: str) -> None:
    """Refuse an object around rules with a field that is almost one of `fields`; others of its platform's may come."""
    for key in body if isinstance(body, Mapping) else ():
        near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.85)
        if key not in fields and near:
            raise Unreadable(f"there is no field {key!r} here; did you mean {near[0]!r}?", place)


def items(body: Any, key: str, place: str) -> Iterator[tuple[Any, str]]:
    """Yield the items of a list in an object, each with its place; an absent list is empty."""
    for number, item in enumerate(member(body, key, list, place, [])):
        yield item, f"{place}.{key}[{number}]"


def strings(body: Any, key: str, place: str) -> list[str]:
    """Return a list of texts in an object; an absent list is empty."""
    found = member(body, key, list, place, [])
    if not all(isinstance(item, str) for item in found):
        raise Unreadable(f"{key} is {json.dumps(found, default=str)[:40]}, and a list of texts is expected", place)
    return list(found)


def networks(texts: list[Any], place: str) -> Intervals:
    """Return CIDRs as intervals; host bits are the platform's business and are taken off."""
    try:
        return join(span for text in texts for span in _network(text))
    except TypeError:
        raise Unreadable(f"a list of CIDRs is expected, not {json.dumps(texts, default=str)[:40]}", place) from None
    except ValueError as error:
        raise Unreadable(str(error), place) from None


@lru_cache(65_536)
def _network(text: str) -> Intervals:
    if not isinstance(text, str):
        raise TypeError
    return of_networks([ip_network(text, strict=False)])


def port_range(text: Any, place: str) -> tuple[PortRange, str | None]:
    """Return a port or range as a cloud writes it, and the warning where it ended past the last port."""
    try:
        return PortRange.parse_imported(text)
    except InvalidPorts as error:
        raise Unreadable(str(error), place) from None


def clamped(first: int, last: int) -> tuple[int, str]:
    """Return the last port that exists of a range in numbers, and the warning where the text names one past it."""
    if not 0 <= first <= LAST_PORT < last:
        return last, ""
    return LAST_PORT, f"{first}-{last}: {last} is not a port; read as {PortRange(first, LAST_PORT)}"


def carries(protocol: str, transport: Transport) -> bool:
    """Say whether a protocol, by name or number, is or includes a transport."""
    return protocol.lower() in _ALL or _PROTOCOLS.get(protocol.lower()) is transport


def is_wider(protocol: str) -> bool:
    """Say whether a protocol, by name or number, is or includes what is neither TCP nor UDP."""
    return protocol.lower() not in _PROTOCOLS


def unfiltered(scene: Scene, intervals: Intervals) -> list[Entry]:
    """Return the entry for what a cloud lets its machines reach whatever the rules are, such as its metadata server.

    Who is known by a group, tag or label is a machine or another service, none of these.
    """
    if scene.direction is not Direction.EGRESS or not scene.peer.addresses:
        return []
    return [Entry(Act.ALLOW, "", peer=intervals)]


#: Where machines of a cloud's private networks are.
_PRIVATE = networks(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"], "")


def named(scene: Scene, rule: str, known: bool) -> bool | str:
    """Say whether a rule that names its peers by a group or tag means the scene's peer; a text is why that is unknown.

    `known` says whether the plan gives the peer that name. Whoever is no machine of the cluster may have it only where
    no party of the plan does, and within the cloud.
    """
    if known or scene.peer is OTHERS:
        return known or rule in scene.others
    if scene.peer.role in (*MACHINES, Role.ANYONE) or rule not in scene.others:
        return False
    inside = both(of_networks(scene.peer.addresses), _PRIVATE) if scene.peer.addresses else None
    return f"the plan does not say whether {scene.peer.key} is {scene.others[rule]}" if inside else False


def within(party: Party) -> Intervals | None:
    """Return where a party of the cloud may be by its own internal addresses; None where it has no public IPv4 one."""
    public = outside(_PRIVATE, both(of_networks(party.addresses), ((0, V6 - 1),)) or ())
    return outside(public, EVERY_ADDRESS) if public else None


def own_name(party: Party) -> str:
    """Return the name under which Quorate's own rules for a party stand in a cloud."""
    return "quorate-" + re.sub(r"[^a-z0-9]+", "-", f"{party.role.value}-{party.name}".lower()).strip("-")


def stating(party: Party, key: str) -> str:
    """Return what to add to master.yaml so that a machine can be found in the platform's rules."""
    if party.role is Role.MASTER:
        return f"state where.{key} of the master in master.yaml"
    elsewhere = "if it is not behind such rules, audit the other pools with --pool NAME"
    return f"state where.{key} of the pool {party.name} in master.yaml; {elsewhere}"
