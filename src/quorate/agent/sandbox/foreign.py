"""Other programs' rules on the host that drop what members need: no table of ours accepts what another one drops."""

import json
from typing import Any

import msgspec

from quorate.agent.sandbox import names, nft
from quorate.agent.sandbox.links import opened

#: Docker's chain for rules of others (Docker docs, packet filtering); it is looked at before Docker's own.
_DOCKER_USER = "DOCKER-USER"
#: Stands in a remedy for the device that the operator has to name.
_UNKNOWN = "DEVICE"
#: Families whose chains see what members send outside: there is no IPv6 in a hub.
_FAMILIES = ("ip", "inet")


class Obstacle(msgspec.Struct, frozen=True):
    """A chain that drops by default and says nothing of our uplinks, so that members cannot go outside."""

    family: str
    table: str
    chain: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.chain}"


def obstacles() -> tuple[Obstacle, ...]:
    """Chains at the forward hook that would drop uplinks' packets. Raises NftError or OSError.

    Rules of the older iptables-legacy are not seen by nft, so neither are they here.
    """
    listed = nft.ruleset()
    dropping = [
        item["chain"]
        for item in listed
        if item.get("chain", {}).get("hook") == "forward"
        and item["chain"]["family"] in _FAMILIES
        and item["chain"].get("policy") == "drop"
        and item["chain"]["table"] != names.TABLE
    ]
    if not dropping:
        return ()
    with opened() as links:
        devices = links.outward()
    return tuple(
        Obstacle(chain["family"], chain["table"], chain["name"], _remedy(listed, chain, devices))
        for chain in dropping
        if not _speaks_of_uplinks(listed, chain)
    )


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
    chains = {item["chain"]["name"] for item in listed if "chain" in item and item["chain"]["table"] == chain["table"]}
    ways = devices or (_UNKNOWN,)
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
    unknown = "" if devices else f"  # {_UNKNOWN}: the one that leads outside; this machine has no default route"
    return " && ".join([*out, back]) + unknown
