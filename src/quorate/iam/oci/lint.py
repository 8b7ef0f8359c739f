"""Judges policies and dynamic groups as a whole: statements against each other, rules, and OCI's limits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from quorate.iam import codes
from quorate.iam.finding import Finding
from quorate.iam.oci import render
from quorate.iam.oci.lint_statement import lint_statement
from quorate.iam.oci.matching import Case, alternatives, cases, read_rule, render_rule
from quorate.iam.oci.ocid import OF_VARIABLE, misplaced
from quorate.iam.oci.subsume import EVERYBODY, covers, members_of
from quorate.iam.oci.syntax import (
    Condition,
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
    FAMILIES,
    PERMISSIONS,
    PRINCIPAL_TYPES,
    contains,
    members,
    permissions,
)
from quorate.iam.place import Place, slip

# https://docs.oracle.com/en-us/iaas/Content/General/Concepts/servicelimits.htm: statements on one path of compartments
MAX_STATEMENTS = 500
# Documented for Compute Cloud@Customer and Private Cloud Appliance only, hence no more than a note.
LONG_POLICY = 50


@dataclass(frozen=True, slots=True)
class StatementText:
    """A statement as it stands in a file; `policy` and `compartment` say whose it is, where the file tells."""

    text: str
    place: Place
    policy: str = ""
    compartment: str = ""


@dataclass(frozen=True, slots=True)
class RuleText:
    """A matching rule as it stands in a file."""

    text: str
    place: Place
    group: str = ""


def lint(statements: Sequence[StatementText], rules: Sequence[RuleText] = ()) -> list[Finding]:
    """Every finding of a set of statements and rules that act together, in the order of the text."""
    parsed: list[Statement] = []
    found: list[Finding] = []
    for each in statements:
        statement, defects = lint_statement(each.text, each.place)
        found += defects
        if isinstance(statement, Statement) and not any(defect.code.name in _BROKEN for defect in defects):
            parsed.append(replace(statement, place=each.place))
    found = _without_needed_logs(found, parsed)
    found += _compared(parsed)
    found += _limits(statements)
    for rule in rules:
        found += lint_rule(rule, grants_to_runs=_grants_to_runs(parsed))
    return sorted(found, key=lambda each: (each.place, each.code.name))


_BROKEN = frozenset(
    code.name
    for code in (codes.SYNTAX, codes.NO_SUBJECT, codes.NO_LOCATION, codes.NO_VALUE, codes.PLACEHOLDER, codes.OCID_KIND)
)


def _without_needed_logs(found: Iterable[Finding], statements: Sequence[Statement]) -> list[Finding]:
    """The findings but those on log groups of a dynamic group that starts runs: it makes the log of each."""
    starters = {
        member
        for statement in statements
        if isinstance(statement.grant, VerbGrant)
        and statement.grant.verb is Verb.MANAGE
        and contains(statement.grant.resource, "data-science-job-runs")
        for member in members_of(statement.subject)
    }
    needed = {
        statement.place
        for statement in statements
        if statement.grant == VerbGrant(Verb.USE, "log-groups") and starters.intersection(members_of(statement.subject))
    }
    return [each for each in found if each.code is not codes.WIDER or each.place not in needed]


def _compared(statements: Sequence[Statement]) -> Iterator[Finding]:
    """Statements that another one makes superfluous. Of two equal ones the later is reported."""
    # Without the index, each statement would be held against every other one.
    index: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, statement in enumerate(statements):
        for reach, member in product(_reaches(statement), members_of(statement.subject)):
            index[reach, member].append(position)
    seen: dict[Statement, Statement] = {}
    for position, statement in enumerate(statements):
        if (first := seen.setdefault(statement, statement)) is not statement:
            yield _duplicate(statement, first)
            continue
        for candidate in _candidates(statement, index):
            other = statements[candidate]
            if candidate == position or other == statement or not covers(other, statement):
                continue
            if covers(statement, other):
                if candidate < position:
                    yield _duplicate(statement, other)
                    break
            else:
                yield Finding(
                    codes.SUBSUMED,
                    statement.place,
                    f"line {other.place.line} grants it already: {render.statement(other)}",
                    "delete this one, or narrow the other",
                )
                break


def _duplicate(statement: Statement, first: Statement) -> Finding:
    return Finding(
        codes.DUPLICATE,
        statement.place,
        f"says the same as line {first.place.line}: {render.statement(first)}",
        "delete this one",
    )


def _reaches(statement: Statement) -> tuple[str, ...]:
    """What a statement grants, as keys under which another one looks for it."""
    match statement.grant:
        case VerbGrant(_, resource):
            return (resource,)
        case PermissionGrant(names):
            return tuple(dict.fromkeys(names))
    return ()


def _candidates(statement: Statement, index: dict[tuple[str, str], list[int]]) -> Iterator[int]:
    """What can cover this one: a grant to its first member that holds one of its permissions, or its whole type."""
    match statement.grant:
        case VerbGrant(verb, resource):
            # Whoever grants all permissions of a type grants each; one is enough to find it by.
            tables = (permissions(verb, member) for member in sorted(members(resource)))
            reaches = {resource} | {min(table) for table in tables if table}
        case PermissionGrant(names):
            resource = PERMISSIONS.get(names[0], "")
            reaches = {names[0], resource}
        case _:
            return
    reaches |= {ALL_RESOURCES} | {family for family, inside in FAMILIES.items() if resource in inside}
    found = {
        position
        for reach, member in product(reaches, {members_of(statement.subject)[0], EVERYBODY})
        for position in index.get((reach, member), ())
    }
    yield from sorted(found)


def _limits(statements: Sequence[StatementText]) -> Iterator[Finding]:
    counts = Counter(each.compartment for each in statements)
    # What the root holds lies on every path. How deeper compartments lie in each other a list of policies does not say.
    root = sum(count for compartment, count in counts.items() if _is_root(compartment))
    for compartment, count in sorted(counts.items()):
        above = 0 if _is_root(compartment) else root
        if above + count > MAX_STATEMENTS >= above:
            yield Finding(
                codes.TOO_MANY,
                [each for each in statements if each.compartment == compartment][MAX_STATEMENTS - above].place,
                f"{count} statements in {f'compartment {compartment}' if compartment else 'this file'}"
                + (f" and {above} in the tenancy above it" if above else "")
                + f"; at most {MAX_STATEMENTS} may lie on the path from the root to it",
                "name several groups in one statement, or grant families",
            )
    by_policy: dict[str, list[StatementText]] = defaultdict(list)
    for each in statements:
        by_policy[each.policy].append(each)
    for policy, texts in by_policy.items():
        if LONG_POLICY < len(texts) <= MAX_STATEMENTS:
            yield Finding(
                codes.LONG_POLICY,
                texts[LONG_POLICY].place,
                f"{len(texts)} statements in {policy or 'one policy'}",
                "split the policy where the installation refuses it",
            )


def _grants_to_runs(statements: Iterable[Statement]) -> bool:
    """Whether a dynamic group is granted what only a Data Science job run or notebook has a use for."""
    return any(
        statement.subject.kind is SubjectKind.DYNAMIC_GROUP
        and isinstance(statement.grant, VerbGrant)
        and statement.grant.resource.startswith("data-science-")
        for statement in statements
    )


def _is_root(compartment: str) -> bool:
    return compartment.lower().startswith("ocid1.tenancy.")


def lint_rule(rule: RuleText, *, grants_to_runs: bool = False) -> list[Finding]:
    """What is wrong with a dynamic group's matching rule."""
    reading = read_rule(rule.text)
    found = [
        Finding(problem.code, rule.place.moved_by(problem.place), problem.message, problem.mend)
        for problem in reading.problems
    ]
    if reading.rule is not None:
        judged = list(_judge_rule(reading.rule, grants_to_runs))
        if any(problem.code is codes.NO_VALUE for problem in reading.problems):
            judged = [each for each in judged if each.code is not codes.NO_VALUE]
        found += [replace(each, place=rule.place.moved_by(each.place)) for each in judged]
    return found


def _judge_rule(rule: Condition, grants_to_runs: bool) -> Iterator[Finding]:
    start = comparisons(rule)[0].place if comparisons(rule) else Place(1, 1)
    empty = False
    for part in comparisons(rule):
        for value in part.values:
            if value.kind is ValueKind.STRING and not value.text.strip():
                empty = True
                yield Finding(
                    codes.NO_VALUE,
                    part.place,
                    f"{part.variable} is compared with an empty string",
                    f"write `{part.variable} = '<value>'`",
                )
            if odd := misplaced(value.text, OF_VARIABLE.get(part.variable.lower(), frozenset())):
                yield Finding(codes.OCID_KIND, part.place, f"{part.variable}: {odd[0]}", odd[1])
        if part.variable.lower() == "resource.type" and part.values:
            yield from _type(part.values[0].text, part.place)
    ways = cases(rule)
    if ways is None:
        return
    possible = [way for way in ways if way.is_possible]
    clash = next((way.type_clash for way in ways if way.type_clash), None)
    if clash:
        yield _instance_variable(rule, start, f"`instance.*` together with resource.type = '{clash}'")
    elif possible and grants_to_runs and all(_instances_only(way) for way in possible):
        yield _instance_variable(
            rule, start, "the policies grant Data Science types, and the rule takes instances only"
        )
    if not possible and not clash:
        yield Finding(
            codes.DG_MATCHES_NOTHING,
            start,
            f"`{render_rule(rule)}` demands two values of one variable at once",
            "write `any` where one of them is enough",
            render_rule(alternatives(rule)) if possible != ways else None,
        )
    if not empty and any(not way.is_bounded for way in possible):
        yield Finding(
            codes.DG_MATCHES_TENANCY,
            start,
            f"`{render_rule(rule)}` asks for no compartment, resource or tag",
            "write `all {…, resource.compartment.id = '<ocid>'}`",
        )


def _instances_only(way: Case) -> bool:
    return way.uses("instance.") or way.values("resource.type", Operator.EQUAL) == {"instance"}


def _instance_variable(rule: Condition, at: Place, evidence: str) -> Finding:
    text = (
        render_rule(rule)
        .replace("instance.compartment.id", "resource.compartment.id")
        .replace("instance.id", "resource.id")
    )
    return Finding(codes.DG_INSTANCE_VARIABLE, at, evidence, "use resource.compartment.id and resource.type", text)


def _type(name: str, at: Place) -> Iterator[Finding]:
    if not name or name.lower() in PRINCIPAL_TYPES:
        return
    guess = slip(name.replace("-", ""), PRINCIPAL_TYPES)
    if guess:
        yield Finding(
            codes.DG_TYPE_UNKNOWN,
            at,
            f"resource.type '{name}' is not known to Quorate; did you mean '{guess}'?",
            f"write `resource.type = '{guess}'`",
        )
    else:
        yield Finding(
            codes.UNLISTED, at, f"resource.type '{name}' is not known to Quorate", "check it in the vendor's reference"
        )
