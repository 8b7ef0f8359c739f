"""Writes the parts of docs/iam.md that are made from the code, so that the two cannot differ."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from quorate.iam import codes
from quorate.iam.aws import generate as aws
from quorate.iam.documents import PAGES
from quorate.iam.gcp import generate as gcp
from quorate.iam.gcp import render as gcp_text
from quorate.iam.oci import generate as oci
from quorate.iam.oci.request import OciRequest, Tag
from quorate.iam.request import Audience, Profile, Target

_SECTION = re.compile(r"(<!-- made from the code: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

EXAMPLE_OCI = OciRequest(
    Audience.USER,
    group="Default/researchers",
    dynamic_group="training-runs",
    compartment="ml:training",
    compartment_ocid="ocid1.compartment.oc1..exampleuniqueid",
    network_compartment="network",
    bucket="training",
    repo="trainer",
    instance="ocid1.instance.oc1.eu-frankfurt-1.exampleuniqueid",
    tag=Tag("quorate", "cluster", "one"),
)
EXAMPLE_GCP = gcp.GcpRequest(
    Audience.MASTER,
    project="training-project",
    cluster="one",
    master_account="quorate-master@training-project.iam.gserviceaccount.com",
    agent_account="quorate-agent@training-project.iam.gserviceaccount.com",
    region="europe-west4",
    bucket="training-bucket",
    repo="trainer",
)
EXAMPLE_AWS = aws.AwsRequest(
    Audience.MASTER,
    account="123456789012",
    region="eu-central-1",
    cluster="one",
    subnets=("subnet-0123456789abcdef0",),
    security_groups=("sg-0123456789abcdef0",),
    images=("ami-0123456789abcdef0",),
    bucket="training",
    repo="trainer",
    log_group="quorate",
)


def fill(page: str) -> str:
    """The page with every marked section made anew. Raises KeyError for a section that nothing makes."""
    return _SECTION.sub(lambda found: f"{found[1]}\n{_SECTIONS[found[2]]().strip()}\n\n{found[3]}", page)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _code(text: str) -> str:
    return f"`{text}`"


def _codes() -> str:
    rows = ((_code(code.name), code.severity.value, code.meaning) for code in codes.all_codes())
    return _table(("code", "severity", "meaning"), rows)


def _documents() -> str:
    parts = []
    for page, items in PAGES:
        rows = (
            (
                _code(item.says.strip("`")) if item.code else item.says,
                item.audience.value,
                item.fate.value,
                _code(item.strict) if item.strict else "–",
                _code(item.code.name) if item.code else "",
                item.reason,
            )
            for item in items
        )
        parts.append(f"### {page}\n\n" + _table(("the page says", "for", "is", "we write", "finding", "why"), rows))
    return "\n\n".join(parts)


def example_oci(audience: Audience, target: Target, profile: Profile = Profile.STRICT) -> OciRequest:
    names = {Audience.MASTER: "quorate-master", Audience.AGENT: "quorate-agents"}
    group = names.get(audience, "training-runs")
    return replace(EXAMPLE_OCI, audience=audience, target=target, profile=profile, dynamic_group=group)


def _oci() -> str:
    parts = []
    for title, audience, target in (
        ("Users who start Data Science jobs", Audience.USER, Target.DATA_SCIENCE),
        ("Data Science job runs", Audience.JOB, Target.DATA_SCIENCE),
        ("The master that starts agents on instances", Audience.MASTER, Target.INSTANCES),
        ("Agents on instances", Audience.AGENT, Target.INSTANCES),
    ):
        policy = oci.generate(example_oci(audience, target))
        rows = ((_code(each.text), each.reasons.why, each.reasons.without) for each in policy.statements)
        groups = "".join(
            f"Dynamic group `{group.name}`: `{group.rule_text}`. {group.reasons.why}\n\n"
            for group in policy.dynamic_groups
        )
        parts.append(f"### {title}\n\n{groups}" + _table(("statement", "why", "without it"), rows))
    return "\n\n".join(parts)


def _gcp() -> str:
    parts = []
    for title, audience in (("The master", Audience.MASTER), ("Agents", Audience.AGENT)):
        policy = gcp.generate(replace(EXAMPLE_GCP, audience=audience))
        commands = gcp_text.as_commands(policy, EXAMPLE_GCP.project or "", reasons=False)
        rows = (
            (_code(each.name), each.reasons.why, each.reasons.without)
            for role in policy.roles
            for each in role.permissions
        )
        table = _table(("permission", "why", "without it"), rows)
        parts.append(f"### {title}\n\n```sh\n{commands}```\n\n{table}")
    return "\n\n".join(parts)


def _aws() -> str:
    parts = []
    for title, audience in (("The master", Audience.MASTER), ("Agents", Audience.AGENT)):
        policy = aws.generate(replace(EXAMPLE_AWS, audience=audience))
        rows = ((_code(each.sid), each.reasons.why, each.reasons.without) for each in policy.grants)
        document = json.dumps(policy.document(), indent=2)
        table = _table(("statement", "why", "without it"), rows)
        parts.append(f"### {title}\n\n{table}\n\n```json\n{document}\n```")
    return "\n\n".join(parts)


_SECTIONS: dict[str, Callable[[], str]] = {
    "codes": _codes,
    "documents": _documents,
    "oci": _oci,
    "gcp": _gcp,
    "aws": _aws,
}
