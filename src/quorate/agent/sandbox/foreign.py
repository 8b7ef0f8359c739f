"""Other programs' rules on the host that close what members need: no table of ours accepts what another one drops."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from quorate.agent.sandbox import names, nft
from quorate.agent.sandbox.links import opened

#: Docker's chain for rules of others (Docker docs, packet filtering); it is looked at before Docker's own.
_DOCKER_USER = "DOCKER-USER"
#: Stands in a remedy for the device that the operator has to name.
_UNKNOWN = "DEVICE"
#: Family and name of its table (firewalld 0.6 and later, with its usual backend).
_FIREWALLD = ("inet", "firewalld")
#: Families whose chains see what members send outside: there is no IPv6 in a hub.
_FAMILIES = ("ip", "inet")


class Obstacle(msgspec.Struct, frozen=True):
    """A chain that drops or rejects what it does not name, and names no uplink: so members cannot go outside."""

    family: str
    table: str
    chain: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.chain}"


def obstacles() -> tuple[Obstacle, ...]:
    """Chains at the forward hook at which uplinks' packets end. Raises NftError or OSError.

    Rules of the older iptables-legacy are not seen by nft, so neither are they here.
    """
    listed = nft.ruleset()
    rules = _rules(listed)
    closed = [
        item["chain"]
        for item in listed
        if item.get("chain", {}).get("hook") == "forward"
        and item["chain"]["family"] in _FAMILIES
        and item["chain"]["table"] != names.TABLE
        and _is_closed(rules, item["chain"])
    ]
    if not closed:
        return ()
    with opened() as links:
        devices = links.outward()
    return tuple(
        Obstacle(chain["family"], chain["table"], chain["name"], _remedy(listed, chain, devices))
        for chain in closed
        if not _speaks_of_uplinks(listed, chain)
    )


#: By family, table and chain.
_Rules = dict[tuple[str, str, str], list[list[Any]]]
#: What a rule does besides, and to every packet.
_ALWAYS = frozenset({"counter", "log"})


def _rules(listed: list[nft.Item]) -> _Rules:
    found: _Rules = {}
    for rule in (item["rule"] for item in listed if "rule" in item):
        expressions = [each for each in rule["expr"] if not (isinstance(each, dict) and each.keys() <= _ALWAYS)]
        found.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(expressions)
    return found


def _is_closed(rules: _Rules, chain: dict[str, Any]) -> bool:
    """Whether a packet that no rule names ends there: by the policy, or by a rule for all that have come so far."""
    passes = _passes(rules, chain["family"], chain["table"], chain["name"])
    return chain.get("policy") == "drop" if passes is None else not passes


def _passes(rules: _Rules, family: str, table: str, chain: str) -> bool | None:
    """What rules without a condition decide there; None where none does."""
    for rule in rules.get((family, table, chain), ()):
        if len(rule) != 1 or not isinstance(rule[0], dict):
            continue
        ((verb, what),) = rule[0].items()
        if verb in ("drop", "reject", "accept"):
            return bool(verb == "accept")
        if verb == "return":
            return None
        if verb in ("jump", "goto"):
            passes = _passes(rules, family, table, what["target"])
            if passes is not None or verb == "goto":
                return passes
    return None


def _speaks_of_uplinks(listed: list[nft.Item], chain: dict[str, Any]) -> bool:
    rules = (item["rule"] for item in listed if "rule" in item)
    return any(
        rule["family"] == chain["family"]
        and rule["table"] == chain["table"]
        and names.UPLINK_PREFIX in json.dumps(rule)
        for rule in rules
    )


def _remedy(listed: list[nft.Item], chain: dict[str, Any], devices: tuple[str, ...]) -> str:
    """Opens the way over these devices and no other: an accept stands before all that the chain keeps closed, such as
    containers behind Docker's bridges."""
    ways = devices or (_UNKNOWN,)
    unknown = "" if devices else f"  # {_UNKNOWN}: the one that leads outside; this machine has no default route"
    if (chain["family"], chain["table"]) == _FIREWALLD:
        return " && ".join(_firewalld(_rules(listed), ways)) + unknown
    chains = {item["chain"]["name"] for item in listed if "chain" in item and item["chain"]["table"] == chain["table"]}
    # iptables and nft write "all that begin so" in different ways.
    if chain["family"] == "ip" and chain["table"] == "filter" and chain["name"] == "FORWARD":
        uplinks = f"{names.UPLINK_PREFIX}+"
        insert = f"iptables -I {_DOCKER_USER if _DOCKER_USER in chains else 'FORWARD'}"
        out = [f"{insert} -i {uplinks} -o {way} -j ACCEPT" for way in ways]
        back = f"{insert} -o {uplinks} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
    else:
        uplinks = f"'\"{names.UPLINK_PREFIX}*\"'"
        insert = f"nft insert rule {chain['family']} {chain['table']} {chain['name']}"
        out = [f"{insert} iifname {uplinks} oifname '\"{way}\"' accept" for way in ways]
        back = f"{insert} oifname {uplinks} ct state established,related accept"
    return " && ".join([*out, back]) + unknown


def _firewalld(rules: _Rules, ways: Sequence[str]) -> Iterator[str]:
    """Its own commands, for at its next reload it forgets what was put into its table past it.

    A policy lets one zone into another, where both have devices (firewalld.policies(5)).
    """
    change = "firewall-cmd --permanent"
    zones, others = _zones(rules)
    yield f"{change} --new-zone=quorate"
    yield f"{change} --zone=quorate --add-interface={names.UPLINK_PREFIX}+"
    yield f"{change} --new-policy=quorate-out"
    yield f"{change} --policy=quorate-out --add-ingress-zone=quorate"
    for way in ways:
        if way not in zones:
            yield f"{change} --zone={others} --change-interface={way}"
    for zone in dict.fromkeys(zones.get(way, others) for way in ways):
        yield f"{change} --policy=quorate-out --add-egress-zone={zone}"
    yield f"{change} --policy=quorate-out --set-target=ACCEPT"
    yield "firewall-cmd --reload"


def _zones(rules: _Rules) -> tuple[dict[str, str], str]:
    """The zones of devices that have one, and the zone of all others."""
    zones, others = {}, "public"
    for rule in rules.get((*_FIREWALLD, "filter_FORWARD_ZONES"), ()):
        zone = str(rule[-1].get("goto", {}).get("target", "")).removeprefix("filter_FWD_")
        if len(rule) == 1:
            others = zone
        elif isinstance(device := rule[0].get("match", {}).get("right"), str):
            zones[device] = zone
    return zones, others
