"""Reads an AWS policy document strictly, by the grammar that AWS publishes.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from quorate.iam import codes
from quorate.iam.finding import Code, Finding
from quorate.iam.place import did_you_mean
from quorate.iam.reading import Input
from quorate.iam.wordlist import words

VERSIONS = ("2012-10-17", "2008-10-17")
_TOP_KEYS = frozenset({"Version", "Id", "Statement"})
_KEYS = words("Sid Effect Principal NotPrincipal Action NotAction Resource NotResource Condition")
_PRINCIPALS = frozenset({"AWS", "Service", "Federated", "CanonicalUser"})
_ACTION = re.compile(r"[a-z0-9-]+:[A-Za-z0-9*?]+")
_ARN = re.compile(r"arn:[\w*-]+:[\w*-]*:[\w*-]*:[\w*{}$-]*:.+")
_SID = re.compile(r"[A-Za-z0-9]*")
_OPERATORS = words(
    """StringEquals StringNotEquals StringEqualsIgnoreCase StringNotEqualsIgnoreCase StringLike StringNotLike
    NumericEquals NumericNotEquals NumericLessThan NumericLessThanEquals NumericGreaterThan NumericGreaterThanEquals
    DateEquals DateNotEquals DateLessThan DateLessThanEquals DateGreaterThan DateGreaterThanEquals Bool BinaryEquals
    IpAddress NotIpAddress ArnEquals ArnLike ArnNotEquals ArnNotLike Null"""
)


@dataclass(frozen=True, slots=True)
class AwsCondition:
    """One test: operator, key, and the values of which any may match."""

    operator: str
    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AwsStatement:
    """A statement in one shape, whether the document wrote a string or a list."""

    index: int | None
    sid: str
    allows: bool
    actions: tuple[str, ...]
    inverted_actions: bool
    resources: tuple[str, ...]
    inverted_resources: bool
    conditions: tuple[AwsCondition, ...]
    everybody: bool = False
    """Whether it is for every principal that there is: `Principal` is `*`, or `NotPrincipal` excepts a few."""

    @property
    def path(self) -> tuple[str | int, ...]:
        return ("Statement",) if self.index is None else ("Statement", self.index)


class _Reader:
    def __init__(self, source: Input) -> None:
        self.source = source
        self.found: list[Finding] = []

    def report(self, path: tuple[str | int, ...], evidence: str, mend: str, code: Code = codes.AWS_GRAMMAR) -> None:
        self.found.append(Finding(code, self.source.place(*path), evidence, mend))

    def strings(self, value: object, path: tuple[str | int, ...]) -> tuple[str, ...]:
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            return tuple(value)
        self.report(path, f"expected a string or a list of strings, found {_kind(value)}", "write strings")
        return ()

    def statement(self, body: object, index: int | None) -> AwsStatement | None:
        path: tuple[str | int, ...] = ("Statement",) if index is None else ("Statement", index)
        if not isinstance(body, dict):
            self.report(path, f"a statement must be an object, not {_kind(body)}", "write {…}")
            return None
        for key in body:
            if key not in _KEYS:
                self.report((*path, key), f'a statement has no key "{key}"{_meant(key, _KEYS)}', "remove or correct it")
        if body.get("Effect") not in ("Allow", "Deny"):
            self.report(
                (*path, "Effect"), f'Effect must be "Allow" or "Deny", not {body.get("Effect")!r}', "correct it"
            )
        sid = body.get("Sid", "")
        if not isinstance(sid, str) or not _SID.fullmatch(sid):
            self.report((*path, "Sid"), f"Sid {sid!r} may hold letters and digits only", "rename it")
        actions, inverted = self._one_of(body, "Action", "NotAction", path)
        trust = "Principal" in body or "NotPrincipal" in body
        resources, outside = self._one_of(body, "Resource", "NotResource", path, optional=trust)
        for position, action in enumerate(actions):
            if action != "*" and not is_action(action):
                key = (*path, "NotAction" if inverted else "Action", position)
                self.report(key, f'"{action}" is not service:Action', "correct it", codes.AWS_ACTION)
        for position, resource in enumerate(resources):
            if resource != "*" and not _ARN.fullmatch(resource):
                key = (*path, "NotResource" if outside else "Resource", position)
                self.report(key, f'"{resource}" is not an ARN', "write arn:partition:service:…")
        conditions = tuple(self._conditions(body.get("Condition", {}), (*path, "Condition")))
        return AwsStatement(
            index,
            str(sid),
            body.get("Effect") == "Allow",
            actions,
            inverted,
            resources,
            outside,
            conditions,
            everybody="NotPrincipal" in body or self._everybody(body.get("Principal"), (*path, "Principal")),
        )

    def _everybody(self, principal: object, path: tuple[str | int, ...]) -> bool:
        """`*`, or an object of kinds of principals with their names."""
        if principal is None or principal == "*":
            return principal is not None
        if not isinstance(principal, dict):
            self.report(path, f'Principal must be "*" or an object, not {_kind(principal)}', 'write {"Service": "…"}')
            return False
        for kind in principal:
            if kind not in _PRINCIPALS:
                mend = "write one of " + ", ".join(sorted(_PRINCIPALS))
                self.report((*path, kind), f'there is no principal "{kind}"{_meant(kind, _PRINCIPALS)}', mend)
        names = [self.strings(value, (*path, kind)) for kind, value in principal.items()]
        return any("*" in each for each in names)

    def _one_of(
        self, body: dict[str, object], plain: str, inverted: str, path: tuple[str | int, ...], *, optional: bool = False
    ) -> tuple[tuple[str, ...], bool]:
        if plain in body and inverted in body:
            self.report((*path, inverted), f"{plain} and {inverted} exclude each other", "keep one")
        if plain in body:
            return self.strings(body[plain], (*path, plain)), False
        if inverted in body:
            return self.strings(body[inverted], (*path, inverted)), True
        if not optional:
            self.report(path, f"the statement has neither {plain} nor {inverted}", f"add {plain}")
        return (), False

    def _conditions(self, block: object, path: tuple[str | int, ...]) -> list[AwsCondition]:
        if not isinstance(block, dict):
            self.report(path, f"Condition must be an object, not {_kind(block)}", "write {operator: {key: value}}")
            return []
        found = []
        for operator, tests in block.items():
            plain = operator.removeprefix("ForAllValues:").removeprefix("ForAnyValue:").removesuffix("IfExists")
            if plain not in _OPERATORS:
                self.report(
                    (*path, operator), f'there is no operator "{operator}"{_meant(plain, _OPERATORS)}', "correct it"
                )
            if not isinstance(tests, dict) or not tests:
                self.report((*path, operator), f"{operator} must hold keys to test", "write {key: value}")
                continue
            for key, value in tests.items():
                values = [str(value).lower()] if isinstance(value, bool | int) else None
                strings = tuple(values) if values else self.strings(value, (*path, operator, key))
                found.append(AwsCondition(operator, key, strings))
        return found


def is_action(text: str) -> bool:
    """Whether a text has the form `service:Action`, wildcards in the action's name allowed."""
    return _ACTION.fullmatch(text) is not None


def read_policy(source: Input) -> tuple[list[AwsStatement], list[Finding]]:
    """The statements of a document, and every breach of the grammar in it."""
    reader = _Reader(source)
    document = source.document
    if not isinstance(document, dict):
        reader.report((), f"a policy must be an object, not {_kind(document)}", "write {…}")
        return [], reader.found
    for key in document:
        if key not in _TOP_KEYS:
            reader.report((key,), f'a policy has no key "{key}"{_meant(key, _TOP_KEYS)}', "remove or correct it")
    if document.get("Version") not in VERSIONS:
        reader.report(("Version",), f"Version is {document.get('Version')!r}", 'write "Version": "2012-10-17"')
    body = document.get("Statement")
    statements: list[AwsStatement | None] = []
    if isinstance(body, list) and body:
        statements = [reader.statement(each, index) for index, each in enumerate(body)]
    elif isinstance(body, dict):
        statements = [reader.statement(body, None)]
    else:
        reader.report(("Statement",), "the policy has no statement", 'add "Statement": [{…}]')
    seen: dict[str, int] = {}
    for index, statement in enumerate(statements):
        if statement is not None and statement.sid and seen.setdefault(statement.sid, index) != index:
            reader.report((*statement.path, "Sid"), f'the Sid "{statement.sid}" stands twice', "rename one")
    return [each for each in statements if each is not None], reader.found


def _meant(word: str, known: frozenset[str]) -> str:
    lower = {each.lower(): each for each in known}
    hint = did_you_mean(word, lower)
    return next((hint.replace(low, proper) for low, proper in lower.items() if f'"{low}"' in hint), hint)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "nothing"}
    return names.get(type(value), "a number")
