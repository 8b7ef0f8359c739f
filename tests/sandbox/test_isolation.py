"""What a member cannot do, one test for each: each first shows that the way exists for whoever may take it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.master_core.cluster import Cluster
from tests.sandbox.hosts import Host, Lab, everything, hub, sandbox, wait_until

from quorate.agent.devices import own_addresses
from quorate.agent.sandbox import names, namespaces
from quorate.agent.sandbox.spec import Egress, HubSpec, Peer
from quorate.master.config import load
from quorate.master.settings import Settings
from quorate.model.messages import Feature, NetworkSpec
from quorate.network.catalogue import METADATA_ADDRESSES

pytestmark = pytest.mark.lab

#: How a connection ends that nobody answers.
NOTHING = ("silent", "EHOSTUNREACH", "ENETUNREACH")
OPEN = everything()
MASTER = "10.77.0.99"
#: What a plan says of other agents and the master, in this lab.
MANAGEMENT = ("10.77.0.10/32", "10.77.0.11/32", f"{MASTER}/32")
#: User code, root in its container: all of Docker's default capabilities, and so no NET_ADMIN.
AS_CONTAINER_ROOT = ("setpriv", "--bounding-set", "-net_admin,-sys_admin", "--inh-caps", "-all", "--no-new-privs")


@pytest.fixture
def two(lab: Lab) -> Iterator[tuple[Host, Host]]:
    """Allocation `jjjj-1` with one member on each host; it may not go to the management addresses."""
    near, far = lab.hosts
    near.converge(hub(near, near, far, forbidden=MANAGEMENT), sandbox("jjjj-1.0.1", OPEN))
    far.converge(hub(far, near, far, forbidden=MANAGEMENT), sandbox("jjjj-1.1.1", OPEN))
    with far.member("jjjj-1.1.1").serves("rank1", "tcp/10.128.0.11/29400", "udp/10.128.0.11/5000"):
        assert near.member("jjjj-1.0.1").tries("10.128.0.11", 29400) == "open rank1 sees 10.128.0.10"
        yield near, far


def allocated(cluster: Cluster, host: Host, **wish: object) -> NetworkSpec:
    """What a master tells this host's agent of the network of a job with one member there."""
    agent = cluster.agent("near", address=host.address, features=(Feature.SANDBOX, Feature.ROLES))
    cluster.submit(**wish)
    (spec,) = agent.desired.allocations
    assert spec.network is not None
    return spec.network


def test_a_member_of_another_allocation_with_the_same_subnet_cannot_connect_on_the_same_host(lab: Lab) -> None:
    (host, _) = lab.hosts
    host.converge(
        hub(host, host, host), sandbox("jjjj-1.0.1", OPEN), sandbox("jjjj-1.1.1", OPEN),
        hub(host, host, allocation="kkkk-1", vni=8), sandbox("kkkk-1.0.1", OPEN),
    )  # fmt: skip
    with host.member("jjjj-1.1.1").serves("rank1", "tcp/10.128.0.11/29400"):
        assert host.member("jjjj-1.0.1").tries("10.128.0.11", 29400) == "open rank1 sees 10.128.0.10"
        assert host.member("kkkk-1.0.1").tries("10.128.0.11", 29400) in NOTHING
        # Not by its own rules alone: as root of the machine, without them, nobody answers either.
        host.member("kkkk-1.0.1").run("nft", "flush", "ruleset")
        assert host.member("kkkk-1.0.1").tries("10.128.0.11", 29400) in NOTHING


def test_a_member_of_another_allocation_with_the_same_subnet_cannot_connect_on_another_host(
    lab: Lab, two: tuple[Host, Host]
) -> None:
    near, far = two
    other = hub(near, near, far, allocation="kkkk-1", vni=8)
    near.converge(hub(near, near, far, forbidden=MANAGEMENT), sandbox("jjjj-1.0.1", OPEN), other, sandbox("kkkk-1.0.1"))
    near.member("kkkk-1.0.1").run("nft", "flush", "ruleset")
    assert near.member("kkkk-1.0.1").tries("10.128.0.11", 29400) in NOTHING
    assert near.member("jjjj-1.0.1").tries("10.128.0.11", 29400) == "open rank1 sees 10.128.0.10"


def test_an_allocation_with_another_subnet_cannot_be_routed_to(lab: Lab, two: tuple[Host, Host]) -> None:
    near, far = two
    other = hub(near, near, far, allocation="kkkk-1", vni=8, subnet="10.129.0.0/24")
    near.converge(hub(near, near, far), sandbox("jjjj-1.0.1", OPEN), other, sandbox("kkkk-1.0.1"))
    assert near.member("kkkk-1.0.1").tries("10.128.0.11", 29400) in NOTHING
    assert near.member("kkkk-1.0.1").tries("10.128.0.10", 29400) in NOTHING


def test_members_cannot_reach_the_management_address_of_their_own_agent(two: tuple[Host, Host]) -> None:
    near, _ = two
    with near.outside.serves("agent", "tcp/0.0.0.0/22"):
        assert near.outside.tries(near.address, 22) == f"open agent sees {near.address}"
        for address in (near.address, "198.18.0.0"):
            assert near.member("jjjj-1.0.1").tries(address, 22) == "ECONNREFUSED", address


def test_members_cannot_reach_their_host_by_an_address_that_no_plan_names(two: tuple[Host, Host]) -> None:
    near, _ = two
    near.run("ip", "address", "add", "172.17.0.1/16", "dev", "u0")
    with near.outside.serves("agent", "tcp/0.0.0.0/22"):
        assert near.member("jjjj-1.0.1").tries("172.17.0.1", 22) == "ECONNREFUSED"


def test_members_cannot_reach_another_agent_masqueraded_as_their_own(two: tuple[Host, Host]) -> None:
    near, far = two
    with far.outside.serves("agent", "tcp/0.0.0.0/22"):
        assert near.outside.tries(far.address, 22) == f"open agent sees {near.address}"
        assert near.member("jjjj-1.0.1").tries(far.address, 22) == "ECONNREFUSED"


def test_agents_of_an_allocations_members_are_out_of_reach_even_where_no_plan_says_so(lab: Lab) -> None:
    near, far = lab.hosts
    near.converge(hub(near, near, far), sandbox("jjjj-1.0.1", OPEN))
    with far.outside.serves("agent", "tcp/0.0.0.0/22"):
        assert near.member("jjjj-1.0.1").tries(far.address, 22) == "ECONNREFUSED"


def test_members_reach_another_agent_by_none_of_its_addresses(lab: Lab) -> None:
    near, far = lab.hosts
    far.run("ip", "address", "add", "10.99.0.7/24", "dev", "u0")
    near.run("ip", "route", "add", "10.99.0.0/24", "dev", "u0")
    with namespaces.entered(far.namespace):
        known = {"address": "fd00:1::7", "addresses": own_addresses()}
    cluster = Cluster()
    cluster.agent("far", slots=0, **known)
    forbidden = allocated(cluster, near).forbidden
    near.converge(hub(near, near, forbidden=forbidden), sandbox("jjjj-1.0.1", OPEN))
    with far.outside.serves("agent", "tcp/0.0.0.0/22"):
        for address in ("10.99.0.7", far.address):
            assert near.outside.tries(address, 22) == f"open agent sees {near.address}"
            assert near.member("jjjj-1.0.1").tries(address, 22) == "ECONNREFUSED", address


def test_members_cannot_reach_the_master(lab: Lab, two: tuple[Host, Host]) -> None:
    near, _ = two
    with lab.neighbour.outside.serves("master", f"tcp/{MASTER}/8080"):
        assert near.outside.tries(MASTER, 8080) == f"open master sees {near.address}"
        assert near.member("jjjj-1.0.1").tries(MASTER, 8080) == "ECONNREFUSED"


@pytest.mark.parametrize("egress", ["all", "named"])
def test_a_token_opens_the_masters_api_and_nothing_else_on_its_machine(lab: Lab, egress: str) -> None:
    near, _ = lab.hosts
    cluster = Cluster(Settings(own_addresses=(MASTER,), api_port=8443))
    told = allocated(cluster, near, token=True)
    spec = hub(near, near, forbidden=told.forbidden, api=told.api, egress=Egress(egress))
    near.converge(spec, sandbox("jjjj-1.0.1", OPEN))
    with lab.neighbour.outside.serves("master", "tcp/0.0.0.0/22", "tcp/0.0.0.0/8443", "udp/0.0.0.0/8443"):
        member = near.member("jjjj-1.0.1")
        assert member.tries(MASTER, 8443) == f"open master sees {near.address}"
        assert member.tries(MASTER, 22) == "ECONNREFUSED"
        assert not member.tries(MASTER, 8443, "udp").startswith("open")


def test_members_reach_the_masters_machine_by_no_address_wherever_it_listens(lab: Lab, tmp_path: Path) -> None:
    near, _ = lab.hosts
    lab.neighbour.run("ip", "address", "add", "10.99.0.9/24", "dev", "u0")
    near.run("ip", "route", "add", "10.99.0.0/24", "dev", "u0")
    (tmp_path / "master.yaml").write_text("master: {listen: 'fd00::5'}")
    with namespaces.entered(lab.neighbour.namespace):
        settings = load({}, {}, tmp_path / "master.yaml").settings
    forbidden = allocated(Cluster(settings), near).forbidden
    near.converge(hub(near, near, forbidden=forbidden), sandbox("jjjj-1.0.1", OPEN))
    with lab.neighbour.outside.serves("master", "tcp/0.0.0.0/22"):
        for address in (MASTER, "10.99.0.9"):
            assert near.outside.tries(address, 22) == f"open master sees {near.address}"
            assert near.member("jjjj-1.0.1").tries(address, 22) == "ECONNREFUSED", address


def test_members_cannot_reach_the_metadata_addresses(lab: Lab, two: tuple[Host, Host]) -> None:
    near, _ = two
    for address in ("169.254.169.254", "169.254.170.2"):
        lab.neighbour.run("ip", "address", "add", f"{address}/32", "dev", "u0")
        near.run("ip", "route", "add", address, "dev", "u0")
        with lab.neighbour.outside.serves("metadata", f"tcp/{address}/80"):
            assert near.outside.tries(address, 80).startswith("open metadata"), address
            assert near.member("jjjj-1.0.1").tries(address, 80) == "ECONNREFUSED"


def test_every_metadata_address_of_the_catalogue_is_out_of_reach() -> None:
    reachable = [address for address in METADATA_ADDRESSES if address not in _alone().unreachable]
    # There is no IPv6 in a sandbox; see the test of that.
    assert [address for address in reachable if ":" not in address] == []


def test_nobody_outside_can_be_routed_to_a_member(lab: Lab, two: tuple[Host, Host]) -> None:
    near, _ = two
    lab.neighbour.run("ip", "route", "add", "198.18.0.0/15", "via", near.address)
    with near.member("jjjj-1.0.1").serves("rank0", "tcp/0.0.0.0/8888"):
        for address in ("198.18.0.1", "10.128.0.10"):
            near.run("ip", "route", "replace", "10.128.0.0/24", "via", "198.18.0.1")
            assert lab.neighbour.outside.tries("198.18.0.1", 8888) in NOTHING
            assert near.outside.tries(address, 8888) in NOTHING


def test_a_source_address_that_is_not_the_members_is_dropped_in_the_hub(two: tuple[Host, Host]) -> None:
    near, _ = two
    member = near.member("jjjj-1.0.1")
    # As root of the machine: what no member can do, and what would not help it.
    member.run("nft", "flush", "ruleset")
    member.run("ip", "address", "add", "10.128.0.66/24", "dev", "eth0")
    assert member.tries("10.128.0.11", 5000, "udp", "10.128.0.10") == "open rank1 sees 10.128.0.10"
    before = near.counters("jjjj-1").spoofed
    assert member.tries("10.128.0.11", 5000, "udp", "10.128.0.66") == "silent"
    assert near.counters("jjjj-1").spoofed == before + 1


def test_a_source_mac_that_is_not_the_members_is_dropped_in_the_hub(two: tuple[Host, Host]) -> None:
    near, _ = two
    member = near.member("jjjj-1.0.1")
    member.run("nft", "flush", "ruleset")
    assert member.tries("10.128.0.11", 5000, "udp") == "open rank1 sees 10.128.0.10"
    member.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:66")
    before = near.counters("jjjj-1").spoofed
    assert member.tries("10.128.0.11", 5000, "udp") == "silent"
    assert near.counters("jjjj-1").spoofed == before + 1


def test_vxlan_forged_by_a_neighbour_is_dropped(lab: Lab, two: tuple[Host, Host]) -> None:
    _, far = two
    with far.member("jjjj-1.1.1").serves("rank1", "udp/10.128.0.11/5001") as heard:
        lab.neighbour.outside.sends(FORGED, far.address, 4789)
        assert _dropped(far, "inbound", "forged VXLAN") == 1
        # Without the host's rules the same packet is believed; so it is they that stop it.
        far.run("nft", "delete", "table", "inet", "quorate")
        lab.neighbour.outside.sends(FORGED, far.address, 4789)
        wait_until(lambda: heard == [b"forged"])


def test_vxlan_forged_by_a_process_of_an_agents_host_never_leaves_it(two: tuple[Host, Host]) -> None:
    near, far = two
    with far.member("jjjj-1.1.1").serves("rank1", "udp/10.128.0.11/5001") as heard:
        near.outside.sends(FORGED, far.address, 4789)
        assert _dropped(near, "outbound", "forged VXLAN") == 1
        # The kernel's own packets of the overlay pass the same chain.
        assert near.member("jjjj-1.0.1").tries("10.128.0.11", 29400) == "open rank1 sees 10.128.0.10"
        near.run("nft", "delete", "table", "inet", "quorate")
        near.outside.sends(FORGED, far.address, 4789)
        wait_until(lambda: heard == [b"forged"])


def test_vxlan_forged_by_a_member_never_leaves_its_host(lab: Lab, two: tuple[Host, Host]) -> None:
    near, far = two
    # Not even to an agent that neither the plan nor the allocation names.
    near.converge(hub(near, near, far), sandbox("jjjj-1.0.1", OPEN))
    member, other = near.member("jjjj-1.0.1"), "10.77.0.99"
    with lab.neighbour.outside.serves("other", f"udp/{other}/4788", f"udp/{other}/4789") as heard:
        member.sends(FORGED, other, 4789)
        assert _dropped(near, "through", "forged VXLAN") == 1
        assert member.tries(other, 4788, "udp") == f"open other sees {near.address}"
        assert heard == [b"?"]


def test_ipv6_and_link_local_addresses_lead_nowhere(two: tuple[Host, Host]) -> None:
    near, far = two
    assert near.member("jjjj-1.0.1").run("ip", "-6", "address") == ""
    # Even where root of the machine switches it on, the hub carries none of it.
    for place, number in ((near.member("jjjj-1.0.1"), 1), (far.member("jjjj-1.1.1"), 2)):
        place.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
        place.run("nft", "flush", "ruleset")
        place.run("ip", "address", "add", f"fe80::{number}/64", "dev", "eth0", "nodad")
        place.run("ip", "address", "add", f"fd00:9::{number}/64", "dev", "eth0", "nodad")
    with far.member("jjjj-1.1.1").serves("rank1", "tcp/fd00:9::2/29400"):
        assert near.member("jjjj-1.0.1").tries("fd00:9::2", 29400) in NOTHING
    assert near.hub("jjjj-1").run("ip", "-6", "address") == ""


def test_root_in_a_container_cannot_change_its_rules_or_its_link(two: tuple[Host, Host]) -> None:
    near, _ = two
    member = near.member("jjjj-1.0.1")
    before = member.run("nft", "-s", "list", "ruleset")
    for attempt in (
        ("nft", "flush", "ruleset"),
        ("ip", "link", "set", "eth0", "address", "02:00:00:00:00:66"),
        ("ip", "address", "add", "10.128.0.66/24", "dev", "eth0"),
        ("unshare", "-Ur", "nft", "flush", "ruleset"),
    ):
        with pytest.raises(AssertionError, match=r"not permitted|Operation|denied"):
            member.run(*AS_CONTAINER_ROOT, *attempt)
    assert member.run("nft", "-s", "list", "ruleset") == before


def _alone() -> HubSpec:
    return HubSpec("jjjj-1", 7, "10.128.0.0/24", "10.128.0.1", "10.0.0.1", (Peer("10.0.0.1", "10.128.0.10"),))


def _forged() -> bytes:
    """A packet as VXLAN carries it, from rank 0 to rank 1, whose UDP payload is `forged`."""
    payload = b"forged"
    udp = struct.pack("!HHHH", 5001, 5001, 8 + len(payload), 0) + payload
    addresses = IPv4Address("10.128.0.10").packed + IPv4Address("10.128.0.11").packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack("!10H", header))
    checksum = ~(total + (total >> 16)) & 0xFFFF
    ip = header[:10] + struct.pack("!H", checksum) + header[12:] + udp
    macs = b"".join(bytes.fromhex(names.mac("jjjj-1", rank).replace(":", "")) for rank in (1, 0))
    return struct.pack("!BxxxI", 8, 7 << 8) + macs + b"\x08\x00" + ip


FORGED = _forged()


def _dropped(host: Host, chain: str, comment: str) -> int:
    listed = json.loads(host.run("nft", "-j", "list", "chain", "inet", "quorate", chain))["nftables"]
    rules = [item["rule"] for item in listed if item.get("rule", {}).get("comment") == comment]
    assert rules
    return sum(part["counter"]["packets"] for rule in rules for part in rule["expr"] if "counter" in part)
