"""Nobody is told to look for a member at its own machine."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence

from launch_vocabulary import gang

from quorate.launch import names
from quorate.launch.config import Configuration, Network


def hosts(table: Mapping[str, Sequence[str]]) -> names.Resolver:
    def resolver(name: str) -> Sequence[str]:
        try:
            return table[name]
        except KeyError:
            raise OSError("Name or service not known") from None

    return resolver


def at(*addresses: str, network: Network = Network.OVERLAY) -> Configuration:
    configuration = gang(len(addresses), network=network)
    members = tuple(
        dataclasses.replace(member, address=address)
        for member, address in zip(configuration.members, addresses, strict=True)
    )
    return dataclasses.replace(configuration, members=members)


PRIVATE = at("10.7.0.2", "10.7.0.3")


def codes(findings: Sequence[names.Finding]) -> list[str]:
    return [finding.code for finding in findings]


def test_names_that_mean_their_addresses_are_fine() -> None:
    assert names.of_members(PRIVATE, hosts({"main1": ["10.7.0.2"], "sub1": ["10.7.0.3"]})) == []


def test_one_address_written_twice_is_one_address() -> None:
    configuration = at("fd00::2", "fd00::3")
    assert names.of_members(configuration, hosts({"main1": ["fd00:0::2"], "sub1": ["fd00::3"]})) == []


def test_a_name_at_loopback_is_fatal() -> None:
    (finding,) = names.of_members(PRIVATE, hosts({"main1": ["127.0.1.1"], "sub1": ["10.7.0.3"]}))
    assert (finding.code, finding.fatal) == ("NAME-LOOPBACK", True)
    assert "main1 resolves to 127.0.1.1 instead of 10.7.0.2" in finding.sentence


def test_a_second_answer_at_loopback_is_fatal_too() -> None:
    findings = names.of_members(PRIVATE, hosts({"main1": ["10.7.0.2", "::1"], "sub1": ["10.7.0.3"]}))
    assert codes(findings) == ["NAME-LOOPBACK"]


def test_a_name_elsewhere_and_a_name_nowhere_are_told_apart() -> None:
    assert codes(names.of_members(PRIVATE, hosts({"main1": ["10.7.0.9"]}))) == ["NAME-DIFFERS", "NAME-UNRESOLVED"]


def test_a_resolver_that_hangs_is_found_and_the_name_is_said() -> None:
    for_ever = threading.Event()

    def hangs(name: str) -> Sequence[str]:
        if name == "sub1":
            for_ever.wait()
        return ["10.7.0.2"]

    try:
        (finding,) = names.in_time(PRIVATE, hangs, limit_s=0.2)
    finally:
        for_ever.set()
    assert (finding.code, finding.fatal) == ("NAME-UNRESOLVED", True)
    assert "sub1 is looked up for longer than 0.2 s" in finding.sentence


def test_of_thousands_of_names_every_member_looks_up_some_and_together_all() -> None:
    many = dataclasses.replace(
        PRIVATE,
        members=tuple(
            dataclasses.replace(PRIVATE.own, rank=rank, name=f"sub{rank}", address=f"10.7.{rank // 250}.{rank % 250}")
            for rank in range(1000)
        ),
    )
    asked: set[str] = set()

    def resolver(name: str) -> Sequence[str]:
        asked.add(name)
        return [many.members[int(name[3:])].address]

    for rank in range(4):
        before = len(asked)
        assert names.of_members(dataclasses.replace(many, rank=rank), resolver) == []
        assert len(asked) - before <= 256 + 2
    assert len(asked) == 1000


def test_on_the_hosts_network_members_have_no_names() -> None:
    assert names.of_members(at("10.7.0.2", "10.7.0.3", network=Network.HOST), hosts({})) == []


def test_loopback_addresses_are_fine_among_themselves_only() -> None:
    assert names.of_addresses(at("127.0.0.11", "127.0.0.12")) == []
    (finding,) = names.of_addresses(at("127.0.0.11", "10.7.0.3"))
    assert (finding.code, finding.fatal) == ("NAME-LOOPBACK", True)
    assert "main1" in finding.sentence


def test_a_host_that_calls_itself_loopback_is_worth_a_notice() -> None:
    (finding,) = names.of_host(at("10.7.0.2", network=Network.HOST), "box", hosts({"box": ["127.0.1.1"]}))
    assert (finding.code, finding.fatal) == ("NAME-LOOPBACK", False)
    assert "box resolves to 127.0.1.1" in finding.sentence


def test_a_host_on_loopback_may_call_itself_so() -> None:
    assert names.of_host(at("127.0.0.11", network=Network.HOST), "box", hosts({"box": ["127.0.1.1"]})) == []


def test_the_system_resolves_its_own_loopback() -> None:
    assert "127.0.0.1" in names.resolve("localhost")
