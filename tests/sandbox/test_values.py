"""What describes no network is refused where it comes in; what does is compared without looking at a machine."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import msgspec
import pytest

from quorate.agent.helper.protocol import size_of
from quorate.agent.sandbox import names, rules
from quorate.agent.sandbox.planned import Rules
from quorate.agent.sandbox.reconcile import (
    Digests,
    MakeHost,
    MakeHub,
    MakeSandbox,
    Observed,
    RemoveHost,
    RemoveHub,
    RemoveSandbox,
    RemoveStray,
    reconcile,
)
from quorate.agent.sandbox.spec import Desired, FlowRule, HostSpec, HubSpec, Peer, SandboxSpec
from quorate.model.job import MAX_NODES
from quorate.network.catalogue import EPHEMERAL, METADATA_ADDRESSES
from quorate.network.flows import Direction, NetworkMode, Transport
from quorate.network.jobplan import JobNetwork, MemberEnd, Openness, plan_job

PEERS = (Peer("10.0.0.1", "10.128.0.10"), Peer("10.0.0.2", "10.128.0.11"))
HUB = HubSpec("jjjj-1", 7, "10.128.0.0/24", "10.128.0.1", "10.0.0.1", PEERS)
SANDBOX = SandboxSpec("jjjj-1.0.1")
DESIRED = Desired((HUB,), (SANDBOX,))
DIGESTS = Digests({"jjjj-1": "a"}, {"jjjj-1.0.1": "b"}, "c")
COMPLETE = Observed({"jjjj-1": "a"}, {"jjjj-1.0.1": "b"}, "c", True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"allocation": "../etc"}, "no allocation id"),
        ({"vni": 0}, "VNI 0"),
        ({"vni": 2**24}, "VNI 16777216"),
        ({"subnet": "10.128.0.1/24"}, "no IPv4 network"),
        ({"gateway": "10.129.0.1"}, "not in 10.128.0.0/24"),
        ({"gateway": "10.128.0.10"}, "have one address"),
        ({"underlay": "fd00::1"}, "one family"),
        ({"underlay": "near"}, "no address"),
        ({"peers": (*PEERS, Peer("fe80::1%eth0", "10.128.0.12"))}, "address of one link"),
        ({"peers": (*PEERS, Peer("fe80::1%} drop", "10.128.0.12"))}, "address of one link"),
        ({"peers": ()}, "0 members"),
        ({"mtu": 100}, "MTU of 100"),
        ({"forbidden": ("10.0.0.1; flush ruleset",)}, "no IPv4 network"),
        ({"vxlan_port": 0}, "no port"),
    ],
)
def test_a_hub_that_cannot_be_is_refused_with_the_reason(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        msgspec.structs.replace(HUB, **change)


def test_desired_sets_that_contradict_themselves_are_refused() -> None:
    other = msgspec.structs.replace(HUB, allocation="kkkk-1")
    for hubs, sandboxes, why in (
        ((HUB, HUB), (), "one allocation"),
        ((HUB, other), (), "one VNI"),
        ((), (SANDBOX,), "no hub"),
        ((HUB,), (SandboxSpec("jjjj-1.1.1"),), "not on this machine"),
        ((HUB,), (SANDBOX, SandboxSpec("jjjj-1.0.2")), "two sandboxes"),
    ):
        with pytest.raises(ValueError, match=why):
            Desired(hubs, sandboxes)


def test_the_hosts_rules_are_for_no_user_that_cannot_be_a_member() -> None:
    for uid in (0, 2**32 - 1):
        with pytest.raises(ValueError, match=f"{uid} one cannot be a member's"):
            Desired(chosen=(uid,))


def test_a_rule_cannot_carry_text_of_its_own_into_the_rules() -> None:
    rule = FlowRule("ssh", Direction.INGRESS, Transport.TCP, ("10.128.0.0/24",), ((22, 22),), 'x" ; flush ruleset #\n')
    text = rules.sandbox_rules(HUB, SandboxSpec("jjjj-1.0.1", (rule,)))
    (line,) = [line for line in text.splitlines() if "flush" in line]
    assert line.endswith('comment "ssh: x  ; flush ruleset # "')


def test_the_hosts_rules_name_an_agent_once_however_its_address_is_written() -> None:
    peers = (Peer("fd00::1", "10.128.0.10"), Peer("fd00::2", "10.128.0.11"), Peer("FD00:0::2", "10.128.0.12"))
    host = Desired((msgspec.structs.replace(HUB, underlay="fd00::1", peers=peers),)).host
    assert host is not None and host.agents == ("fd00::2",)


def test_names_fit_and_macs_differ_between_ranks_and_from_the_gateways() -> None:
    assert len(names.uplink("abcdefghijklmnop-999999")) == 15
    macs = [names.mac("jjjj-1", rank) for rank in range(5000)] + [names.gateway_mac("jjjj-1")]
    assert len(set(macs)) == len(macs)
    # Locally administered, and of one machine.
    assert {int(mac[:2], 16) & 3 for mac in macs} == {2}


def test_nothing_is_done_where_everything_is_as_desired() -> None:
    assert list(reconcile(DESIRED, DIGESTS, COMPLETE)) == []


def test_from_nothing_the_hosts_rules_come_first_and_the_sandbox_last() -> None:
    assert list(reconcile(DESIRED, DIGESTS, Observed())) == [
        MakeHost(HostSpec(4789, ("10.0.0.2",), True)), MakeHub(HUB), MakeSandbox(HUB, SANDBOX),
    ]  # fmt: skip


def test_what_nobody_wants_goes_before_anything_is_made() -> None:
    observed = Observed({"kkkk-1": "x"}, {"kkkk-1.0.1": None}, "old", True, ("quoratestray",))
    steps = list(reconcile(DESIRED, DIGESTS, observed))
    assert steps[:3] == [RemoveSandbox("kkkk-1.0.1"), RemoveHub("kkkk-1"), RemoveStray("quoratestray")]
    assert list(reconcile(Desired(), DIGESTS, observed)) == [*steps[:3], RemoveHost()]


def test_a_hub_made_anew_takes_its_sandboxes_with_it() -> None:
    assert list(reconcile(DESIRED, DIGESTS, replace(COMPLETE, hubs={"jjjj-1": None}))) == [
        MakeHub(HUB), MakeSandbox(HUB, SANDBOX),
    ]  # fmt: skip


def test_a_members_rules_are_its_flows_of_the_plan_and_no_others() -> None:
    ends = tuple(MemberEnd(f"m{rank}", rank, IPv4Address(f"10.128.0.{10 + rank}"), "a") for rank in range(3))
    plan = plan_job(JobNetwork("jjjj-1", "train", "torch", NetworkMode.OVERLAY, ends, EPHEMERAL))
    first, last = (Rules.of(plan).at(f"10.128.0.{10 + rank}") for rank in (0, 2))
    assert ("torch-rendezvous", Direction.INGRESS) in {(rule.flow, rule.direction) for rule in first}
    assert ("torch-rendezvous", Direction.INGRESS) not in {(rule.flow, rule.direction) for rule in last}
    (leaving,) = [rule for rule in last if rule.flow == "torch-rendezvous"]
    assert (leaving.direction, leaving.peers, leaving.ports) == (
        Direction.EGRESS,
        ("10.128.0.10/32",),
        ((29400, 29400),),
    )


@pytest.mark.parametrize("openness", list(Openness))
def test_a_sandbox_is_as_large_in_an_allocation_of_thousands_as_in_a_small_one(openness: Openness) -> None:
    def size(members: int) -> int:
        address = IPv4Address("10.128.0.10")
        ends = tuple(MemberEnd(f"m{rank}", rank, address + rank, "a") for rank in range(members))
        plan = plan_job(JobNetwork("jjjj-1", "train", "none", NetworkMode.OVERLAY, ends, EPHEMERAL, openness))
        return size_of(SandboxSpec("jjjj-1.3.1", Rules.of(plan).at(str(address + 3))))

    # Ranges of addresses and of ports are written with more digits.
    assert size(MAX_NODES) < 2 * size(16) < 8192


def test_a_port_for_each_rank_is_one_rule_for_who_opens_it_and_exact_where_it_is_served() -> None:
    ends = tuple(MemberEnd(f"m{rank}", rank, IPv4Address(f"10.128.0.{8 + rank}"), "a") for rank in range(4))
    plan = plan_job(JobNetwork("jjjj-1", "train", "none", NetworkMode.OVERLAY, ends, EPHEMERAL, master_ports=(30000,)))
    seen = {rule.direction: rule for rule in Rules.of(plan).at("10.128.0.10") if rule.flow == "tf-config"}
    assert seen[Direction.INGRESS].ports == ((30002, 30002),)
    assert seen[Direction.EGRESS].ports == ((30000, 30003),)
    assert seen[Direction.EGRESS].peers == ("10.128.0.8/30",)


def test_members_reach_neither_their_agents_nor_the_clouds_metadata() -> None:
    hub = msgspec.structs.replace(HUB, forbidden=("10.9.0.0/16",))
    assert {"169.254.169.254/32", "10.0.0.1", "10.0.0.2", "10.9.0.0/16"} <= set(hub.unreachable)
    allowed = msgspec.structs.replace(hub, metadata=True)
    assert set(hub.unreachable) - set(allowed.unreachable) == {
        address for address in METADATA_ADDRESSES if ":" not in address
    }
