"""Judges an AWS policy: its grammar first, then what it grants that nobody should hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from quorate.iam import codes
from quorate.iam.aws.grammar import AwsStatement, read_policy
from quorate.iam.aws.reach import matches, may
from quorate.iam.finding import Finding
from quorate.iam.reading import Input

# What lets its holder change the account or start machines; on every resource and without a condition it is too much.
_CHANGES = (
    "ec2:RunInstances",
    "ec2:TerminateInstances",
    "ec2:StopInstances",
    "ec2:CreateTags",
    "ec2:DeleteTags",
    "ec2:RequestSpotInstances",
    "ec2:CancelSpotInstanceRequests",
    "iam:CreateServiceLinkedRole",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:PutBucketPolicy",
    "ecr:PutImage",
    "sts:AssumeRole",
    "ssm:GetParameter",
    "secretsmanager:GetSecretValue",
)
# What the master may and an agent, whose metadata user code might reach, must never.
MASTER_ONLY = (
    "ec2:RunInstances",
    "ec2:TerminateInstances",
    "ec2:CreateTags",
    "ec2:RequestSpotInstances",
    "iam:PassRole",
    "iam:CreateServiceLinkedRole",
)


def lint(source: Input, *, for_agents: bool = False) -> list[Finding]:
    """Every finding of a document. `for_agents`: it belongs to machines on which users' code runs."""
    statements, found = read_policy(source)
    for statement in statements:
        if statement.allows:
            found += _judge(source, statement)
    if for_agents:
        found += _reaches(source, statements)
    return sorted(found, key=lambda each: (each.place, each.code.name))


def _judge(source: Input, statement: AwsStatement) -> Iterator[Finding]:
    place = source.place(*statement.path, "Action")
    name = f"{statement.sid}: " if statement.sid else ""
    for action in () if statement.inverted_actions else statement.actions:
        if action == "*" or action.endswith(":*"):
            yield Finding(codes.AWS_STAR_ACTION, place, f'{name}allows "{action}"', "list the actions that are called")
    if statement.inverted_actions:
        yield Finding(codes.AWS_STAR_ACTION, place, f"{name}NotAction allows all others", "list the actions instead")
    everywhere = "*" in statement.resources or statement.inverted_resources
    passes = any(matches(action, "iam:PassRole", ignore_case=True) for action in statement.actions)
    if passes and any(resource == "*" or resource.endswith(":role/*") for resource in statement.resources):
        yield Finding(
            codes.AWS_PASS_ROLE,
            source.place(*statement.path, "Resource"),
            f"{name}iam:PassRole on {', '.join(statement.resources)}",
            "name the agents' role, with iam:PassedToService = ec2.amazonaws.com",
        )
    elif everywhere and not statement.conditions and not passes:
        wide = [
            each for each in _CHANGES if any(matches(action, each, ignore_case=True) for action in statement.actions)
        ]
        if wide:
            yield Finding(
                codes.AWS_STAR_RESOURCE,
                source.place(*statement.path, "Resource"),
                f"{name}{', '.join(wide)} on every resource, with no condition",
                "name the resources, or add a condition on the cluster's tag",
            )
    for condition in statement.conditions:
        loose = condition.operator.startswith("ForAllValues:") or condition.operator.endswith("IfExists")
        if loose or "*" in condition.values:
            yield Finding(
                codes.AWS_OPEN_CONDITION,
                source.place(*statement.path, "Condition", condition.operator, condition.key),
                f"{name}{condition.operator} {condition.key} = {', '.join(condition.values)}",
                "compare with a fixed value, by an operator that needs the key",
            )


def _reaches(source: Input, statements: Sequence[AwsStatement]) -> Iterator[Finding]:
    for action in MASTER_ONLY:
        if may(statements, action, "*"):
            yield Finding(
                codes.AWS_REACHES,
                source.place("Statement"),
                f"the agents' policy allows {action}",
                "take it out: users' code runs with what an agent holds",
            )
