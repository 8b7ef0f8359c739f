"""Writes AWS policies: a master bound to its cluster's tag, and agents that cannot do what the master can."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from quorate.iam.explained import Reasons
from quorate.iam.finding import MissingOption, RefusedRequest
from quorate.iam.request import Audience, Profile

RUN_DOC = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ExamplePolicies_EC2.html"
KEYS_DOC = "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html"
ROLE_DOC = "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html"
SPOT_DOC = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/service-linked-roles-spot-instance-requests.html"
ECR_DOC = "https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html"
S3_DOC = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/security_iam_service-with-iam.html"
LOGS_DOC = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/permissions-reference-cwl.html"
DENY_DOC = "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html"
DETERMINED_DOC = "Determined docs, dynamic agents on AWS, section AWS API Access"

# Every machine that the master starts carries it, and it may end no other.
CLUSTER_TAG = "quorate-cluster"

_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]")
_PLAIN = re.compile(r"[\w.+=@/-]+")

AwsValue = str | list[str]


#: AWS General Reference, "AWS partitions" and its regions.
_PARTITIONS = {
    "cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-isob-": "aws-iso-b", "us-isof-": "aws-iso-f", "us-iso-": "aws-iso",
    "eu-isoe-": "aws-iso-e", "eusc-": "aws-eusc",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AwsRequest:
    """All that a policy depends on. Subnets, groups and images are any of the account where none is named."""

    audience: Audience
    profile: Profile = Profile.STRICT
    account: str | None = None
    region: str | None = None
    cluster: str = "cluster"
    agent_role: str = "quorate-agent"
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    bucket: str | None = None
    repo: str | None = None
    log_group: str | None = None
    spot: bool = False
    may_delete: bool = False

    def __post_init__(self) -> None:
        if self.account is not None and not _ACCOUNT.fullmatch(self.account):
            raise RefusedRequest(f"the account {self.account!r} is not twelve digits")
        if self.region is not None and not _REGION.fullmatch(self.region):
            raise RefusedRequest(f"the region {self.region!r} is not of the form eu-central-1")
        named = (self.cluster, self.agent_role, self.bucket, self.repo, self.log_group)
        for text in (*(each for each in named if each is not None), *self.subnets, *self.security_groups, *self.images):
            if not _PLAIN.fullmatch(text):
                raise RefusedRequest(f"the name {text!r} holds a sign that no AWS name has; `*` is not for names here")

    @property
    def partition(self) -> str:
        """The part of AWS in which the region lies; an ARN of another one names nothing there."""
        begins = (part for prefix, part in _PARTITIONS.items() if (self.region or "").startswith(prefix))
        return next(begins, "aws")

    @property
    def ec2_service(self) -> str:
        """EC2 as a principal: one of few services that have another name in China."""
        return "ec2.amazonaws.com.cn" if self.partition == "aws-cn" else "ec2.amazonaws.com"

    def arn(self, service: str, resource: str, *, account: bool = True, region: bool = True) -> str:
        if self.account is None:
            raise MissingOption("account", "the twelve digits of the AWS account", "123456789012")
        if self.region is None:
            raise MissingOption("region", "without it the policy would hold in every region", "eu-central-1")
        where = self.region if region else ""
        return f"arn:{self.partition}:{service}:{where}:{self.account if account else ''}:{resource}"

    @property
    def role_arn(self) -> str:
        return self.arn("iam", f"role/{self.agent_role}", region=False)

    @property
    def profile_arn(self) -> str:
        return self.arn("iam", f"instance-profile/{self.agent_role}", region=False)


@dataclass(frozen=True, slots=True)
class AwsGrant:
    """One statement with its reasons; the Sid is its stable id."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    reasons: Reasons
    conditions: dict[str, dict[str, AwsValue]] = field(default_factory=dict)
    allows: bool = True

    def as_json(self) -> dict[str, object]:
        body: dict[str, object] = {
            "Sid": self.sid,
            "Effect": "Allow" if self.allows else "Deny",
            "Action": sorted(self.actions),
            "Resource": list(self.resources),
        }
        if self.conditions:
            body["Condition"] = self.conditions
        return body


@dataclass(frozen=True, slots=True)
class AwsPolicy:
    """The permissions of one audience, and what else to know."""

    grants: tuple[AwsGrant, ...]
    notes: tuple[str, ...]

    def document(self) -> dict[str, object]:
        """What `aws iam put-role-policy --policy-document` takes."""
        return {"Version": "2012-10-17", "Statement": [grant.as_json() for grant in self.grants]}


TRUST_SID = "MachinesTakeThisRole"
TRUST_REASONS = Reasons(
    "Lets EC2 give the role to the machines that are started with it, and nobody else take it.",
    "The role can be made, and no machine ever holds it.",
    "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_switch-role-ec2.html",
)


def trust_document(request: AwsRequest) -> dict[str, object]:
    """What `aws iam create-role --assume-role-policy-document` takes, for master and agents on EC2."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": TRUST_SID,
                "Effect": "Allow",
                "Principal": {"Service": request.ec2_service},
                "Action": "sts:AssumeRole",
            }
        ],
    }


def generate(request: AwsRequest) -> AwsPolicy:
    """The policy for a request. Raises RefusedRequest where it would be void or open."""
    match request.audience:
        case Audience.MASTER:
            strict = request.profile is Profile.STRICT
            grants = tuple(_master(request) if strict else _master_as_documented(request))
            notes = [
                f"Every machine is started with the tag {CLUSTER_TAG}={request.cluster}, the instance profile "
                f"{request.agent_role} and IMDSv2 required; without any of them the start is refused."
                if strict
                else "As the vendor documents it: the master may end every machine of the account."
            ]
        case Audience.AGENT:
            grants = tuple(_agent(request))
            notes = ["Attach it to the role of the agents' instance profile, never to the master's."]
            if not (request.bucket or request.repo or request.log_group):
                notes.append("No --bucket, --repo or --log-group: it only denies, and an agent reaches nothing of AWS.")
        case Audience.USER:
            grants = tuple(_user(request))
            notes = (
                []
                if grants
                else ["People talk to the master alone: no permission is needed. --bucket, --repo add some."]
            )
        case Audience.JOB:
            grants = ()
            notes = [
                "A member of a job has no identity in the cloud: the metadata addresses are closed to it. "
                "What it reads and writes goes through its agent's machine (--for agent)."
            ]
    return AwsPolicy(grants, tuple(notes))


def _master(request: AwsRequest) -> Iterator[AwsGrant]:
    machine = request.arn("ec2", "instance/*")
    tag = {f"aws:RequestTag/{CLUSTER_TAG}": request.cluster}
    yield AwsGrant(
        "SeeMachines",
        ("ec2:DescribeInstances",),
        ("*",),
        Reasons(
            "Sees which machines there are. AWS knows no narrower resource for it.",
            "The master cannot tell a machine that is gone from one that is slow.",
            KEYS_DOC,
        ),
    )
    yield AwsGrant(
        "StartMachines",
        ("ec2:RunInstances",),
        (machine,),
        Reasons(
            "Starts agents, only with the cluster's tag, the agents' own profile and IMDSv2.",
            "Pools stay at the machines that they have.",
            RUN_DOC,
        ),
        {
            "StringEquals": {**tag, "ec2:MetadataHttpTokens": "required"},
            "ArnEquals": {"ec2:InstanceProfile": request.profile_arn},
        },
    )
    used = [
        *(request.arn("ec2", f"subnet/{each}") for each in request.subnets or ("*",)),
        *(request.arn("ec2", f"security-group/{each}") for each in request.security_groups or ("*",)),
        *(request.arn("ec2", f"image/{each}", account=False) for each in request.images or ("*",)),
        request.arn("ec2", "network-interface/*"),
        request.arn("ec2", "volume/*"),
    ]
    if request.spot:
        used.append(request.arn("ec2", "spot-instances-request/*"))
    yield AwsGrant(
        "StartMachinesWith",
        ("ec2:RunInstances",),
        tuple(used),
        Reasons(
            "Starting a machine uses a subnet, a security group and an image, and makes a card and a disk.",
            "RunInstances fails with UnauthorizedOperation though machines may be started.",
            RUN_DOC,
        ),
    )
    tagged = (machine, request.arn("ec2", "volume/*"))
    spot_requests = (request.arn("ec2", "spot-instances-request/*"),) if request.spot else ()
    yield AwsGrant(
        "TagAtBirth",
        ("ec2:CreateTags",),
        tagged + spot_requests,
        Reasons(
            "Puts tags on machines as they start, and at no other time, so nobody's machine becomes ours by a tag.",
            "RunInstances with tags is refused.",
            RUN_DOC,
        ),
        {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
    )
    yield AwsGrant(
        "EndMachines",
        ("ec2:TerminateInstances",),
        (machine,),
        Reasons("Ends idle machines, and only those of this cluster.", "Idle machines go on costing.", KEYS_DOC),
        {"StringEquals": {f"ec2:ResourceTag/{CLUSTER_TAG}": request.cluster}},
    )
    yield _pass_role(request)
    if request.spot:
        yield AwsGrant(
            "SpotRoleOnce",
            ("iam:CreateServiceLinkedRole",),
            (
                f"arn:{request.partition}:iam::{request.account}:role/aws-service-role/spot.amazonaws.com/"
                "AWSServiceRoleForEC2Spot",
            ),
            Reasons("Spot needs the account's own role for it, made once.", "The first spot machine fails.", SPOT_DOC),
            {"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}},
        )


def _pass_role(request: AwsRequest) -> AwsGrant:
    return AwsGrant(
        "HandOverAgentRole",
        ("iam:PassRole",),
        (request.role_arn,),
        Reasons(
            "Gives machines the agents' role, that one only, and to EC2 only.",
            "Machines start without a role: no image from ECR, no bucket.",
            ROLE_DOC,
        ),
        {"StringEquals": {"iam:PassedToService": request.ec2_service}},
    )


def _master_as_documented(request: AwsRequest) -> Iterator[AwsGrant]:
    actions = ["ec2:DescribeInstances", "ec2:TerminateInstances", "ec2:CreateTags", "ec2:RunInstances"]
    if request.spot:
        actions += ["ec2:RequestSpotInstances", "ec2:CancelSpotInstanceRequests", "ec2:DescribeSpotInstanceRequests"]
    yield AwsGrant(
        "ManageMachines",
        tuple(actions),
        ("*",),
        Reasons("Starts, sees, tags and ends machines.", "No machine can be started.", DETERMINED_DOC),
    )
    yield _pass_role(request)


def _pull(request: AwsRequest) -> Iterator[AwsGrant]:
    if not request.repo:
        return
    yield AwsGrant(
        "RegistryLogin",
        ("ecr:GetAuthorizationToken",),
        ("*",),
        Reasons("Signs in to the registry. AWS knows no narrower resource for it.", "Every pull fails.", ECR_DOC),
    )
    yield AwsGrant(
        "PullImages",
        ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"),
        (request.arn("ecr", f"repository/{request.repo}"),),
        Reasons("Pulls the jobs' images from one repository.", "Jobs fail with ImagePull errors.", ECR_DOC),
    )


def _bucket(request: AwsRequest, *, writes: bool) -> Iterator[AwsGrant]:
    if not request.bucket:
        return
    arn = f"arn:{request.partition}:s3:::{request.bucket}"
    yield AwsGrant(
        "ListBucket",
        ("s3:ListBucket",),
        (arn,),
        Reasons("Finds the newest checkpoint.", "Resuming fails: a missing object reads as forbidden.", S3_DOC),
    )
    actions = ["s3:GetObject"]
    if writes:
        actions += ["s3:PutObject", "s3:AbortMultipartUpload"] + (["s3:DeleteObject"] if request.may_delete else [])
    yield AwsGrant(
        "Objects",
        tuple(actions),
        (f"{arn}/*",),
        Reasons(
            "Writes checkpoints and reads data, in one bucket." if writes else "Fetches results, from one bucket.",
            "The first checkpoint fails." if writes else "Results are fetched through the master only.",
            S3_DOC,
        ),
    )


def _agent(request: AwsRequest) -> Iterator[AwsGrant]:
    yield from _pull(request)
    yield from _bucket(request, writes=True)
    if request.log_group:
        yield AwsGrant(
            "Logs",
            ("logs:CreateLogStream", "logs:PutLogEvents"),
            (request.arn("logs", f"log-group:{request.log_group}:*"),),
            Reasons("Sends the agent's own log to CloudWatch.", "The log stays on the machine.", LOGS_DOC),
        )
    yield AwsGrant(
        "NeverWhatTheMasterMay",
        (
            "ec2:RunInstances",
            "ec2:RequestSpotInstances",
            "ec2:TerminateInstances",
            "ec2:StopInstances",
            "ec2:CreateTags",
            "ec2:DeleteTags",
            "ec2:AssociateIamInstanceProfile",
            "ec2:ReplaceIamInstanceProfileAssociation",
            "iam:*",
            "sts:AssumeRole",
        ),
        ("*",),
        Reasons(
            "Users' code runs on these machines. A deny outweighs whatever another policy on the role allows later.",
            "A policy added by mistake would let users' code start machines or take other roles.",
            DENY_DOC,
        ),
        allows=False,
    )


def _user(request: AwsRequest) -> Iterator[AwsGrant]:
    yield from _bucket(request, writes=False)
    if request.repo:
        yield from _pull(request)
        yield AwsGrant(
            "PushImages",
            ("ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"),
            (request.arn("ecr", f"repository/{request.repo}"),),
            Reasons("Pushes the jobs' images into one repository.", "`docker push` is refused.", ECR_DOC),
        )
