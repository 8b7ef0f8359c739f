"""Dynamic groups' matching rules: parsed, rendered, and asked what they can match at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from quorate.iam import codes
from quorate.iam.oci import render
from quorate.iam.oci.conditions import parse_condition
from quorate.iam.oci.cursor import Cursor, GiveUp
from quorate.iam.oci.syntax import Combination, Compare, Condition, Mode, Operator, Value, ValueKind, comparisons
from quorate.iam.oci.tokens import Problem
from quorate.iam.oci.vocabulary import MATCHING_VARIABLES
from quorate.iam.place import did_you_mean

# `all` of many `any` multiplies out; beyond this the question "what can it match?" is left open.
MAX_CASES = 4096


@dataclass(frozen=True, slots=True)
class RuleReading:
    """What a lenient parse of a matching rule found."""

    rule: Condition | None
    problems: tuple[Problem, ...]


def read_rule(text: str) -> RuleReading:
    """As much of a rule as can be made out, with all its problems; for a linter."""
    at = Cursor(text)
    try:
        rule = _rule(at)
    except GiveUp:
        return RuleReading(None, tuple(at.problems))
    return RuleReading(rule, tuple(at.problems))


def render_rule(rule: Condition) -> str:
    return render.condition(rule)


def _rule(at: Cursor) -> Condition:
    if at.at_end:
        raise at.give_up(codes.SYNTAX, "there is no matching rule", "write `all {resource.type = '…', …}`")
    rule = parse_condition(at, presence=True)
    at.expect_end("the rule", "put both in `any {…}`")
    for part in comparisons(rule):
        _check(at, part)
    return rule


def _check(at: Cursor, part: Compare) -> None:
    """Matching rules know fewer variables and operators than policy conditions."""
    variable = part.variable.lower()
    if variable not in MATCHING_VARIABLES and not variable.startswith("tag."):
        hint = did_you_mean(variable, MATCHING_VARIABLES)
        at.problems.append(
            Problem(
                codes.SYNTAX,
                part.place,
                f'"{part.variable}" is no variable of matching rules{hint}',
                "use " + ", ".join(sorted(MATCHING_VARIABLES)) + " or tag.<namespace>.<key>.value",
            )
        )
    elif variable.startswith("tag.") and (variable.count(".") < 3 or not variable.endswith(".value")):
        at.problems.append(
            Problem(
                codes.SYNTAX,
                part.place,
                f'"{part.variable}" is no tag variable',
                "write tag.<namespace>.<key>.value",
            )
        )
    if part.operator not in (Operator.EQUAL, Operator.NOT_EQUAL, Operator.PRESENT):
        at.problems.append(
            Problem(codes.SYNTAX, part.place, f"a matching rule has no `{part.operator}`", "use `=` or `!=`")
        )


@dataclass(frozen=True, slots=True)
class Case:
    """One way to match a rule: every comparison in it holds at once."""

    parts: tuple[Compare, ...]

    def values(self, variable: str, operator: Operator) -> set[str]:
        return {
            part.values[0].text.lower()
            for part in self.parts
            if part.variable.lower() == variable
            and part.operator is operator
            and part.values
            and part.values[0].kind is ValueKind.STRING
        }

    def uses(self, prefix: str) -> bool:
        return any(part.variable.lower().startswith(prefix) for part in self.parts)

    @property
    def type_clash(self) -> str | None:
        """The type that the case demands besides being an instance, which nothing can be."""
        types = self.values("resource.type", Operator.EQUAL) - {"instance"}
        return min(types) if types and self.uses("instance.") else None

    @property
    def is_possible(self) -> bool:
        if self.type_clash:
            return False
        for variable in {part.variable.lower() for part in self.parts}:
            wanted = self.values(variable, Operator.EQUAL)
            if len(wanted) > 1 or wanted & self.values(variable, Operator.NOT_EQUAL):
                return False
        # An instance's compartment is its resource's compartment, so the two must not differ.
        both = self.values("instance.compartment.id", Operator.EQUAL) | self.values(
            "resource.compartment.id", Operator.EQUAL
        )
        return len(both) <= 1

    @property
    def is_bounded(self) -> bool:
        """Whether a compartment, a resource or a tag keeps it from matching all over the tenancy."""
        return any(
            part.operator in (Operator.EQUAL, Operator.PRESENT)
            and (part.variable.lower().endswith((".id", ".compartment.id")) or part.variable.lower().startswith("tag."))
            for part in self.parts
        )


def cases(rule: Condition) -> list[Case] | None:
    """Every way to match the rule, or None where there are too many to list."""
    found: list[Case] = []
    for parts in _expand(rule):
        found.append(Case(parts))
        if len(found) > MAX_CASES:
            return None
    return found


def _expand(rule: Condition) -> Iterator[tuple[Compare, ...]]:
    if isinstance(rule, Compare):
        yield (rule,)
    elif rule.mode is Mode.ANY:
        for part in rule.parts:
            yield from _expand(part)
    else:
        yield from _product(rule.parts)


def _product(parts: tuple[Condition, ...]) -> Iterator[tuple[Compare, ...]]:
    if not parts:
        yield ()
        return
    for first in _expand(parts[0]):
        for rest in _product(parts[1:]):
            yield first + rest


def alternatives(rule: Condition) -> Condition:
    """The rule with the contradicting comparisons of an `all` put under an `any`, each variable by itself."""
    if isinstance(rule, Compare):
        return rule
    parts = tuple(alternatives(part) for part in rule.parts)
    if rule.mode is Mode.ANY:
        return Combination(Mode.ANY, parts)
    wanted: dict[str, list[Condition]] = {}
    for part in parts:
        key = repr(part)
        if isinstance(part, Compare) and part.operator is Operator.EQUAL:
            key = part.variable.lower()
        wanted.setdefault(key, []).append(part)
    return Combination(
        Mode.ALL,
        tuple(same[0] if len(same) == 1 else Combination(Mode.ANY, tuple(same)) for same in wanted.values()),
    )


def job_run_rule(compartment_ocid: str) -> Condition:
    """The rule of the vendor's page: every Data Science job run of one compartment."""
    return _all_equal(("resource.type", "datasciencejobrun"), ("resource.compartment.id", compartment_ocid))


def notebook_rule(compartment_ocid: str) -> Condition:
    """Every notebook session of one compartment."""
    return _all_equal(("resource.type", "datasciencenotebooksession"), ("resource.compartment.id", compartment_ocid))


def instance_rule(compartment_ocid: str, tag: tuple[str, str, str] | None) -> Condition:
    """Every compute instance of one compartment, or those among them with a tag (namespace, key, value)."""
    compartment = ("instance.compartment.id", compartment_ocid)
    if tag is None:
        return _all_equal(compartment)
    namespace, key, value = tag
    return _all_equal(compartment, (f"tag.{namespace}.{key}.value", value))


def _all_equal(*pairs: tuple[str, str]) -> Condition:
    return Combination(
        Mode.ALL,
        tuple(Compare(name, Operator.EQUAL, (Value(ValueKind.STRING, text),)) for name, text in pairs),
    )
