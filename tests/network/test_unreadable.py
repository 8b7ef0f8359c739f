"""Whatever a file holds, a reader says what is wrong and where, or gives a report; it never falls over."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorate.model.ports import PortRange
from quorate.network.audit import FORMATS, Unreadable, audit
from quorate.network.flows import Role, Transport
from quorate.network.plan import EVERYWHERE, Party, Plan, PlannedFlow, addresses

AGENTS = Party(
    Role.AGENT, "gpu", addresses(["10.0.1.0/24", "fd00:1::/64"]), tags=("a",), security_groups=("sg-1",),
    labels=(("app", "a"),), namespace="default",
)  # fmt: skip
ANYONE = Party(Role.ANYONE, "anyone", EVERYWHERE)
PLAN = Plan(
    "fuzz",
    (PlannedFlow("peers", AGENTS, AGENTS, Transport.TCP, (PortRange(1, 65535),), ""),),
    (PlannedFlow("anyone-to-agent", ANYONE, AGENTS, Transport.TCP, (PortRange(0, 65535),), ""),),
)
VENDOR = Path(__file__).parent / "vendor"
NFTABLES = json.dumps(
    {
        "nftables": [
            {"table": {"family": "inet", "name": "t", "handle": 1}},
            {
                "chain": {
                    "family": "inet", "table": "t", "name": "in", "handle": 2, "type": "filter", "hook": "input",
                    "prio": 0, "policy": "drop",
                }
            },
            {"set": {"family": "inet", "name": "s", "table": "t", "type": "ipv4_addr", "elem": ["10.0.0.1"]}},
            {
                "rule": {
                    "family": "inet", "table": "t", "chain": "in", "handle": 3,
                    "expr": [
                        {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
                                   "right": {"prefix": {"addr": "10.0.0.0", "len": 8}}}},
                        {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}},
                                   "right": {"set": [22, {"range": [80, 90]}]}}},
                        {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established"]}},
                        {"accept": None},
                    ],
                }
            },
        ]
    }
)  # fmt: skip


def texts(form: str) -> list[str]:
    if form == "nftables":
        return [NFTABLES]
    found = [document["rules"] for document in yaml.safe_load_all((VENDOR / f"{form}.yaml").read_text())]
    return [rules if isinstance(rules, str) else json.dumps(rules) for rules in found]


def read(form: str, text: str) -> None:
    try:
        audit(PLAN, form, text)
    except Unreadable as error:
        assert str(error)


SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
JUNK: list[Any] = [
    None, True, 0, -1, 65536, 10**30, 1.5, "", "x", "0", "10.0.0.1/24", "::/0", "10.0.0.0/99", "1-99999", "99999999",
    [], {}, [None], [[]], {"a": 1}, {"min": 1}, "a" * 3000, "\u0000", "\u0661", "fe80::1%eth0", "65535-1", "@s",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
@SETTINGS
@given(text=st.text(max_size=300))
def test_any_text(form: str, text: str) -> None:
    read(form, text)


@pytest.mark.parametrize("form", FORMATS)
@SETTINGS
@given(seed=st.integers(0, 10**6))
def test_rules_with_a_few_characters_changed(form: str, seed: int) -> None:
    chance = random.Random(seed)
    text = list(chance.choice(texts(form)))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(text))
        text[place] = chance.choice(
            ["", " ", "\n", "-", "!", '"', "[", "}", ":", "9", "é", "\x00", "65536", text[place] * 2]
        )
    read(form, "".join(text))


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "iptables"])
@SETTINGS
@given(seed=st.integers(0, 10**6))
def test_rules_with_something_else_in_a_field(form: str, seed: int) -> None:
    chance = random.Random(seed)
    loaded = [
        body
        for text in texts(form)
        if form == "kubernetes" or not text.startswith('{"networkSecurity')
        for body in (list(yaml.safe_load_all(text)) if form == "kubernetes" else [json.loads(text)])
    ]
    body = copy.deepcopy(chance.choice(loaded))
    for _ in range(chance.randint(1, 2)):
        places = paths(body)
        if not places:
            break
        *parents, last = chance.choice(places)
        target = body
        for key in parents:
            target = target[key]
        target[last] = copy.deepcopy(chance.choice(JUNK))
    read(form, yaml.safe_dump(body, allow_unicode=True) if form == "kubernetes" else json.dumps(body))


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [inner for key, item in items for inner in paths(item, (*path, key))]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        "- " * 50_000,
        "*filter\n" + ":A - [0:0]\n" * 50_000,
        "\x7fELF\x02" * 1000,
        "\n" * 10**6,
    ],
    ids=["lists", "objects", "yaml", "chains", "binary", "lines"],
)
def test_what_is_nested_deep_or_huge(form: str, text: str) -> None:
    with pytest.raises(Unreadable):
        audit(PLAN, form, text)


@pytest.mark.parametrize("form", FORMATS)
def test_fifty_megabytes_of_something_else_are_refused_at_once(form: str) -> None:
    with pytest.raises(Unreadable):
        audit(PLAN, form, "a: b\n" * 10 * 2**20)


@pytest.mark.parametrize(
    ("form", "text", "place"),
    [
        ("iptables", "*filter\n:INPUT DROP [0:0]\n-A INPUT -s 10.0.0.300 -j ACCEPT\nCOMMIT\n", "line 3"),
        ("iptables", "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp --dport 70000 -j ACCEPT\nCOMMIT\n", "line 3"),
        ("gcp", '[{"name": "a", "allowed": [{"IPProtocol": "tcp", "ports": ["65536"]}]}]', "rule a.allowed[0]"),
        ("gcp", '[\n{"name": "a",}]', "line 2"),
        (
            "aws",
            '{"SecurityGroups": [{"GroupId": "g", "IpPermissions": [{"IpProtocol": "tcp", "FromPort": 9}]}]}',
            "$.SecurityGroups[0].IpPermissions[0]",
        ),
        ("oci", '{"data": [{"direction": "IN", "protocol": "6"}]}', "document 0.data[0]"),
        ("kubernetes", "kind: NetworkPolicy\nspec: {ingress: [{ports: [{port: 0}]}]}", "document 0.ingress[0]"),
        ("kubernetes", "a: 1\nb: [", "line"),
    ],
)  # fmt: skip
def test_the_place_is_said(form: str, text: str, place: str) -> None:
    with pytest.raises(Unreadable) as error:
        audit(PLAN, form, text)
    assert place in error.value.place
