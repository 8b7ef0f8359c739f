"""Judges one policy statement: does it say what it means, and does it grant more than training needs?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from quorate.iam import codes
from quorate.iam.finding import Code, Finding
from quorate.iam.oci import render
from quorate.iam.oci.matching import alternatives, cases
from quorate.iam.oci.ocid import OF_VARIABLE, misplaced
from quorate.iam.oci.parser import read
from quorate.iam.oci.syntax import (
    Combination,
    Compare,
    Condition,
    Define,
    LocationKind,
    Mode,
    Operator,
    PermissionGrant,
    Statement,
    SubjectKind,
    ValueKind,
    Verb,
    VerbGrant,
    comparisons,
)
from quorate.iam.oci.vocabulary import (
    ALL_RESOURCES,
    PERMISSIONS,
    RESOURCES,
    SERVICE_VARIABLES,
    TAG_VARIABLES,
    VARIABLES,
    contains,
    members,
)
from quorate.iam.place import START, Place, slip

# What says who asks; a grant to everybody without one of these is open.
_WHO = ("request.principal.", "request.user.", "request.groups.", "request.instance.", "request.networksource.")
# A request may carry several values of these, so two different ones do not contradict each other.
_MANY_VALUED = ("request.groups.", "request.principal.group.tag.", "target.resource.tag.", "request.permission")
_LISTED_BY_NAME = frozenset({"target.bucket.name", "target.repo.name", "target.object.name"})

# Whoever manages one of these can take more than it was given (IAM's page of the policy reference): write a policy, let
# a dynamic group take it in, or make itself a key of somebody else's.
_RIGHTS = frozenset({"policies", "dynamic-groups", "users", "domains"})

CHECKPOINT_PERMISSIONS = ("OBJECT_INSPECT", "OBJECT_READ", "OBJECT_CREATE", "OBJECT_OVERWRITE")
# All of `manage repos` but deleting images and changing who may see them (REGISTRY).
PUSH_PERMISSIONS = ("REPOSITORY_INSPECT", "REPOSITORY_READ", "REPOSITORY_CREATE", "REPOSITORY_UPDATE")
_CHECKPOINTS = "{" + ", ".join(CHECKPOINT_PERMISSIONS) + "}"

# (verb, resource) -> what does the same work with less, and why that is enough.
_NARROWER: dict[tuple[Verb, str], tuple[str, str]] = {
    (Verb.USE, "repos"): ("read repos", "`use` adds nothing to `read` here, and pulling is reading"),
    (Verb.USE, "logging-family"): ("use log-content", "writing log lines is LOG_CONTENT_PUSH alone"),
    (Verb.MANAGE, "logging-family"): ("use log-content", "writing log lines is LOG_CONTENT_PUSH alone"),
    (Verb.MANAGE, "log-groups"): ("use log-groups", "a log group is made once, by the operator"),
    (Verb.MANAGE, "buckets"): ("read buckets", "copying artifacts reads a bucket and neither makes nor deletes one"),
    (Verb.MANAGE, "object-family"): (_CHECKPOINTS, "training writes objects; it does not manage buckets"),
    (Verb.MANAGE, "data-science-family"): (
        "manage data-science-job-runs",
        "starting a run touches jobs and job runs, not notebooks, models and deployments",
    ),
    (Verb.MANAGE, "instance-family"): ("manage instances", "starting a machine makes no image and opens no console"),
    (Verb.MANAGE, "virtual-network-family"): ("use virtual-network-family", "attaching to a subnet changes no network"),
    (Verb.MANAGE, "volume-family"): ("use volumes", "attaching a volume makes no backup and deletes no volume"),
}
# The same for a dynamic group, which stands for a running program and never for a person at work.
_NARROWER_FOR_MACHINES: dict[tuple[Verb, str], tuple[str, str]] = {
    (Verb.USE, "data-science-family"): (
        "read data-science-job-runs",
        "a run looks itself and its peers up; it changes neither notebooks nor models",
    ),
    (Verb.MANAGE, "objects"): (_CHECKPOINTS, "a run writes checkpoints and has no need to delete objects"),
    (Verb.USE, "log-groups"): ("use log-content", "a run writes into a log and does not alter the group"),
}


def lint_statement(text: str, at: Place = START) -> tuple[Statement | Define | None, list[Finding]]:
    """The statement, as far as it can be made out, and all that is wrong with it. `at`: where the text begins."""
    reading = read(text)
    statement = reading.statement
    rewritten = None
    if statement is not None and reading.problems and all(problem.mendable for problem in reading.problems):
        rewritten = "\n".join(as_mended(each) for each in (statement, *reading.others))
    found = [
        Finding(problem.code, at.moved_by(problem.place), problem.message, problem.mend, rewritten)
        for problem in reading.problems
    ]
    if isinstance(statement, Statement):
        judged = _judge(statement)
        # After a syntax error the meaning is a guess; a guess must not raise doubts of its own about the rest.
        known = {problem.code for problem in reading.problems}
        # Nor may a mend carry on an OCID that names nothing, or leave out those of another kind.
        whole = not reading.others and all(problem.mendable for problem in reading.problems)
        found += [
            replace(each, place=at.moved_by(each.place), replacement=each.replacement if whole else None)
            for each in judged
            if not (each.code is codes.NO_VALUE and known & {codes.NO_VALUE})
        ]
    return statement, sorted(found, key=lambda each: (each.place, each.code.name))


def as_mended(statement: Statement | Define) -> str:
    """The statement written anew, with what only its author can know left as <placeholders>."""
    text = render.statement(statement)
    for blank in ("group", "dynamic-group", "service", "resource", "compartment"):
        text = text.replace(f"'<{blank}>'", f"<{blank}>")
    return text.replace("= ''", "= '<value>'")


def _judge(statement: Statement) -> Iterator[Finding]:
    yield from _names(statement)
    yield from _conditions(statement)
    if statement.effect.denies:
        yield _finding(statement, codes.DENY_OPT_IN, f"{statement.effect} …", "switch deny policies on in the tenancy")
        return
    yield from _breadth(statement)
    yield from _narrower(statement)


def _finding(
    statement: Statement,
    code: Code,
    evidence: str,
    mend: str,
    *,
    becomes: Statement | str | None = None,
    at: Place | None = None,
) -> Finding:
    text = becomes if isinstance(becomes, str) or becomes is None else render.statement(becomes)
    return Finding(code, at or statement.place, evidence, mend, text)


def _names(statement: Statement) -> Iterator[Finding]:
    """Resource types and permissions that Oracle does not document."""
    if isinstance(statement.grant, VerbGrant):
        resource = statement.grant.resource
        if resource in RESOURCES or resource.startswith("<"):
            return
        if guess := slip(resource, RESOURCES):
            becomes = replace(statement, grant=replace(statement.grant, resource=guess))
            yield _finding(
                statement,
                codes.RESOURCE_UNKNOWN,
                f'the resource type "{resource}" is not known to Quorate; did you mean "{guess}"?',
                f"write `{guess}`",
                becomes=becomes,
            )
        else:
            yield _finding(
                statement,
                codes.UNLISTED,
                f'the resource type "{resource}" is not known to Quorate',
                "check it in the vendor's reference",
            )
    elif isinstance(statement.grant, PermissionGrant):
        for permission in statement.grant.permissions:
            if permission in PERMISSIONS:
                continue
            if near := slip(permission, PERMISSIONS):
                yield _finding(
                    statement,
                    codes.PERMISSION_UNKNOWN,
                    f'the permission "{permission}" is not known to Quorate; did you mean "{near}"?',
                    f"write `{near}`",
                )
            else:
                yield _finding(
                    statement,
                    codes.UNLISTED,
                    f'the permission "{permission}" is not known to Quorate',
                    "check it in the vendor's reference",
                )


def _reach(statement: Statement) -> frozenset[str] | None:
    """The single resource types that the grant concerns; None where that is not known."""
    match statement.grant:
        case VerbGrant(_, resource) if resource != ALL_RESOURCES and resource in RESOURCES:
            return members(resource)
        case PermissionGrant(permissions) if all(each in PERMISSIONS for each in permissions):
            return frozenset(PERMISSIONS[each] for each in permissions)
    return None


def _conditions(statement: Statement) -> Iterator[Finding]:
    if statement.condition is None:
        return
    reach = _reach(statement)
    for part in comparisons(statement.condition):
        yield from _comparison(statement, part, reach)
    yield from _tagged(statement)
    if _never_true(statement.condition):
        yield _finding(
            statement,
            codes.NEVER_TRUE,
            f"`{render.condition(statement.condition)}` demands two values of one variable at once",
            "write `any` where one of them is enough",
            becomes=replace(statement, condition=alternatives(statement.condition)),
        )
    elif _always_true(statement.condition):
        yield _finding(
            statement,
            codes.ALWAYS_TRUE,
            f"`{render.condition(statement.condition)}`: whatever differs from one value passes for the other",
            "write `all` instead of `any`",
        )


def _comparison(statement: Statement, part: Compare, reach: frozenset[str] | None) -> Iterator[Finding]:
    variable = part.variable.lower()
    for value in part.values:
        if value.kind is ValueKind.STRING and not value.text.strip():
            yield _finding(
                statement,
                codes.NO_VALUE,
                f"{part.variable} is compared with an empty string",
                f"write `{part.variable} {part.operator} '<value>'`",
                at=part.place,
            )
        if value.kind is ValueKind.STRING and "*" in value.text:
            yield _finding(
                statement,
                codes.UNQUOTED,
                f"'{value.text}' is a string, in which * is an ordinary sign",
                f"write the pattern as /{value.text}/",
                at=part.place,
            )
        if value.kind is ValueKind.STRING and (odd := misplaced(value.text, OF_VARIABLE.get(variable, frozenset()))):
            yield _finding(statement, codes.OCID_KIND, f"{part.variable}: {odd[0]}", odd[1], at=part.place)
    if variable in SERVICE_VARIABLES:
        carriers = SERVICE_VARIABLES[variable]
        if reach is not None and not reach & carriers:
            yield _finding(
                statement,
                codes.VARIABLE_MISPLACED,
                f"{part.variable} is known in requests for {', '.join(sorted(carriers))} only",
                "grant that resource type, or leave the condition out",
                at=part.place,
            )
        elif (
            variable in _LISTED_BY_NAME
            and isinstance(statement.grant, VerbGrant)
            and statement.grant.verb is Verb.INSPECT
            and part.operator is Operator.EQUAL
        ):
            yield _finding(
                statement,
                codes.LIST_DECLINED,
                f"`inspect` is for list calls, and those carry no {part.variable}",
                "leave the condition out, or grant `read`",
                at=part.place,
            )
    elif variable not in VARIABLES and not variable.startswith(TAG_VARIABLES) and not variable.startswith("<"):
        if guess := slip(variable, VARIABLES):
            yield _finding(
                statement,
                codes.VARIABLE_UNKNOWN,
                f'the variable "{part.variable}" is not known to Quorate; did you mean "{guess}"?',
                f"write `{guess}`",
                at=part.place,
            )
        else:
            yield _finding(
                statement,
                codes.UNLISTED,
                f'the variable "{part.variable}" is not known to Quorate',
                "check it in the vendor's reference",
                at=part.place,
            )


def _tagged(statement: Statement) -> Iterator[Finding]:
    """https://docs.oracle.com/iaas/Content/Tagging/Tasks/managingaccesswithtags.htm, limitations."""
    grant = statement.grant
    creates = isinstance(grant, VerbGrant) and grant.verb is Verb.MANAGE
    if isinstance(grant, PermissionGrant):
        creates = any(each.endswith(("_CREATE", "_INSPECT")) for each in grant.permissions)
    tag = next(
        (each for each in comparisons(statement.condition) if each.variable.lower().startswith("target.resource.tag.")),
        None,
    )
    if creates and tag is not None and not statement.effect.denies:
        yield _finding(
            statement,
            codes.TAG_CREATES,
            f"`{render.grant(grant)}` under {tag.variable}",
            "grant creating and listing in a statement of their own, or use target.resource.compartment.tag",
            at=tag.place,
        )


def _never_true(condition: Condition) -> bool:
    ways = cases(condition)
    if not ways:
        return False
    single = [
        replace(way, parts=tuple(each for each in way.parts if not each.variable.lower().startswith(_MANY_VALUED)))
        for way in ways
    ]
    return not any(way.is_possible for way in single)


def _always_true(condition: Condition) -> bool:
    if isinstance(condition, Compare):
        return False
    if condition.mode is Mode.ALL:
        return bool(condition.parts) and all(_always_true(part) for part in condition.parts)
    if any(isinstance(part, Combination) and _always_true(part) for part in condition.parts):
        return True
    excluded: dict[str, set[str]] = {}
    for part in condition.parts:
        if (
            isinstance(part, Compare)
            and part.operator is Operator.NOT_EQUAL
            and part.values[0].kind is ValueKind.STRING
        ):
            excluded.setdefault(part.variable.lower(), set()).add(part.values[0].text.lower())
    return any(len(values) > 1 for values in excluded.values())


def _says_who(condition: Condition | None) -> bool:
    """Whether everything that meets the condition comes from somebody whom it names."""
    if condition is None:
        return False
    if isinstance(condition, Compare):
        return condition.operator is not Operator.NOT_EQUAL and condition.variable.lower().startswith(_WHO)
    some_or_each = any if condition.mode is Mode.ALL else all
    return bool(condition.parts) and some_or_each(_says_who(part) for part in condition.parts)


def _breadth(statement: Statement) -> Iterator[Finding]:
    """Grants that are too wide whoever holds them."""
    grant = statement.grant
    who = render.subject(statement.subject)
    changes = isinstance(grant, PermissionGrant) or (isinstance(grant, VerbGrant) and grant.verb.rank >= Verb.USE.rank)
    if isinstance(grant, VerbGrant) and grant.resource == ALL_RESOURCES and changes:
        yield _finding(
            statement,
            codes.ALL_RESOURCES,
            f"{who} may {grant.verb} everything",
            "name the resource types that are needed",
        )
    if statement.subject.kind.is_everybody and not _says_who(statement.condition):
        yield _finding(
            statement,
            codes.ANY_USER,
            f"{statement.subject.kind} without a condition on who asks",
            "name a group, or add `where request.principal.type = '…'`",
        )
    machines = statement.subject.kind is SubjectKind.DYNAMIC_GROUP or statement.subject.kind.is_everybody
    about = any(part.variable.lower().startswith("target.") for part in comparisons(statement.condition))
    if (
        machines
        and not about
        and isinstance(grant, VerbGrant)
        and grant.verb is Verb.MANAGE
        and grant.resource in _RIGHTS
    ):
        yield _finding(
            statement,
            codes.ESCALATION,
            f"{who} may {grant.verb} {grant.resource}",
            "leave rights to people: name a group, or bind it with a condition on `target.…`",
        )
    if (
        changes
        and statement.condition is None
        and statement.location.kind is LocationKind.TENANCY
        and not statement.location.path
        and statement.subject.kind is not SubjectKind.SERVICE
        and not (isinstance(grant, VerbGrant) and grant.resource == ALL_RESOURCES)
    ):
        yield _finding(
            statement,
            codes.TENANCY_WIDE,
            f"{render.grant(grant)} in the whole tenancy",
            "write `in compartment <name>`",
        )


def _narrower(statement: Statement) -> Iterator[Finding]:
    """Grants for which training has a narrower one."""
    grant = statement.grant
    if not isinstance(grant, VerbGrant):
        return
    machine = statement.subject.kind is SubjectKind.DYNAMIC_GROUP
    key = (grant.verb, grant.resource)
    less = _NARROWER.get(key) or (_NARROWER_FOR_MACHINES.get(key) if machine else None)
    if less:
        narrower, reason = less
        text = render.statement(statement).replace(f" to {render.grant(grant)} in ", f" to {narrower} in ", 1)
        yield _finding(
            statement, codes.WIDER, f"`{render.grant(grant)}`: {reason}", f"write `{narrower}`", becomes=text
        )
    variables = {part.variable.lower() for part in comparisons(statement.condition)}
    by_bucket = any(each.startswith("target.bucket.") for each in variables)
    touches_objects = grant.resource != ALL_RESOURCES and contains(grant.resource, "objects")
    if grant.verb.rank >= Verb.USE.rank and (touches_objects or grant.resource == "buckets") and not by_bucket:
        yield _finding(
            statement,
            codes.NO_BUCKET,
            f"`{render.grant(grant)}` in every bucket of {render.location(statement.location)}",
            "add `where target.bucket.name = '<bucket>'`",
        )
    if grant.verb is Verb.USE and touches_objects:
        text = render.statement(statement).replace(f" to {render.grant(grant)} in ", f" to {_CHECKPOINTS} in ", 1)
        yield _finding(
            statement,
            codes.CANNOT_CREATE,
            f"`{render.grant(grant)}` lacks OBJECT_CREATE",
            f"write `{_CHECKPOINTS}`",
            becomes=text,
        )
    if key == (Verb.MANAGE, "repos") and not variables & {"target.repo.name", "request.permission"}:
        yield _finding(
            statement,
            codes.WIDER,
            "`manage repos` may delete every image of the location",
            f"add `where target.repo.name = '<repository>'`, or write `{{{', '.join(PUSH_PERMISSIONS)}}}`",
        )
