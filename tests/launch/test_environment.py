"""Each member is told who it is and where the others are, and keeps what the user has set."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launch_vocabulary import gang, seen_by

from quorate.launch import environment
from quorate.launch.config import Network

PER_PROCESS = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"}


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
    assert not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "NODE_COUNT"} & set(variables)
    assert variables["QUORATE_SIZE"] == "1"


@settings(deadline=None)
@given(
    size=st.integers(1, 5),
    network=st.sampled_from(Network),
    set_by_user=st.dictionaries(st.sampled_from(sorted(environment.MEANINGS)), st.text(max_size=5)),
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
