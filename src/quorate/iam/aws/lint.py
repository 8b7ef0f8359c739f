"""Judges an AWS policy: its grammar first, then what it grants that nobody should hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from quorate.iam import codes
from quorate.iam.aws.grammar import AwsStatement, is_action, read_policy
from quorate.iam.aws.known import stranger
from quorate.iam.aws.reach import allows, is_every, may
from quorate.iam.finding import Finding
from quorate.iam.reading import Input

# What changes the account, starts machines or reads what is kept; on everything and with no condition it is too much.
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
    "s3:ListBucket",
    "s3:PutBucketPolicy",
    "ecr:PutImage",
    "sts:AssumeRole",
    "ssm:GetParameter",
    "secretsmanager:GetSecretValue",
)
# What to write instead of every resource of a service, where one name says it.
_NARROWER = {
    "s3": "name the bucket: arn:aws:s3:::<bucket>/*",
    "ecr": "name the repository: arn:aws:ecr:<region>:<account>:repository/<name>",
    "secretsmanager": "name the secret: arn:aws:secretsmanager:<region>:<account>:secret:<name>-??????",
    "ssm": "name the parameter: arn:aws:ssm:<region>:<account>:parameter/<name>",
}
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
        found += _strangers(source, statement)
        if statement.allows:
            found += _judge(source, statement)
    if for_agents:
        found += _reaches(source, statements)
    return sorted(found, key=lambda each: (each.place, each.code.name))


def _strangers(source: Input, statement: AwsStatement) -> Iterator[Finding]:
    """Actions that AWS does not know: an Allow of one grants nothing, and a Deny of one denies nothing."""
    key = "NotAction" if statement.inverted_actions else "Action"
    for index, action in enumerate(statement.actions):
        odd = stranger(action) if is_action(action) else None
        if odd is None:
            continue
        place = source.place(*statement.path, key, index)
        meant = " and ".join(f'"{each}"' for each in odd.meant)
        if not odd.listed and not odd.meant:
            yield Finding(codes.UNLISTED, place, odd.evidence, "check it in the vendor's reference")
        elif odd.sure:
            yield Finding(codes.AWS_ACTION_UNKNOWN, place, odd.evidence, f"write {meant}")
        else:
            hint = f"; did you mean {meant}?" if meant else ""
            mend = f"write {meant}" if meant else "check it in AWS's service authorization reference"
            yield Finding(codes.AWS_ACTION_UNKNOWN, place, odd.evidence + hint, mend)


def _judge(source: Input, statement: AwsStatement) -> Iterator[Finding]:
    place = source.place(*statement.path, "Action")
    name = f"{statement.sid}: " if statement.sid else ""
    for action in () if statement.inverted_actions else statement.actions:
        if action == "*" or action.endswith(":*"):
            yield Finding(codes.AWS_STAR_ACTION, place, f'{name}allows "{action}"', "list the actions that are called")
    if statement.inverted_actions:
        yield Finding(
            codes.AWS_STAR_ACTION,
            source.place(*statement.path, "NotAction"),
            f"{name}NotAction allows every action but {', '.join(statement.actions)}",
            "list the actions that are called, under Action",
        )
    if statement.everybody and not statement.conditions:
        yield Finding(
            codes.AWS_PUBLIC,
            source.place(*statement.path, "Principal"),
            f"{name}for everybody, in every account of AWS",
            "name the principal, such as a service or a role's ARN, or add a condition",
        )
    on = ("everything but " if statement.inverted_resources else "") + ", ".join(statement.resources)
    key = "NotResource" if statement.inverted_resources else "Resource"
    if allows(statement, "iam:PassRole") and _reaches_every(statement, "iam:PassRole"):
        yield Finding(
            codes.AWS_PASS_ROLE,
            source.place(*statement.path, key),
            f"{name}iam:PassRole on {on}",
            "name the agents' role, with iam:PassedToService = ec2.amazonaws.com",
        )
    # What NotAction allows is found above, and so long a list would only repeat it.
    if not statement.conditions and not statement.inverted_actions:
        wide = [each for each in _CHANGES if allows(statement, each) and _reaches_every(statement, each)]
        if wide:
            yield Finding(
                codes.AWS_STAR_RESOURCE,
                source.place(*statement.path, key),
                f"{name}{_some(wide)} on {'every resource' if on == '*' else on}, with no condition",
                _NARROWER.get(wide[0].partition(":")[0], "name the resources, or add a condition on the cluster's tag"),
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


def _reaches_every(statement: AwsStatement, action: str) -> bool:
    """Whether no resource is named. Starting a machine takes whatever it is made of, which may be named by kind."""
    kinds = action != "ec2:RunInstances"
    return statement.inverted_resources or any(is_every(each, kinds=kinds) for each in statement.resources)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _reaches(source: Input, statements: Sequence[AwsStatement]) -> Iterator[Finding]:
    for action in MASTER_ONLY:
        if may(statements, action, "*"):
            yield Finding(
                codes.AWS_REACHES,
                source.place("Statement"),
                f"the agents' policy allows {action}",
                "take it out: users' code runs with what an agent holds",
            )
