"""GCP roles: the vendor's, or the least that the calls need; valid, bound narrowly, and explained."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from quorate.iam.finding import RefusedRequest
from quorate.iam.gcp.generate import GcpRequest, On, generate
from quorate.iam.gcp.lint import PERMISSION
from quorate.iam.gcp.render import as_commands
from quorate.iam.gcp.roles import KNOWN_ROLES, SCOPE_CLOUD_PLATFORM, SCOPE_COMPUTE, STAGES
from quorate.iam.lint import lint_file
from quorate.iam.pages import EXAMPLE_GCP
from quorate.iam.request import Audience, Profile

AGENT = replace(EXAMPLE_GCP, audience=Audience.AGENT)
SHARED = replace(EXAMPLE_GCP, host_project="host-project", subnet="agents")


def codes_of(document: object) -> set[str]:
    return {finding.code.name for finding in lint_file(json.dumps(document).encode())[1]}


def binding(role: str, *members: str) -> dict[str, object]:
    return {"bindings": [{"role": role, "members": list(members) or ["serviceAccount:a@p.iam.gserviceaccount.com"]}]}


@pytest.mark.parametrize("request_", [EXAMPLE_GCP, SHARED, AGENT, replace(EXAMPLE_GCP, external_ip=True)])
def test_every_role_is_valid_and_the_linter_has_nothing_to_say_of_it(request_: GcpRequest) -> None:
    for role in generate(request_).roles:
        assert codes_of(role.as_json()) == set()
        assert all(PERMISSION.fullmatch(each.name) for each in role.permissions)


def schema(document: str, name: str) -> dict[str, dict[str, object]]:
    """The members of a type in Google's discovery document."""
    documents = pytest.importorskip("googleapiclient.discovery_cache.documents")
    text = (Path(documents.__path__[0]) / document).read_text()
    return json.loads(text)["schemas"][name]["properties"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("audience", [Audience.MASTER, Audience.AGENT])
def test_every_role_has_only_what_googles_own_document_knows_of_a_role(audience: Audience) -> None:
    known = schema("iam.v1.json", "Role")
    for role in generate(replace(EXAMPLE_GCP, audience=audience, may_delete=True)).roles:
        body = role.as_json()
        assert body.keys() <= known.keys()
        assert body["stage"] in known["stage"]["enum"]  # type: ignore[operator]
        assert all(isinstance(body[key], str) is (known[key]["type"] == "string") for key in body)
        assert len(str(body["title"])) <= 100
        assert len(str(body["description"])) <= 256


def test_the_stages_that_the_linter_knows_are_googles() -> None:
    assert set(schema("iam.v1.json", "Role")["stage"]["enum"]) <= STAGES  # type: ignore[arg-type]


@pytest.mark.parametrize("audience", [Audience.MASTER, Audience.AGENT])
@pytest.mark.parametrize("profile", list(Profile))
def test_every_predefined_role_is_a_documented_one(audience: Audience, profile: Profile) -> None:
    for each in generate(replace(SHARED, audience=audience, profile=profile)).bindings:
        assert each.role in KNOWN_ROLES or each.role.startswith("projects/training-project/roles/quorate")


def test_the_documented_profile_has_the_three_roles_of_the_vendors_page() -> None:
    policy = generate(replace(SHARED, profile=Profile.AS_DOCUMENTED))
    assert [(each.on, each.where[0], each.role) for each in policy.bindings] == [
        (On.PROJECT, "training-project", "roles/compute.admin"),
        (On.PROJECT, "training-project", "roles/iam.serviceAccountUser"),
        (On.PROJECT, "host-project", "roles/compute.networkUser"),
    ]
    assert [each.name for each in policy.scopes] == [SCOPE_CLOUD_PLATFORM]


def test_the_legacy_option_is_the_read_write_scope_and_advised_against() -> None:
    policy = generate(replace(EXAMPLE_GCP, legacy_scope=True))
    assert ([each.name for each in policy.scopes], policy.bindings) == ([SCOPE_COMPUTE], ())
    assert "Prefer" in policy.notes[0]


def test_the_right_to_act_as_an_account_holds_on_the_agents_account_alone() -> None:
    policy = generate(EXAMPLE_GCP)
    holding = [
        role for role in policy.roles if any(each.name == "iam.serviceAccounts.actAs" for each in role.permissions)
    ]
    assert [[each.name for each in role.permissions] for role in holding] == [["iam.serviceAccounts.actAs"]]
    bound = [each for each in policy.bindings if each.role.endswith(holding[0].id)]
    assert [(each.on, each.where[0]) for each in bound] == [(On.ACCOUNT, EXAMPLE_GCP.agent_account)]


def test_the_master_may_end_only_machines_named_after_the_cluster() -> None:
    policy = generate(EXAMPLE_GCP)
    deleting = {role.id for role in policy.roles if any(".delete" in each.name for each in role.permissions)}
    bound = [each for each in policy.bindings if each.role.rsplit("/", 1)[1] in deleting]
    assert len(bound) == 1
    assert bound[0].condition is not None
    assert '.startsWith("one-")' in bound[0].condition[1]


def test_a_shared_vpc_is_opened_on_its_subnet_alone() -> None:
    policy = generate(SHARED)
    (shared,) = [each for each in policy.bindings if each.role == "roles/compute.networkUser"]
    assert (shared.on, shared.where[0]) == (On.SUBNET, "agents")
    names = {each.name for role in policy.roles for each in role.permissions}
    assert "compute.subnetworks.use" not in names
    assert "compute.subnetworks.use" in {each.name for role in generate(EXAMPLE_GCP).roles for each in role.permissions}


def test_an_agent_holds_nothing_of_compute_and_nothing_on_the_project_but_writing_logs() -> None:
    policy = generate(AGENT)
    names = {each.name for role in policy.roles for each in role.permissions}
    assert names == {"storage.objects.get", "storage.objects.list", "storage.objects.create"}
    assert [each.role for each in policy.bindings if each.on is On.PROJECT] == ["roles/logging.logWriter"]


@pytest.mark.parametrize("request_", [EXAMPLE_GCP, SHARED, AGENT, replace(SHARED, profile=Profile.AS_DOCUMENTED)])
def test_the_commands_are_ones_that_a_shell_reads_as_meant(request_: GcpRequest) -> None:
    lines = as_commands(generate(request_), "training-project").splitlines()
    commands = [shlex.split(line) for line in lines if line and not line.startswith("#")]
    assert commands
    for words in commands:
        assert words[0] == "gcloud"
        assert not any(word == "" for word in words)
    on_projects = [words for words in commands if words[1] == "projects"]
    assert all(any(word.startswith("--condition=") for word in words) for words in on_projects)


def test_users_and_jobs_need_no_role() -> None:
    for audience in (Audience.USER, Audience.JOB):
        policy = generate(GcpRequest(audience))
        assert (policy.roles, policy.bindings) == ((), ())
        assert policy.notes


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"project": None}, "--project is missing"),
        ({"master_account": None}, "--master-account is missing"),
        ({"agent_account": None}, "--agent-account is missing"),
        ({"agent_account": EXAMPLE_GCP.master_account}, "must not share"),
        ({"host_project": "host-project"}, "--subnet is missing"),
        ({"project": "Not A Project"}, "not one that GCP would accept"),
        ({"cluster": 'x") || true'}, "not one that GCP would accept"),
        ({"agent_account": "agent; rm"}, "not one that GCP would accept"),
    ],
)
def test_a_request_that_would_be_void_or_open_is_refused(change: dict[str, str | None], says: str) -> None:
    with pytest.raises(RefusedRequest, match=says):
        generate(replace(EXAMPLE_GCP, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (binding("roles/owner"), "IAM-GCP-BASIC-ROLE"),
        (binding("roles/compute.admin"), "IAM-GCP-WIDE-ROLE"),
        (binding("roles/iam.serviceAccountUser"), "IAM-GCP-ACT-AS-ANY"),
        (binding("roles/logging.logWriter", "allUsers"), "IAM-GCP-PUBLIC"),
        (binding("roles/logging.logWritter"), "IAM-GCP-ROLE-UNKNOWN"),
        (binding("compute.admin"), "IAM-GCP-GRAMMAR"),
        (binding("roles/browser", "a@b.c"), "IAM-GCP-GRAMMAR"),
        ({"bindings": [{"role": "roles/browser"}]}, "IAM-GCP-GRAMMAR"),
        ({"bindings": {}}, "IAM-GCP-GRAMMAR"),
        (
            {"bindings": [{"role": "roles/browser", "members": ["user:a@b.c"], "condition": {"expression": "true"}}]},
            "IAM-GCP-GRAMMAR",
        ),
        ({"title": "x", "includedPermissions": []}, "IAM-GCP-GRAMMAR"),
        ({"includedPermissions": ["a.b.c"]}, "IAM-GCP-GRAMMAR"),
        ({"title": "x", "stage": "DONE", "includedPermissions": ["a.b.c"]}, "IAM-GCP-GRAMMAR"),
        ({"title": "x", "permissions": [], "includedPermissions": ["a.b.c"]}, "IAM-GCP-GRAMMAR"),
        ({"title": "x", "includedPermissions": ["compute.instances"]}, "IAM-GCP-PERMISSION"),
        ({"title": "x", "includedPermissions": [7]}, "IAM-GCP-PERMISSION"),
        ({"title": "x", "includedPermissions": ["a.b.c", "a.b.c"]}, "IAM-DUPLICATE"),
        ({"title": "x", "includedPermissions": ["a.b.c", "iam.serviceAccounts.actAs"]}, "IAM-GCP-ACT-AS-ANY"),
    ],
)
def test_a_defect_has_its_code(document: object, code: str) -> None:
    assert code in codes_of(document)


def test_roles_by_their_names_are_judged_each_where_it_stands() -> None:
    text = (
        b'{"one": {"title": "x", "includedPermissions": ["compute.instances.get"]},\n'
        b' "two": {"includedPermissions": ["a"]}}'
    )
    assert [(each.code.name, each.place.line) for each in lint_file(text)[1]] == [
        ("IAM-GCP-GRAMMAR", 2),
        ("IAM-GCP-PERMISSION", 2),
    ]


def test_a_role_as_gcloud_prints_it_in_yaml_is_read() -> None:
    text = b"title: Provisioner\nstage: GA\nincludedPermissions:\n- compute.instances.list\n- compute.instances\n"
    assert [each.code.name for each in lint_file(text)[1]] == ["IAM-GCP-PERMISSION"]
