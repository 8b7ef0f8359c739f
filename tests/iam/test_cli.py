"""`quorate iam` as people and pipelines use it: what it prints and how it ends."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from quorate.cli.app import run
from quorate.iam import codes
from quorate.iam.request import Audience, Cloud

JOB = [
    *("policy", "--cloud", "oci", "--for", "job", "--dynamic-group", "runs", "--compartment", "ml"),
    *("--compartment-ocid", "ocid1.compartment.oc1..a", "--bucket", "b", "--repo", "r"),
]
AWS = ["policy", "--cloud", "aws", "--account", "123456789012", "--region", "eu-central-1"]
GCP = [
    *("policy", "--cloud", "gcp", "--project", "my-project"),
    *("--master-account", "m@my-project.iam.gserviceaccount.com"),
    *("--agent-account", "a@my-project.iam.gserviceaccount.com"),
]


class Ended:
    """How one command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture(autouse=True)
def no_configuration_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("quorate.cli.netinput.SYSTEM_FILE", tmp_path / "none.yaml")
    monkeypatch.delenv("QUORATE_CONFIG", raising=False)


@pytest.fixture
def iam(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def call(*arguments: str) -> Ended:
        capsys.readouterr()
        code = run(["iam", *arguments])
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return call


def test_a_generated_policy_passes_the_linter(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "runs.policy"
    file.write_text(iam(*JOB).out)
    ended = iam("lint", str(file))
    assert (ended.code, ended.out) == (0, f"{file}: no findings (8 statements, 1 matching rule)\n")


def test_findings_stand_at_file_line_and_column_and_end_with_1(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "page.policy"
    file.write_text("# the page\nAllow group A to use read metrics in compartment C\n")
    ended = iam("lint", str(file))
    assert ended.code == 1
    assert f"{file}:2:18: error IAM-TWO-VERBS: two verbs, use and read\n" in ended.out
    assert "    => Allow group A to read metrics in compartment C\n" in ended.out


def test_findings_are_json_for_programs(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "page.policy"
    file.write_text("Allow group A to use read metrics in compartment C\n")
    ended = iam("lint", "--json", str(file))
    (finding,) = json.loads(ended.out)
    assert ended.code == 1
    assert finding == {
        "code": "IAM-TWO-VERBS",
        "severity": "error",
        "file": str(file),
        "line": 1,
        "column": 18,
        "evidence": "two verbs, use and read",
        "mend": "keep the weaker one: `read`",
        "replacement": "Allow group A to read metrics in compartment C",
    }


def test_a_warning_ends_with_1(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "wide.policy"
    file.write_text("Allow group A to use logging-family in compartment C\n")
    ended = iam("lint", str(file))
    assert ended.code == 1
    assert "warning IAM-WIDER" in ended.out


def test_what_only_informs_ends_with_0(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "deny.policy"
    file.write_text("Deny group A to manage vcns in compartment C\n")
    ended = iam("lint", str(file))
    assert ended.code == 0
    assert "info IAM-DENY-OPT-IN" in ended.out


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"{", b"prose", b"\xff"])
def test_what_is_no_policy_ends_with_2_and_no_traceback(iam, tmp_path: Path, content: bytes) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "x"
    file.write_bytes(content)
    for command in ("lint", "explain"):
        ended = iam(command, str(file))
        assert ended.code == 2
        assert f"{file}:1:" in ended.err
        assert "Traceback" not in ended.err


def test_a_statement_of_which_nothing_can_be_made_out_ends_with_2(iam) -> None:  # type: ignore[no-untyped-def]
    ended = iam("explain", "Allow foo bar")
    assert (ended.code, "IAM-SYNTAX" in ended.out) == (2, True)


def test_a_good_file_is_reported_beside_a_bad_one(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("Allow group A to read repos in tenancy")
    bad.write_text("")
    ended = iam("lint", str(good), str(bad))
    assert (ended.code, "no findings" in ended.out, "empty" in ended.err) == (2, True, True)


@pytest.mark.parametrize("name", ["missing", ".", "a\x00b"])
def test_a_file_that_cannot_be_read_ends_with_2(iam, name: str) -> None:  # type: ignore[no-untyped-def]
    for command in ("lint", "explain"):
        ended = iam(command, name)
        assert ended.code == 2
        assert "error:" in ended.err


def test_a_file_without_end_is_not_read_to_its_end(iam) -> None:  # type: ignore[no-untyped-def]
    ended = iam("lint", "/dev/zero")
    assert (ended.code, "larger than" in ended.err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        JOB[: JOB.index("--dynamic-group")],
        [*JOB, "--auth", "group"],
        [*AWS, "--for", "master", "--part", "roles"],
        ["policy", "--cloud", "aws", "--for", "master"],
        [*GCP, "--for", "master", "--host-project", "x"],
        ["policy", "--cloud", "azure", "--for", "master"],
        ["policy"],
        [*JOB, "--dynamic-group", "ocid1.group.oc1..a"],
        [*JOB, "--compartment", "ocid1.group.oc1..a"],
        [*JOB, "--compartment-ocid", "ocid1.group.oc1..a"],
        [*JOB, "--network-compartment", "ocid1.subnet.oc1..a"],
        [*JOB, "--target", "instances", "--for", "master", "--instance", "ocid1.image.oc1..a"],
        ["explain", "IAM-NO-SUCH-CODE"],
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_2_and_a_sentence(iam, arguments: list[str]) -> None:  # type: ignore[no-untyped-def]
    ended = iam(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ")


@pytest.mark.parametrize("audience", ["master", "agent"])
def test_an_aws_policy_is_json_that_the_vendors_tool_takes(iam, audience: str) -> None:  # type: ignore[no-untyped-def]
    ended = iam(*AWS, "--for", audience, "--bucket", "b")
    assert ended.code == 0
    assert json.loads(ended.out).keys() == {"Version", "Statement"}
    assert json.loads(iam(*AWS, "--for", audience, "--part", "trust").out)["Statement"][0]["Action"] == "sts:AssumeRole"


@pytest.mark.parametrize(
    "arguments",
    [JOB, [*AWS, "--for", "master"], [*AWS, "--for", "job"], [*GCP, "--for", "master"], [*GCP, "--for", "agent"]],
)
def test_json_has_everything_with_its_reasons(iam, arguments: list[str]) -> None:  # type: ignore[no-untyped-def]
    ended = iam(*arguments, "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["cloud"] in ("oci", "aws", "gcp")
    assert iam(*arguments, "--part", "reasons").code == 0


CLUSTER = """\
name: one
master: {where: {service_accounts: [m@my-project.iam.gserviceaccount.com]}}
pools:
  - {name: a, provider: {type: gcp}, where: {service_accounts: [a@my-project.iam.gserviceaccount.com]}}
"""


def test_what_master_yaml_says_need_not_be_said_again(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "master.yaml"
    file.write_text(CLUSTER)
    from_file = iam("policy", "--for", "master", "--config", str(file), "--project", "my-project")
    assert (from_file.code, from_file.err) == (0, "")
    assert from_file.out == iam(*GCP, "--for", "master", "--cluster", "one").out
    assert (
        '.startsWith("two-")'
        in iam("policy", "--for", "master", "--config", str(file), "--project", "my-project", "--cluster", "two").out
    )


def test_a_master_yaml_with_a_mistake_is_refused_with_its_line(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "master.yaml"
    file.write_text("name: one\npols: []\n")
    ended = iam("policy", "--for", "master", "--config", str(file))
    assert (ended.code, ended.out) == (2, "")
    assert f"{file}:2" in ended.err


def test_all_that_is_missing_is_said_at_once_with_a_command_that_would_do(iam) -> None:  # type: ignore[no-untyped-def]
    ended = iam("policy", "--cloud", "oci", "--for", "job", "--compartment", "ml:my training", "--no-volumes")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "error: --dynamic-group, --compartment-ocid and --bucket are missing\n"
        "  --dynamic-group: it names the dynamic group that the policy is for\n"
        "  --compartment-ocid: a dynamic group's matching rule knows compartments by OCID only\n"
        "  --bucket: without it the policy would open every bucket\n"
        "try:   quorate iam policy --for job --cloud oci --compartment 'ml:my training' --no-volumes "
        "--dynamic-group NAME --compartment-ocid ocid1.compartment.oc1..ID --bucket BUCKET\n"
    )


@pytest.mark.parametrize("cloud", list(Cloud))
@pytest.mark.parametrize("audience", list(Audience))
@pytest.mark.parametrize("more", [[], ["--repo", "r"], ["--bucket", "b"], ["--profile", "as-documented"]])
def test_the_command_that_an_error_proposes_is_one_that_runs(  # type: ignore[no-untyped-def]
    iam, cloud: Cloud, audience: Audience, more: list[str]
) -> None:
    ended = iam("policy", "--cloud", cloud, "--for", audience, *more)
    if ended.code:
        (proposed,) = [line for line in ended.err.splitlines() if line.startswith("try:")]
        ended = iam(*shlex.split(proposed)[3:])
    assert ended.code == 0


@pytest.mark.parametrize("command", ["policy", "lint", "explain"])
def test_the_examples_of_the_help_run(  # type: ignore[no-untyped-def]
    iam, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs.policy").write_text("Allow group A to read repos in tenancy\n")
    printed = iam(command, "--help").out
    assert printed.startswith(f"Usage: quorate iam {command} ")
    examples = [
        line.split("quorate iam ")[1] for line in printed.splitlines()[1:] if line.startswith("    quorate iam")
    ]
    assert len(examples) >= 1
    assert {iam(*shlex.split(example)).code for example in examples} == {0}


def test_no_command_at_all_is_answered_with_the_help_and_not_called_an_error(iam) -> None:  # type: ignore[no-untyped-def]
    ended = iam()
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Usage: quorate iam ")


@pytest.mark.parametrize(
    "arguments", [["policy"], ["policy", "--for", "boss"], ["policy", "--for", "user", "--cloud", "x"]]
)
def test_a_choice_that_is_missing_or_wrong_is_one_line_with_all_choices(iam, arguments: list[str]) -> None:  # type: ignore[no-untyped-def]
    cause, hint = iam(*arguments).err.splitlines()
    assert "user" in cause or "oci" in cause
    assert "Value error" not in cause
    assert hint == "try:   quorate iam policy --help"


@pytest.mark.parametrize(
    ("cloud", "option", "whose"),
    [
        ("aws", ["--compartment", "ml"], "oci"),
        ("gcp", ["--image", "x"], "oci and aws"),
        ("oci", ["--cluster", "one"], "gcp and aws"),
        ("oci", ["--subnet", "x"], "gcp and aws"),
        ("gcp", ["--security-group", "x"], "aws"),
        ("aws", ["--no-volumes"], "oci"),
    ],
)
def test_an_option_of_another_cloud_is_not_passed_over_in_silence(  # type: ignore[no-untyped-def]
    iam, cloud: str, option: list[str], whose: str
) -> None:
    ended = iam("policy", "--cloud", cloud, "--for", "user", *option)
    assert (ended.code, ended.out) == (2, "")
    assert f"is for {whose}, and this policy is for {cloud}" in ended.err


def test_who_asks_decides_where_on_oci_training_runs(iam) -> None:  # type: ignore[no-untyped-def]
    named = ["--cloud", "oci", "--dynamic-group", "m", "--compartment", "ml", "--instance", "ocid1.instance.oc1..a"]
    assert "INSTANCE_CREATE" in iam("policy", "--for", "master", *named).out
    refused = iam("policy", "--for", "master", "--target", "data-science", *named)
    assert "have no master of ours" in refused.err


def test_what_json_has_no_room_for_is_said_beside_it(iam) -> None:  # type: ignore[no-untyped-def]
    ended = iam(*AWS, "--for", "agent")
    assert json.loads(ended.out)["Statement"]
    assert "note: No --bucket, --repo or --log-group: it only denies" in ended.err


def test_what_policy_prints_for_any_cloud_can_be_linted_and_explained(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "policy"
    for arguments in (JOB, [*AWS, "--for", "master"], [*AWS, "--for", "master", "--json"], [*JOB, "--json"]):
        file.write_text(iam(*arguments).out)
        assert iam("lint", str(file)).code == 0
        assert "without it:" in iam("explain", str(file)).out
    for audience in ("master", "agent"):
        file.write_text(iam(*GCP, "--for", audience, "--bucket", "my-bucket", "--part", "roles").out)
        assert iam("lint", str(file)).code == 0
        assert "without it:" in iam("explain", str(file)).out
    file.write_text(iam(*GCP, "--for", "master").out)
    ended = iam("lint", str(file))
    assert ended.code == 2
    assert "a script of gcloud commands" in ended.err
    assert "--part roles" in ended.err


def test_every_part_of_what_policy_writes_is_explained(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "x"
    bindings = [
        {"role": each["role"], "members": [each["member"]]}
        for audience in ("master", "agent")
        for each in json.loads(iam(*GCP, "--for", audience, "--bucket", "my-bucket", "--json").out)["bindings"]
    ]
    trust = iam(*AWS, "--for", "agent", "--part", "trust").out
    for text in (json.dumps({"version": 3, "bindings": bindings}), trust):
        file.write_text(text)
        parts = json.loads(iam("explain", "--json", str(file)).out)["parts"]
        assert parts
        assert all(part["uses"] for part in parts)


def test_a_statement_that_nobody_needs_is_said_to_be_so(iam) -> None:  # type: ignore[no-untyped-def]
    assert "need no such statement" in iam("explain", "Allow group A to manage vcns in compartment C").out
    assert "need no such statement" not in iam("explain", "Allow group A to read repos in compartment C").out


def test_subjects_of_two_kinds_are_both_explained(iam) -> None:  # type: ignore[no-untyped-def]
    said = iam("explain", "Allow group g, dynamic-group d to read repos in compartment C").out
    assert "The users in the group g may" in said
    assert "The resources in the dynamic group d may" in said


def test_a_misspelt_code_is_answered_with_the_nearest(iam) -> None:  # type: ignore[no-untyped-def]
    assert "try:   quorate iam explain IAM-TWO-VERBS\n" in iam("explain", "iam-two-verb").err


def test_two_statements_that_one_should_have_been_are_printed_on_two_lines(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "x"
    file.write_text("Allow group g, dynamic-group d to read repos in compartment C\n")
    mends = [line.strip() for line in iam("lint", str(file)).out.splitlines() if "=>" in line]
    assert mends == [
        "=> Allow group g to read repos in compartment C",
        "=> Allow dynamic-group d to read repos in compartment C",
    ]


def test_without_a_cloud_the_command_says_how_to_name_one(iam) -> None:  # type: ignore[no-untyped-def]
    ended = iam("policy", "--for", "master")
    assert ended.code == 2
    assert "--cloud is missing" in ended.err


def test_the_parts_of_an_oci_policy_go_into_the_vendors_tool(iam) -> None:  # type: ignore[no-untyped-def]
    assert all(text.startswith("Allow ") for text in json.loads(iam(*JOB, "--part", "statements").out))
    assert iam(*JOB, "--part", "dynamic-group").out.startswith("all {resource.type = 'datasciencejobrun'")


def test_the_roles_of_a_gcp_policy_are_files_for_the_vendors_tool(iam) -> None:  # type: ignore[no-untyped-def]
    roles = json.loads(iam(*GCP, "--for", "master", "--part", "roles").out)
    assert roles["quorateActAsAgent"]["includedPermissions"] == ["iam.serviceAccounts.actAs"]


def test_a_statement_a_file_and_a_code_are_explained(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    said = iam("explain", "Allow dynamic-group runs to read repos in compartment ml")
    assert said.code == 0
    assert "without it: The run cannot pull the image." in said.out
    file = tmp_path / "master.json"
    file.write_text(iam(*AWS, "--for", "master").out)
    assert "Ends idle machines, and only those of this cluster." in iam("explain", str(file)).out
    parts = json.loads(iam("explain", "--json", str(file)).out)["parts"]
    assert all(part["uses"] for part in parts)
    for code in codes.all_codes():
        assert iam("explain", code.name.lower()).out == f"{code.name}: {code.meaning}\n"


def test_a_file_cannot_command_the_terminal(iam, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "x"
    file.write_text("Allow group '\x1b[2J' to user repos in compartment '\x07'")
    for command in ("lint", "explain"):
        printed = iam(command, str(file)).out
        assert "\x1b" not in printed
        assert "\x07" not in printed
        assert "\\x1b[2J" in printed


def test_a_policy_comes_through_a_pipe() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "quorate", "iam", "lint", "-"],
        input=b"Allow group A to user repos in compartment C",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert b"-:1:18: error IAM-VERB-UNKNOWN" in ended.stdout


def test_the_help_of_the_command_line_does_not_load_the_parsers() -> None:
    program = "import sys; from quorate.cli import iam; print('quorate.iam.oci' in sys.modules, 'yaml' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "False False\n"
