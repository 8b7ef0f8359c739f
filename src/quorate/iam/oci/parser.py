"""Parses one policy statement: strictly, or leniently with every problem that it has."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quorate.iam import codes
from quorate.iam.oci.conditions import parse_condition
from quorate.iam.oci.cursor import Cursor, GiveUp
from quorate.iam.oci.ocid import AFTER, OCID
from quorate.iam.oci.subject import expect_to, parse_subject, take_name
from quorate.iam.oci.syntax import (
    AssociateGrant,
    Define,
    Effect,
    Grant,
    Location,
    LocationKind,
    PermissionGrant,
    Statement,
    Verb,
    VerbGrant,
)
from quorate.iam.oci.tokens import Kind, Problem, Token
from quorate.iam.place import did_you_mean, suggestion

START_WORDS = frozenset({"allow", "deny", "define", "endorse", "admit"})
_VERBS = frozenset(verb.value for verb in Verb)
_PERMISSION = re.compile(r"[A-Z][A-Z0-9_]*")
_RESOURCE = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a lenient parse found: the statement as far as it goes, and every problem in it.

    `others` are the same for subjects of other kinds, where one statement named several.
    """

    statement: Statement | Define | None
    problems: tuple[Problem, ...]
    others: tuple[Statement, ...] = ()


def read(text: str) -> Reading:
    """As much of a statement as can be made out, with all its problems; for a linter."""
    at = Cursor(text)
    try:
        if at.token.is_word("define"):
            return Reading(_define(at), tuple(at.problems))
        statement, *others = _statements(at)
    except GiveUp:
        return Reading(None, tuple(at.problems))
    return Reading(statement, tuple(at.problems), tuple(others))


def _statements(at: Cursor) -> list[Statement]:
    """The statement; more than one where it names subjects of several kinds."""
    start = at.token
    effect = _effect(at)
    subjects = parse_subject(at, admitted=effect in (Effect.ADMIT, Effect.DENY_ADMIT))
    expect_to(at)
    crosses = effect not in (Effect.ALLOW, Effect.DENY)
    grant = _grant(at, crosses_tenancies=crosses)
    location = _location(at, "the statement", crosses_tenancies=crosses)
    condition = None
    if at.take_word("where"):
        condition = parse_condition(at)
    at.expect_end("the statement", "start a new statement")
    return [Statement(effect, subject, grant, location, condition, start.place) for subject in subjects]


def _effect(at: Cursor) -> Effect:
    token = at.token
    if token.is_word("deny") and at.following.is_word("endorse", "admit"):
        at.take()
        return Effect(f"Deny {at.take().text.lower()}")
    if token.is_word("allow", "deny", "endorse", "admit"):
        at.take()
        return Effect(token.text.capitalize())
    if at.at_end:
        raise at.give_up(codes.SYNTAX, "there is no statement", "write `Allow group … to … in …`")
    if token.kind is Kind.WORD and (guess := suggestion(token.text, START_WORDS - {"define"})):
        at.report(
            codes.SYNTAX, f'a statement begins with Allow, found {token}; did you mean "{guess}"?', f"write `{guess}`"
        )
        at.take()
        return Effect(guess.capitalize())
    raise at.give_up(codes.SYNTAX, f"a statement begins with Allow, found {token}", "write `Allow group … to … in …`")


def _define(at: Cursor) -> Define:
    start = at.take()
    kind = at.take()
    if not kind.is_word("tenancy", "group", "dynamic-group", "compartment"):
        raise at.give_up(
            codes.SYNTAX,
            f"expected tenancy, group or dynamic-group after define, found {kind}",
            "say what it names",
            kind,
        )
    alias = take_name(at, "an alias")
    if not at.take_word("as"):
        raise at.give_up(codes.SYNTAX, f"expected `as`, found {at.token}", "write `as <ocid>`")
    ocid = _ocid(at, kind.text.lower())
    at.expect_end("the statement", "start a new statement")
    return Define(kind.text.lower(), alias, ocid, start.place)


def _grant(at: Cursor, *, crosses_tenancies: bool) -> Grant:
    if at.token.is_sign("{"):
        return _permissions(at)
    if at.token.is_word("associate") and crosses_tenancies:
        at.take()
        resource = _resource(at)
        here = _location(at, resource, crosses_tenancies=True)
        if not at.take_word("with"):
            raise at.give_up(codes.SYNTAX, f"expected `with`, found {at.token}", "write `with <resource> in tenancy …`")
        return AssociateGrant(resource, here, _resource(at))
    verb = _verb(at)
    return VerbGrant(verb, _resource(at))


def _verb(at: Cursor) -> Verb:
    token = at.token
    if token.kind is Kind.PLACEHOLDER:
        at.report(codes.PLACEHOLDER, f"{token} was never filled in", "write inspect, read, use or manage")
        at.take()
        return Verb.INSPECT
    if token.kind is not Kind.WORD or token.is_word("in", "where"):
        raise at.give_up(
            codes.VERB_UNKNOWN, f"expected inspect, read, use or manage, found {token}", "say what may be done"
        )
    at.take()
    if not token.is_word(*_VERBS):
        guess = "use" if token.is_word("user") else suggestion(token.text, _VERBS)
        hint = f'; did you mean "{guess}"?' if guess else ""
        message = f"{token} is no verb: inspect, read, use or manage{hint}"
        mend = f"write `{guess}`" if guess else "choose the weakest verb that does the work"
        if guess is None:
            raise at.give_up(codes.VERB_UNKNOWN, message, mend, token)
        at.report(codes.VERB_UNKNOWN, message, mend, token)
        return Verb(guess)
    verb = Verb(token.text.lower())
    while at.token.is_word(*_VERBS) and at.following.kind in (Kind.WORD, Kind.PLACEHOLDER):
        if at.following.is_word("in", "where"):
            break
        other = Verb(at.token.text.lower())
        weaker = min(verb, other, key=lambda each: each.rank)
        at.report(codes.TWO_VERBS, f"two verbs, {verb} and {other}", f"keep the weaker one: `{weaker}`", token)
        at.take()
        verb = weaker
    return verb


def _resource(at: Cursor) -> str:
    token = at.token
    if token.kind is Kind.PLACEHOLDER:
        at.take()
        at.report(codes.PLACEHOLDER, f"{token} was never filled in", "name a resource type", token)
        return token.text
    if token.kind is not Kind.WORD or token.is_word("in", "where"):
        raise at.give_up(codes.SYNTAX, f"expected a resource type, found {token}", "name one, such as `repos`")
    at.take()
    if not _RESOURCE.fullmatch(token.text.lower()):
        at.report(codes.SYNTAX, f"{token} cannot be a resource type", "use letters, digits and hyphens", token)
    return token.text.lower()


def _permissions(at: Cursor) -> PermissionGrant:
    at.take()
    found: list[str] = []
    while not at.take_sign("}"):
        token = at.take()
        if token.kind is not Kind.WORD:
            raise at.give_up(codes.SYNTAX, f"expected a permission, found {token}", "write `{OBJECT_READ, …}`", token)
        if not _PERMISSION.fullmatch(token.text.upper()):
            at.report(codes.SYNTAX, f"{token} cannot be a permission", "permissions look like OBJECT_READ", token)
        found.append(token.text.upper())
        if not at.take_sign(",") and not at.token.is_sign("}"):
            raise at.give_up(codes.SYNTAX, f"expected `,` or `}}`, found {at.token}", "close the list with `}`")
    if not found:
        at.report(codes.SYNTAX, "the list of permissions is empty", "name at least one")
    return PermissionGrant(tuple(found))


def _location(at: Cursor, whose: str, *, crosses_tenancies: bool) -> Location:
    start = at.token
    if not at.take_word("in"):
        if not at.token.is_word("tenancy", "compartment", "any-tenancy"):
            if at.at_end or at.token.is_word("where"):
                return _no_location(at, whose)
            raise at.give_up(
                codes.SYNTAX, f"expected `in`, found {at.token}", "write `in compartment …` or `in tenancy`"
            )
        at.report(codes.SYNTAX, f"expected `in` before {at.token}", "write `in` before the location")
    other = at.token
    if at.take_word("any-tenancy"):
        found = Location(LocationKind.ANY_TENANCY)
    elif at.take_word("tenancy"):
        if at.at_end or at.token.is_word("where", "with"):
            return Location(LocationKind.TENANCY)
        other = at.token
        found = Location(LocationKind.TENANCY, (take_name(at, "a tenancy's alias"),))
    else:
        return _compartment(at, start, whose)
    if not crosses_tenancies:
        at.report(
            codes.SYNTAX,
            f"{other}: only endorse and admit statements reach another tenancy",
            "write `in tenancy`",
            other,
        )
    return found


def _compartment(at: Cursor, start: Token, whose: str) -> Location:
    if not at.take_word("compartment"):
        if at.at_end or at.token.is_word("where"):
            return _no_location(at, whose)
        hint = did_you_mean(at.token.text, ("compartment", "tenancy")) if at.token.kind is Kind.WORD else ""
        at.report(codes.SYNTAX, f"expected compartment or tenancy, found {at.token}{hint}", "write `in compartment …`")
        if hint or (at.following.kind is Kind.WORD and not at.following.is_word("where")):
            at.take()
        return Location(LocationKind.COMPARTMENT, _path(at, start))
    if at.token.is_word("id") and not at.following.is_sign(":"):
        at.take()
        return Location(LocationKind.COMPARTMENT_ID, (_ocid(at, "compartment"),))
    return Location(LocationKind.COMPARTMENT, _path(at, start))


def _no_location(at: Cursor, whose: str) -> Location:
    at.report(codes.NO_LOCATION, f"{whose} does not say where it holds", "write `in compartment <name>`")
    return Location(LocationKind.COMPARTMENT, ("<compartment>",))


def _path(at: Cursor, start: Token) -> tuple[str, ...]:
    if at.at_end or at.token.is_word("where"):
        at.report(codes.NO_LOCATION, "no compartment is named", "write `in compartment <name>`", start)
        return ("<compartment>",)
    parts = [take_name(at, "a compartment's name")]
    while at.take_sign(":"):
        parts.append(take_name(at, "a compartment's name"))
    return tuple(parts)


def _ocid(at: Cursor, of: str) -> str:
    """`of`: the word that says what the OCID is of."""
    token = at.take()
    if token.kind is Kind.PLACEHOLDER:
        at.report(codes.PLACEHOLDER, f"{token} was never filled in", "write the OCID", token)
        return token.text
    if token.kind not in (Kind.WORD, Kind.STRING) or not token.text:
        raise at.give_up(codes.SYNTAX, f"expected an OCID, found {token}", "write the OCID after `id`", token)
    at.check_kind(token, AFTER[of])
    if not OCID.fullmatch(token.text):
        at.report(
            codes.SYNTAX,
            f"{token} is not an OCID (ocid1.<type>.<realm>.[region].<id>)",
            "copy the OCID, or leave `id` out and use the name",
            token,
        )
    return token.text
