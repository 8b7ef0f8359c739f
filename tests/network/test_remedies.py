"""A remedy is a command that its platform takes."""

from __future__ import annotations

import json
import shlex

import pytest

from quorate.model.ports import PortRange
from quorate.network.remedies import Platform, opening


def words(platform: Platform, *, v6: bool = False) -> list[str]:
    ends = ("fd00::1", "fd00::2") if v6 else ("10.0.0.1", "10.0.0.2")
    text = opening(platform, "gloo", "tcp", PortRange(32768, 60999), *ends, v6=v6)
    return shlex.split(text, comments=True)


def after(option: str, given: list[str]) -> str:
    return given[given.index(option) + 1]


def test_of_nftables() -> None:
    said = words(Platform.NFTABLES)
    expected = "nft insert rule inet filter input ip saddr 10.0.0.1 tcp dport 32768-60999 accept"
    assert " ".join(said) == expected
    assert "ip6 saddr fd00::1" in " ".join(words(Platform.NFTABLES, v6=True))


def test_of_gcp() -> None:
    said = words(Platform.GCP)
    assert {"--source-ranges=10.0.0.1/32", "--destination-ranges=10.0.0.2/32", "--allow=tcp:32768-60999"} <= set(said)


@pytest.mark.parametrize(
    ("v6", "ranges"),
    [
        (False, {"IpRanges": [{"CidrIp": "10.0.0.1/32", "Description": "gloo"}]}),
        (True, {"Ipv6Ranges": [{"CidrIpv6": "fd00::1/128", "Description": "gloo"}]}),
    ],
)
def test_of_aws(v6: bool, ranges: dict[str, object]) -> None:
    (permission,) = json.loads(after("--ip-permissions", words(Platform.AWS, v6=v6)))
    assert permission == {"IpProtocol": "tcp", "FromPort": 32768, "ToPort": 60999, **ranges}


def test_of_oci() -> None:
    (rule,) = json.loads(after("--security-rules", words(Platform.OCI)))
    assert rule["source"] == "10.0.0.1/32"
    assert rule["tcpOptions"] == {"destinationPortRange": {"min": 32768, "max": 60999}}


def test_of_kubernetes() -> None:
    policy = json.loads(words(Platform.KUBERNETES)[-1])
    (ingress,) = policy["spec"]["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": 32768, "endPort": 60999}]
    assert ingress["from"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]


def test_a_range_of_all_ports_begins_with_the_first_that_there_is() -> None:
    assert '"FromPort": 1, "ToPort": 65535' in opening(Platform.AWS, "open", "tcp", PortRange(0, 65535), "a", "b")
