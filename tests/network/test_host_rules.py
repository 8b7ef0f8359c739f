"""A machine's own rules leave it what keeps it on its network, and no more."""

from __future__ import annotations

import shlex
import sys

import pytest

from quorate.network.audit import audit
from quorate.network.flows import Role
from quorate.network.rules import render

from .platforms import in_namespace
from .test_rules_audit_round_trip import HOST

#: An address on a link to nobody: a packet that the rules drop on the way out fails with EPERM.
LINK = (
    "ip link set lo up; ip link add d0 type veth peer name d1; ip link set d1 up; ip addr add 10.9.0.1/24 dev d0; "
    "ip addr add fe80::9/64 dev d0 nodad; ip link set d0 up"
)
SENDS = """
import errno, socket, sys
family, source, host, port, passes = sys.argv[1:]
with socket.socket(socket.AF_INET6 if family == "6" else socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.bind(("", int(source)))
    to = (host, int(port), 0, socket.if_nametoindex("d0")) if family == "6" else (host, int(port))
    try:
        udp.sendto(b"?", to)
        passed = True
    except OSError as error:
        assert error.errno == errno.EPERM, error
        passed = False
sys.exit(passed is not (passes == "passes"))
"""


def loading(form: str) -> str:
    text = render(HOST, form, Role.AGENT).text
    if form == "nftables":
        return f"nft -f - <<'TEXT'\n{text}\nTEXT\n"
    v4, _, v6 = text.partition("# IPv6\n")
    return f"iptables-restore <<'TEXT'\n{v4}\nTEXT\nip6tables-restore <<'TEXT'\n{v6}\nTEXT\n"


@pytest.mark.lab
@pytest.mark.parametrize("form", ["nftables", "iptables"])
@pytest.mark.parametrize(
    "packet",
    [
        "4 68 10.9.0.254 67 passes",
        "4 40000 10.9.0.254 67 fails",
        "4 68 10.9.0.254 69 fails",
        "6 546 ff02::1:2 547 passes",
        "6 40000 ff02::1:2 547 fails",
        "6 546 ff02::1 547 fails",
    ],
)
def test_a_machine_can_renew_its_lease_and_only_as_a_client_of_dhcp(form: str, packet: str) -> None:
    sending = shlex.join([sys.executable, "-c", SENDS, *packet.split()])
    in_namespace(f"{LINK}\n{loading(form)}\n{sending}\n")


@pytest.mark.parametrize("form", ["nftables", "iptables"])
def test_multicast_listeners_are_heard_so_that_ipv6_has_neighbours(form: str) -> None:
    text = render(HOST, form, Role.AGENT).text
    for kind in ("mld-listener-query", "mld2-listener-report") if form == "nftables" else ("130", "143"):
        assert text.count(kind) == 2, "in and out"


def test_a_machines_own_needs_are_no_finding() -> None:
    assert audit(HOST, "iptables", render(HOST, "iptables", Role.AGENT).text, Role.AGENT).findings == ()
