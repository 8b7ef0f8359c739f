"""Generated OCI policies are least, valid, stable, bound to what was named, and explained."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.iam.finding import RefusedRequest
from quorate.iam.lint import lint_file
from quorate.iam.oci.explain import explain, explain_rule
from quorate.iam.oci.generate import as_json, as_text, generate
from quorate.iam.oci.request import OciRequest, Tag
from quorate.iam.oci.syntax import Statement, VerbGrant
from quorate.iam.pages import example_oci
from quorate.iam.policy import write
from quorate.iam.request import Audience, Auth, Part, Profile, Target

from .strictly import parse, parse_rule

ASKED = [
    (Target.DATA_SCIENCE, Audience.USER),
    (Target.DATA_SCIENCE, Audience.JOB),
    (Target.INSTANCES, Audience.MASTER),
    (Target.INSTANCES, Audience.AGENT),
    (Target.INSTANCES, Audience.USER),
]
every_request = pytest.mark.parametrize("request_", [example_oci(audience, target) for target, audience in ASKED])


def texts(request: OciRequest) -> list[str]:
    return [each.text for each in generate(request).statements]


@every_request
@pytest.mark.parametrize("profile", list(Profile))
def test_what_is_written_is_read_back_by_the_strict_parser(request_: OciRequest, profile: Profile) -> None:
    policy = generate(replace(request_, profile=profile))
    assert [parse(each.text) for each in policy.statements] == [each.statement for each in policy.statements]
    assert [parse_rule(group.rule_text) for group in policy.dynamic_groups] == [
        group.rule for group in policy.dynamic_groups
    ]
    assert json.loads(json.dumps(as_json(policy)))["statements"] == [each.text for each in policy.statements]


@every_request
@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize(
    "change", [{}, {"compartment": None}, {"compartment": "ml:my training"}, {"tag": None}, {"may_delete": True}]
)
def test_a_parser_that_is_not_ours_reads_it_as_well(
    request_: OciRequest, profile: Profile, change: dict[str, object]
) -> None:
    theirs = pytest.importorskip("oci_lexer_parser")
    policy = generate(replace(request_, profile=profile, **change))  # type: ignore[arg-type]
    for each in policy.statements:
        (read,) = theirs.parse_policy_statements(each.text)["statements"]
        grant = each.statement.grant
        if isinstance(grant, VerbGrant):
            assert (read["actions"]["values"], read["resources"]["values"]) == ([grant.verb], [grant.resource])
        else:
            assert [each.upper() for each in read["actions"]["values"]] == list(grant.permissions)  # type: ignore[union-attr]
        assert read["subject"]["type"] == each.statement.subject.kind
        assert ("conditions" in read) is (each.statement.condition is not None)
    for group in policy.dynamic_groups:
        assert theirs.parse_dynamic_group_matching_rules(group.rule_text)


def strict_requests() -> list[OciRequest]:
    """For everybody, by every way to sign in that they have: what runs in OCI signs in by what it is."""
    machines = (Audience.AGENT, Audience.JOB)
    return [
        replace(example_oci(audience, target), auth=auth)
        for target, audience in ASKED
        for auth in (None, *Auth)
        if not (auth is Auth.GROUP and audience in machines)
    ]


@pytest.mark.parametrize("request_", strict_requests())
@pytest.mark.parametrize("part", [Part.NATIVE, Part.STATEMENTS])
@pytest.mark.parametrize("change", [{}, {"repo": None}, {"may_delete": True}, {"volumes": False}])
def test_the_linter_has_nothing_to_say_of_the_strict_profile(
    request_: OciRequest, part: Part, change: dict[str, object]
) -> None:
    text = write(replace(request_, **change), part, as_json=False, bare=False)  # type: ignore[arg-type]
    assert lint_file(text.encode())[1] == []


@pytest.mark.parametrize(("target", "audience"), ASKED[:4])
def test_the_linter_finds_the_documented_profile_too_wide(target: Target, audience: Audience) -> None:
    text = as_text(generate(example_oci(audience, target, Profile.AS_DOCUMENTED)))
    assert "IAM-WIDER" in {finding.code.name for finding in lint_file(text.encode())[1]}


@every_request
def test_every_statement_has_its_reasons_and_its_source(request_: OciRequest) -> None:
    for each in generate(request_).statements:
        assert all((each.reasons.why, each.reasons.without, each.reasons.source))


@every_request
def test_the_output_is_the_same_on_every_run(request_: OciRequest) -> None:
    assert as_text(generate(request_)) == as_text(generate(replace(request_)))


@every_request
def test_nothing_beyond_the_named_bucket_repository_and_compartment_is_granted(request_: OciRequest) -> None:
    for text in texts(request_):
        if "OBJECT_" in text or "objects" in text or "buckets" in text:
            assert "target.bucket.name = 'training'" in text
        if "repos" in text or "REPOSITORY_" in text:
            assert "target.repo.name = 'trainer'" in text
        if " in tenancy" in text:
            assert "target.tag-namespace.name" in text


def test_a_run_may_create_checkpoints_and_delete_none_unless_asked() -> None:
    request = example_oci(Audience.JOB, Target.DATA_SCIENCE)
    (objects,) = [text for text in texts(request) if "OBJECT_" in text]
    assert "OBJECT_CREATE" in objects
    assert "OBJECT_DELETE" not in objects
    assert any("OBJECT_DELETE" in text for text in texts(replace(request, may_delete=True)))


def test_users_sign_in_by_group_or_as_a_dynamic_group() -> None:
    request = example_oci(Audience.USER, Target.DATA_SCIENCE)
    assert all(text.startswith("Allow group 'Default'/'researchers' to ") for text in texts(request))
    assert generate(request).dynamic_groups == ()
    notebook = generate(replace(request, auth=Auth.DYNAMIC_GROUP))
    assert all(each.text.startswith("Allow dynamic-group training-runs to ") for each in notebook.statements)
    assert "datasciencenotebooksession" in notebook.dynamic_groups[0].rule_text


@pytest.mark.parametrize(
    ("compartment", "location"),
    [
        (None, "in tenancy"),
        ("training", "in compartment training"),
        ("ml:my training", "in compartment ml:'my training'"),
        ("ocid1.compartment.oc1..abc", "in compartment id ocid1.compartment.oc1..abc"),
    ],
)
def test_the_location_is_the_tenancy_a_path_or_an_ocid(compartment: str | None, location: str) -> None:
    request = replace(
        example_oci(Audience.USER, Target.DATA_SCIENCE), compartment=compartment, network_compartment=None
    )
    assert all(location in text for text in texts(request))
    assert any("whole tenancy" in note for note in generate(request).notes) is (compartment is None)


def test_the_network_may_be_in_a_compartment_of_its_own() -> None:
    found = [text for text in texts(example_oci(Audience.MASTER, Target.INSTANCES)) if " compartment network" in text]
    assert [text.split(" to ")[1].split(" in ")[0] for text in found] == [
        "use subnets",
        "use vnics",
        "use network-security-groups",
    ]


def test_the_masters_dynamic_group_takes_in_its_one_machine_and_no_agent() -> None:
    policy = generate(example_oci(Audience.MASTER, Target.INSTANCES))
    assert policy.dynamic_groups[0].rule_text.startswith("instance.id = ")
    with pytest.raises(RefusedRequest, match="--instance"):
        generate(replace(example_oci(Audience.MASTER, Target.INSTANCES), instance=None))


def test_with_a_tag_the_master_may_end_only_machines_that_carry_it() -> None:
    tagged = example_oci(Audience.MASTER, Target.INSTANCES)
    (ends,) = [text for text in texts(tagged) if "INSTANCE_DELETE" in text]
    assert ends.endswith("where all {target.resource.tag.quorate.cluster = 'one'}")
    bare = generate(replace(tagged, tag=None))
    assert any("INSTANCE_DELETE" in each.text and "where" not in each.text for each in bare.statements)
    assert any("every machine" in note for note in bare.notes)


def test_an_agent_may_nothing_that_starts_or_ends_machines() -> None:
    granted = " ".join(texts(example_oci(Audience.AGENT, Target.INSTANCES)))
    assert not any(word in granted for word in ("INSTANCE_", "instance", "subnets", "vnics", "volume"))


def test_a_member_of_a_job_on_instances_gets_nothing_and_hears_why() -> None:
    policy = generate(example_oci(Audience.JOB, Target.INSTANCES))
    assert (policy.statements, policy.dynamic_groups) == ((), ())
    assert "no identity" in policy.notes[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"group": None}, "--group is missing"),
        ({"bucket": None}, "--bucket is missing"),
        ({"audience": Audience.JOB, "dynamic_group": None}, "--dynamic-group is missing"),
        ({"audience": Audience.JOB, "compartment_ocid": None}, "--compartment-ocid is missing"),
        ({"audience": Audience.JOB, "compartment_ocid": "training"}, "not an OCID"),
        ({"audience": Audience.JOB, "auth": Auth.GROUP}, "holds no key"),
        ({"audience": Audience.MASTER}, "--target instances"),
        ({"bucket": "b' or 'x"}, "quote"),
        ({"group": "<group>"}, "placeholder"),
        ({"group": " "}, "empty"),
        ({"compartment": "a::b"}, "empty"),
    ],
)
def test_a_request_that_would_be_void_or_open_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(RefusedRequest, match=says):
        generate(replace(example_oci(Audience.USER, Target.DATA_SCIENCE), **change))  # type: ignore[arg-type]


def test_a_tag_that_is_none_is_refused() -> None:
    assert Tag.parse("quorate.cluster=one") == Tag("quorate", "cluster", "one")
    with pytest.raises(RefusedRequest, match=r"namespace\.key=value"):
        Tag.parse("quorate=one")


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_no_name_can_smuggle_in_another_statement(group: str, bucket: str, compartment: str) -> None:
    request = replace(
        example_oci(Audience.USER, Target.DATA_SCIENCE), group=group, bucket=bucket, compartment=compartment
    )
    try:
        policy = generate(request)
    except RefusedRequest:
        return
    for each in policy.statements:
        assert parse(each.text) == each.statement


# Explanations


@every_request
def test_each_generated_statement_is_explained_by_its_own_need(request_: OciRequest) -> None:
    for each in generate(request_).statements:
        uses = [use.reasons for use in explain(each.statement).uses]
        assert each.reasons in uses


@every_request
def test_each_generated_dynamic_group_is_explained_by_its_own_reasons(request_: OciRequest) -> None:
    for group in generate(request_).dynamic_groups:
        assert group.reasons in [use.reasons for use in explain_rule(group.rule).uses]


def test_a_statement_is_put_into_plain_words() -> None:
    statement = parse(
        "Allow dynamic-group runs to use objects in compartment ml:training "
        "where any {target.bucket.name = 'b', all {request.ad != 'x', request.region in ('fra', 'ams')}}"
    )
    said = explain(statement)
    assert said.meaning == (
        "The resources in the dynamic group runs may list, read and use objects in the compartment ml / training and "
        "those in it, if target.bucket.name is b or (request.ad is not x and request.region is one of fra, ams)."
    )
    assert said.permissions == ("OBJECT_INSPECT", "OBJECT_OVERWRITE", "OBJECT_READ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Deny any-user to manage vcns in tenancy", "Everybody (users, instances, resources and services) may not"),
        ("Endorse group A to read buckets in any-tenancy", "may, if the other tenancy admits it,"),
        ("Admit group A of tenancy T to read buckets in tenancy", "of the tenancy T may"),
        ("Allow group A to manage all-resources in tenancy", "do anything with all resources in the whole tenancy"),
        ("Define tenancy T as ocid1.tenancy.oc1..a", "grants nothing"),
        ("Allow group A to use logging-family in compartment C", "(3 resource types)"),
        ("Allow service FaaS to {VNIC_ATTACH} in tenancy where request.ad between 'a' and 'b'", "lies between a and b"),
    ],
)
def test_every_kind_of_statement_can_be_explained(text: str, says: str) -> None:
    assert says in explain(parse(text)).meaning


def test_a_rule_is_put_into_plain_words() -> None:
    said = explain_rule(parse_rule("all {resource.type = 'x', tag.a.b.value}"))
    assert said.meaning == "Every resource of the tenancy for which resource.type is x and tag.a.b.value is set."


def test_a_denial_is_not_explained_by_what_a_grant_is_for() -> None:
    denied = parse("Deny group A to read metrics in tenancy")
    allowed = parse("Allow group A to read metrics in tenancy")
    assert isinstance(denied, Statement)
    assert (explain(denied).uses == (), explain(allowed).uses == ()) == (True, False)
