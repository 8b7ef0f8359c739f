"""Writes statements and matching rules as text that OCI reads; the parser reads back the same value."""

from __future__ import annotations

import re

from quorate.iam.oci.syntax import (
    AssociateGrant,
    Combination,
    Compare,
    Condition,
    Define,
    Grant,
    Location,
    LocationKind,
    Operator,
    PermissionGrant,
    Principal,
    Statement,
    Subject,
    Value,
    ValueKind,
    VerbGrant,
)

# Words that have a meaning where a name may stand; a group called "to" must be quoted.
RESERVED = frozenset({"to", "of", "in", "where", "id", "any", "all", "tenancy", "compartment", "with", "as"})
_BARE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")


def name(text: str) -> str:
    if _BARE.fullmatch(text) and text.lower() not in RESERVED:
        return text
    return f"'{text}'"


def _principal(principal: Principal) -> str:
    if principal.is_ocid:
        return f"id {principal.name}"
    if principal.domain is not None:
        return f"'{principal.domain}'/'{principal.name}'"
    return name(principal.name)


def subject(who: Subject) -> str:
    words = [who.kind.value]
    if who.members:
        words.append(", ".join(_principal(member) for member in who.members))
    if who.tenancy is not None:
        words.append(f"of tenancy {name(who.tenancy)}")
    return " ".join(words)


def grant(what: Grant) -> str:
    match what:
        case VerbGrant(verb, resource):
            return f"{verb} {resource}"
        case PermissionGrant(permissions):
            return "{" + ", ".join(permissions) + "}"
        case AssociateGrant(resource, where, other):
            return f"associate {resource} in {location(where)} with {other}"


def location(where: Location) -> str:
    match where.kind:
        case LocationKind.COMPARTMENT:
            return "compartment " + ":".join(name(part) for part in where.path)
        case LocationKind.COMPARTMENT_ID:
            return f"compartment id {where.path[0]}"
        case LocationKind.TENANCY if where.path:
            return f"tenancy {name(where.path[0])}"
        case _:
            return where.kind.value


def _value(value: Value) -> str:
    match value.kind:
        case ValueKind.STRING:
            return f"'{value.text}'"
        case ValueKind.PATTERN:
            return f"/{value.text}/"
        case ValueKind.VARIABLE:
            return value.text


def condition(when: Condition) -> str:
    if isinstance(when, Combination):
        return f"{when.mode} {{{', '.join(condition(part) for part in when.parts)}}}"
    return _compare(when)


def _compare(when: Compare) -> str:
    match when.operator:
        case Operator.IN | Operator.NOT_IN:
            return f"{when.variable} {when.operator} ({', '.join(_value(value) for value in when.values)})"
        case Operator.BETWEEN:
            first, second = when.values
            return f"{when.variable} between {_value(first)} and {_value(second)}"
        case Operator.PRESENT:
            return when.variable
        case _:
            return f"{when.variable} {when.operator} {_value(when.values[0])}"


def statement(said: Statement | Define) -> str:
    if isinstance(said, Define):
        return f"Define {said.kind} {name(said.alias)} as {said.ocid}"
    text = f"{said.effect} {subject(said.subject)} to {grant(said.grant)} in {location(said.location)}"
    return text if said.condition is None else f"{text} where {condition(said.condition)}"
