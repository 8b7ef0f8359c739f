"""Rules of other programs on the host: ours leave them alone, and a remedy opens what members need and nothing else."""

from __future__ import annotations

import pytest
from tests.sandbox.hosts import Host, Lab, both_ways, hub, sandbox

pytestmark = pytest.mark.lab

PLANNED = both_ways("torch-rendezvous", 29400)

#: What Docker and firewalld leave on a host, as their own tools write it.
FOREIGN = """
table ip nat {
  chain DOCKER {
  }
  chain POSTROUTING {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 172.17.0.0/16 oifname != "docker0" counter masquerade
  }
}
table inet firewalld {
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state established,related accept
    iifname "lo" accept
    tcp dport 22 accept
    udp dport 4789 accept
    reject with icmpx admin-prohibited
  }
}
"""


def test_tables_of_others_stay_as_they_are_and_ours_hold_beside_them(lab: Lab) -> None:
    near, far = lab.hosts
    near.run("nft", "-f", "-", text=FOREIGN)
    before = near.run("nft", "-s", "list", "ruleset")
    near.converge(hub(near, near, far), sandbox("jjjj-1.0.1", PLANNED))
    far.converge(hub(far, near, far), sandbox("jjjj-1.1.1", PLANNED))
    with near.member("jjjj-1.0.1").serves("rank0", "tcp/0.0.0.0/29400"):
        assert far.member("jjjj-1.1.1").tries("10.128.0.10", 29400) == "open rank0 sees 10.128.0.11"
    # Theirs accepts the port from everybody; ours still drops it from whoever is no agent.
    lab.neighbour.outside.sends(b"forged", near.address, 4789)
    assert "packets 1 " in near.run("nft", "list", "chain", "inet", "quorate", "inbound").split("forged VXLAN")[0]
    assert near.run("nft", "-s", "list", "ruleset").startswith(before)
    near.converge()
    assert near.run("nft", "-s", "list", "ruleset") == before


#: A chain that drops by default, as dockerd makes it and as an operator may write it.
DOCKERS = "\n".join(
    f"iptables-nft {rule}"
    for rule in ("-P FORWARD DROP", "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", "-A DOCKER-USER -j RETURN")
)
OPERATORS = "nft 'table inet own { chain f { type filter hook forward priority 0; policy drop; }; }'"


def leads_outside(host: Host) -> None:
    """The host's default route is the wire."""
    host.run("ip", "route", "add", "default", "via", "10.77.0.99")


@pytest.mark.parametrize(("rules", "chain"), [(DOCKERS, "ip filter FORWARD"), (OPERATORS, "inet own f")])
def test_a_default_drop_is_named_and_its_remedy_lets_members_out_and_into_no_container(
    lab: Lab, rules: str, chain: str
) -> None:
    host, _ = lab.hosts
    leads_outside(host)
    container = lab.container(host)
    host.converge(hub(host, host), sandbox("jjjj-1.0.1"))
    member = host.member("jjjj-1.0.1")
    with container.serves("container", "tcp/172.17.0.2/80"):
        # Nothing else keeps it closed.
        assert member.tries("172.17.0.2", 80).startswith("open")
        host.run("sh", "-ec", rules)
        with lab.neighbour.outside.serves("outside", "tcp/10.77.0.99/443"):
            assert member.tries("10.77.0.99", 443) == "silent"
            (obstacle,) = host.obstacles()
            assert str(obstacle) == chain
            assert member.tries("172.17.0.2", 80) == "silent"
            host.run("sh", "-ec", obstacle.remedy.replace("iptables", "iptables-nft"))
            assert member.tries("10.77.0.99", 443) == "open outside sees 10.77.0.10"
            assert member.tries("172.17.0.2", 80) == "silent"
    assert host.obstacles() == ()


def test_dockers_own_place_for_rules_of_others_is_used(lab: Lab) -> None:
    host, _ = lab.hosts
    host.run("sh", "-ec", DOCKERS)
    assert "-I DOCKER-USER -i quorate+" in host.obstacles()[0].remedy


def test_a_remedy_leaves_the_device_to_the_operator_where_no_route_names_it(lab: Lab) -> None:
    host, _ = lab.hosts
    host.run("sh", "-ec", DOCKERS)
    assert "-o DEVICE -j ACCEPT" in host.obstacles()[0].remedy


#: What firewalld 1.3 makes of a machine whose devices have no zone, as far as it matters; nothing drops by policy.
FIREWALLD = """
table inet firewalld {
  chain filter_FWD_public_allow {
  }
  chain filter_FWD_public {
    jump filter_FWD_public_allow
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD_ZONES {
    goto filter_FWD_public
  }
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state established,related accept
    iifname "lo" accept
    ct state invalid drop
    jump filter_FORWARD_ZONES
    reject with icmpx admin-prohibited
  }
}
"""


def test_a_chain_that_rejects_in_the_end_is_named_with_the_commands_of_its_own_program(lab: Lab) -> None:
    host, _ = lab.hosts
    leads_outside(host)
    host.converge(hub(host, host), sandbox("jjjj-1.0.1"))
    with lab.neighbour.outside.serves("outside", "tcp/10.77.0.99/443"):
        assert host.member("jjjj-1.0.1").tries("10.77.0.99", 443).startswith("open")
        host.run("nft", "-f", "-", text=FIREWALLD)
        assert not host.member("jjjj-1.0.1").tries("10.77.0.99", 443).startswith("open")
    (obstacle,) = host.obstacles()
    assert str(obstacle) == "inet firewalld filter_FORWARD"
    assert "--policy=quorate-out --add-egress-zone=public &&" in obstacle.remedy
    assert "--zone=public --change-interface=u0" in obstacle.remedy
    assert obstacle.remedy.endswith("firewall-cmd --reload")
    # A device that has a zone keeps it.
    given = 'iifname "u0" goto filter_FWD_public_allow'
    host.run("nft", "insert", "rule", "inet", "firewalld", "filter_FORWARD_ZONES", *given.split())
    (obstacle,) = host.obstacles()
    assert "--add-egress-zone=public_allow &&" in obstacle.remedy
    assert "--change-interface" not in obstacle.remedy


def test_a_chain_that_accepts_before_its_policy_could_drop_is_no_obstacle(lab: Lab) -> None:
    host, _ = lab.hosts
    host.run("sh", "-ec", f"{DOCKERS}; iptables-nft -A FORWARD -j ACCEPT")
    assert host.obstacles() == ()


def test_a_default_drop_of_ipv6_stands_in_nobodys_way(lab: Lab) -> None:
    host, _ = lab.hosts
    host.run("ip6tables-nft", "-P", "FORWARD", "DROP")
    assert host.obstacles() == ()
