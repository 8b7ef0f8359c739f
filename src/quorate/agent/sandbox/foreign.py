"""Other programs' rules on the host that drop what members need: no table of ours accepts what another one drops."""

import json
from typing import Any

import msgspec

from quorate.agent.sandbox import names, nft

#: Docker's chain for rules of others (Docker docs, packet filtering); it is looked at before Docker's own.
_DOCKER_USER = "DOCKER-USER"


class Obstacle(msgspec.Struct, frozen=True):
    """A chain that drops by default and says nothing of our uplinks, so that members cannot go outside."""

    family: str
    table: str
    chain: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.chain}"


def obstacles() -> tuple[Obstacle, ...]:
    """Chains at the forward hook that would drop uplinks' packets. Raises NftError.

    Rules of the older iptables-legacy are not seen by nft, so neither are they here.
    """
    listed = nft.ruleset()
    dropping = [
        item["chain"]
        for item in listed
        if item.get("chain", {}).get("hook") == "forward"
        and item["chain"].get("policy") == "drop"
        and item["chain"]["table"] != names.TABLE
    ]
    return tuple(
        Obstacle(chain["family"], chain["table"], chain["name"], _remedy(listed, chain))
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


def _remedy(listed: list[nft.Item], chain: dict[str, Any]) -> str:
    chains = {item["chain"]["name"] for item in listed if "chain" in item and item["chain"]["table"] == chain["table"]}
    place = _DOCKER_USER if _DOCKER_USER in chains else chain["name"]
    # iptables and nft write "all that begin so" in different ways.
    if chain["family"] in ("ip", "ip6") and chain["table"] == "filter" and chain["name"] == "FORWARD":
        tool = "iptables" if chain["family"] == "ip" else "ip6tables"
        uplinks = f"{names.UPLINK_PREFIX}+"
        return (
            f"{tool} -I {place} -i {uplinks} -j ACCEPT && "
            f"{tool} -I {place} -o {uplinks} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
        )
    where, uplinks = f"{chain['family']} {chain['table']} {chain['name']}", f"'\"{names.UPLINK_PREFIX}*\"'"
    return (
        f"nft insert rule {where} iifname {uplinks} accept && "
        f"nft insert rule {where} oifname {uplinks} ct state established,related accept"
    )
