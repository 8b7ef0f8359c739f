"""Parses conditions: what follows `where` in a statement, and the whole of a matching rule."""

from __future__ import annotations

from quorate.iam import codes
from quorate.iam.oci.cursor import Cursor
from quorate.iam.oci.syntax import Combination, Compare, Condition, Mode, Operator, Value, ValueKind
from quorate.iam.oci.tokens import Kind, Token
from quorate.iam.place import did_you_mean

# A right side that begins so is a variable and needs no quotes: `target.user.id = request.user.id`.
_VARIABLE_ROOTS = ("request.", "target.", "resource.", "instance.", "tag.")


def parse_condition(at: Cursor, *, presence: bool = False) -> Condition:
    """One condition. `presence` lets a tag variable stand alone, as matching rules allow."""
    if at.token.is_word("any", "all") and at.following.is_sign("{"):
        at.enter()
        mode = Mode(at.take().text.lower())
        at.take()
        parts = _parts(at, presence)
        at.leave()
        return Combination(mode, tuple(parts))
    if at.token.is_sign("{"):
        at.report(codes.SYNTAX, "braces need `any` or `all` before them", "write `all {…}`")
        at.enter()
        at.take()
        parts = _parts(at, presence)
        at.leave()
        return Combination(Mode.ALL, tuple(parts))
    return _comparison(at, presence)


def _parts(at: Cursor, presence: bool) -> list[Condition]:
    if at.take_sign("}"):
        at.report(codes.NO_VALUE, "the braces hold no condition", "write a condition, or leave the braces out")
        return []
    parts = [parse_condition(at, presence=presence)]
    while True:
        if at.take_sign("}"):
            return parts
        if at.at_end:
            at.report(codes.SYNTAX, "the braces are not closed", "add `}`")
            return parts
        if not at.take_sign(","):
            if not at.token.is_word("any", "all", "and", "or") and not _looks_like_variable(at.token):
                raise at.give_up(codes.SYNTAX, f"expected `,` or `}}`, found {at.token}", "part conditions with commas")
            at.report(codes.SYNTAX, f"no comma before {at.token}", "part conditions with commas")
            at.take_word("and", "or")
        parts.append(parse_condition(at, presence=presence))


def _looks_like_variable(token: Token) -> bool:
    return token.kind is Kind.WORD and token.text.lower().startswith(_VARIABLE_ROOTS)


def _comparison(at: Cursor, presence: bool) -> Compare:
    start = at.token
    if start.kind is Kind.PLACEHOLDER:
        at.report(codes.PLACEHOLDER, f"{start} was never filled in", "name the variable")
    elif start.kind is not Kind.WORD:
        raise at.give_up(codes.SYNTAX, f"expected a variable, found {start}", "write `variable = 'value'`")
    variable = at.take().text
    operator = _operator(at, variable, presence)
    values: tuple[Value, ...]
    match operator:
        case Operator.PRESENT:
            values = ()
        case Operator.IN | Operator.NOT_IN:
            values = _value_list(at, variable)
        case Operator.BETWEEN:
            first = _value(at, variable)
            if not at.take_word("and"):
                raise at.give_up(codes.SYNTAX, f"expected `and`, found {at.token}", "write `between 'a' and 'b'`")
            values = (first, _value(at, variable))
        case _:
            values = (_value(at, variable),)
    return Compare(variable, operator, values, start.place)


def _operator(at: Cursor, variable: str, presence: bool) -> Operator:
    token = at.token
    if token.is_sign("=", "!="):
        at.take()
        if at.take_sign("="):
            at.report(codes.SYNTAX, "`==` is not an operator", "write `=`", token)
        return Operator(token.text)
    if token.is_word("not") and at.following.is_word("in"):
        at.take(), at.take()
        return Operator.NOT_IN
    if token.is_word("in", "before", "after", "between"):
        at.take()
        return Operator(token.text.lower())
    if presence and variable.lower().startswith("tag.") and (at.at_end or token.is_sign(",", "}")):
        return Operator.PRESENT
    hint = did_you_mean(token.text, ("before", "after", "between")) if token.kind is Kind.WORD else ""
    raise at.give_up(
        codes.SYNTAX,
        f"expected `=`, `!=`, `in`, `before`, `after` or `between` after {variable}, found {token}{hint}",
        "write `variable = 'value'`",
    )


def _value_list(at: Cursor, variable: str) -> tuple[Value, ...]:
    if not at.take_sign("("):
        raise at.give_up(codes.SYNTAX, f"expected `(` after `in`, found {at.token}", "write `in ('a', 'b')`")
    values = [_value(at, variable)]
    while at.take_sign(","):
        values.append(_value(at, variable))
    if not at.take_sign(")"):
        raise at.give_up(codes.SYNTAX, f"expected `,` or `)`, found {at.token}", "close the list with `)`")
    return tuple(values)


def _value(at: Cursor, variable: str) -> Value:
    token = at.token
    match token.kind:
        case Kind.STRING:
            at.take()
            return Value(ValueKind.STRING, token.text)
        case Kind.PATTERN:
            at.take()
            if not token.text:
                at.report(codes.NO_VALUE, f"the pattern for {variable} is empty", "write `/prefix*/`", token)
            return Value(ValueKind.PATTERN, token.text)
        case Kind.PLACEHOLDER:
            at.take()
            at.report(
                codes.PLACEHOLDER, f"{token} was never filled in", f"write the value of {variable} in quotes", token
            )
            return Value(ValueKind.STRING, token.text)
        case Kind.WORD if _looks_like_variable(token):
            at.take()
            return Value(ValueKind.VARIABLE, token.text)
        case Kind.WORD if not token.is_word("and", "or"):
            return _unquoted(at, variable)
    at.report(codes.NO_VALUE, f"{variable} is compared with nothing", f"write `{variable} = '<value>'`")
    return Value(ValueKind.STRING, "")


def _unquoted(at: Cursor, variable: str) -> Value:
    """A bare value runs to the next sign that can end it; a colon or a slash may be part of it."""
    start = at.token
    words = [at.take().text]
    while at.token.kind is Kind.WORD or at.token.is_sign(":", "/"):
        if at.token.is_word("and", "or"):
            break
        words.append(at.take().text)
    text = " ".join(words).replace(" : ", ":").replace(" / ", "/")
    at.report(
        codes.UNQUOTED,
        f"the value {text} of {variable} lacks its single quotes",
        f"write `{variable} = '{text}'`",
        start,
    )
    return Value(ValueKind.STRING, text)
