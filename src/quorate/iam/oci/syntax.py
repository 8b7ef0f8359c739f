"""A policy statement as values: who may do what, where, and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from quorate.iam.place import START, Place


class Effect(StrEnum):
    """A statement's first word or words."""

    ALLOW = "Allow"
    DENY = "Deny"
    ENDORSE = "Endorse"
    ADMIT = "Admit"
    DENY_ENDORSE = "Deny endorse"
    DENY_ADMIT = "Deny admit"

    @property
    def denies(self) -> bool:
        return self in (Effect.DENY, Effect.DENY_ENDORSE, Effect.DENY_ADMIT)


class Verb(StrEnum):
    """Each verb contains the ones before it."""

    INSPECT = "inspect"
    READ = "read"
    USE = "use"
    MANAGE = "manage"

    @property
    def rank(self) -> int:
        return list(Verb).index(self)


class SubjectKind(StrEnum):
    """A statement names principals of one kind only."""

    GROUP = "group"
    DYNAMIC_GROUP = "dynamic-group"
    SERVICE = "service"
    RESOURCE = "resource"
    ANY_USER = "any-user"
    ANY_GROUP = "any-group"

    @property
    def is_everybody(self) -> bool:
        return self in (SubjectKind.ANY_USER, SubjectKind.ANY_GROUP)


@dataclass(frozen=True, slots=True)
class Principal:
    """A name, in an identity domain where it says so, or an OCID."""

    name: str
    domain: str | None = None
    is_ocid: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """Who: `members` is empty for everybody; `tenancy` is set in an admit statement."""

    kind: SubjectKind
    members: tuple[Principal, ...] = ()
    tenancy: str | None = None


class LocationKind(StrEnum):
    """Where a grant holds."""

    TENANCY = "tenancy"
    ANY_TENANCY = "any-tenancy"
    COMPARTMENT = "compartment"
    COMPARTMENT_ID = "compartment id"


@dataclass(frozen=True, slots=True)
class Location:
    """`path` is a compartment's path, one OCID, or the alias of another tenancy; empty for the own tenancy."""

    kind: LocationKind
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VerbGrant:
    """A verb on a resource type, such as `read repos`."""

    verb: Verb
    resource: str


@dataclass(frozen=True, slots=True)
class PermissionGrant:
    """A list of permissions, such as `{OBJECT_READ, OBJECT_CREATE}`."""

    permissions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AssociateGrant:
    """The joining of resources of two tenancies; in endorse and admit statements only."""

    resource: str
    location: Location
    other_resource: str


Grant = VerbGrant | PermissionGrant | AssociateGrant


class ValueKind(StrEnum):
    """What stands on the right of a comparison."""

    STRING = "string"
    PATTERN = "pattern"
    VARIABLE = "variable"


@dataclass(frozen=True, slots=True)
class Value:
    kind: ValueKind
    text: str


class Operator(StrEnum):
    """How a variable is compared; strings are compared without regard to case.

    `PRESENT` is a tag variable that stands alone in a matching rule: the tag is there, whatever its value.
    """

    EQUAL = "="
    NOT_EQUAL = "!="
    IN = "in"
    NOT_IN = "not in"
    BEFORE = "before"
    AFTER = "after"
    BETWEEN = "between"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition; `values` has one value, two for `between`, any number for `in`, none for presence."""

    variable: str
    operator: Operator
    values: tuple[Value, ...]
    place: Place = field(default=START, compare=False)


class Mode(StrEnum):
    """Whether one or all of a group's conditions must hold."""

    ANY = "any"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Combination:
    """Several conditions under `any` or `all`."""

    mode: Mode
    parts: tuple[Condition, ...]


Condition = Compare | Combination


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence that grants or denies."""

    effect: Effect
    subject: Subject
    grant: Grant
    location: Location
    condition: Condition | None = None
    place: Place = field(default=START, compare=False)


@dataclass(frozen=True, slots=True)
class Define:
    """An alias for another tenancy's OCID; it grants nothing by itself."""

    kind: str
    alias: str
    ocid: str
    place: Place = field(default=START, compare=False)


def comparisons(condition: Condition | None) -> list[Compare]:
    """Every comparison in a condition, however nested, in the order of the text."""
    if condition is None:
        return []
    if isinstance(condition, Compare):
        return [condition]
    return [found for part in condition.parts for found in comparisons(part)]
