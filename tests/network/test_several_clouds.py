"""One cluster in several clouds: the rules of each name groups by its own ids, and whoever else by addresses."""

from __future__ import annotations

import pytest

from quorate.network.planfile import read_plan
from quorate.network.rules import render

SG_MASTER, SG_POOL = "sg-0a0a0a0a0a0a0a0a0", "sg-0b0b0b0b0b0b0b0b0"
NSG_MASTER, NSG_POOL = (f"ocid1.networksecuritygroup.oc1.eu-frankfurt-1.{name}" for name in ("m", "o"))
TEXT = f"""
master: {{where: {{addresses: [10.0.0.5], security_groups: [{SG_MASTER}, {NSG_MASTER}]}}}}
users: {{where: {{addresses: [192.168.0.0/16]}}}}
pools:
- name: w
  where: {{addresses: [10.2.0.0/24], security_groups: [{SG_POOL}]}}
- name: o
  where: {{addresses: [10.3.0.0/24], security_groups: [{NSG_POOL}]}}
outside: {{dns: [10.9.0.2], ntp: [10.9.0.3]}}
"""
AMAZON, ORACLE = (SG_MASTER, SG_POOL, "sg-"), (NSG_MASTER, NSG_POOL, "ocid1.")
FORMS = [
    *((form, AMAZON, ORACLE, "agent/o", "10.3.0.0/24") for form in ("aws", "cloudformation", "terraform-aws")),
    *((form, ORACLE, AMAZON, "agent/w", "10.2.0.0/24") for form in ("oci-nsg", "terraform-oci")),
]


@pytest.mark.parametrize(("form", "own", "others", "foreign", "addresses"), FORMS, ids=[form[0] for form in FORMS])
def test_a_clouds_rules_name_its_own_groups_and_the_others_by_their_addresses(
    form: str, own: tuple[str, ...], others: tuple[str, ...], foreign: str, addresses: str
) -> None:
    made = render(read_plan(TEXT, "master.yaml"), form)
    assert own[0] in made.text and own[1] in made.text
    assert others[2] not in made.text
    assert addresses in made.text, "the master lets the agents of the other cloud in"
    assert foreign.replace("/", "-") not in made.text, "their own rules are their cloud's"
    (told,) = (found for found in made.findings if found.subject == foreign)
    assert told.code == "CLOUD-NEEDS" and others[1] in told.evidence


@pytest.mark.parametrize(("form", "foreign"), [("aws", "agent/o"), ("oci-nsg", "agent/w")])
def test_whoever_has_no_address_and_another_clouds_group_is_told_to_be_nameless_here(form: str, foreign: str) -> None:
    text = TEXT.replace("addresses: [10.3.0.0/24], ", "").replace("addresses: [10.2.0.0/24], ", "")
    found = [one for one in render(read_plan(text, "master.yaml"), form).findings if one.code == "PLAN-UNRESOLVED"]
    assert any(f"{foreign} has neither address nor group" in one.evidence for one in found)
