"""Members reach each other over the overlay and the bridge, and the outside over the uplink, with honest sizes."""

from __future__ import annotations

import pytest
from tests.sandbox.hosts import Lab, everything, hub, sandbox

from quorate.agent.sandbox.spec import Egress

pytestmark = pytest.mark.lab

OPEN = everything()


def test_members_on_two_hosts_reach_each_other_by_their_own_addresses(lab: Lab) -> None:
    near, far = lab.hosts
    near.converge(hub(near, near, far), sandbox("jjjj-1.0.1", OPEN))
    far.converge(hub(far, near, far), sandbox("jjjj-1.1.1", OPEN))
    with far.member("jjjj-1.1.1").serves("rank1", "tcp/10.128.0.11/29400"):
        assert near.member("jjjj-1.0.1").tries("10.128.0.11", 29400) == "open rank1 sees 10.128.0.10"
    with near.member("jjjj-1.0.1").serves("rank0", "tcp/10.128.0.10/29400"):
        assert far.member("jjjj-1.1.1").tries("10.128.0.10", 29400) == "open rank0 sees 10.128.0.11"


def test_members_on_one_host_reach_each_other_over_the_hubs_bridge(lab: Lab) -> None:
    (host, _) = lab.hosts
    host.converge(hub(host, host, host), sandbox("jjjj-1.0.1", OPEN), sandbox("jjjj-1.1.1", OPEN))
    with host.member("jjjj-1.1.1").serves("rank1", "tcp/10.128.0.11/29400"):
        assert host.member("jjjj-1.0.1").tries("10.128.0.11", 29400) == "open rank1 sees 10.128.0.10"


def test_a_member_reaches_the_outside_under_its_hosts_address(lab: Lab) -> None:
    host, _ = lab.hosts
    host.converge(hub(host, host), sandbox("jjjj-1.0.1"))
    with lab.neighbour.outside.serves("outside", "tcp/10.77.0.99/443"):
        assert host.member("jjjj-1.0.1").tries("10.77.0.99", 443) == "open outside sees 10.77.0.10"


def test_without_egress_there_is_no_uplink_and_no_way_out(lab: Lab) -> None:
    host, _ = lab.hosts
    host.converge(hub(host, host, egress=Egress.NONE), sandbox("jjjj-1.0.1"))
    with lab.neighbour.outside.serves("outside", "tcp/10.77.0.99/443"):
        assert host.member("jjjj-1.0.1").tries("10.77.0.99", 443) == "ENETUNREACH"
    assert host.links() == {"lo", "u0"}
