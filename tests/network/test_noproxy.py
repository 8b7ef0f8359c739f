"""The cluster's own traffic never goes to an HTTP proxy."""

from __future__ import annotations

import urllib.request
from ipaddress import ip_address

import pytest

from quorate.model.clusterfile import load_cluster_file
from quorate.network.catalogue import EPHEMERAL
from quorate.network.clusterplan import plan_cluster
from quorate.network.flows import NetworkMode
from quorate.network.jobplan import JobNetwork, MemberEnd, plan_job
from quorate.network.noproxy import no_proxy

MEMBERS = tuple(
    MemberEnd(name, rank, ip_address("10.128.0.2") + rank, "a") for rank, name in enumerate(("main1", "sub1", "sub2"))
)
JOB = plan_job(JobNetwork("j", "train", "torch", NetworkMode.OVERLAY, MEMBERS, EPHEMERAL))
NAMES = [member.name for member in MEMBERS]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "main1",
        "sub2",
        "10.128.0.2",
        "10.128.0.3",
        "10.128.0.4",
        "169.254.169.254",
        "metadata.google.internal",
    ],
)
def test_a_members_http_client_goes_straight_to_its_peers(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", no_proxy(JOB, NAMES))
    assert urllib.request.proxy_bypass(host)


@pytest.mark.parametrize("host", ["registry.example.org", "10.128.0.5", "192.0.2.1"])
def test_everything_else_goes_to_the_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", no_proxy(JOB, NAMES))
    assert not urllib.request.proxy_bypass(host)


def test_agents_reach_the_master_and_each_other_directly() -> None:
    text = """
master: {where: {addresses: [10.0.0.5]}, names: [master.example.org]}
pools: [{name: gpu, where: {addresses: [10.0.1.0/24]}}]
network: {proxy: {url: 'http://10.0.0.9', no_proxy: [.internal.example]}}
"""
    cluster = load_cluster_file(text, "master.yaml")
    assert no_proxy(plan_cluster(cluster), extra=cluster.network.proxy.no_proxy if cluster.network.proxy else ()) == (
        "localhost,127.0.0.1,::1,10.0.1.0/24,master.example.org,10.0.0.5,"
        "169.254.169.254,169.254.170.2,169.254.170.23,"
        "fd00:ec2::254,fd00:ec2::23,fd20:ce::254,fd00:c1::a9fe:a9fe,"
        "metadata.google.internal,.internal.example"
    )
