"""Names that no cloud knows are found, with what was meant; and what is only unknown to Quorate is said to be so."""

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.iam.aws.actions import ACTIONS, SERVICES
from quorate.iam.aws.known import stranger
from quorate.iam.finding import Finding
from quorate.iam.gcp.known import CALLS
from quorate.iam.gcp.permissions import PERMISSIONS
from quorate.iam.lint import is_clean, lint_file
from quorate.iam.place import distance, slip

# AWS's prefix of a service and botocore's name of it, where they differ; None where it has no model.
_MODELS = {
    "elasticfilesystem": "efs",
    "servicequotas": "service-quotas",
    "ssmmessages": None,
    "ec2messages": None,
}
# Calls that need another action: https://docs.aws.amazon.com/kms/latest/developerguide/kms-api-permissions-reference.html
_NOT_ACTIONS = {"kms": {"Decapsulate", "Encapsulate", "ReEncrypt"}}


def findings(document: dict[str, object], code: str) -> list[Finding]:
    return [each for each in lint_file(json.dumps(document, indent=1).encode())[1] if each.code.name == code]


def policy(*actions: str, effect: str = "Allow") -> dict[str, object]:
    statement = {"Effect": effect, "Action": list(actions), "Resource": "arn:aws:s3:::training/*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


@cache
def operations(service: str) -> frozenset[str]:
    botocore = pytest.importorskip("botocore.session")
    return frozenset(botocore.get_session().get_service_model(service).operation_names)


# How near is near


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("runinstancez", "runinstances", 1),
        ("runinstance", "runinstances", 1),
        ("runinstacnes", "runinstances", 1),
        ("rnuinstacnes", "runinstances", 2),
        ("ab", "ba", 1),
        ("xyab", "xyba", 1),
        ("abxyab", "baxyba", 2),
        ("abcd", "abcdef", 2),
        ("abcdef", "bcdefg", 2),
        ("abc", "xyz", 3),
        ("", "ab", 2),
        ("same", "same", 0),
    ],
)
def test_a_slip_is_counted_in_letters_and_swaps(one: str, other: str, expected: int) -> None:
    assert distance(one, other, 5) == expected
    assert distance(other, one, 5) == expected
    assert distance(one, other, 1) == min(expected, 2)


@given(st.text("abc", max_size=7), st.text("abc", max_size=7), st.integers(0, 3))
def test_the_quick_way_to_count_comes_to_what_the_plain_one_does(one: str, other: str, most: int) -> None:
    @cache
    def plain(i: int, j: int) -> int:
        """Of the first i letters of the one and j of the other, by the definition."""
        if not i or not j:
            return i + j
        ways = [plain(i - 1, j) + 1, plain(i, j - 1) + 1, plain(i - 1, j - 1) + (one[i - 1] != other[j - 1])]
        if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
            ways.append(plain(i - 2, j - 2) + 1)
        return min(ways)

    assert distance(one, other, most) == min(plain(len(one), len(other)), most + 1)


def test_a_known_word_is_no_slip_of_itself_and_a_short_one_may_differ_by_one_letter_only() -> None:
    assert slip("ec2", {"ec2"}) is None
    assert slip("ecc2", {"ec2"}) == "ec2"
    assert slip("eccc2", {"ec2"}) is None


# AWS


@pytest.mark.parametrize("service", ACTIONS)
def test_every_operation_of_the_vendors_models_is_an_action_of_the_table(service: str) -> None:
    model = _MODELS.get(service, service)
    if model is None or service == "s3":
        return
    known = {name.lower() for name in ACTIONS[service].split()}
    assert {name for name in operations(model) if name.lower() not in known} == _NOT_ACTIONS.get(service, set())


def test_most_actions_of_the_table_are_operations_of_the_vendors_models_written_alike() -> None:
    """Actions without a call of their own exist (`iam:PassRole`), and they are the fewer ones."""
    for service, names in ACTIONS.items():
        model = _MODELS.get(service, service)
        if model is None or service == "s3":
            continue
        written = {name.lower(): name for name in operations(model)}
        listed = names.split()
        assert [name for name in listed if written.get(name.lower(), name) != name] == []
        assert sum(name.lower() in written for name in listed) > len(listed) / 2


def test_an_s3_call_that_is_no_action_names_the_actions_that_it_needs() -> None:
    known = {name.lower() for name in ACTIONS["s3"].split()}
    for name in operations("s3"):
        odd = stranger(f"s3:{name}")
        assert (odd is None) is (name.lower() in known)
        if odd is not None:
            assert all(each.partition(":")[2].lower() in known for each in odd.meant)
    assert stranger("s3:ListObjectsV2").meant == ("s3:ListBucket",)  # type: ignore[union-attr]
    assert stranger("s3:CopyObject").meant == ("s3:GetObject", "s3:PutObject")  # type: ignore[union-attr]


def test_every_listed_service_is_among_the_services() -> None:
    assert ACTIONS.keys() <= SERVICES


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ("ec2:RunInstancez", 'did you mean "ec2:RunInstances"?'),
        ("ec2:Runinstance", 'did you mean "ec2:RunInstances"?'),
        ("ecc2:RunInstances", 'did you mean "ec2:RunInstances"?'),
        ("s3:ListObjects", 'write "s3:ListBucket"'),
        ("s3:GetObjects", 'did you mean "s3:GetObject"?'),
        ("ec2:Runn*", "AWS listed"),
    ],
)
@pytest.mark.parametrize("effect", ["Allow", "Deny"])
def test_a_misspelt_action_is_found_where_it_stands_with_what_was_meant(action: str, says: str, effect: str) -> None:
    (found,) = findings(policy("s3:GetObject", action, effect=effect), "IAM-AWS-ACTION-UNKNOWN")
    assert says in f"{found.evidence}; {found.mend}"
    assert str(found.place) == "8:5"


def test_a_misspelt_action_that_is_excepted_is_found_as_well() -> None:
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "NotAction": "iam:PasRole", "Resource": "*"}]}
    assert len(findings(document, "IAM-AWS-ACTION-UNKNOWN")) == 1


@pytest.mark.parametrize(
    "action", ["ec2:RunInstances", "ec2:runinstances", "s3:Get*", "s3:?etObject", "iam:PassRole", "braket:CreateJob"]
)
def test_what_aws_knows_is_not_doubted(action: str) -> None:
    assert stranger(action) is None


def test_of_a_service_that_no_list_names_it_is_only_said_that_quorate_does_not_know_it() -> None:
    document = policy("frobnicator:Start")
    assert not findings(document, "IAM-AWS-ACTION-UNKNOWN")
    (found,) = findings(document, "IAM-UNLISTED")
    assert "not known to Quorate" in found.evidence
    assert is_clean([found])


# GCP


def role(*permissions: str) -> dict[str, object]:
    return {"title": "x", "includedPermissions": list(permissions)}


@cache
def calls(service: str) -> frozenset[str]:
    """`collection.permission` of every call in Google's discovery document."""
    found: set[str] = set()

    def walk(resources: dict[str, dict[str, object]]) -> None:
        for name, body in resources.items():
            methods: dict[str, object] = body.get("methods", {})  # type: ignore[assignment]
            found.update(f"{name}.{CALLS.get(method, method)}" for method in methods)
            walk(body.get("resources", {}))  # type: ignore[arg-type]

    documents = pytest.importorskip("googleapiclient.discovery_cache.documents")
    (file,) = Path(documents.__path__[0]).glob(f"{service}.json")
    walk(json.loads(file.read_text())["resources"])
    return frozenset(found)


_DOCUMENTS = {
    "compute": "compute.v1",
    "storage": "storage.v1",
    "iam": "iam.v1",
    "logging": "logging.v2",
    "artifactregistry": "artifactregistry.v1",
    "secretmanager": "secretmanager.v1",
    "monitoring": "monitoring.v3",
    "resourcemanager": "cloudresourcemanager.v3",
    "serviceusage": "serviceusage.v1",
}
# Resources that a discovery document has under another name, or no calls for: IAM's permissions reference.
_OTHERWISE = {"iam.serviceAccountKeys": "keys", "logging.logEntries": "entries"}
_ALONE = {"logging.logEntries.create", "secretmanager.versions.add", "serviceusage.services.use"}
_ALONE |= {"serviceusage.quotas.get", "serviceusage.quotas.update", "compute.instanceGroups.update"}
_ALONE |= {
    f"compute.{each}Operations.{verb}IamPolicy" for each in ("zone", "region", "global") for verb in ("get", "set")
}


# The rights that are no call's name, by what they let one do with a resource that another call names.
_WITHOUT_A_CALL = frozenset(
    {
        *("use", "useReadOnly", "useInternal", "useExternalIp", "createInternal", "deleteInternal", "mirror", "access"),
        *("actAs", "osLogin", "osAdminLogin", "setRetention", "overrideUnlockedRetention", "setDefaultServiceAccount"),
        *("downloadArtifacts", "uploadArtifacts", "deleteArtifacts", "createOnPush", "listLogs", "updatePolicy"),
    }
)


@pytest.mark.parametrize("path", PERMISSIONS)
def test_every_permission_of_the_table_is_a_call_of_the_vendors_document_or_a_right_without_one(path: str) -> None:
    service, resource = path.split(".")
    known = calls(_DOCUMENTS[service])
    collection = _OTHERWISE.get(path, resource)
    for verb in PERMISSIONS[path].split():
        assert f"{collection}.{verb}" in known or verb in _WITHOUT_A_CALL or f"{path}.{verb}" in _ALONE


@pytest.mark.parametrize(
    ("permission", "meant"),
    [
        ("compute.instance.delete", "compute.instances.delete"),
        ("compute.instances.delet", "compute.instances.delete"),
        ("compte.instances.delete", "compute.instances.delete"),
        ("iam.serviceAccounts.actas", "iam.serviceAccounts.actAs"),
        ("compute.instances.insert", "compute.instances.create"),
    ],
)
def test_a_misspelt_permission_is_found_where_it_stands_with_what_was_meant(permission: str, meant: str) -> None:
    (found,) = findings(role("compute.instances.list", permission), "IAM-GCP-PERMISSION-UNKNOWN")
    assert (found.mend, str(found.place)) == (f"write `{meant}`", "5:3")
    assert not findings(role(meant), "IAM-GCP-PERMISSION-UNKNOWN")


def test_permissions_that_quorate_does_not_know_are_one_note_for_each_service() -> None:
    document = role("bigquery.jobs.create", "bigquery.jobs.list", "compute.instances.get", "compute.spells.cast")
    assert [each.evidence for each in findings(document, "IAM-UNLISTED")] == [
        "of bigquery not known to Quorate: bigquery.jobs.create, bigquery.jobs.list",
        "of compute not known to Quorate: compute.spells.cast",
    ]
    assert is_clean(lint_file(json.dumps(document).encode())[1])


@pytest.mark.parametrize(
    "permission",
    [
        "iam.googleapis.com/workloadIdentityPools.create",
        "networkservices.route_views.get",
        "cloudonefs.isiloncloud.com/clusters.create",
    ],
)
def test_a_permission_in_either_of_the_vendors_forms_is_one(permission: str) -> None:
    """https://cloud.google.com/iam/docs/permissions-reference"""
    assert not findings(role(permission), "IAM-GCP-PERMISSION")


def test_a_role_that_is_unknown_is_a_warning_only_where_another_was_meant() -> None:
    def bound(name: str) -> dict[str, object]:
        return {"bindings": [{"role": name, "members": ["group:a@b.example"]}]}

    (found,) = findings(bound("roles/logging.logwriter"), "IAM-GCP-ROLE-UNKNOWN")
    assert found.mend == "write `roles/logging.logWriter`"
    assert not is_clean([found])
    (other,) = findings(bound("roles/bigquery.jobUser"), "IAM-UNLISTED")
    assert is_clean([other])
