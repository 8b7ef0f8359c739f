"""Any file is made out, or refused with a sentence and its place."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.iam.explain import explain
from quorate.iam.finding import UnreadableFile
from quorate.iam.lint import lint_file
from quorate.iam.positions import positions
from quorate.iam.reading import MAX_BYTES, Kind, make_out
from quorate.iam.wordlist import words


@pytest.mark.parametrize(
    ("data", "place", "says"),
    [
        (b"", "1:1", "empty"),
        (b" \n\t\n", "1:1", "empty"),
        (b"\xef\xbb\xbf", "1:1", "empty"),
        (b"# only a comment\n", "1:1", "comments only"),
        (b"Allow\n\x00\x01", "2:1", "binary"),
        (b"\x7fELF\x02\x01\x00", "1:1", "binary"),
        ("Allow group A".encode("utf-16"), "1:1", "UTF-16"),
        (b"Allow group A\n  caf\xe9", "2:6", "not UTF-8"),
        (b"hello, world\nthis is prose\n", "1:1", "no policy statement"),
        (b'{"Version": "2012-10-17",\n "Statement": [{"Sid": "A"},]}', "2:28", "remove the comma"),
        (b'{"a": 1', "1:8", "malformed"),
        (b"[1, 2]", "1:1", "no policy"),
        (b'{"a": NaN}', "1:1", "NaN is not JSON"),
        (b'{"Statement": [],\n "Statement": []}', "2:2", "stands twice"),
        (b'{"statements": [7]}', "1:18", "must be a string"),
        (b'["\\ud800"]', "1:1", "surrogate"),
        (b"[" * 100_000, "1:1", "nested too deeply"),
        (b'{"x": ' + b"9" * 5000 + b"}", "1:1", "malformed"),
        (b"title: a\nincludedPermissions: [\n", "3:1", "YAML is malformed"),
        (b"title: &a x\nincludedPermissions: [*a]\n", "2:23", "aliases"),
        (b"title: x\nstage: *x\nincludedPermissions: []\n", "2:8", "alias"),
        (b"title: x\nincludedPermissions: " + b"[" * 5000, "2:1", "nested too deeply"),
        (b"Allow " * (MAX_BYTES // 6 + 1), "1:1", "larger than"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_what_is_no_policy_is_refused_with_its_place(data: bytes, place: str, says: str) -> None:
    with pytest.raises(UnreadableFile, match=says) as error:
        make_out(data)
    assert str(error.value.place) == place


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Allow group A to read repos in tenancy", Kind.OCI),
        ("\ufeffAllow group A to read repos in tenancy", Kind.OCI),
        ("Alow group A to read repos in tenancy", Kind.OCI),
        ("resource.type = 'x'", Kind.OCI),
        ('["Allow group A to read repos in tenancy"]', Kind.OCI),
        ('{"statements": ["Allow group A to read repos in tenancy"]}', Kind.OCI),
        ('{"data": [{"name": "p", "compartment-id": "c", "statements": ["Allow x"]}]}', Kind.OCI),
        ('{"data": {"matching-rule": "resource.type = \'x\'"}}', Kind.OCI),
        ('{"Version": "2012-10-17", "Statement": []}', Kind.AWS),
        ("Version: 2012-10-17\nStatement: []\n", Kind.AWS),
        ('{"title": "x", "includedPermissions": []}', Kind.GCP),
        ("bindings: []\n", Kind.GCP),
    ],
)
def test_a_policy_is_known_by_what_it_holds(text: str, kind: Kind) -> None:
    assert make_out(text.encode()).kind is kind


@pytest.mark.parametrize(
    "around",
    [
        '{{"RoleName": "r", "PolicyName": "p", "PolicyDocument": {}}}',
        '{{"PolicyVersion": {{"VersionId": "v1", "Document": {}}}}}',
        '{{"Role": {{"Path": "/", "AssumeRolePolicyDocument": {}}}}}',
        '{{"cloud": "aws", "policy": {}}}',
    ],
)
def test_an_aws_document_is_found_in_what_the_vendors_tool_prints_around_it(around: str) -> None:
    policy = (
        '{"Version": "2012-10-17",\n "Statement": [{"Effect": "Allow", "Action": "RunInstances", "Resource": "*"}]}'
    )
    (finding,) = lint_file(around.format(policy).encode())[1]
    assert (finding.code.name, str(finding.place)) == ("IAM-AWS-ACTION", "2:46")


def test_statements_go_over_lines_and_keep_their_places() -> None:
    text = (
        "# comment\n"
        "Allow group A\r\n"
        "   to read repos in tenancy where all {\r\n"
        "      resource.type = 'looks like a rule',\n"
        "      request.ad = 'x'}\n"
        "  // another comment\n"
        "  deny group B to read repos in tenancy\n"
        '  "Allow group C to read repos in tenancy",\n'
        "all {resource.type = 'x',\n"
        "     resource.id = 'y'}\n"
    )
    source = make_out(text.encode())
    assert [(each.text.split()[0], str(each.place)) for each in source.statements] == [
        ("Allow", "2:1"),
        ("deny", "7:3"),
        ("Allow", "8:4"),
    ]
    assert [str(each.place) for each in source.rules] == ["9:1"]


def test_a_finding_in_json_stands_inside_its_string() -> None:
    text = '{\n  "data": [\n    {"name": "p", "statements": [\n      "Allow group A to user repos in tenancy"\n]}]}'
    places = {str(each.place): each.code.name for each in lint_file(text.encode())[1]}
    assert places["4:25"] == "IAM-VERB-UNKNOWN"


def test_the_aws_and_gcp_parts_of_a_file_know_their_lines() -> None:
    role = make_out(b"title: x\nincludedPermissions:\n  - compute.instances.list\n  - bad\n")
    assert str(role.place("includedPermissions", 1)) == "4:5"
    assert str(role.place("includedPermissions", 7)) == "3:3"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=15,
)


@given(_json, st.sampled_from([None, 1, 3]))
def test_every_value_of_a_json_text_is_found_where_it_stands(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    lines = text.split("\n")
    found = positions(text)

    def check(part: object, path: tuple[str | int, ...]) -> None:
        place = found[path]
        rest = "\n".join([lines[place.line - 1][place.column - 1 :], *lines[place.line :]])
        assert json.JSONDecoder().raw_decode(rest)[0] == part
        children = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, child in children:
            check(child, (*path, key))

    check(value, ())


@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_the_linter_fail_in_another_way_than_it_says(data: bytes) -> None:
    try:
        source, _ = lint_file(data)
        explain(source)
    except UnreadableFile as error:
        assert error.reason


_KEYS = sorted(
    words(
        """Version Statement Effect Action Resource Condition StringEquals Sid bindings role members condition title
        includedPermissions stage statements data name matching-rule compartment-id"""
    )
)
_shapes = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["Allow", "Deny", "*", "ec2:*", "2012-10-17", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_KEYS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(_shapes, st.booleans())
def test_no_document_of_the_right_words_in_the_wrong_places_makes_it_fail(shape: object, for_agents: bool) -> None:
    try:
        source, _ = lint_file(json.dumps(shape).encode(), for_agents=for_agents)
        explain(source)
    except UnreadableFile as error:
        assert error.reason
