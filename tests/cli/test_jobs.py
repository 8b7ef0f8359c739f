"""Jobs through the command line, on a real cluster: what is shown, and with which exit code it ends."""

from __future__ import annotations

import json
import re
import signal
import stat
from pathlib import Path

import pytest
from tests.cli.conftest import Quorate

from quorate.client import Client, resolve
from quorate.model.job import JobSpec


def submit(cluster: Quorate, *words: str, options: tuple[str, ...] = ()) -> str:
    """The id of a job that is not followed."""
    return cluster("run", "--detach", *options, "--", *words).out.strip()


def test_the_output_of_jobs_that_end_at_once_is_complete(cluster: Quorate, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    spec = JobSpec.model_validate({"entrypoint": ["echo", "here"], "resources": {"nodes": 2}})
    with Client(resolve()) as client:
        for _ in range(40):
            job = client.submit(spec).id
            assert sorted((line.rank, line.text) for line in client.logs(job, follow=True)) == [
                (0, "here"),
                (1, "here"),
            ]


def test_run_shows_the_output_and_ends_well(cluster: Quorate) -> None:
    done = cluster("run", "--", "sh", "-c", "echo out; echo err >&2")
    assert sorted(done.out.splitlines()) == ["err", "out"]
    assert "completed: waited" in done.err


def test_secrets_by_flag_come_from_a_file_and_a_variable_and_are_blanked(cluster: Quorate) -> None:
    (cluster.home / "key.txt").write_text("from-a-file\n")
    script = "wc -c < $QUORATE_SECRETS/FILE; wc -c < $QUORATE_SECRETS/VARIABLE; cat $QUORATE_SECRETS/*"
    flags = ("--secret", "FILE=@key.txt", "--secret", "VARIABLE=$MINE")
    done = cluster("run", *flags, "--", "sh", "-c", script, MINE="from-a-variable")
    assert done.out.split() == [str(len("from-a-file")), str(len("from-a-variable")), "[secret][secret]"]
    missing = cluster("run", "--secret", "FILE=@nowhere.txt", "--", "true", code=2)
    assert "nowhere.txt" in missing.err and "No such file" in missing.err


def test_a_variable_that_is_not_set_here_cannot_be_passed_on(cluster: Quorate) -> None:
    refused = cluster("run", "--env", "NOBODY_SETS_THIS", "--", "true", code=2)
    assert "NOBODY_SETS_THIS is not set here" in refused.err


def test_every_member_is_named_before_its_lines(cluster: Quorate) -> None:
    done = cluster("run", "--nodes", "2", "--", "sh", "-c", "echo I am $NODE_RANK of $NODE_COUNT")
    assert sorted(done.out.splitlines()) == ["main1 | I am 0 of 2", "sub1  | I am 1 of 2"]


@pytest.mark.parametrize("code", [1, 3, 77])
def test_run_ends_with_the_jobs_own_exit_code(cluster: Quorate, code: int) -> None:
    cluster("run", "--", "sh", "-c", f"exit {code}", code=code)


def test_whoever_follows_a_job_is_told_why_it_begins_again(cluster: Quorate) -> None:
    script = "[ $QUORATE_ATTEMPT = 1 ] && exit 9; [ $QUORATE_ATTEMPT = 2 ] && kill -9 $$; echo well"
    done = cluster("run", "--restarts", "2", "--", "sh", "-c", script)
    again = [line for line in done.err.splitlines() if line.startswith("attempt ")]
    assert len(again) == 2, done.err
    assert again[0].startswith("attempt 2") and "main1" in again[0] and "exited with 9" in again[0]
    assert again[1].startswith("attempt 3") and "SIGKILL" in again[1]


def test_a_failure_says_first_which_member_how_it_ended_and_its_last_words(cluster: Quorate) -> None:
    script = "echo starting; if [ $NODE_RANK = 1 ]; then echo no such file: data.bin >&2; exit 9; fi; sleep 60"
    done = cluster("run", "--nodes", "2", "--", "sh", "-c", script, code=9)
    told = done.err[done.err.index("error:") :].splitlines()
    assert "sub1" in told[0] and "9" in told[0]
    assert any("no such file: data.bin" in line for line in told[1:])
    assert "main1" not in told[0], "the first failure is the reason, not its echo"
    assert told[-1].startswith("try:") and "--member sub1" in told[-1]


def test_a_signal_is_named(cluster: Quorate) -> None:
    done = cluster("run", "--", "sh", "-c", "kill -SEGV $$", code=128 + signal.SIGSEGV)
    assert "SIGSEGV" in done.err


def test_a_detached_job_can_be_waited_for_shown_and_read(cluster: Quorate) -> None:
    job = submit(cluster, "sh", "-c", "echo hello; exit 4", options=("--name", "greeting"))
    assert cluster("job", "wait", job, code=4)
    assert cluster("job", "logs", job).out == "hello\n"
    shown = cluster("job", "show", job, "--json").json
    assert (shown["spec"]["name"], shown["state"], shown["exit_code"]) == ("greeting", "failed", 4)
    assert "greeting" in cluster("job", "show", job).out


def test_a_job_that_cannot_be_placed_says_for_what_it_waits(cluster: Quorate) -> None:
    holder = submit(cluster, "sleep", "300", options=("--nodes", "2", "--slots", "2"))
    job = submit(cluster, "true", options=("--nodes", "2", "--slots", "2"))
    try:
        reason = cluster("job", "show", job, "--json").json["reason"]
        assert "2 agents" in reason and "pool default" in reason
        assert reason in cluster("job", "show", job).out
    finally:
        cluster("job", "cancel", holder, job, "--wait")


def test_a_job_that_can_never_fit_is_refused_at_once(cluster: Quorate) -> None:
    done = cluster("run", "--nodes", "2", "--slots", "64", "--", "true", code=None)
    assert done.code in (2, 125)
    assert "error:" in done.err


def test_a_cancelled_job_ends_with_130(cluster: Quorate) -> None:
    job = submit(cluster, "sleep", "300", options=("--grace", "1s"))
    assert "cancelled" in cluster("job", "cancel", job, "--wait").out
    cluster("job", "wait", job, code=130)


def test_a_job_beyond_its_time_ends_with_124(cluster: Quorate) -> None:
    cluster("run", "--max-runtime", "500ms", "--grace", "1s", "--", "sleep", "300", code=124)


def test_waiting_has_an_end_and_the_job_runs_on(cluster: Quorate) -> None:
    job = submit(cluster, "sleep", "300", options=("--grace", "1s"))
    done = cluster("job", "wait", job, "--timeout", "200ms", code=124)
    assert "is still" in done.err
    cluster("job", "cancel", job, "--wait")


def test_the_folder_of_the_job_file_travels_and_what_is_ignored_stays(cluster: Quorate) -> None:
    folder = cluster.home / "training"
    (folder / "data").mkdir(parents=True)
    (folder / "train.sh").write_text("ls\n")
    (folder / "data" / "huge.bin").write_text("x")
    (folder / ".quorateignore").write_text("data/\n")
    (folder / "job.yaml").write_text("entrypoint: [sh, train.sh]\ncontext: .\n")
    assert cluster("run", folder / "job.yaml").out.split() == ["job.yaml", "train.sh"]


def test_a_command_that_names_a_file_takes_its_folder_along(cluster: Quorate) -> None:
    (cluster.home / "here.sh").write_text("echo came along\n")
    assert cluster("run", "--", "sh", "here.sh").out == "came along\n"
    cluster("run", "--no-context", "--", "sh", "here.sh", code=None)


def test_a_word_that_is_too_long_for_a_file_is_taken_for_what_it_is(cluster: Quorate) -> None:
    assert cluster("run", "--", "sh", "-c", f"echo short # {'long ' * 100}").out == "short\n"


def test_flags_beat_the_file(cluster: Quorate) -> None:
    file = cluster.home / "flags.yaml"
    file.write_text("entrypoint: 'echo $COLOUR'\nenvironment: {COLOUR: red}\nrestarts: 1\n")
    assert cluster("run", file, "--env", "COLOUR=blue", "-n", "1").out == "blue\n"
    assert cluster("run", "-f", file).out == "red\n"


def test_a_plan_names_members_and_agents_and_starts_nothing(cluster: Quorate) -> None:
    before = cluster("job", "list", "--json").json
    plan = cluster("run", "--nodes", "2", "--plan", "--json", "--", "true").json
    assert plan["fits_now"] and [member["name"] for member in plan["members"]] == ["main1", "sub1"]
    shown = cluster("run", "--nodes", "2", "--launcher", "torch", "--plan", "--", "python", "train.py").out
    assert "fits now" in shown and "torch.distributed.run" in shown and "nothing was started" in shown
    assert cluster("job", "list", "--json").json == before


def test_secrets_arrive_and_are_nowhere_to_be_read(cluster: Quorate) -> None:
    (cluster.home / "key").write_text("s3cr3t-0f-the-test\n")
    script = "set -- $(find / -maxdepth 6 -name KEY -path '*secret*' 2>/dev/null); cat $QUORATE_SECRETS/KEY"
    done = cluster("run", "--secret", "KEY=@key", "--", "sh", "-c", script, code=None)
    assert "s3cr3t-0f-the-test" not in done.out
    refused = cluster("run", "--secret", "KEY=value", "--", "true", code=2)
    assert "list of processes" in refused.err and "value" not in refused.err.replace("the value itself", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("entrypoint: [a]\nresources:\n  node: 2\n", "3:3: resources.node: unknown key 'node' (did you mean 'nodes'?)"),
        ("entrypoint: [a]\nlauncher: troch\n", "did you mean 'torch'?"),
        ("entrypoint: [a\n", "not YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line_and_nothing_is_sent(cluster: Quorate, text: str, said: str) -> None:
    (cluster.home / "wrong.yaml").write_text(text)
    done = cluster("run", "wrong.yaml", code=2)
    assert said in done.err and "Traceback" not in done.err


def test_an_unknown_job_is_said_with_the_next_command(cluster: Quorate) -> None:
    done = cluster("job", "show", "zzzz9999", code=5)
    assert "zzzz9999" in done.err and "quorate job list" in done.err


def test_a_job_is_found_by_its_name_and_by_the_beginning_of_its_id(cluster: Quorate) -> None:
    older, newer = (cluster("run", "-d", "--name", "twice", "--", "echo", each).out.strip() for each in ("one", "two"))
    for job in (older, newer):
        cluster("job", "wait", job)
    done = cluster("job", "logs", "twice")
    assert done.out == "two\n" and f"twice is {newer}" in done.err and "the newest of 2" in done.err
    assert cluster("job", "show", older[:7], "--json").json["id"] == older
    assert cluster("job", "cancel", "twice", "--json").json[0]["id"] == newer
    assert cluster("job", "wait", "twice", "--json").json["id"] == newer


def test_what_ends_a_job_guesses_none_among_several_of_its_name(cluster: Quorate) -> None:
    first, second = (
        cluster("run", "-d", "--name", "same", "--slots", "0", "--grace", "1s", "--", "sleep", "600").out.strip()
        for _ in "12"
    )
    done = cluster("job", "cancel", "same", code=2)
    assert first in done.err and second in done.err
    cluster("job", "cancel", second, "--wait")
    assert cluster("job", "cancel", "same", "--wait", "--json").json[0]["id"] == first


def test_a_mistyped_job_is_answered_with_what_was_probably_meant(cluster: Quorate) -> None:
    job = cluster("run", "-d", "--name", "translation", "--", "true").out.strip()
    done = cluster("job", "logs", "translaton", code=5)
    assert f"did you mean translation? ({job}, " in done.err and "quorate job list" in done.err
    wrong = job[:-1] + ("2" if job[-1] != "2" else "3")
    problem = json.loads(cluster("job", "show", wrong, "--json", code=5).err)
    assert problem["code"] == "JOB-UNKNOWN" and problem["errors"][0]["message"].startswith(f"did you mean {job}?")


def test_a_stranger_is_not_let_in(cluster: Quorate) -> None:
    cluster("job", "list", "--token", "qu1.nobody.wrong", code=4)


def test_listings_are_json_for_programs(cluster: Quorate) -> None:
    submit(cluster, "true")
    for listing in (["job", "list"], ["agent", "list"], ["pool", "list"], ["token", "list"]):
        assert isinstance(cluster(*listing, "--json").json, list)


def test_one_member_alone_can_be_read(cluster: Quorate) -> None:
    job = submit(cluster, "sh", "-c", "echo $NODE_RANK", options=("--nodes", "2"))
    cluster("job", "wait", job)
    assert cluster("job", "logs", job, "--member", "sub1").out == "1\n"
    lines = [json.loads(line) for line in cluster("job", "logs", job, "--json").out.splitlines()]
    assert {line["rank"]: line["text"] for line in lines} == {0: "0", 1: "1"}


def test_an_attempt_that_never_was_is_said_to_be_none(cluster: Quorate) -> None:
    job = submit(cluster, "true")
    cluster("job", "wait", job)
    refused = cluster("job", "logs", job, "--attempt", "2", code=5)
    assert f"job {job} has no attempt 2; it has 1" in refused.err


def test_lines_can_be_read_with_their_times_and_only_the_last_ones(cluster: Quorate) -> None:
    job = submit(cluster, "seq", "100")
    cluster("job", "wait", job)
    lines = cluster("job", "logs", job, "--tail", "2", "--times").out.splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", "", line) for line in lines] == ["99", "100"]
    assert cluster("job", "logs", job).out.split() == [str(number) for number in range(1, 101)]


def test_interrupted_without_a_terminal_the_job_runs_on(cluster: Quorate) -> None:
    following = cluster.start("run", "--grace", "1s", "--", "sh", "-c", "echo ready; sleep 300")
    assert following.stdout is not None
    assert following.stdout.readline() == b"ready\n"
    following.send_signal(signal.SIGINT)
    assert following.wait(30) == 130
    running = cluster("job", "list", "--state", "running", "--json").json
    assert len(running) == 1
    cluster("job", "cancel", running[0]["id"], "--wait")


def test_the_settings_file_is_private(cluster: Quorate) -> None:
    path = Path(cluster.environment["XDG_CONFIG_HOME"]) / "quorate" / "client.yaml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
