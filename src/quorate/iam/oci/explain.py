"""Puts a policy statement into plain words, and says what training needs it for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from quorate.iam.explained import Reasons
from quorate.iam.oci import render
from quorate.iam.oci.generate import OciPolicy, generate
from quorate.iam.oci.request import OciRequest, Tag
from quorate.iam.oci.syntax import (
    AssociateGrant,
    Combination,
    Compare,
    Condition,
    Define,
    Effect,
    Grant,
    LocationKind,
    Mode,
    Operator,
    PermissionGrant,
    Statement,
    Subject,
    SubjectKind,
    Verb,
    VerbGrant,
    comparisons,
)
from quorate.iam.oci.vocabulary import ALL_RESOURCES, FAMILIES, members, permissions
from quorate.iam.request import Audience, Auth, Profile, Target

_EFFECTS = {
    Effect.ALLOW: "may",
    Effect.DENY: "may not",
    Effect.ENDORSE: "may, if the other tenancy admits it,",
    Effect.ADMIT: "may, if its own tenancy endorses it,",
    Effect.DENY_ENDORSE: "may not, in other tenancies,",
    Effect.DENY_ADMIT: "may not, coming from another tenancy,",
}


_VERBS = {
    Verb.INSPECT: "list",
    Verb.READ: "list and read",
    Verb.USE: "list, read and use",
    Verb.MANAGE: "do anything with",
}


@dataclass(frozen=True, slots=True)
class Use:
    """What a grant of this shape is for: whose, and why."""

    whose: str
    reasons: Reasons


@dataclass(frozen=True, slots=True)
class Explanation:
    """A statement in plain words. `permissions` is empty where no table is known."""

    statement: str
    meaning: str
    permissions: tuple[str, ...]
    uses: tuple[Use, ...]

    def as_json(self) -> dict[str, object]:
        return {
            "statement": self.statement,
            "meaning": self.meaning,
            "permissions": list(self.permissions),
            "uses": [{"whose": use.whose, **use.reasons.as_json()} for use in self.uses],
        }


def explain(said: Statement | Define) -> Explanation:
    """The statement in plain words, with what Quorate or Data Science jobs need it for."""
    text = render.statement(said)
    if isinstance(said, Define):
        return Explanation(text, f"{said.alias} stands for the {said.kind} {said.ocid}; this grants nothing.", (), ())
    meaning = f"{_who(said.subject)} {_EFFECTS[said.effect]} {_what(said.grant)} {_where(said)}"
    if said.condition is not None:
        meaning += f", if {_when(said.condition)}"
    return Explanation(text, meaning + ".", _granted(said.grant), _uses(said))


def explain_rule(rule: Condition) -> Explanation:
    """A dynamic group's matching rule in plain words."""
    uses = tuple(dict.fromkeys(use for shape, use in _known_rules() if shape == _shape(rule)))
    return Explanation(render.condition(rule), f"Every resource of the tenancy for which {_when(rule)}.", (), uses)


def _shape(rule: Condition) -> frozenset[tuple[str, str]]:
    """What a rule asks, apart from names that are the reader's own."""
    return frozenset(
        (part.variable.lower() if not part.variable.startswith("tag.") else "tag", _type(part))
        for part in comparisons(rule)
    )


def _type(part: Compare) -> str:
    return part.values[0].text.lower() if part.variable.lower() == "resource.type" and part.values else ""


def _who(subject: Subject) -> str:
    if subject.kind is SubjectKind.ANY_USER:
        return "Everybody (users, instances, resources and services)"
    if subject.kind is SubjectKind.ANY_GROUP:
        return "Every member of any group or dynamic group"
    names = " and ".join(
        f"{member.name} of the domain {member.domain}" if member.domain else member.name for member in subject.members
    )
    start = {
        SubjectKind.GROUP: "The users in the group",
        SubjectKind.DYNAMIC_GROUP: "The resources in the dynamic group",
        SubjectKind.SERVICE: "Oracle's service",
        SubjectKind.RESOURCE: "The resource",
    }[subject.kind]
    return f"{start} {names}" + (f" of the tenancy {subject.tenancy}" if subject.tenancy else "")


def _what(grant: Grant) -> str:
    match grant:
        case PermissionGrant(names):
            return "do what takes " + ", ".join(names)
        case AssociateGrant(resource, where, other):
            return f"join {resource} in {render.location(where)} with {other}"
        case VerbGrant(verb, resource):
            if resource == ALL_RESOURCES:
                what = "all resources"
            elif resource in FAMILIES:
                what = f"{resource} ({len(members(resource))} resource types)"
            else:
                what = resource
            return f"{_VERBS[verb]} {what}"


def _where(statement: Statement) -> str:
    location = statement.location
    match location.kind:
        case LocationKind.TENANCY:
            return f"in the tenancy {location.path[0]}" if location.path else "in the whole tenancy"
        case LocationKind.ANY_TENANCY:
            return "in any tenancy"
        case LocationKind.COMPARTMENT_ID:
            return f"in the compartment {location.path[0]} and those in it"
        case LocationKind.COMPARTMENT:
            return f"in the compartment {' / '.join(location.path)} and those in it"


def _when(condition: Condition) -> str:
    if isinstance(condition, Combination):
        word = " and " if condition.mode is Mode.ALL else " or "
        joined = word.join(
            f"({_when(part)})" if isinstance(part, Combination) and len(part.parts) > 1 else _when(part)
            for part in condition.parts
        )
        return joined or "nothing is asked"
    values = [value.text for value in condition.values]
    match condition.operator:
        case Operator.EQUAL:
            return f"{condition.variable} is {values[0]}"
        case Operator.NOT_EQUAL:
            return f"{condition.variable} is not {values[0]}"
        case Operator.IN | Operator.NOT_IN:
            some = "is one of" if condition.operator is Operator.IN else "is none of"
            return f"{condition.variable} {some} {', '.join(values)}"
        case Operator.BETWEEN:
            return f"{condition.variable} lies between {values[0]} and {values[1]}"
        case Operator.PRESENT:
            return f"{condition.variable} is set"
        case _:
            return f"{condition.variable} is {condition.operator} {values[0]}"


def _granted(grant: Grant) -> tuple[str, ...]:
    if isinstance(grant, PermissionGrant):
        return grant.permissions
    if isinstance(grant, VerbGrant) and grant.resource not in FAMILIES:
        return tuple(sorted(permissions(grant.verb, grant.resource) or ()))
    return ()


def _uses(statement: Statement) -> tuple[Use, ...]:
    """The needs that a grant of the same shape meets; names and conditions are the reader's own."""
    if statement.effect is not Effect.ALLOW:
        return ()
    found: dict[Reasons, dict[str, None]] = {}
    for kind, grant, use in _known():
        if (kind, grant) == (statement.subject.kind, statement.grant):
            found.setdefault(use.reasons, {})[use.whose] = None
    return tuple(Use("; ".join(whose), reasons) for reasons, whose in found.items())


@cache
def _known_rules() -> tuple[tuple[frozenset[tuple[str, str]], Use], ...]:
    return tuple(
        (_shape(group.rule), Use(whose, group.reasons))
        for whose, policy in _every_policy()
        for group in policy.dynamic_groups
    )


@cache
def _known() -> tuple[tuple[SubjectKind, Grant, Use], ...]:
    return tuple(dict.fromkeys(_every_need()))


def _every_need() -> Iterator[tuple[SubjectKind, Grant, Use]]:
    for whose, policy in _every_policy():
        for each in policy.statements:
            yield each.statement.subject.kind, each.statement.grant, Use(whose, each.reasons)


def _every_policy() -> Iterator[tuple[str, OciPolicy]]:
    sample = OciRequest(
        Audience.USER,
        group="g",
        dynamic_group="g",
        compartment="c",
        compartment_ocid="ocid1.compartment.oc1..x",
        bucket="b",
        repo="r",
        metrics_namespace="m",
        instance="ocid1.instance.oc1..x",
    )
    asked = (
        (Target.DATA_SCIENCE, Audience.USER, Auth.GROUP),
        (Target.DATA_SCIENCE, Audience.USER, Auth.DYNAMIC_GROUP),
        (Target.DATA_SCIENCE, Audience.JOB, Auth.DYNAMIC_GROUP),
        (Target.INSTANCES, Audience.MASTER, Auth.DYNAMIC_GROUP),
        (Target.INSTANCES, Audience.AGENT, Auth.DYNAMIC_GROUP),
        (Target.INSTANCES, Audience.USER, Auth.GROUP),
    )
    options = product(asked, Profile, (None, Tag("n", "k", "v")), (None, "i"), (True, False), (True, False))
    for (target, audience, auth), profile, tag, image, volumes, may_delete in options:
        policy = generate(
            replace(
                sample,
                target=target,
                audience=audience,
                auth=auth,
                profile=profile,
                tag=tag,
                image=image,
                volumes=volumes,
                may_delete=may_delete,
            )
        )
        where = "Data Science jobs" if target is Target.DATA_SCIENCE else "agents on OCI instances"
        yield f"{audience}, {where}", policy
