"""What `nft -j list ruleset` never prints is refused with its place; everything that it does print is read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from quorate.network.audit import audit
from quorate.network.audit.ruleset import Unreadable
from quorate.network.flows import Role
from quorate.network.plan import Plan

TABLE = {"family": "inet", "name": "t", "handle": 1}
CHAIN = {"family": "inet", "table": "t", "name": "in", "handle": 2, "type": "filter", "hook": "input", "prio": 0}
CLOSED = {**CHAIN, "policy": "drop"}
SET = {"family": "inet", "table": "t", "name": "s", "handle": 3, "type": "ipv4_addr"}
#: One of each kind of object, and of each kind of chain.
EVERYTHING = """\
table inet t {
    comment "a table"
    counter c { }
    quota q { over 10 mbytes; }
    limit l { rate 10/second; }
    ct helper h { type "ftp" protocol tcp; }
    ct timeout o { protocol tcp; l3proto ip; }
    ct expectation e { protocol tcp; dport 99; timeout 1m; size 4; l3proto ip; }
    synproxy y { mss 1460; wscale 7; }
    set s { type ipv4_addr; flags interval, timeout; timeout 1m; gc-interval 1m; auto-merge; elements = { 10.0.0.1 }; }
    map m { type ipv4_addr : verdict; comment "a map"; elements = { 10.0.0.1 : accept }; }
    chain in { type filter hook input priority 0; policy drop; comment "a chain"; ip saddr @s counter accept; }
    chain regular { }
}
table ip n { chain pre { type nat hook prerouting priority dstnat; }; }
table ip r { chain out { type route hook output priority mangle; }; }
table arp a { chain in { type filter hook input priority 0; }; }
table bridge b { chain in { type filter hook forward priority 0; }; }
table netdev d { chain in { type filter hook ingress device lo priority 0; }; }
"""


def read(*objects: Any) -> None:
    audit(Plan("nothing", (), ()), "nftables", json.dumps({"nftables": list(objects)}), Role.AGENT)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"chian": CLOSED}, "there is no field 'chian' here; did you mean 'chain'?"),
        ({"add": {"chain": CLOSED}}, "there is no field 'add' here; there are chain, "),
        ({"chain": {**CHAIN, "polcy": "drop"}}, "there is no field 'polcy' here; did you mean 'policy'?"),
        ({"chain": {**CHAIN, "verdict": "drop"}}, "there is no field 'verdict' here; there are comment, "),
        ({"chain": {**CHAIN, "policy": "dorp"}}, "policy is 'dorp'; did you mean 'drop'?"),
        ({"chain": {**CLOSED, "hook": "inptu"}}, "hook is 'inptu'; did you mean 'input'?"),
        ({"chain": {**CLOSED, "type": ["nat"]}}, "type is \"['nat']\"; "),
        ({"chain": {**CLOSED, "family": "ipv4"}}, "family is 'ipv4'; did you mean 'ip'?"),
        ({"chain": {**CLOSED, "prio": "filtr"}}, "the chain lacks or misuses 'filtr'"),
        ({"set": {**SET, "elems": ["10.0.0.1"]}}, "there is no field 'elems' here; did you mean 'elem'?"),
        ({"table": {**TABLE, "flag": "dormant"}}, "there is no field 'flag' here; did you mean 'flags'?"),
    ],
)
def test_a_word_that_nft_does_not_have_is_refused_with_its_place(wrong: Any, says: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(f"object 1: {says}")):
        read({"table": TABLE}, wrong)


def test_what_newer_versions_may_print_around_rules_is_read() -> None:
    read({"metainfo": {"version": "9.9"}}, {"table": {**TABLE, "owner-id": 7}}, {"set": {**SET, "colour": "red"}})


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not here")
def test_every_object_that_nft_prints_is_read() -> None:
    shell = "nft -f - && nft -j -a list ruleset"
    done = subprocess.run(
        ["unshare", "-rn", "bash", "-c", shell],
        input=EVERYTHING,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)["nftables"]
    kinds = {kind for item in printed for kind in item}
    assert kinds >= {"metainfo", "table", "chain", "rule", "set", "map", "counter", "quota", "limit", "ct helper"}
    # Not every kernel has flow tables.
    read(
        *printed,
        {"flowtable": {"family": "inet", "table": "t", "name": "f", "hook": "ingress", "prio": 0, "dev": "lo"}},
    )
