"""Services behind an OCI service gateway, or in an AWS prefix list, go by their cloud's name for their addresses."""

from __future__ import annotations

import json

import pytest

from quorate.model.clusterfile import ClusterFile, load_cluster_file
from quorate.model.yamlfile import FileProblems
from quorate.network.audit import audit
from quorate.network.audit.space import Outcome
from quorate.network.clusterplan import plan_cluster
from quorate.network.flows import Role
from quorate.network.plan import Plan
from quorate.network.planfile import read_plan
from quorate.network.rules import render

from .platforms import VALIDATORS

LABEL = "all-phx-services-in-oracle-services-network"
PREFIX_LIST = "pl-63a5400a"
OCI, AWS = ["oci-nsg", "oci-security-list", "terraform-oci"], ["aws", "cloudformation", "terraform-aws"]
STORE = "objectstorage.us-phoenix-1.oraclecloud.com"


def behind(label: str) -> Plan:
    gateway = {"service_cidrs": [label]}
    return plan_cluster(
        ClusterFile.model_validate(
            {
                "master": {"where": {"addresses": ["10.0.0.2"]}},
                "users": {"where": {"addresses": ["192.0.2.0/24"]}},
                "pools": [{"name": "gpu", "where": {"addresses": ["10.0.1.0/24"]}}],
                "outside": {
                    "registries": [{"hosts": ["phx.ocir.io"], **gateway}],
                    "stores": [{"hosts": [STORE], **gateway}],
                    "cloud_apis": [{"hosts": ["iaas.us-phoenix-1.oraclecloud.com"], **gateway}],
                    "dns": ["10.0.0.53"],
                    "ntp": ["10.0.0.53"],
                },
            }
        )
    )


@pytest.mark.parametrize(("form", "name"), [*((form, LABEL) for form in OCI), *((form, PREFIX_LIST) for form in AWS)])
def test_a_rule_names_the_service_as_its_cloud_does(form: str, name: str) -> None:
    made = render(behind(name), form)
    VALIDATORS[form](made.text)
    assert all(finding.subject == "group" for finding in made.findings)
    assert name in made.text and "0.0.0.0/0" not in made.text
    assert form not in OCI or "SERVICE_CIDR_BLOCK" in made.text


@pytest.mark.parametrize(
    ("rendered", "form", "name"),
    [("oci-nsg", "oci", LABEL), ("oci-security-list", "oci", LABEL), ("aws", "aws", PREFIX_LIST)],
)
def test_the_audit_reads_it_as_open_for_these_services_alone(rendered: str, form: str, name: str) -> None:
    plan = behind(name)
    text = render(plan, rendered).text
    report = audit(plan, form, text)
    assert {verdict.outcome for verdict in report.flows} == {Outcome.ALLOW}
    assert report.findings == ()
    without = audit(plan, form, text.replace("443", "444"))
    blocked = {verdict.flow.flow for verdict in without.flows if verdict.outcome is Outcome.DENY}
    assert {"registry", "store", "agent-cloud-api"} <= blocked
    change = next(verdict.change for verdict in without.flows if verdict.flow.flow == "store")
    assert name in change, "what mends it names the service, too"


@pytest.mark.parametrize("form", ["nftables", "iptables", "gcp", "aws"])
def test_a_platform_that_does_not_know_the_name_says_so(form: str) -> None:
    made = render(behind(LABEL), form, Role.AGENT)
    assert LABEL not in made.text
    assert any(finding.code == "PLAN-UNRESOLVED" and "store" in finding.evidence for finding in made.findings)


def test_it_is_in_the_plan_that_is_printed_and_read_back() -> None:
    plan = behind(LABEL)
    assert read_plan(json.dumps(plan.to_dict()), "plan.json").parties == plan.parties


def test_a_name_that_is_none_of_a_clouds_is_refused() -> None:
    text = "outside: {stores: [{service_cidrs: [objectstorage]}]}\n"
    with pytest.raises(FileProblems, match="service_cidrs"):
        load_cluster_file(text, "master.yaml")
