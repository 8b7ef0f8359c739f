"""The plan of one allocation."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.model.ports import PortRange
from quorate.network.flows import NetworkMode, Role, Transport
from quorate.network.jobplan import (
    JobNetwork,
    MemberEnd,
    Openness,
    PortsPastTheEnd,
    Surroundings,
    openness_of,
    plan_job,
)

WINDOW = PortRange(32768, 60999)


def job(size: int = 2, **changes: object) -> JobNetwork:
    members = tuple(
        MemberEnd(f"m{rank}", rank, ip_address("10.128.0.2") + rank, f"agent{rank}") for rank in range(size)
    )
    defaults: dict[str, object] = {"kind": "train", "launcher": "torch", "mode": NetworkMode.OVERLAY, "window": WINDOW}
    return JobNetwork("job-1", members=members, **{**defaults, **changes})  # type: ignore[arg-type]


def shown(network: JobNetwork) -> list[str]:
    return [str(flow) for flow in plan_job(network).flows]


def test_a_torch_job_gets_exactly_its_flows() -> None:
    assert shown(job()) == [
        "rendezvous: member/members -> member/members tcp/1734",
        "watch: member/members -> member/members tcp/1750",
        "ssh: member/members -> member/members tcp/12350",
        "torch-rendezvous: member/members -> member/m0 tcp/29400",
        "gloo: member/members -> member/members tcp/32768-60999",
        "torch-store: member/members -> member/m0 tcp/32768-60999",
    ]


def test_a_job_of_one_member_has_no_flows_between_members() -> None:
    assert shown(job(1)) == []


def test_a_notebook_is_reached_by_its_companion_alone() -> None:
    (flow,) = plan_job(job(1, kind="notebook", launcher="none")).flows
    assert (flow.source.role, str(flow.ports[0])) == (Role.AGENT, "2900-3199")


def test_a_free_form_job_is_open_inside_and_has_ranked_ports() -> None:
    network = job(3, launcher="none", openness=openness_of("train", "none"))
    assert [text for text in shown(network) if text.startswith(("open", "tf-config"))] == [
        "open: member/members -> member/members tcp/0-65535",
        "open-udp: member/members -> member/members udp/0-65535",
        "tf-config: member/members -> member/m0 tcp/29500",
        "tf-config: member/members -> member/m1 tcp/29501",
        "tf-config: member/members -> member/m2 tcp/29502",
    ]


def test_ranked_ports_follow_the_users_master_port() -> None:
    ports = [flow.ports[0].first for flow in plan_job(job(3, launcher="none", master_ports=(30000,))).flows]
    assert ports[-3:] == [30000, 30001, 30002]


@given(st.integers(1, 65535), st.integers(2, 40))
def test_no_rank_ever_gets_a_port_past_the_end(base: int, size: int) -> None:
    network = job(size, launcher="none", master_ports=(base,))
    if base + size - 1 > 65535:
        with pytest.raises(PortsPastTheEnd, match="ports end at 65535"):
            plan_job(network)
    else:
        ranked = [flow.ports[0].first for flow in plan_job(network).flows if flow.flow == "tf-config"]
        assert ranked == list(range(base, base + size))


def test_leased_ports_take_the_place_of_canonical_ones_for_the_member_that_has_them() -> None:
    members = (
        MemberEnd("m0", 0, ip_address("10.0.0.8"), "agent0"),
        MemberEnd("m1", 1, ip_address("10.0.0.9"), "agent1", {"ssh": PortRange.of(20001)}),
    )
    plan = plan_job(JobNetwork("job-1", "train", "torch", NetworkMode.HOST, members, WINDOW))
    ssh = [str(flow) for flow in plan.flows if flow.flow == "ssh"]
    assert ssh == ["ssh: member/members -> member/m0 tcp/12350", "ssh: member/members -> member/m1 tcp/20001"]


def test_declared_ports_are_open_between_members() -> None:
    network = job(extra=(PortRange.of(7000), PortRange(7001, 7003)))
    assert "declared: member/members -> member/members tcp/7000-7003" in shown(network)


def test_nccl_is_planned_where_there_are_gpus() -> None:
    assert not any(text.startswith("nccl") for text in shown(job()))
    assert "nccl: member/members -> member/members tcp/32768-60999" in shown(job(gpu=True))


def test_members_must_not_reach_agents_master_strangers_or_metadata() -> None:
    around = Surroundings(
        agents=(ip_network("10.0.1.0/24"),),
        master=(ip_network("10.0.0.5/32"),),
        overlays=(ip_network("10.128.0.0/12"),),
    )
    plan = plan_job(job(around=around, subnet=ip_network("10.128.0.0/24")))
    forbidden = {flow.destination.role: flow.destination for flow in plan.forbidden}
    assert set(forbidden) == {Role.AGENT, Role.MASTER, Role.STRANGER, Role.METADATA}
    strangers = forbidden[Role.STRANGER].addresses
    assert not any(network.overlaps(ip_network("10.128.0.0/24")) for network in strangers)
    assert any(network.overlaps(ip_network("10.128.1.0/24")) for network in strangers)
    assert {flow.transport for flow in plan.forbidden} == set(Transport)


def test_in_the_hosts_network_only_metadata_can_be_forbidden() -> None:
    around = Surroundings(agents=(ip_network("10.0.1.0/24"),))
    plan = plan_job(job(mode=NetworkMode.HOST, around=around))
    assert {flow.flow for flow in plan.forbidden} == {"member-to-metadata"}


def test_members_out_of_rank_order_are_refused() -> None:
    with pytest.raises(ValueError, match="rank order"):
        JobNetwork("j", "train", "torch", NetworkMode.BRIDGE, tuple(reversed(job().members)), WINDOW)


def test_defaults_are_open_for_clusters_and_planned_for_frameworks() -> None:
    assert openness_of("cluster", "torch") is Openness.OPEN
    assert openness_of("train", "torch") is Openness.PLANNED


def test_a_job_over_ipv6_is_planned_alike() -> None:
    members = tuple(MemberEnd(f"m{rank}", rank, ip_address("fd00::2") + rank, "a") for rank in range(2))
    network = JobNetwork("job-1", "train", "torch", NetworkMode.OVERLAY, members, WINDOW)
    assert shown(network) == shown(job())
    assert plan_job(network).flows[0].source.addresses == (ip_network("fd00::2/127"),)
