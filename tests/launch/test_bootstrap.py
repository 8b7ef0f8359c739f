"""The image's and the job's bootstrap scripts run first, and what they set reaches the command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from launch_vocabulary import gang

from quorate.launch import bootstrap, environment
from quorate.launch.config import Configuration, Network
from quorate.launch.launchers import Launch
from quorate.launch.launchers import derive as launch

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
DUMP = ("sh", "-c", "env -0")

Ran = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=SHELLS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Ran:
    """Runs a member's command line in one of the shells that images have as sh."""
    found = SHELLS[request.param]
    if subprocess.run(["sh", "-c", f"command -v {found[0]}"], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no {found[0]}")

    def run(prepared: Launch, user: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        argv = [*found, *prepared.argv[1:]] if prepared.argv[0] == "sh" else list(prepared.argv)
        return subprocess.run(
            argv,
            env={"PATH": os.environ["PATH"], **prepared.environment, **(user or {})},
            cwd=tmp_path, text=True, capture_output=True, timeout=20, check=False,
        )  # fmt: skip

    return run


def prepared(
    text: str, *argv: str, configuration: Configuration | None = None, user: dict[str, str] | None = None
) -> Launch:
    configuration = configuration or gang(2, network=Network.OVERLAY)
    return bootstrap.before(launch("none", configuration, argv or DUMP, user or {}), configuration, user or {}, text)


def variables(ran: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert ran.returncode == 0, ran.stderr
    return dict(entry.split("=", 1) for entry in ran.stdout.rpartition("\n--\n")[2].split("\0") if entry)


def test_without_a_script_the_command_needs_no_shell() -> None:
    alone = launch("none", gang(2), ["./train"], {})
    assert bootstrap.before(alone, gang(2), {}, "") == alone


def test_the_script_runs_before_the_command_and_sees_who_it_is(run: Ran) -> None:
    ran = run(prepared("echo I am $QUORATE_HOST of $BACKENDAI_CLUSTER_SIZE", "echo", "trained"))
    assert ran.stdout == "I am main1 of 2\ntrained\n"


def test_what_the_script_exports_is_kept_with_every_character(run: Ran) -> None:
    value = 'it\'s "quoted" $HOME `x` \\n\ttab\nsecond line'
    ran = run(
        prepared('export KEPT="$RAW"; local_only=1; export PATH=$PATH:/opt/tool', user={"RAW": value}), {"RAW": value}
    )
    assert variables(ran)["KEPT"] == value
    assert variables(ran)["PATH"].endswith(":/opt/tool")
    assert "local_only" not in variables(ran)


def test_nothing_of_the_platform_s_own_is_left_in_the_environment(run: Ran) -> None:
    assert not [name for name in variables(run(prepared("true"))) if name.startswith("_quorate")]


def test_the_script_s_folder_options_and_traps_stay_with_it(run: Ran, tmp_path: Path) -> None:
    ran = run(prepared("cd /; set -f -u; trap 'echo bye' TERM; umask 077", "sh", "-c", 'pwd; echo "$PWD" $-; umask'))
    pwd, told, mask = ran.stdout.split("\n")[:3]
    assert pwd == str(tmp_path) == told.split()[0]
    assert mask == run(Launch(("sh", "-c", "umask"))).stdout.strip()


def test_a_script_may_end_early_and_well(run: Ran) -> None:
    ran = run(prepared("export EARLY=1\nexit 0\nexport LATE=1"))
    assert variables(ran)["EARLY"] == "1"
    assert "LATE" not in variables(ran)


@pytest.mark.parametrize(
    "text", ["echo broken; exit 3", "echo broken; sh -c 'exit 3'; echo went on", "echo broken; (exit 3)"]
)
def test_a_script_that_fails_keeps_the_command_from_starting(run: Ran, text: str) -> None:
    ran = run(prepared(text, "echo", "trained"))
    assert (ran.returncode, ran.stdout) == (3, "broken\n")
    assert bootstrap.has_failed("qqqq2222-1.0.1", ran.stderr)
    assert not bootstrap.has_failed("qqqq2222-1.1.1", ran.stderr)


def test_a_command_that_fails_is_no_failure_of_the_bootstrap(run: Ran) -> None:
    ran = run(prepared("true", "sh", "-c", "exit 3"))
    assert ran.returncode == 3
    assert not bootstrap.has_failed("qqqq2222-1.0.1", ran.stderr)


def test_a_daemon_that_the_script_leaves_running_does_not_hold_the_command_back(run: Ran) -> None:
    ran = run(prepared("sleep 15 >/dev/null 2>&1 & export DAEMON=$!"))
    subprocess.run(["kill", variables(ran)["DAEMON"]], check=True)


def test_the_image_s_script_comes_before_the_job_s_and_may_be_sourced(
    run: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "bootstrap"
    script.write_text("export BASE=/opt/image\nexport ORDER=image\n")
    monkeypatch.setattr(bootstrap, "IMAGE_SCRIPT", str(script))
    configuration = gang(1)
    both = bootstrap.before(
        launch("none", configuration, DUMP, {}), configuration, {}, "export ORDER=$ORDER,$BASE", True
    )
    assert variables(run(both))["ORDER"] == "image,/opt/image"


def test_arguments_arrive_as_they_were(run: Ran) -> None:
    ran = run(prepared("set -- x y", "printf", "[%s]", "a b", "", "*", "$HOME", "'"))
    assert ran.stdout == "[a b][][*][$HOME][']"


def test_a_single_member_is_told_of_no_others_after_a_script_either(run: Ran) -> None:
    found = variables(run(prepared("true", configuration=gang(1))))
    assert not {"MASTER_ADDR", "MASTER_PORT", "TF_CONFIG"} & set(found)


PORTS = st.sampled_from(["29500", "30000", "1", "65534", "65535"])


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(2, 4),
    network=st.sampled_from(Network),
    by_user=st.dictionaries(
        st.sampled_from(["MASTER_PORT", "BACKENDAI_DIST_MASTER_PORT"]), PORTS.filter(lambda p: p < "6")
    ),
    by_script=st.dictionaries(st.sampled_from([*environment.DISTRIBUTED, "BACKENDAI_DIST_MASTER_PORT"]), PORTS),
    data=st.data(),
)
def test_the_shell_derives_what_python_does_had_the_user_set_what_the_script_sets(
    run: Ran, size: int, network: Network, by_user: dict[str, str], by_script: dict[str, str], data: st.DataObject
) -> None:
    configuration = gang(size, rank=data.draw(st.integers(0, size - 1)), network=network)
    text = "".join(f"export {name}={value}\n" for name, value in by_script.items()) or "true"
    found = variables(run(prepared(text, configuration=configuration, user=by_user), by_user))
    try:
        wanted = {**environment.derive(configuration, {**by_user, **by_script}), **by_user, **by_script}
    except environment.ConfigurationError:
        # There is nobody any more who could be told to submit it otherwise.
        assert "TF_CONFIG" not in found
        return
    assert {name: found.get(name) for name in environment.DISTRIBUTED} == {
        name: wanted.get(name) for name in environment.DISTRIBUTED
    }


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", "1e3", "'a b'"])
def test_a_script_s_master_port_that_is_none_is_left_alone_and_said(run: Ran, port: str) -> None:
    ran = run(prepared(f"export MASTER_PORT={port}"))
    found = variables(ran)
    assert found["MASTER_PORT"] == port.strip("'")
    assert "TF_CONFIG" not in found
    assert "leaves no port for each rank" in ran.stderr


@pytest.mark.parametrize("planned", [False, True])
def test_a_script_s_master_port_that_the_network_refuses_is_said(run: Ran, planned: bool) -> None:
    configuration = gang(2)
    script = "export MASTER_PORT=30000"
    ran = run(bootstrap.before(launch("none", configuration, DUMP, {}), configuration, {}, script, planned=planned))
    assert variables(ran)["MASTER_PORT"] == "30000"
    assert ("the bootstrap sets MASTER_PORT to 30000, and the network lets" in ran.stderr) is planned
