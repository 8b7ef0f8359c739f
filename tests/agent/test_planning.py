"""An allocation's plan becomes what its sandboxes enforce and what its preflight tries."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.agent.planning import carrier, plan_of, probe_flows
from quorate.agent.sandbox.planned import Rules
from quorate.launch.config import ProbeFlow
from quorate.model.messages import AllocationSpec, NetworkSpec, PlannedMember, RoleSpec
from quorate.network.catalogue import EPHEMERAL, port
from quorate.network.flows import Direction
from quorate.network.jobplan import FLOW_OF_PURPOSE
from quorate.network.remedies import Platform

OVERLAY = NetworkSpec("overlay", 7, "10.128.0.0/24", "10.128.0.1", members="planned")
EVERYBODY = (EPHEMERAL.first, EPHEMERAL.last)


def allocation(
    size: int = 2, network: NetworkSpec | None = OVERLAY, launcher: str = "torch", **fields: object
) -> AllocationSpec:
    leases = {"rendezvous": port("rendezvous"), "watch": port("watch")}
    first = {**leases, "torch": 20_000, "main": port("master-port")}
    members = tuple(
        PlannedMember(
            rank,
            "main" if rank == 0 else "sub",
            max(1, rank),
            "main1" if rank == 0 else f"sub{rank}",
            f"agent-{rank}",
            f"10.128.0.{2 + rank}" if network else f"10.0.0.{2 + rank}",
            ports=first if rank == 0 else leases,
            underlay=f"10.0.0.{2 + rank}" if network else "",
        )
        for rank in range(size)
    )
    known: dict[str, object] = {"environment": {}, "kind": "train", "network": network, **fields}
    return AllocationSpec(
        "abcd1234-1", "abcd1234", 1, "00" * 16, "digits", "ann", ("python", "train.py"), launcher,
        members=members, grace_s=10.0, start_timeout_s=60.0, **known,
    )  # type: ignore[arg-type]  # fmt: skip


def tried(spec: AllocationSpec) -> dict[str, ProbeFlow]:
    flows = probe_flows(spec, plan_of(spec))
    assert len({flow.flow for flow in flows}) == len(flows), "a flow is there twice"
    return {flow.flow: flow for flow in flows}


def test_a_training_in_a_network_of_its_own_has_the_canonical_ports() -> None:
    flows = tried(allocation())
    assert set(flows) == {"rendezvous", "watch", "torch-rendezvous", "gloo", "torch-store"}
    assert flows["torch-rendezvous"].ports == (29400, 29400)
    assert flows["torch-rendezvous"].destinations == (0,)
    assert flows["rendezvous"].destinations == ()
    assert flows["gloo"].ports == EVERYBODY


def test_on_the_hosts_network_ports_are_the_leased_ones() -> None:
    flows = tried(allocation(network=None))
    assert flows["torch-rendezvous"].ports == (20_000, 20_000)
    assert flows["rendezvous"].destinations == ()


def test_on_the_hosts_network_nobody_was_promised_a_port_that_is_not_leased() -> None:
    free_form = tried(allocation(network=None, launcher="none", ssh=True))
    assert set(free_form) == {"rendezvous", "watch", "master-port"}


def test_members_with_other_leases_are_flows_of_their_own() -> None:
    spec = allocation(3, network=None)
    moved = PlannedMember(
        **{**{f: getattr(spec.members[1], f) for f in spec.members[1].__struct_fields__}, "ports": {"watch": 20_001}}
    )
    members = (spec.members[0], moved, spec.members[2])
    flows = probe_flows(
        AllocationSpec(**{**{f: getattr(spec, f) for f in spec.__struct_fields__}, "members": members}),
        plan_of(AllocationSpec(**{**{f: getattr(spec, f) for f in spec.__struct_fields__}, "members": members})),
    )
    watch = {(flow.ports, flow.destinations) for flow in flows if flow.flow == "watch"}
    assert watch == {((20_001, 20_001), (1,)), ((1750, 1750), (0, 2))}


def test_a_cluster_is_open_inside_and_each_rank_has_its_port_for_tensorflow() -> None:
    open_network = NetworkSpec("overlay", 7, "10.128.0.0/24", "10.128.0.1", members="open")
    flows = tried(allocation(3, network=open_network, launcher="none", kind="cluster", ssh=True))
    assert set(flows) == {"rendezvous", "watch", "ssh", "open", "open-udp", "master-port", "tf-config"}
    assert flows["open"].ports == (1, 65535)
    assert [flows["tf-config"].ports_of(rank) for rank in range(3)] == [(29500 + r, 29500 + r) for r in range(3)]


def test_the_user_s_master_port_is_followed() -> None:
    flows = tried(allocation(launcher="none", environment={"MASTER_PORT": "31000"}))
    assert flows["master-port"].ports == (31000, 31000)


@pytest.mark.parametrize(
    ("by_role", "ranked"),
    [
        ({"main": "30000", "sub": "30000"}, {30000, 30001}),
        # Each is told another one: neither is refused by us.
        ({"main": "30000"}, {29500, 29501, 30000, 30001}),
    ],
)
def test_a_master_port_of_a_role_is_followed(by_role: dict[str, str], ranked: set[int]) -> None:
    roles = {role: RoleSpec(environment={"MASTER_PORT": port}) for role, port in by_role.items()}
    spec = allocation(launcher="none", roles=roles)
    plan = plan_of(spec)
    flows = [flow for flow in probe_flows(spec, plan) if flow.flow == "tf-config"]
    assert {port for flow in flows for rank in range(2) for port in flow.ports_of(rank)} == ranked
    served = [rule for rule in Rules.of(plan).at(spec.members[1].address) if rule.flow == "tf-config"]
    (own,) = [rule.ports for rule in served if rule.direction is Direction.INGRESS]
    assert own == tuple((port, port) for port in sorted(ranked) if port % 2)


def test_one_member_alone_has_nothing_to_try() -> None:
    spec = allocation(1)
    assert probe_flows(spec, plan_of(spec)) == ()
    assert carrier(spec) is None


@pytest.mark.parametrize("platform", list(Platform))
def test_a_flow_brings_the_command_that_mends_it(platform: Platform) -> None:
    spec = allocation(network=None)
    (flow,) = (flow for flow in probe_flows(spec, plan_of(spec), platform) if flow.flow == "torch-rendezvous")
    assert "{source}" in flow.remedy
    # That it is on a leased port this time is no reason to open this one alone: the next job has another one.
    assert "20000" in flow.remedy
    assert "28999" in flow.remedy
    assert "leased" in flow.remedy or platform is Platform.NFTABLES
    assert flow.purpose == "torchrun's rendezvous, on a leased port"


def test_inside_an_own_network_the_rules_are_ours_and_the_agents_firewalls_carry_it() -> None:
    spec = allocation()
    assert tried(spec)["gloo"].remedy == "quorate job network abcd1234"
    below = carrier(spec)
    assert below is not None
    assert (below.flow, below.transport, below.ports) == ("vxlan", "udp", (4789, 4789))
    assert "udp dport 4789" in below.remedy
    assert carrier(allocation(network=None)) is None


def test_the_overlay_s_port_is_the_pool_s() -> None:
    below = carrier(allocation(network=msgspec.structs.replace(OVERLAY, vxlan_port=8472)))
    assert below is not None
    assert below.ports == (8472, 8472)
    assert "udp dport 8472" in below.remedy


def test_a_sandbox_lets_pass_exactly_what_is_tried() -> None:
    spec = allocation(3)
    plan = plan_of(spec)
    incoming = {
        (rule.flow, rule.transport.value, rule.ports)
        for rank in range(3)
        for rule in Rules.of(plan).at(spec.members[rank].address)
        if rule.direction is Direction.INGRESS
    }
    assert incoming == {(f.flow, f.transport, (f.ports,)) for f in probe_flows(spec, plan)}


@given(st.integers(2, 40), st.sampled_from(["none", "torch"]), st.booleans())
def test_every_flow_between_members_is_tried(size: int, launcher: str, private: bool) -> None:
    spec = allocation(size, OVERLAY if private else None, launcher)
    plan = plan_of(spec)
    known = {flow.flow for flow in probe_flows(spec, plan)}
    leased = {FLOW_OF_PURPOSE[purpose] for member in spec.members for purpose in member.ports}
    for flow in plan.flows:
        window = any(len(ports) > 1 for ports in flow.ports)
        assert (flow.flow in known) == (private or flow.flow in leased or window)
