"""Whatever a cloud's rules are, once every mend is done all planned flows are open and nothing else passes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from quorate.model.ports import ALL_PORTS, PortRange
from quorate.network.audit import audit
from quorate.network.flows import Role, Transport
from quorate.network.plan import Party, Plan, PlannedFlow, addresses

from .test_audit_mends_clouds import NSG, aws_mended, gcp_mended, kubernetes_mended, oci_mended, oci_text, remedies
from .test_audit_whose import ANYONE, aws, firewall, groups, oci_list

FAR = ["10.0.1.0/24", "10.0.0.0/16", "203.0.113.0/24", "0.0.0.0/0", "198.51.100.0/24", "10.0.1.7/32"]
PORTS = [(22, 22), (4789, 4789), (40000, 40100), (1, 65535), (9000, 9001), (20, 30), (8443, 8443)]
#: What an audit must not find any more; a rule that narrower ones made needless is no harm.
HARMFUL = {"NET-BLOCKED", "NET-EXPOSED", "AGENT-PUBLIC", "NET-UNNEEDED"}
SEEDS = range(20)


def plan(agents: Party, master: Party) -> Plan:
    office = Party(Role.USER, "office", addresses(["203.0.113.0/24"]))
    flows = (
        PlannedFlow("vxlan", agents, agents, Transport.UDP, (PortRange.of(4789),), "the overlay"),
        PlannedFlow("gloo", agents, agents, Transport.TCP, (PortRange(40000, 40100), PortRange.of(29400)), "rings"),
        PlannedFlow("admin-ssh", office, agents, Transport.TCP, (PortRange.of(22),), "logging in"),
        PlannedFlow("agent-link", agents, master, Transport.TCP, (PortRange.of(8443),), "the link"),
    )
    never = [
        PlannedFlow(name, whose, agents, way, (ALL_PORTS,), "harm")
        for name, whose in (("anyone-to-agent", ANYONE), ("user-to-agent", office))
        for way in Transport
    ]
    return Plan("random", flows, tuple(never))


def mended(asked: Plan, form: str, text: str, done: Callable[[list[str]], str]) -> None:
    before = audit(asked, form, text)
    after = audit(asked, form, done(remedies(before)))
    assert not HARMFUL & {found.code for found in after.findings}, "\n".join(map(str, after.findings))


def distinct(chance: random.Random, one: Callable[[], Any], most: int) -> list[Any]:
    """No cloud takes a rule twice."""
    found: list[Any] = []
    for _ in range(chance.randint(0, most)):
        made = one()
        if made not in found:
            found.append(made)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_aws(seed: int) -> None:
    chance = random.Random(seed)

    def permission() -> dict[str, Any]:
        protocol, (first, last) = chance.choice(["tcp", "udp", "-1"]), chance.choice(PORTS)
        made = {"IpProtocol": protocol} | ({} if protocol == "-1" else {"FromPort": first, "ToPort": last})
        if chance.random() < 0.3:
            return {
                **made,
                "UserIdGroupPairs": [{"UserId": "1", "GroupId": chance.choice(["sg-0a", "sg-0b", "sg-0d"])}],
            }
        if chance.random() < 0.2:
            return {**made, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
        return {**made, "IpRanges": [{"CidrIp": far} for far in chance.sample(FAR, 2)]}

    def ways() -> dict[str, Any]:
        return {key: distinct(chance, permission, 4) for key in ("IpPermissions", "IpPermissionsEgress")}

    agents = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), security_groups=("sg-0b",))
    master = Party(Role.MASTER, "master", addresses(["10.0.0.5"]), security_groups=("sg-0a",))
    text = groups(*({**aws(group=group), **ways()} for group in ("sg-0a", "sg-0b")))
    mended(plan(agents, master), "aws", text, lambda commands: aws_mended(text, commands))


@pytest.mark.parametrize("seed", SEEDS)
def test_gcp(seed: int) -> None:
    chance = random.Random(seed)

    def rule(number: int) -> dict[str, Any]:
        protocol, (first, last) = chance.choice(["tcp", "udp", "all"]), chance.choice(PORTS)
        more: dict[str, Any] = {"priority": chance.choice([900, 1000, 1001, 2000])}
        if chance.random() < 0.3:
            more |= {"direction": "EGRESS", "destinationRanges": [chance.choice(FAR)]}
        elif chance.random() < 0.6:
            more["sourceRanges"] = [chance.choice(FAR)]
        else:
            more["sourceTags"] = [chance.choice(["gpu", "master", "other"])]
        if chance.random() < 0.6:
            more["targetTags"] = [chance.choice(["gpu", "master"])]
        made = firewall(f"r{number}", protocol, *([] if protocol == "all" else [f"{first}-{last}"]), **more)
        if chance.random() < 0.3:
            made["denied"] = made.pop("allowed")
        return made

    agents = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), tags=("gpu",))
    master = Party(Role.MASTER, "master", addresses(["10.0.0.5"]), tags=("master",))
    rules = [rule(number) for number in range(chance.randint(0, 6))]
    mended(plan(agents, master), "gcp", json.dumps(rules), lambda commands: json.dumps(gcp_mended(rules, commands)))


@pytest.mark.parametrize("seed", SEEDS)
def test_oci(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    in_group = chance.random() < 0.5

    def rule(way: str) -> dict[str, Any]:
        protocol, (first, last) = chance.choice(["6", "17", "all"]), chance.choice(PORTS)
        far = "source" if way == "ingress" else "destination"
        made = {"protocol": protocol, "is-stateless": chance.random() < 0.25, far: chance.choice(FAR)}
        made |= {f"{far}-type": "CIDR_BLOCK", "description": None}
        if protocol != "all":
            span = {"destination-port-range": {"min": first, "max": last}, "source-port-range": None}
            made[{"6": "tcp-options", "17": "udp-options"}[protocol]] = span
        return made

    def of(way: str) -> list[Any]:
        # A list may hold a rule twice.
        found = distinct(chance, lambda: rule(way), 3)
        return found + [one for one in found if chance.random() < 0.2]

    there = {**oci_list("agents", *of("ingress")), "egress-security-rules": of("egress")}
    state: dict[str, Any] = {"lists": [there]}
    if in_group:
        rules = [{"direction": way.upper(), **rule(way)} for way in chance.choices(["ingress", "egress"], k=3)]
        state |= {"group": NSG, "rules": [{"id": f"R{number}", **made} for number, made in enumerate(rules)]}
    where = {"security_groups": (NSG,)} if in_group else {}
    agents = Party(Role.AGENT, "gpu", addresses(["10.0.1.0/24"]), **where)
    outside = Party(Role.USER, "master", addresses(["198.51.100.9"]))
    mended(
        plan(agents, outside),
        "oci",
        oci_text(state),
        lambda commands: oci_text(oci_mended(tmp_path, state, commands)),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_kubernetes(seed: int) -> None:
    chance = random.Random(seed)
    of_master = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "quorate"}}}
    peers = [
        *({"ipBlock": {"cidr": far}} for far in FAR),
        *({"podSelector": {"matchLabels": {"app": name}}} for name in ("gpu", "master", "web")),
        *({"podSelector": {}}, {"namespaceSelector": {}}, of_master),
    ]

    def item(far: str) -> dict[str, Any]:
        first, last = chance.choice(PORTS)
        ports = {"ports": [{"protocol": chance.choice(["TCP", "UDP"]), "port": first, "endPort": last}]}
        return {far: chance.sample(peers, 2), **(ports if chance.random() < 0.8 else {})}

    def policy(name: str) -> dict[str, Any]:
        spec = {
            "podSelector": chance.choice([{}, {"matchLabels": {"app": name}}]),
            "policyTypes": ["Ingress", "Egress"],
            "ingress": distinct(chance, lambda: item("from"), 3),
            "egress": distinct(chance, lambda: item("to"), 3),
        }
        metadata = {"name": name, "namespace": "quorate"}
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}

    agents, master = (
        Party(role, name, labels=(("app", name),), namespace="quorate")
        for role, name in ((Role.AGENT, "gpu"), (Role.MASTER, "master"))
    )
    # Copied, for what is shared YAML would write as an alias.
    text = yaml.safe_dump_all(json.loads(json.dumps([policy("gpu"), policy("master")])))
    mended(plan(agents, master), "kubernetes", text, lambda commands: kubernetes_mended(text, commands))
