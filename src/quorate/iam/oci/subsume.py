"""Decides whether one statement already grants all that another one grants."""

from __future__ import annotations

from quorate.iam.oci.syntax import (
    AssociateGrant,
    Combination,
    Compare,
    Condition,
    Effect,
    Grant,
    Location,
    LocationKind,
    Mode,
    PermissionGrant,
    Principal,
    Statement,
    Subject,
    SubjectKind,
    VerbGrant,
)
from quorate.iam.oci.vocabulary import ALL_RESOURCES, contains, members, permissions

DEFAULT_DOMAIN = "default"
EVERYBODY = "*"


def members_of(subject: Subject) -> tuple[str, ...]:
    """Whom a subject names, each as one text, in a form in which equal principals are equal."""
    if subject.kind.is_everybody:
        return (EVERYBODY,)
    return tuple("\0".join((subject.kind, *_identity(member))) for member in subject.members)


def covers(wide: Statement, narrow: Statement) -> bool:
    """Whether `wide` alone grants (or denies) everything that `narrow` does. Where it is not known, no."""
    return (
        wide.effect is narrow.effect
        and wide.effect in (Effect.ALLOW, Effect.DENY)
        and _subject(wide.subject, narrow.subject)
        and _location(wide.location, narrow.location)
        and _grant(wide.grant, narrow.grant)
        and _condition(wide.condition, narrow.condition)
    )


def _subject(wide: Subject, narrow: Subject) -> bool:
    if wide.kind is SubjectKind.ANY_USER:
        return True
    if wide.kind is SubjectKind.ANY_GROUP:
        return narrow.kind in (SubjectKind.ANY_GROUP, SubjectKind.GROUP, SubjectKind.DYNAMIC_GROUP)
    if wide.kind is not narrow.kind:
        return False
    return {_identity(each) for each in narrow.members} <= {_identity(each) for each in wide.members}


def _identity(principal: Principal) -> tuple[str, str]:
    """A name without a domain is one of the default domain; names are compared without regard to case."""
    return ("" if principal.is_ocid else (principal.domain or DEFAULT_DOMAIN).lower(), principal.name.lower())


def _location(wide: Location, narrow: Location) -> bool:
    if wide.kind is LocationKind.TENANCY and not wide.path:
        return narrow.kind is not LocationKind.ANY_TENANCY and not (narrow.kind is LocationKind.TENANCY and narrow.path)
    if wide.kind is not narrow.kind:
        return False
    if wide.kind is LocationKind.COMPARTMENT:
        path = tuple(part.lower() for part in wide.path)
        return tuple(part.lower() for part in narrow.path[: len(path)]) == path
    return wide.path == narrow.path


def _grant(wide: Grant, narrow: Grant) -> bool:
    if isinstance(wide, AssociateGrant) or isinstance(narrow, AssociateGrant):
        return wide == narrow
    if isinstance(wide, VerbGrant) and isinstance(narrow, VerbGrant):
        return wide.verb.rank >= narrow.verb.rank and contains(wide.resource, narrow.resource)
    granted, wanted = _permissions(wide, whole=False), _permissions(narrow, whole=True)
    if wanted is None:
        return False
    if granted is None:
        return isinstance(wide, VerbGrant) and wide.resource == ALL_RESOURCES and wide.verb.value == "manage"
    return wanted <= granted


def _permissions(grant: VerbGrant | PermissionGrant, *, whole: bool) -> frozenset[str] | None:
    """The permissions in a grant; None where no table tells. `whole`: a part of a family's tables is not enough."""
    if isinstance(grant, PermissionGrant):
        return frozenset(grant.permissions)
    if grant.resource == ALL_RESOURCES:
        return None
    tables = [permissions(grant.verb, resource) for resource in members(grant.resource)]
    known = [table for table in tables if table is not None]
    if not known or (whole and len(known) < len(tables)):
        return None
    return frozenset().union(*known)


def _condition(wide: Condition | None, narrow: Condition | None) -> bool:
    """Whether `narrow` can only be true where `wide` is."""
    if wide is None:
        return True
    if narrow is None:
        return False
    return _implies(_normal(narrow), _normal(wide))


def _normal(condition: Condition) -> Condition:
    """Case folded, single-part braces opened, parts in a fixed order."""
    if isinstance(condition, Compare):
        values = tuple(type(value)(value.kind, value.text.lower()) for value in condition.values)
        return Compare(condition.variable.lower(), condition.operator, values)
    parts = tuple(sorted((_normal(part) for part in condition.parts), key=repr))
    return parts[0] if len(parts) == 1 else Combination(condition.mode, parts)


def _implies(narrow: Condition, wide: Condition) -> bool:
    if narrow == wide:
        return True
    if isinstance(wide, Combination) and wide.mode is Mode.ALL:
        return all(_implies(narrow, part) for part in wide.parts)
    if isinstance(narrow, Combination) and narrow.mode is Mode.ANY:
        return all(_implies(part, wide) for part in narrow.parts)
    if isinstance(wide, Combination):
        return any(_implies(narrow, part) for part in wide.parts) or (
            isinstance(narrow, Combination) and any(_implies(part, wide) for part in narrow.parts)
        )
    return isinstance(narrow, Combination) and any(_implies(part, wide) for part in narrow.parts)
