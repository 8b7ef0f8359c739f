"""Parses who a statement is about: groups, dynamic groups, services, or everybody."""

from __future__ import annotations

from quorate.iam import codes
from quorate.iam.oci.cursor import Cursor
from quorate.iam.oci.ocid import AFTER
from quorate.iam.oci.render import RESERVED
from quorate.iam.oci.syntax import Principal, Subject, SubjectKind
from quorate.iam.oci.tokens import Kind
from quorate.iam.place import suggestion

_KINDS = frozenset(kind.value for kind in SubjectKind)


def parse_subject(at: Cursor, *, admitted: bool) -> tuple[Subject, ...]:
    """The subject, and where it mixes kinds, which OCI refuses, one for each kind.

    `admitted`: the subject of an admit statement, which comes from another tenancy.
    """
    kind = _kind(at)
    members = {kind: ()} if kind.is_everybody else _members(at, kind)
    tenancy = None
    if at.token.is_word("of") and at.following.is_word("tenancy"):
        of = at.take()
        at.take()
        tenancy = take_name(at, "a tenancy's alias")
        if not admitted:
            at.report(codes.SYNTAX, "only an admit statement may say `of tenancy`", "leave it out", of)
    return tuple(Subject(each, of_kind, tenancy) for each, of_kind in members.items())


def _kind(at: Cursor) -> SubjectKind:
    token = at.token
    if token.is_word(*_KINDS):
        at.take()
        return SubjectKind(token.text.lower())
    if token.is_word("to") or at.at_end:
        at.report(codes.NO_SUBJECT, "nobody is named", "write `group <name>` or `dynamic-group <name>`")
        return SubjectKind.GROUP
    if token.kind is Kind.WORD and (guess := suggestion(token.text, _KINDS)):
        at.report(codes.SYNTAX, f'{token} is no kind of subject; did you mean "{guess}"?', f"write `{guess}`")
        at.take()
        return SubjectKind(guess)
    at.report(
        codes.SYNTAX, f"expected group, dynamic-group, service or any-user, found {token}", "write `group <name>`"
    )
    return SubjectKind.GROUP


def _members(at: Cursor, kind: SubjectKind) -> dict[SubjectKind, tuple[Principal, ...]]:
    """Everybody who is named, by kind; in a sound statement there is one kind."""
    if _ends_subject(at):
        at.report(codes.NO_SUBJECT, f"no {kind} is named", f"write `{kind} <name>`")
        return {kind: (Principal(f"<{kind}>"),)}
    found: dict[SubjectKind, tuple[Principal, ...]] = {kind: (_member(at, kind),)}
    named = kind
    while at.take_sign(","):
        if at.token.is_word(*_KINDS) and not at.following.is_sign(",") and not at.following.is_word("to"):
            other = at.take()
            named = SubjectKind(other.text.lower())
            if named is not kind:
                at.report(
                    codes.SYNTAX,
                    f"a statement names subjects of one kind, not {kind} and {named}",
                    "write a statement for each kind",
                    other,
                )
        found[named] = (*found.get(named, ()), _member(at, named))
    return found


def _ends_subject(at: Cursor) -> bool:
    """`to` ends a subject; a group of that name has to be quoted."""
    return at.at_end or at.token.is_word("to") or (at.token.is_word("of") and at.following.is_word("tenancy"))


def _member(at: Cursor, kind: SubjectKind) -> Principal:
    if at.token.is_word("id") and at.following.kind in (Kind.WORD, Kind.PLACEHOLDER) and not at.following.is_word("to"):
        at.take()
        token = at.take()
        if token.kind is Kind.PLACEHOLDER:
            at.report(codes.PLACEHOLDER, f"{token} was never filled in", "write the OCID", token)
        elif not token.text.lower().startswith("ocid1."):
            at.report(codes.SYNTAX, f"{token} is not an OCID", "copy the OCID, or leave `id` out", token)
        elif kind.value in AFTER:
            at.check_kind(token, AFTER[kind.value])
        return Principal(token.text, is_ocid=True)
    first = take_name(at, "a name")
    if not at.take_sign("/"):
        return Principal(first)
    return Principal(take_name(at, "a name after the identity domain"), domain=first)


def take_name(at: Cursor, what: str) -> str:
    """A bare or quoted name."""
    token = at.token
    if token.kind is Kind.PLACEHOLDER:
        at.take()
        at.report(codes.PLACEHOLDER, f"{token} was never filled in", f"write {what}", token)
        return token.text
    if token.kind is Kind.STRING:
        at.take()
        if not token.text.strip():
            at.report(codes.PLACEHOLDER, f"the quotes hold nothing where {what} belongs", f"write {what}", token)
        return token.text
    if token.kind is not Kind.WORD or token.text.lower() in RESERVED - {"id", "any", "all"}:
        raise at.give_up(codes.SYNTAX, f"expected {what}, found {token}", f"write {what}")
    at.take()
    return token.text


def expect_to(at: Cursor) -> None:
    """The word between subject and grant; a name with a space and no quotes shows here."""
    if at.take_word("to"):
        return
    token = at.token
    if token.kind is Kind.WORD and not at.at_end:
        raise at.give_up(
            codes.SYNTAX,
            f"expected `to`, found {token}; a name with a space needs quotes",
            "quote the name: 'My Group'",
        )
    raise at.give_up(codes.SYNTAX, f"expected `to`, found {token}", "write `to <verb> <resource>`")
