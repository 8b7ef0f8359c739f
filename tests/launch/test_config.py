"""The configuration of a companion survives its journey and is refused when it contradicts itself."""

import json
from typing import Any

import pytest
from launch_vocabulary import gang

from quorate.launch.config import MAX_MEMBERS, Configuration, ConfigurationError, Network, Preflight, ProbeFlow


def edited(**changes: Any) -> str:
    data = json.loads(gang(3).to_json())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = data
        for parent in parents:
            place = place[int(parent)] if parent.isdigit() else place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return json.dumps(data)


def test_what_is_written_is_read_back() -> None:
    configuration = gang(3, rank=2, slots=2, network=Network.OVERLAY, incarnation=4)
    assert Configuration.from_json(configuration.to_json()) == configuration


def test_what_the_preflight_tries_is_read_back() -> None:
    flows = (
        ProbeFlow("gloo", (32768, 60999), "Gloo between ranks", remedy="nft insert rule … {source}"),
        ProbeFlow("tf-config", (29500, 29500), sources=(0,), destinations=(1, 2), per_rank=True),
        ProbeFlow("open-udp", (1, 65535), transport="udp"),
    )
    carrier = ProbeFlow("vxlan", (4789, 4789), transport="udp")
    configuration = gang(3, flows=flows, carrier=carrier, preflight=Preflight.WARN)
    assert Configuration.from_json(configuration.to_json()) == configuration


def test_a_flow_with_a_port_for_each_rank_says_where_each_listens() -> None:
    flow = ProbeFlow("tf-config", (29500, 29500), per_rank=True)
    assert [flow.ports_of(rank) for rank in (0, 2)] == [(29500, 29500), (29502, 29502)]


def test_it_fits_on_one_line() -> None:
    assert "\n" not in gang(3).to_json()


def test_the_largest_gang_fits() -> None:
    member = json.loads(gang(1).to_json())["members"][0]
    members = [{**member, "rank": rank, "name": f"sub{rank}"} for rank in range(MAX_MEMBERS)]
    assert Configuration.from_json(edited(members=members)).size == MAX_MEMBERS


def test_unknown_fields_are_ignored_and_known_ones_have_defaults() -> None:
    configuration = Configuration.from_json(edited(colour="red", timeouts=None, network=None, incarnation=None))
    assert configuration.network is Network.HOST
    assert configuration.timeouts.rendezvous_s > 0


def test_ids_are_derived_from_the_allocation() -> None:
    configuration = gang(2, rank=1, incarnation=3)
    assert (configuration.job, configuration.attempt) == ("qqqq2222", 1)
    assert configuration.member_id == "qqqq2222-1.1.3"


def test_the_nonce_is_not_shown_to_people() -> None:
    configuration = gang(2)
    assert configuration.nonce not in repr(configuration)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"allocation": "../../etc"}, "allocation"),
        ({"allocation": None}, "allocation"),
        ({"rank": 3}, "rank"),
        ({"rank": "0"}, "rank"),
        ({"rank": True}, "rank"),
        ({"nonce": ""}, "nonce"),
        ({"nonce": "zz" * 16}, "nonce"),
        ({"incarnation": 0}, "incarnation"),
        ({"network": "carrier-pigeon"}, "network"),
        ({"members": []}, "members"),
        ({"members": {}}, "members"),
        ({"members__1__rank": 2}, "members[1].rank"),
        ({"members__1__name": "main1"}, "members[1].name"),
        ({"members__1__name": "sub 1"}, "members[1].name"),
        ({"members__1__index": 0}, "members[1].index"),
        ({"members__1__address": "elsewhere"}, "members[1].address"),
        ({"members__1__ports": {"watch": 65536}}, "members[1].ports.watch"),
        ({"members__1__ports": {"watch": "80"}}, "members[1].ports"),
        ({"members__1__slots": [0.5]}, "members[1].slots"),
        ({"members__1__role": None}, "members[1].role"),
        ({"preflight": "maybe"}, "preflight"),
        ({"flows": [{"ports": [1, 2]}]}, "flows[0].flow"),
        ({"flows": [{"flow": "ssh", "ports": [22]}]}, "flows[0].ports"),
        ({"flows": [{"flow": "ssh", "ports": [23, 22]}]}, "flows[0].ports"),
        ({"flows": [{"flow": "ssh", "ports": [22, 65536]}]}, "flows[0].ports"),
        ({"flows": [{"flow": "ssh", "ports": [65534, 65534], "per_rank": True}]}, "flows[0].ports"),
        ({"flows": [{"flow": "ssh", "ports": [22, 22], "destinations": [3]}]}, "flows[0]"),
        ({"flows": [{"flow": "ssh", "ports": [22, 22], "transport": "sctp"}]}, "flows[0].transport"),
        ({"timeouts__rendezvous_s": 0}, "timeouts.rendezvous_s"),
        ({"timeouts__rendezvous_s": "soon"}, "timeouts.rendezvous_s"),
    ],
)
def test_a_contradiction_is_refused_with_its_place(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Configuration.from_json(edited(**changes))
    assert place in str(refused.value)


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "null", "7", b"\xff"])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Configuration.from_json(text)


def test_a_single_member_needs_no_nonce() -> None:
    data = json.loads(gang(1).to_json())
    data["nonce"] = ""
    assert Configuration.from_json(json.dumps(data)).size == 1


def test_a_missing_port_is_named() -> None:
    with pytest.raises(ConfigurationError, match="main1 has no port for tensorboard"):
        gang(1).own.port("tensorboard")
