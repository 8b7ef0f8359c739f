"""The parser reads what the vendor's pages print, refuses what OCI would, and says where and what was meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.iam.oci import matching, render
from quorate.iam.oci.lint import RuleText, lint_rule
from quorate.iam.oci.parser import read
from quorate.iam.oci.syntax import (
    AssociateGrant,
    Combination,
    Compare,
    Define,
    Effect,
    Location,
    LocationKind,
    Mode,
    Operator,
    PermissionGrant,
    Principal,
    Statement,
    Subject,
    SubjectKind,
    Value,
    ValueKind,
    Verb,
    VerbGrant,
    comparisons,
)
from quorate.iam.oci.tokens import MAX_LENGTH
from quorate.iam.place import START, Place

from .documented_statements import FLAWED, RULES, STATEMENTS
from .strictly import NotAccepted, parse, parse_rule


@pytest.mark.parametrize("text", [text for _, text in STATEMENTS])
def test_a_documented_statement_is_read_and_written_back(text: str) -> None:
    statement = parse(text)
    assert parse(render.statement(statement)) == statement


@pytest.mark.parametrize("text", [text for _, text in RULES])
def test_a_documented_matching_rule_is_read_and_written_back(text: str) -> None:
    rule = parse_rule(text)
    assert parse_rule(matching.render_rule(rule)) == rule


@pytest.mark.parametrize(("text", "code"), [(text, code) for _, text, code in FLAWED])
def test_a_slip_in_the_vendors_own_pages_is_found(text: str, code: str) -> None:
    with pytest.raises(NotAccepted):
        parse_rule(text)
    assert code in {finding.code.name for finding in lint_rule(RuleText(text, START))}


def test_every_documented_statement_has_its_source() -> None:
    assert len(STATEMENTS) >= 60
    assert all(source.startswith("https://") for source, _ in STATEMENTS + RULES)


def test_a_statement_becomes_its_parts() -> None:
    assert parse(
        "ALLOW dynamic-group 'Default'/'runs', id ocid1.dynamicgroup.oc1..a TO Manage OBJECTS "
        "in compartment ml:'our training' where ALL {target.bucket.name = 'b', any {request.permission != /OBJECT_D*/,"
        " request.utc-timestamp.day-of-week in ('monday','friday')}}"
    ) == Statement(
        Effect.ALLOW,
        Subject(
            SubjectKind.DYNAMIC_GROUP,
            (Principal("runs", domain="Default"), Principal("ocid1.dynamicgroup.oc1..a", is_ocid=True)),
        ),
        VerbGrant(Verb.MANAGE, "objects"),
        Location(LocationKind.COMPARTMENT, ("ml", "our training")),
        Combination(
            Mode.ALL,
            (
                Compare("target.bucket.name", Operator.EQUAL, (Value(ValueKind.STRING, "b"),)),
                Combination(
                    Mode.ANY,
                    (
                        Compare("request.permission", Operator.NOT_EQUAL, (Value(ValueKind.PATTERN, "OBJECT_D*"),)),
                        Compare(
                            "request.utc-timestamp.day-of-week",
                            Operator.IN,
                            (Value(ValueKind.STRING, "monday"), Value(ValueKind.STRING, "friday")),
                        ),
                    ),
                ),
            ),
        ),
    )


def test_a_comparison_knows_its_line_and_column() -> None:
    statement = parse("Allow group A\n  to read repos in tenancy\n  where all {target.repo.name = 'r'}")
    assert isinstance(statement, Statement)
    assert [part.place for part in comparisons(statement.condition)] == [Place(3, 14)]


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("", "1:1", "no statement"),
        ("Alow group A to read repos in tenancy", "1:1", 'did you mean "allow"'),
        ("Allow grup A to read repos in tenancy", "1:7", 'did you mean "group"'),
        ("Allow group to read repos in tenancy", "1:13", "no group is named"),
        ("Allow to read repos in tenancy", "1:7", "nobody is named"),
        ("Allow group My Team to read repos in tenancy", "1:16", "needs quotes"),
        ("Allow group A, dynamic-group B to read repos in tenancy", "1:16", "subjects of one kind"),
        ("Allow group A to user repos in tenancy", "1:18", 'did you mean "use"'),
        ("Allow group A to mange repos in tenancy", "1:18", 'did you mean "manage"'),
        ("Allow group A to use read metrics in tenancy", "1:18", "two verbs, use and read"),
        ("Allow group A to read in tenancy", "1:23", "expected a resource type"),
        ("Allow group A to read repos", "1:28", "does not say where"),
        ("Allow group A to read repos in compartment", "1:29", "no compartment is named"),
        ("Allow group A to read repos in compartmant C", "1:32", 'did you mean "compartment"'),
        ("Allow group A to read repos tenancy", "1:29", "expected `in`"),
        ("Allow group A to read repos in compartment id training", "1:47", "not an OCID"),
        ("Allow group A to read repos in tenancy where", "1:45", "expected a variable"),
        ("Allow group A to read repos in tenancy where target.repo.name=", "1:63", "compared with nothing"),
        ("Allow group A to read repos in tenancy where target.repo.name=r", "1:63", "lacks its single quotes"),
        ('Allow group A to read repos in tenancy where target.repo.name="r"', "1:63", "double quotes"),
        ("Allow group A to read repos in tenancy where target.repo.name 'r'", "1:63", "expected `=`"),
        ("Allow group A to read repos in tenancy where target.repo.name == 'r'", "1:63", "`==` is not"),
        ("Allow group A to read repos in tenancy where all {}", "1:52", "hold no condition"),
        ("Allow group A to read repos in tenancy where all {target.repo.name='r'", "1:71", "not closed"),
        ("Allow group A to read repos in tenancy where all {request.ad='a' request.region='b'}", "1:66", "no comma"),
        ("Allow group A to read repos in tenancy where request.region between 'a', 'b'", "1:72", "expected `and`"),
        ("Allow group A to read repos in tenancy where request.region in 'a'", "1:64", "expected `(`"),
        ("Allow group A to {} in tenancy", "1:21", "list of permissions is empty"),
        ("Allow group A to {OBJECT_READ in tenancy", "1:31", "expected `,` or `}`"),
        ("Allow group <group_name> to read repos in tenancy", "1:13", "never filled in"),
        ("Allow group ${var.group} to read repos in tenancy", "1:13", "never filled in"),
        ("Allow group A of tenancy B to read repos in tenancy", "1:15", "only an admit statement"),
        ("Allow group A to associate vcns in tenancy with vcns in tenancy", "1:18", "is no verb"),
        ("Allow group A to read repos in tenancy; drop", "1:39", "the sign ';'"),
        ("Allow group A to read repos in tenancy Allow", "1:40", "another tenancy"),
        ("Allow group A to read repos in compartment C D", "1:46", "after the end"),
        ("Allow group 'A to read repos in tenancy", "1:13", "never ends"),
        ("Define tenant T as ocid1.tenancy.oc1..a", "1:8", "expected tenancy"),
        ("Define tenancy T as T", "1:21", "not an OCID"),
    ],
)
def test_an_error_names_its_place_and_what_was_meant(text: str, place: str, says: str) -> None:
    with pytest.raises(NotAccepted) as error:
        parse(text)
    assert str(error.value.problem.place) == place
    assert says in error.value.problem.message


def test_a_lenient_reading_finds_every_defect_of_a_line_and_what_it_was_to_say() -> None:
    reading = read("Allow group to use read metrics in compartment")
    assert [problem.code.name for problem in reading.problems] == [
        "IAM-NO-SUBJECT",
        "IAM-TWO-VERBS",
        "IAM-NO-LOCATION",
    ]
    assert isinstance(reading.statement, Statement)
    assert reading.statement.grant == VerbGrant(Verb.READ, "metrics")


def test_a_statement_without_end_is_refused_at_once() -> None:
    with pytest.raises(NotAccepted, match="at most"):
        parse("Allow group " + "a, " * MAX_LENGTH + "b to read repos in tenancy")


def test_deep_nesting_is_refused_before_it_can_exhaust_the_stack() -> None:
    with pytest.raises(NotAccepted, match="nested deeper"):
        parse("Allow group A to read repos in tenancy where " + "all {" * 2000)


# Round trip: whatever can be said can be written, and reading it gives the same value.

_words = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,11}", fullmatch=True)
_texts = st.text(
    st.characters(
        codec="utf-8", exclude_characters="'\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", exclude_categories=("Cs",)
    ),
    min_size=1,
    max_size=12,
).filter(lambda text: bool(text.strip()))
_names = _words | _texts
_ocids = st.from_regex(r"ocid1\.[a-z]{1,8}\.oc1\.\.[a-z0-9]{4,12}", fullmatch=True)
_principals = st.builds(Principal, _names, domain=st.none() | _names) | _ocids.map(
    lambda ocid: Principal(ocid, is_ocid=True)
)
_named = st.sampled_from([SubjectKind.GROUP, SubjectKind.DYNAMIC_GROUP, SubjectKind.SERVICE, SubjectKind.RESOURCE])
_members = st.lists(_principals, min_size=1, max_size=3).map(tuple)
_subjects = st.builds(Subject, _named, _members) | st.sampled_from(
    [Subject(SubjectKind.ANY_USER), Subject(SubjectKind.ANY_GROUP)]
)
_resources = st.from_regex(r"[a-z][a-z0-9-]{2,11}", fullmatch=True)
_grants = st.builds(VerbGrant, st.sampled_from(Verb), _resources) | st.lists(
    st.from_regex(r"[A-Z][A-Z0-9_]{1,11}", fullmatch=True), min_size=1, max_size=4
).map(lambda found: PermissionGrant(tuple(found)))
_locations = (
    st.just(Location(LocationKind.TENANCY))
    | st.lists(_names, min_size=1, max_size=3).map(lambda path: Location(LocationKind.COMPARTMENT, tuple(path)))
    | _ocids.map(lambda ocid: Location(LocationKind.COMPARTMENT_ID, (ocid,)))
)
_foreign = st.just(Location(LocationKind.ANY_TENANCY)) | _names.map(
    lambda name: Location(LocationKind.TENANCY, (name,))
)
_variables = st.from_regex(r"(request|target)\.[a-z]{1,8}(\.[a-zA-Z-]{1,8}){0,2}", fullmatch=True)
_patterns = st.from_regex(r"\*?[a-zA-Z0-9_-]{1,8}\*?", fullmatch=True)
_values = (
    _texts.map(lambda text: Value(ValueKind.STRING, text))
    | _patterns.map(lambda text: Value(ValueKind.PATTERN, text))
    | _variables.map(lambda text: Value(ValueKind.VARIABLE, text))
)
_equal = st.sampled_from([Operator.EQUAL, Operator.NOT_EQUAL, Operator.BEFORE, Operator.AFTER])
_comparisons = (
    st.builds(lambda v, o, x: Compare(v, o, (x,)), _variables, _equal, _values)
    | st.builds(lambda v, a, b: Compare(v, Operator.BETWEEN, (a, b)), _variables, _values, _values)
    | st.builds(
        Compare,
        _variables,
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.lists(_values, min_size=1, max_size=3).map(tuple),
    )
)
_conditions = st.recursive(
    _comparisons,
    lambda inner: st.builds(Combination, st.sampled_from(Mode), st.lists(inner, min_size=1, max_size=3).map(tuple)),
    max_leaves=8,
)
_statements = (
    st.builds(
        Statement,
        st.sampled_from([Effect.ALLOW, Effect.DENY]),
        _subjects,
        _grants,
        _locations,
        st.none() | _conditions,
    )
    | st.builds(
        Statement,
        st.sampled_from([Effect.ENDORSE, Effect.DENY_ENDORSE]),
        _subjects,
        _grants | st.builds(AssociateGrant, _resources, _locations, _resources),
        _foreign,
        st.none() | _conditions,
    )
    | st.builds(
        Statement,
        st.sampled_from([Effect.ADMIT, Effect.DENY_ADMIT]),
        st.builds(Subject, _named, _members, _names),
        _grants,
        _locations,
        st.none() | _conditions,
    )
    | st.builds(Define, st.sampled_from(["tenancy", "group", "dynamic-group"]), _names, _ocids)
)


@given(_statements)
def test_reading_what_was_written_gives_the_same_statement(statement: Statement | Define) -> None:
    assert parse(render.statement(statement)) == statement


@given(_statements, st.data())
def test_white_space_and_the_case_of_keywords_mean_nothing(statement: Statement | Define, data: st.DataObject) -> None:
    text = render.statement(statement)
    first, rest = text.split(" ", 1)
    space = data.draw(st.sampled_from(["\n", "\t", "   ", "\r\n  "]))
    assert parse(f"{space}{first.upper()}{space}{rest}{space}") == statement


_rule_parts = st.builds(
    lambda name, operator, text: Compare(name, operator, (Value(ValueKind.STRING, text),)),
    st.sampled_from(["instance.id", "instance.compartment.id", "resource.id", "resource.type", "tag.a.b.value"]),
    st.sampled_from([Operator.EQUAL, Operator.NOT_EQUAL]),
    _texts,
) | st.just(Compare("tag.ns.key.value", Operator.PRESENT, ()))
_rules = st.recursive(
    _rule_parts,
    lambda inner: st.builds(Combination, st.sampled_from(Mode), st.lists(inner, min_size=1, max_size=3).map(tuple)),
    max_leaves=8,
)


@given(_rules)
def test_reading_a_matching_rule_that_was_written_gives_the_same_rule(rule: Compare | Combination) -> None:
    assert parse_rule(matching.render_rule(rule)) == rule


@given(st.text(max_size=200))
def test_no_text_at_all_makes_the_parser_fail_in_another_way_than_it_says(text: str) -> None:
    reading = read(text)
    assert reading.statement is not None or reading.problems
    try:
        parse(text)
    except NotAccepted:
        assert reading.problems
    else:
        assert not reading.problems


_own_words = """Allow group A to use read repos in compartment tenancy where all any { } ( ) , = != 'x' /y*/ <z> : / id
of target.repo.name between and deny define as associate with"""


@given(st.lists(st.sampled_from(sorted(set(_own_words.split()))), max_size=25))
def test_no_mixture_of_the_languages_own_words_crashes_the_parser(words: list[str]) -> None:
    text = " ".join(words)
    reading = read(text)
    if not reading.problems:
        assert parse(text) == reading.statement
