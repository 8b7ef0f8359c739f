"""Each member is told who it is and where the others are, and keeps what the user has set."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launch_vocabulary import gang, seen_by

from quorate.launch import environment
from quorate.launch.config import Configuration, Member, Network
from quorate.launch.fields import ConfigurationError
from quorate.launch.launchers import LauncherError
from quorate.launch.launchers import derive as launch
from quorate.network.jobplan import master_port_of, mistaken_master_port

PER_PROCESS = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"}

#: Of an allocation with a network of its own: nobody else can have the port there.
CANONICAL = {"main": 29500}


def test_a_member_knows_itself_and_the_others() -> None:
    configuration = gang(3, rank=2, slots=2)
    variables = environment.derive(configuration, {})
    assert variables["QUORATE_JOB"] == "qqqq2222"
    assert variables["QUORATE_ALLOCATION"] == "qqqq2222-1"
    assert variables["QUORATE_ATTEMPT"] == "1"
    assert variables["QUORATE_MEMBER"] == "qqqq2222-1.2.1"
    assert variables["QUORATE_ROLE"] == "sub"
    assert variables["QUORATE_INDEX"] == "2"
    assert variables["QUORATE_RANK"] == variables["NODE_RANK"] == "2"
    assert variables["QUORATE_SIZE"] == variables["NODE_COUNT"] == "3"
    assert variables["QUORATE_HOST"] == "sub2"
    assert variables["QUORATE_HOSTS"] == "main1,sub1,sub2"
    assert variables["QUORATE_ADDRESSES"] == "127.0.0.11,127.0.0.12,127.0.0.13"
    assert variables["QUORATE_REPLICAS"] == "main:1,sub:2"
    assert variables["QUORATE_SLOTS"] == "2"
    assert f"watch:{configuration.own.port('watch')}" in variables["QUORATE_PORTS"].split(",")


def test_the_main_address_is_a_name_only_where_names_resolve() -> None:
    assert environment.derive(gang(2, network=Network.HOST), {})["MASTER_ADDR"] == "127.0.0.11"
    assert environment.derive(gang(2, network=Network.OVERLAY), {})["MASTER_ADDR"] == "main1"


def test_the_main_port_is_the_first_member_s_for_all() -> None:
    configuration = gang(2, rank=1)
    ports = {environment.derive(seen_by(configuration, rank), {})["MASTER_PORT"] for rank in range(2)}
    assert ports == {str(configuration.first.port("main"))}


def test_a_single_member_is_told_of_no_others() -> None:
    variables = environment.derive(gang(1), {})
    assert not {"MASTER_ADDR", "MASTER_PORT", "TF_CONFIG", "NODE_RANK", "NODE_COUNT"} & set(variables)
    assert variables["QUORATE_SIZE"] == variables["BACKENDAI_CLUSTER_SIZE"] == "1"


def test_a_cluster_has_backend_ai_s_variables_with_their_documented_values() -> None:
    """The table "Detection of clustered setups", whose example is a cluster of four."""
    variables = environment.derive(private(4, rank=0), {})
    assert {name: value for name, value in variables.items() if name.startswith("BACKENDAI_")} == {
        "BACKENDAI_CLUSTER_SIZE": "4",
        "BACKENDAI_CLUSTER_HOSTS": "main1,sub1,sub2,sub3",
        "BACKENDAI_CLUSTER_REPLICAS": "main:1,sub:3",
        "BACKENDAI_CLUSTER_HOST": "main1",
        "BACKENDAI_CLUSTER_IDX": "1",
        "BACKENDAI_CLUSTER_ROLE": "main",
        "BACKENDAI_CLUSTER_LOCAL_RANK": "0",
    }


def test_the_local_rank_of_backend_ai_counts_in_the_whole_session_and_its_index_in_the_role() -> None:
    variables = environment.derive(private(4, rank=3), {})
    assert (variables["BACKENDAI_CLUSTER_LOCAL_RANK"], variables["BACKENDAI_CLUSTER_IDX"]) == ("3", "3")
    assert variables["BACKENDAI_CLUSTER_HOST"] == "sub3"


def test_the_distributed_variables_are_those_of_backend_ai_s_page() -> None:
    variables = environment.derive(private(2, rank=0), {})
    assert variables["MASTER_ADDR"] == "main1"
    assert variables["MASTER_PORT"] == "29500"
    assert variables["TF_CONFIG"] == (
        '{"cluster": {"worker": ["main1:29500", "sub1:29501"]}, "task": {"type": "worker", "index": 0}}'
    )


@pytest.mark.parametrize("variable", ["MASTER_PORT", "BACKENDAI_DIST_MASTER_PORT"])
def test_tensorflow_s_ports_follow_the_master_port_of_the_user(variable: str) -> None:
    for network in Network:
        variables = environment.derive(gang(2, network=network), {variable: "30000"})
        assert [worker.rpartition(":")[2] for worker in workers(variables)] == ["30000", "30001"]
        assert variables.get("MASTER_PORT", "30000") == "30000"


@pytest.mark.parametrize("variable", ["MASTER_PORT", "BACKENDAI_DIST_MASTER_PORT"])
def test_the_list_of_a_member_s_ports_follows_the_master_port_of_the_user(variable: str) -> None:
    ports = environment.derive(private(2), {variable: "30000"})["QUORATE_PORTS"].split(",")
    assert [port for port in ports if port.startswith("main:")] == ["main:30000"]


def test_the_user_s_master_port_is_stronger_than_backend_ai_s() -> None:
    variables = environment.derive(private(2), {"MASTER_PORT": "31000", "BACKENDAI_DIST_MASTER_PORT": "30000"})
    assert "MASTER_PORT" not in variables
    assert workers(variables) == ["main1:31000", "sub1:31001"]


@pytest.mark.parametrize("text", ["65535", "0", "65536", "abc", "", "-1", " 1", "٣٠٠٠٠", "9" * 5000])
def test_a_master_port_that_leaves_no_port_for_each_rank_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(LauncherError, match="BACKENDAI_DIST_MASTER_PORT"):
        launch("none", private(2), ["true"], {"BACKENDAI_DIST_MASTER_PORT": text})


def test_the_last_port_is_one_as_well() -> None:
    assert workers(environment.derive(private(2), {"MASTER_PORT": "65534"})) == ["main1:65534", "sub1:65535"]


def test_who_writes_tf_config_needs_no_port_for_each_rank() -> None:
    environment.derive(private(2), {"MASTER_PORT": "65535", "TF_CONFIG": "{}"})


def test_a_framework_s_launcher_leaves_tensorflow_out_whose_ports_are_not_in_its_plan() -> None:
    assert "TF_CONFIG" not in launch("torch", gang(2), ["python3", "train.py"], {}).environment


def test_members_of_one_host_have_tensorflow_s_ports_by_lease() -> None:
    configuration = gang(2)
    main, sub = configuration.members
    sub = dataclasses.replace(sub, ports={**sub.ports, "tensorflow": 20123})
    variables = environment.derive(dataclasses.replace(configuration, members=(main, sub)), {})
    assert workers(variables) == [f"127.0.0.11:{main.ports['main']}", "127.0.0.12:20123"]


def test_an_ipv6_address_can_be_told_from_its_port() -> None:
    members = tuple(
        Member(rank, "main", rank + 1, f"main{rank + 1}", f"fd00::{rank + 1}", ports=CANONICAL) for rank in range(2)
    )
    configuration = Configuration("qqqq2222-1", members, rank=0, nonce="00" * 16)
    assert workers(environment.derive(configuration, {})) == ["[fd00::1]:29500", "[fd00::2]:29501"]


@settings(deadline=None)
@given(
    replicas=st.dictionaries(st.sampled_from(["sub", "worker", "ps"]), st.integers(1, 4), max_size=3), data=st.data()
)
def test_hosts_are_in_rank_order_main_first_in_every_variable(replicas: dict[str, int], data: st.DataObject) -> None:
    """Upstream's lists are not: main1 and sub1 tie where they are sorted by the index in the role."""
    order = [("main", 1), *((role, index + 1) for role, count in replicas.items() for index in range(count))]
    members = tuple(
        Member(rank, role, index, f"{role}{index}", f"10.0.0.{2 + rank}", ports=CANONICAL)
        for rank, (role, index) in enumerate(order)
    )
    rank = data.draw(st.integers(0, len(members) - 1))
    configuration = Configuration("qqqq2222-1", members, rank, nonce="00" * 16, network=Network.OVERLAY)
    variables = environment.derive(configuration, {})
    hosts = variables["BACKENDAI_CLUSTER_HOSTS"].split(",")
    assert hosts == variables["QUORATE_HOSTS"].split(",") == [member.name for member in members]
    assert hosts[0] == "main1"
    assert hosts[int(variables["BACKENDAI_CLUSTER_LOCAL_RANK"])] == variables["BACKENDAI_CLUSTER_HOST"]
    assert variables["BACKENDAI_CLUSTER_REPLICAS"].startswith("main:1")
    if len(members) > 1:
        assert variables["MASTER_ADDR"] == hosts[0]
        assert [worker.rpartition(":")[0] for worker in workers(variables)] == hosts
        assert json.loads(variables["TF_CONFIG"])["task"] == {"type": "worker", "index": rank}
        ports = [int(worker.rpartition(":")[2]) for worker in workers(variables)]
        assert ports == list(range(29500, 29500 + len(members)))


@given(
    variables=st.dictionaries(
        st.sampled_from(["MASTER_PORT", "BACKENDAI_DIST_MASTER_PORT"]), st.integers(1, 65535).map(str)
    )
)
def test_the_plan_and_the_member_take_the_same_port_for_the_user_s_choice(variables: dict[str, str]) -> None:
    """Neither may import the other: launch travels alone."""
    assert environment.chosen_port(variables) == master_port_of(variables)


@given(text=st.one_of(st.text(max_size=8), st.integers(-1, 100_000).map(str), st.just("000080")))
def test_the_plan_takes_for_no_port_what_the_member_does(text: str) -> None:
    variables = {"MASTER_PORT": text}
    mistake = mistaken_master_port(variables)
    if mistake is None:
        assert environment.chosen_port(variables) == int(text)
    else:
        with pytest.raises(ConfigurationError) as refused:
            environment.chosen_port(variables)
        assert str(refused.value) == mistake


def private(size: int, *, rank: int = 0) -> Configuration:
    """An allocation in a private network, with the canonical ports."""
    configuration = gang(size, rank=rank, network=Network.OVERLAY)
    members = tuple(dataclasses.replace(member, ports=CANONICAL) for member in configuration.members)
    return dataclasses.replace(configuration, members=members)


def workers(variables: dict[str, str]) -> list[str]:
    found = json.loads(variables["TF_CONFIG"])["cluster"]["worker"]
    assert isinstance(found, list)
    return found


@settings(deadline=None)
@given(
    size=st.integers(1, 5),
    network=st.sampled_from(Network),
    set_by_user=st.dictionaries(
        st.sampled_from(sorted({*environment.MEANINGS} - {"MASTER_PORT"})), st.text(max_size=5)
    ),
    data=st.data(),
)
def test_nothing_is_overridden_and_nothing_belongs_to_a_process(
    size: int, network: Network, set_by_user: dict[str, str], data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, size - 1))
    variables = environment.derive(gang(size, rank=rank, network=network), set_by_user)
    assert not set(variables) & set(set_by_user)
    assert not set(variables) & PER_PROCESS


@pytest.mark.parametrize("size", [1, 2])
def test_every_variable_has_a_meaning(size: int) -> None:
    assert set(environment.derive(gang(size), {})) <= set(environment.MEANINGS)


def test_every_meaning_has_a_variable() -> None:
    assert set(environment.derive(gang(2), {})) == set(environment.MEANINGS)
