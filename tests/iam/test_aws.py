"""AWS policies: valid, bound to the cluster, and agents cannot do what the master can."""

import json
from dataclasses import replace
from functools import cache

import pytest

from quorate.iam.aws.generate import AwsRequest, generate, trust_document
from quorate.iam.aws.grammar import read_policy
from quorate.iam.aws.lint import MASTER_ONLY
from quorate.iam.aws.reach import matches, may
from quorate.iam.finding import RefusedRequest
from quorate.iam.lint import lint_file
from quorate.iam.pages import EXAMPLE_AWS
from quorate.iam.reading import make_out
from quorate.iam.request import Audience, Profile

# Actions that guard something without being a call of their own:
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
NOT_CALLS = {"iam:PassRole", "s3:ListBucket"}
AUDIENCES = [Audience.MASTER, Audience.AGENT, Audience.USER]


def document(request: AwsRequest) -> bytes:
    return json.dumps(generate(request).document(), indent=2).encode()


def codes_of(text: bytes | dict[str, object], **options: bool) -> set[str]:
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    return {finding.code.name for finding in lint_file(data, **options)[1]}


def policy(**statement: object) -> dict[str, object]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}


@cache
def operations(service: str) -> frozenset[str]:
    botocore = pytest.importorskip("botocore.session")
    return frozenset(botocore.get_session().get_service_model(service).operation_names)


@pytest.mark.parametrize("audience", AUDIENCES)
@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("spot", [False, True])
def test_every_action_is_one_that_the_vendors_own_models_know(audience: Audience, profile: Profile, spot: bool) -> None:
    request = replace(EXAMPLE_AWS, audience=audience, profile=profile, spot=spot, may_delete=True)
    for grant in generate(request).grants:
        for action in grant.actions:
            service, name = action.split(":")
            assert action in NOT_CALLS or name == "*" or name in operations(service)


@pytest.mark.parametrize("audience", AUDIENCES)
def test_the_linter_has_nothing_to_say_of_the_strict_profile(audience: Audience) -> None:
    text = document(replace(EXAMPLE_AWS, audience=audience, spot=True))
    assert codes_of(text, for_agents=audience is Audience.AGENT) == set()


def test_the_trust_policy_is_valid() -> None:
    assert codes_of(trust_document(EXAMPLE_AWS)) == set()


@pytest.mark.parametrize("audience", AUDIENCES)
def test_a_policy_fits_into_the_vendors_limit(audience: Audience) -> None:
    """6,144 characters without white space: the limit of a managed policy."""
    text = json.dumps(generate(replace(EXAMPLE_AWS, audience=audience, spot=True)).document(), separators=(",", ":"))
    assert len(text) < 6144


def test_an_agent_can_do_nothing_that_the_master_can() -> None:
    master, agent = (
        read_policy(make_out(document(replace(EXAMPLE_AWS, audience=audience, spot=True))))[0]
        for audience in (Audience.MASTER, Audience.AGENT)
    )
    reached = {
        (action, resource)
        for statement in master
        for action in statement.actions
        for resource in statement.resources
        if may(agent, action, resource)
    }
    assert {action for statement in master for action in statement.actions} >= set(MASTER_ONLY) - {
        "ec2:RequestSpotInstances"
    }
    assert reached == set()
    assert all(may(master, action, "*") for action in ("ec2:RunInstances", "iam:PassRole"))


def test_an_agent_stays_cut_off_when_another_policy_allows_too_much() -> None:
    body = generate(replace(EXAMPLE_AWS, audience=Audience.AGENT)).document()
    extra = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    statements = read_policy(make_out(json.dumps({**body, "Statement": [*body["Statement"], extra]}).encode()))[0]  # type: ignore[misc]
    assert not any(may(statements, action, "*") for action in MASTER_ONLY)
    assert may(statements, "s3:PutObject", "arn:aws:s3:::training/x")


def test_the_master_starts_ends_and_tags_only_what_is_the_clusters() -> None:
    grants = {grant.sid: grant for grant in generate(EXAMPLE_AWS).grants}
    assert grants["StartMachines"].conditions == {
        "StringEquals": {"aws:RequestTag/quorate-cluster": "one", "ec2:MetadataHttpTokens": "required"},
        "ArnEquals": {"ec2:InstanceProfile": "arn:aws:iam::123456789012:instance-profile/quorate-agent"},
    }
    assert grants["EndMachines"].conditions == {"StringEquals": {"ec2:ResourceTag/quorate-cluster": "one"}}
    assert grants["TagAtBirth"].conditions == {"StringEquals": {"ec2:CreateAction": "RunInstances"}}
    assert grants["HandOverAgentRole"].resources == ("arn:aws:iam::123456789012:role/quorate-agent",)
    assert (
        "arn:aws:ec2:eu-central-1:123456789012:subnet/subnet-0123456789abcdef0" in grants["StartMachinesWith"].resources
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"account": None}, "--account is missing"),
        ({"region": None}, "--region is missing"),
        ({"account": "12345"}, "twelve digits"),
        ({"region": "Frankfurt"}, "eu-central-1"),
        ({"agent_role": "*"}, "sign that no AWS name has"),
        ({"bucket": 'x"y'}, "sign that no AWS name has"),
    ],
)
def test_a_request_that_would_be_void_or_open_is_refused(change: dict[str, str | None], says: str) -> None:
    with pytest.raises(RefusedRequest, match=says):
        generate(replace(EXAMPLE_AWS, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (policy(Action="ec2:*", Resource="*"), "IAM-AWS-STAR-ACTION"),
        (policy(NotAction="iam:*", Resource="*"), "IAM-AWS-STAR-ACTION"),
        (policy(Action="ec2:RunInstances", Resource="*"), "IAM-AWS-STAR-RESOURCE"),
        (policy(Action=["ec2:Terminate*"], Resource="*"), "IAM-AWS-STAR-RESOURCE"),
        (policy(Action="iam:PassRole", Resource="*"), "IAM-AWS-PASS-ROLE"),
        (policy(Action="iam:PassRole", Resource="arn:aws:iam::1:role/*"), "IAM-AWS-PASS-ROLE"),
        (policy(Action="RunInstances", Resource="*"), "IAM-AWS-ACTION"),
        (policy(Action="ec2:RunInstances", Resource="everything"), "IAM-AWS-GRAMMAR"),
        (policy(Action="ec2:RunInstances"), "IAM-AWS-GRAMMAR"),
        (policy(Action=[], Resource="*"), "IAM-AWS-GRAMMAR"),
        (policy(Action="a:b", NotAction="a:c", Resource="*"), "IAM-AWS-GRAMMAR"),
        (policy(Actions="a:b", Resource="*"), "IAM-AWS-GRAMMAR"),
        (policy(Action="a:b", Resource="*", Condition={"StringEqual": {"k": "v"}}), "IAM-AWS-GRAMMAR"),
        (policy(Action="a:b", Resource="*", Condition={"StringEquals": []}), "IAM-AWS-GRAMMAR"),
        (policy(Action="a:b", Resource="*", Sid="no spaces"), "IAM-AWS-GRAMMAR"),
        (
            policy(Action="ec2:RunInstances", Resource="*", Condition={"StringEqualsIfExists": {"k": "v"}}),
            "IAM-AWS-OPEN-CONDITION",
        ),
        (policy(Action="sts:AssumeRole", Principal="*"), "IAM-AWS-PUBLIC"),
        (policy(Action="sts:AssumeRole", Principal={"AWS": ["*"]}), "IAM-AWS-PUBLIC"),
        (policy(Action="sts:AssumeRole", NotPrincipal={"AWS": "arn:aws:iam::123456789012:root"}), "IAM-AWS-PUBLIC"),
        (policy(Action="sts:AssumeRole", Principal={"Services": "ec2.amazonaws.com"}), "IAM-AWS-GRAMMAR"),
        (policy(Action="sts:AssumeRole", Principal=["*"]), "IAM-AWS-GRAMMAR"),
        ({"Version": "2012-10-18", "Statement": []}, "IAM-AWS-GRAMMAR"),
        ({"Version": "2012-10-17", "Statement": ["x"]}, "IAM-AWS-GRAMMAR"),
        ({"Version": "2012-10-17", "Statements": [{}]}, "IAM-AWS-GRAMMAR"),
    ],
)
def test_a_defect_has_its_code(body: dict[str, object], code: str) -> None:
    assert code in codes_of(body)


def test_a_condition_makes_a_changing_action_on_every_resource_sound() -> None:
    bound = {"StringEquals": {"ec2:ResourceTag/quorate-cluster": "one"}}
    assert codes_of(policy(Action="ec2:TerminateInstances", Resource="*", Condition=bound)) == set()


@pytest.mark.parametrize(
    ("action", "resource", "wide"),
    [
        ("s3:GetObject", "arn:aws:s3:::*", True),
        ("s3:GetObject", "arn:aws:s3:::*/*", True),
        ("s3:Get*", "arn:aws:s3:::*/checkpoints/*", True),
        ("s3:GetObject", "arn:aws:s3:::training/*", False),
        ("s3:ListBucket", "arn:aws:s3:::*", True),
        ("s3:ListAllMyBuckets", "*", False),
        ("ec2:TerminateInstances", "arn:aws:ec2:*:*:*", True),
        ("ec2:TerminateInstances", "arn:aws:ec2:eu-central-1:123456789012:instance/*", True),
        ("ec2:TerminateInstances", "arn:aws:ec2:eu-central-1:123456789012:instance/i-0123456789abcdef0", False),
        ("ec2:RunInstances", "arn:aws:ec2:eu-central-1:123456789012:volume/*", False),
        ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:*", True),
        ("ecr:PutImage", "arn:aws:ecr:eu-central-1:123456789012:repository/trainer", False),
    ],
)
def test_a_resource_that_is_every_one_of_its_kind_is_too_wide(action: str, resource: str, wide: bool) -> None:
    assert ("IAM-AWS-STAR-RESOURCE" in codes_of(policy(Action=action, Resource=resource))) is wide


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("arn:aws:s3:::a[b]*", "arn:aws:s3:::a[b]c", True),
        ("arn:aws:s3:::a[b]*", "arn:aws:s3:::abc", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("a*" * 40 + "b", "a" * 200, False),
    ],
)
def test_wildcards_are_a_star_and_a_question_mark_and_many_of_them_take_no_longer(
    pattern: str, text: str, expected: bool
) -> None:
    assert matches(pattern, text) is expected


def evidence(body: dict[str, object]) -> dict[str, str]:
    return {each.code.name: each.evidence for each in lint_file(json.dumps(body).encode())[1]}


def test_what_not_action_excepts_is_never_said_to_be_allowed() -> None:
    found = evidence(policy(NotAction=["iam:*", "sts:*"], Resource="*"))
    assert found == {"IAM-AWS-STAR-ACTION": "NotAction allows every action but iam:*, sts:*"}
    assert evidence(policy(NotAction="s3:*", Resource="*")).keys() == {"IAM-AWS-STAR-ACTION", "IAM-AWS-PASS-ROLE"}


def test_what_not_resource_leaves_open_is_said_in_its_own_words() -> None:
    body = policy(Action="s3:PutObject", NotResource="arn:aws:s3:::training/*")
    assert evidence(body) == {
        "IAM-AWS-STAR-RESOURCE": "s3:PutObject on everything but arn:aws:s3:::training/*, with no condition"
    }


def test_an_agents_policy_with_the_masters_rights_is_found() -> None:
    body = policy(Action="ec2:Run*", Resource="arn:aws:ec2:*:*:instance/*")
    assert "IAM-AWS-REACHES" in codes_of(body, for_agents=True)
    assert "IAM-AWS-REACHES" not in codes_of(body)


def test_a_finding_stands_where_the_part_stands() -> None:
    text = (
        b'{\n "Version": "2012-10-17",\n "Statement": [\n'
        b'  {"Effect": "Allow",\n   "Action": "iam:PassRole",\n   "Resource": "*"}]}'
    )
    (finding,) = lint_file(text)[1]
    assert (finding.code.name, str(finding.place)) == ("IAM-AWS-PASS-ROLE", "6:16")


def test_misspelt_keys_are_told_what_was_meant() -> None:
    found = lint_file(json.dumps(policy(Action="a:b", Resource="*", Conditions={})).encode())[1]
    assert any('did you mean "Condition"?' in each.evidence for each in found)


@pytest.mark.parametrize(
    ("region", "partition", "ec2"),
    [
        ("eu-central-1", "aws", "ec2.amazonaws.com"),
        ("cn-north-1", "aws-cn", "ec2.amazonaws.com.cn"),
        ("us-gov-west-1", "aws-us-gov", "ec2.amazonaws.com"),
        ("us-isob-east-1", "aws-iso-b", "ec2.amazonaws.com"),
        ("eusc-de-east-1", "aws-eusc", "ec2.amazonaws.com"),
    ],
)
def test_what_is_granted_lies_in_the_regions_own_part_of_aws(region: str, partition: str, ec2: str) -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html, and its partitions in botocore's endpoints.
    request = replace(EXAMPLE_AWS, audience=Audience.MASTER, spot=True, region=region)
    text = document(request).decode()
    assert f"arn:{partition}:" in text
    assert text.count('"arn:') == text.count(f'"arn:{partition}:')
    assert f'"iam:PassedToService": "{ec2}"' in text
    assert trust_document(request)["Statement"][0]["Principal"] == {"Service": ec2}  # type: ignore[index]
    botocore = pytest.importorskip("botocore.session")
    assert botocore.get_session().get_partition_for_region(region) == partition
