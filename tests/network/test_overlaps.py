"""Ranges of a `master.yaml` that overlap are found with their places: what must not, what may, and what is a slip."""

from __future__ import annotations

import json

import pytest

from quorate.model.severity import Severity
from quorate.network.findings import Finding
from quorate.network.planfile import read_plan

BASE = """\
master:
  where: {addresses: [10.0.0.5]}
users:
  where: {addresses: [192.168.0.0/16]}
operators:
  where: {addresses: [192.0.2.1]}
outside:
  registries: [{hosts: [registry.example.org], addresses: [203.0.113.7]}]
  dns: [10.0.0.2]
  ntp: [10.0.0.3]
pools:
- name: gpu
  where: {addresses: [10.0.1.0/24]}
"""


def findings(text: str) -> tuple[Finding, ...]:
    return read_plan(text, "master.yaml").findings


def only(text: str) -> Finding:
    (finding,) = findings(text)
    return finding


def test_a_file_without_overlaps_has_no_findings() -> None:
    assert findings(BASE) == ()


@pytest.mark.parametrize(
    ("change", "subject", "place", "words"),
    [
        (("10.0.1.0/24", "10.66.0.0/24"), "agent/gpu", "13:23", "10.66.0.0/24 of pool gpu lies in 10.64.0.0/13"),
        (("10.0.1.0/24", "10.0.0.0/8"), "agent/gpu", "13:23", "10.0.0.0/8 of pool gpu holds 10.64.0.0/13"),
        (("[10.0.0.5]", "[10.0.0.4, 10.64.0.5]"), "master/master", "2:33", "10.64.0.5 of the master"),
        (("192.0.2.1", "10.71.255.255"), "operator/operators", "6:23", "10.71.255.255 of operators"),
        (("192.168.0.0/16", "10.64.0.0/13"), "user/users", "4:23", "10.64.0.0/13 of users"),
        (
            ("203.0.113.7", "10.65.0.7"),
            "registry/registry.example.org",
            "8:60",
            "10.65.0.7 of the registry registry.example.org",
        ),
        (("[10.0.0.2]", "[10.65.0.2]"), "dns/dns", "9:9", "10.65.0.2 of the dns servers"),
        (
            ("pools:", "network: {proxy: {url: 'http://10.65.0.9:3128'}}\npools:"),
            "proxy/10.65.0.9",
            "11:24",
            "10.65.0.9 of the proxy",
        ),
    ],
)
def test_nothing_real_may_be_in_the_range_of_members_addresses(
    change: tuple[str, str], subject: str, place: str, words: str
) -> None:
    found = next(one for one in findings(BASE.replace(*change)) if one.code == "NET-OVERLAP")
    assert (found.severity, found.subject, found.place) == (Severity.ERROR, subject, f"master.yaml:{place}")
    assert words in found.evidence and "(network.overlays, the default)" in found.evidence


def test_the_mend_names_a_range_that_mends_it() -> None:
    text = BASE.replace("10.0.1.0/24", "10.66.0.0/24")
    remedy = only(text).remedy
    assert remedy == "set network.overlays to a range that nothing else uses, such as [10.72.0.0/13]"
    assert findings(text + "network: {overlays: [10.72.0.0/13]}\n") == ()


def test_the_proposed_range_is_free_of_what_others_have_and_may_lie_in_a_wide_one_of_people() -> None:
    text = BASE.replace("10.0.1.0/24", "10.66.0.0/24").replace("192.168.0.0/16", "10.0.0.0/8")
    text = text.replace("[10.0.0.3]", "[10.72.0.3]")
    found = next(one for one in findings(text) if one.code == "NET-OVERLAP")
    assert found.remedy.endswith("such as [10.80.0.0/13]")


def test_a_range_that_is_set_is_named_with_its_own_pool_before_the_clusters() -> None:
    text = BASE + "  network: {overlays: [10.0.1.128/25]}\n"
    found = only(text)
    assert "10.0.1.0/24 of pool gpu holds 10.0.1.128/25" in found.evidence and "the default" not in found.evidence


def test_a_thousand_agents_in_the_members_range_are_one_finding() -> None:
    listed = ", ".join(f"10.64.{number // 250}.{number % 250}" for number in range(1000))
    found = only(BASE.replace("10.0.1.0/24", listed))
    assert found.evidence.count("10.64.") == 2 and "and 999 more of its ranges do" in found.evidence


def test_a_wide_range_of_people_around_that_of_members_is_only_told() -> None:
    found = only(BASE.replace("192.168.0.0/16", "10.64.0.0/10"))
    assert (found.code, found.severity, found.place) == ("PLAN-OVERLAP", Severity.INFO, "master.yaml:4:23")
    assert "as long as no machine has an address in there" in found.evidence


def test_users_from_everywhere_say_nothing_about_where_machines_are() -> None:
    codes = {one.code for one in findings(BASE.replace("192.168.0.0/16", "0.0.0.0/0"))}
    assert codes == {"PLAN-WIDE"}


def test_members_of_the_hosts_network_have_no_range_that_could_overlap() -> None:
    text = BASE.replace("10.0.1.0/24", "10.66.0.0/24") + "  network: {modes: [host]}\n"
    assert findings(text) == ()


@pytest.mark.parametrize("overlays", ["127.0.0.0/8", "198.18.0.0/16", "224.0.0.0/5", "169.254.0.0/16"])
def test_members_cannot_have_addresses_that_are_nobodys(overlays: str) -> None:
    found = only(BASE + f"network: {{overlays: [{overlays}]}}\n")
    assert (found.code, found.place) == ("NET-OVERLAP", "master.yaml:14:22")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("10.0.1.0/24", "10.0.1.0/24 of pool cpu is also of pool gpu (master.yaml:13:23)"),
        ("10.0.1.128/25", "10.0.1.128/25 of pool cpu lies in 10.0.1.0/24 of pool gpu (master.yaml:13:23)"),
        ("10.0.1.9", "10.0.1.9 of pool cpu lies in 10.0.1.0/24 of pool gpu (master.yaml:13:23)"),
    ],
)
def test_two_pools_may_share_a_subnet_and_are_told_that_rules_cannot_tell_them_apart(other: str, words: str) -> None:
    found = only(BASE + f"- name: cpu\n  where: {{addresses: [{other}]}}\n")
    assert (found.code, found.severity, found.place) == ("PLAN-OVERLAP", Severity.INFO, "master.yaml:15:23")
    assert words in found.evidence and "cannot tell them apart" in found.evidence


def test_one_machine_in_two_pools_is_likely_a_slip() -> None:
    found = only(BASE.replace("10.0.1.0/24", "10.0.1.9") + "- name: cpu\n  where: {addresses: [10.0.1.8, 10.0.1.9]}\n")
    assert (found.code, found.severity, found.place) == ("PLAN-REPEATED", Severity.WARNING, "master.yaml:15:33")
    assert "10.0.1.9 is in pool gpu (master.yaml:13:23) and in pool cpu" in found.evidence


def test_a_master_at_its_own_address_in_the_agents_subnet_is_as_usual_as_can_be() -> None:
    assert findings(BASE.replace("10.0.0.5", "10.0.1.5")) == ()


def test_a_master_that_is_a_whole_subnet_of_agents_is_told() -> None:
    found = only(BASE.replace("10.0.0.5", "10.0.1.0/28"))
    assert (found.code, found.severity) == ("PLAN-OVERLAP", Severity.INFO)
    assert "10.0.1.0/28 of the master lies in 10.0.1.0/24 of pool gpu" in found.evidence


@pytest.mark.parametrize(
    ("listed", "column", "words"),
    [
        ("10.0.1.0/24, 10.0.1.7", 36, "10.0.1.7 lies in 10.0.1.0/24 (master.yaml:13:23) of the same list"),
        ("10.0.1.7, 10.0.1.0/24", 23, "10.0.1.7 lies in 10.0.1.0/24 (master.yaml:13:33) of the same list"),
        ("10.0.1.7, 10.0.1.7/32", 33, "10.0.1.7 is in the list twice (master.yaml:13:23)"),
        ("'fd00::/64', 'fd00::1'", 36, "fd00::1 lies in fd00::/64"),
    ],
)
def test_a_list_that_names_an_address_twice_is_told(listed: str, column: int, words: str) -> None:
    found = only(BASE.replace("10.0.1.0/24", listed))
    assert (found.code, found.severity) == ("PLAN-REPEATED", Severity.WARNING)
    assert found.place == f"master.yaml:13:{column}" and words in found.evidence


def test_two_services_on_one_machine_are_no_repetition() -> None:
    services = "registries: ['203.0.113.7:5000', '203.0.113.7:5001']"
    assert (
        findings(BASE.replace("registries: [{hosts: [registry.example.org], addresses: [203.0.113.7]}]", services))
        == ()
    )


@pytest.mark.parametrize(
    ("change", "subject", "place", "shown"),
    [
        (("10.0.1.0/24", "0.0.0.0/0"), "agent/gpu", "13:23", "0.0.0.0/0"),
        (("10.0.1.0/24", "10.0.1.0/24, '::/0'"), "agent/gpu", "13:36", "::/0"),
        (("10.0.1.0/24", "0.0.0.0/1, 128.0.0.0/1"), "agent/gpu", "13:23", "0.0.0.0/1, 128.0.0.0/1"),
        (("[10.0.0.5]", "[0.0.0.0/0]"), "master/master", "2:23", "0.0.0.0/0"),
    ],
)
def test_machines_at_every_address_are_told_what_that_opens(
    change: tuple[str, str], subject: str, place: str, shown: str
) -> None:
    (found,) = (one for one in findings(BASE.replace(*change)) if (one.code, one.subject) == ("PLAN-WIDE", subject))
    assert (found.severity, found.place) == (Severity.WARNING, f"master.yaml:{place}")
    assert f".where names {shown}: " in found.evidence
    assert ("VXLAN" in found.evidence) is (subject == "agent/gpu")


def test_a_pool_may_be_all_of_a_private_range() -> None:
    network = "network: {overlays: [192.168.128.0/17]}\npools:"
    text = BASE.replace("10.0.1.0/24", "10.0.0.0/8").replace("pools:", network).replace("192.168.0.0/16", "192.168.0.1")
    assert "PLAN-WIDE" not in {one.code for one in findings(text)}


def test_agents_who_count_as_operators_are_told_what_that_opens() -> None:
    found = only(BASE.replace("192.0.2.1", "10.0.0.0/16"))
    assert (found.code, found.subject, found.place) == ("PLAN-WIDE", "operator/operators", "master.yaml:6:23")
    assert "agents may log in to each other's machines" in found.evidence


def test_many_pools_on_one_subnet_are_told_once_each() -> None:
    pools = [{"name": f"p{number}", "where": {"addresses": ["10.0.1.0/24"]}} for number in range(200)]
    found = [one for one in findings(json.dumps({"pools": pools})) if one.code == "PLAN-OVERLAP"]
    assert len(found) == 199 and all(one.evidence.count("pool") <= 4 for one in found)
    assert "and others" in found[-1].evidence
