"""An operator's proxy reaches members, and nothing of the cluster goes through it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from tests.agent.peer import spec

from quorate.agent.orders import Machine, Places, compose
from quorate.agent.proxy import Proxy
from quorate.model.messages import NetworkSpec, PlannedMember

PROXY = Proxy("http://proxy.example.org:3128", ("master.example.org", ".corp"))
MACHINE = Machine(proxy=PROXY, inherited={"http_proxy": "http://of-the-agent:1"})
PLACES = Places("/folder", "/work", "/secrets")
TWO = msgspec.structs.replace(
    spec(("true",), allocation="jobs-1", agents=("alpha", "beta")),
    members=tuple(
        PlannedMember(
            rank, "main", rank + 1, f"main{rank + 1}", "alpha", f"10.128.0.{2 + rank}", (0,), underlay="10.0.0.9"
        )
        for rank in range(2)
    ),
    network=NetworkSpec("overlay", 7, "10.128.0.0/24", "10.128.0.1"),
)


def test_a_member_has_the_proxy_in_both_cases_and_every_other_member_past_it() -> None:
    given = compose("jobs-1.0.1", TWO, MACHINE, PLACES, None, {}).environment
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        assert given[name] == "http://proxy.example.org:3128"
    assert given["no_proxy"] == given["NO_PROXY"]
    past = given["NO_PROXY"].split(",")
    assert {
        "localhost",
        "main1",
        "main2",
        "10.128.0.2",
        "10.128.0.3",
        "10.0.0.9",
        "master.example.org",
        ".corp",
    } <= set(past)


def test_what_the_operator_or_the_user_sets_stands_above_it() -> None:
    machine = replace(MACHINE, environment={"https_proxy": "http://other:1"})
    job = msgspec.structs.replace(TWO, environment={"NO_PROXY": "mine"})
    order = compose("jobs-1.0.1", job, machine, PLACES, None, {})
    assert order.environment["https_proxy"] == "http://other:1"
    assert order.user_environment["NO_PROXY"] == "mine"
