"""What `quorate job network` says of refusals: who, where to, and whose decision it was."""

from __future__ import annotations

import pytest

from quorate.cli.jobnetwork import print_network
from quorate.model.views import FlowCountView, JobNetworkView, RefusalView


def test_each_refusal_says_why_and_a_list_that_is_full_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def refusal(peer: str, port: int, by: str, name: str = "") -> RefusalView:
        return RefusalView(
            member="sub1", direction="egress", peer=peer, peer_name=name, transport="tcp", port=port, packets=3, by=by
        )

    refused = (
        refusal("10.128.0.2", 8786, "plan", "main1"),
        refusal("10.128.0.2", 4, "plan", "main1"),
        refusal("169.254.169.254", 80, "forbidden"),
        refusal("192.0.2.1", 443, "egress"),
    )
    print_network(
        JobNetworkView(
            job="jjjj", attempt=1, mode="bridge", refused=refused, unlisted=("sub1", "sub2"), crowded=7, hasty=8
        )
    )
    lines = capsys.readouterr().out.splitlines()
    (planned, unknown, forbidden, unnamed) = (line for line in lines if line.lstrip().startswith("sub1"))
    assert "main1 (10.128.0.2)" in planned and planned.endswith(
        "not planned; it is a port of dask-scheduler, dask-worker"
    )
    assert unknown.endswith("not planned")
    assert "169.254.169.254" in forbidden and "metadata" in forbidden
    assert "tcp/443" in unnamed and unnamed.endswith("none of the hosts that network.egress names")
    assert [line.split(":")[0] for line in lines[-3:]] == [
        "more was refused than is listed", "7 packets were refused", "8 questions for names were dropped",
    ]  # fmt: skip


def test_what_is_counted_are_connections_and_no_bytes_of_theirs_are_claimed(capsys: pytest.CaptureFixture[str]) -> None:
    def flow(member: str, direction: str, opened: int) -> FlowCountView:
        return FlowCountView(member=member, flow="gloo", direction=direction, packets=opened, bytes=opened * 60)

    flows = (flow("main1", "egress", 2), flow("sub1", "egress", 1), flow("sub1", "ingress", 2))
    print_network(JobNetworkView(job="jjjj", attempt=1, mode="overlay", flows=flows))
    said = capsys.readouterr().out
    assert "BYTES" not in said and "PACKETS" not in said.partition("refused")[0]
    assert ["gloo", "3", "2"] in [line.split()[:3] for line in said.splitlines()]
    assert ["sub1", "gloo", "in", "2"] in [line.split() for line in said.splitlines()]
