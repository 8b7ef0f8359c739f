"""`quorate up`, `quorate down`, `quorate demo`: what they start, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.cli.conftest import Quorate, free_port, processes_with


@pytest.fixture
def folder(quorate: Quorate) -> Iterator[Path]:
    """Where the cluster's state lies; whatever a test leaves running is ended."""
    yield quorate.home / "local"
    for known in quorate.home.glob("*/cluster.json"):
        quorate("down", "--purge", "--dir", known.parent)


def up(quorate: Quorate, folder: Path, *options: str) -> str:
    """Starts a cluster; returns the mark that all its processes carry."""
    quorate("up", "--port", str(free_port()), "--dir", folder, *options)
    return str(json.loads((folder / "cluster.json").read_text())["mark"])


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"{pid} still runs"
        time.sleep(0.02)


def test_down_leaves_no_process_not_even_of_a_job_that_runs(quorate: Quorate, folder: Path) -> None:
    mark = up(quorate, folder)
    script = "(setsid sleep 300 &) ; echo ready; trap '' TERM; sleep 300"
    following = quorate.start("run", "--grace", "500ms", "--", "sh", "-c", script)
    assert following.stdout is not None
    assert following.stdout.readline() == b"ready\n"
    members = {job["id"] for job in quorate("job", "list", "--json").json}
    quorate("down", "--dir", folder)
    assert following.wait(30) == 130
    assert processes_with("QUORATE_LOCAL", mark) == []
    assert not [p for job in members for p in processes_with("QUORATE_MEMBER", f"{job}-1.0.1")]


def test_jobs_and_logs_are_still_there_after_down_and_up(quorate: Quorate, folder: Path) -> None:
    up(quorate, folder)
    job = quorate("run", "--detach", "--", "echo", "kept").out.strip()
    quorate("job", "wait", job)
    quorate("down", "--dir", folder)
    up(quorate, folder)
    assert quorate("job", "logs", job).out == "kept\n"
    assert quorate("run", "--", "echo", "new").out == "new\n"
    quorate("down", "--purge", "--dir", folder)
    assert not folder.exists()


def test_a_second_up_is_refused_and_harms_nothing(quorate: Quorate, folder: Path) -> None:
    up(quorate, folder, "--agents", "1")
    done = quorate("up", "--dir", folder, code=1)
    assert "up already" in done.err and "quorate down" in done.err
    assert [agent["state"] for agent in quorate("agent", "list", "--json").json] == ["ready"]
    quorate("down", "--purge", "--dir", folder)


@pytest.mark.parametrize("way", ["stopped for a while", "killed"])
def test_up_brings_back_what_is_away_and_jobs_run_on(quorate: Quorate, folder: Path, way: str) -> None:
    up(quorate, folder, "--agents", "1")
    following = quorate.start("run", "--", "sh", "-c", "echo before; sleep 4; echo after")
    assert following.stdout is not None
    assert following.stdout.readline() == b"before\n"
    daemons = json.loads((folder / "cluster.json").read_text())["daemons"]
    gone = {daemon["name"]: daemon["pid"] for daemon in daemons}
    if way == "killed":
        for pid in gone.values():
            os.kill(pid, signal.SIGKILL)
    else:
        quorate("master", "stop", "--for", "1h")
    wait_until_gone(gone["the master"])
    done = quorate("up", "--dir", folder)
    assert "the master" in done.out and "again" in done.out
    out, _ = following.communicate(timeout=60)
    assert (out, following.returncode) == (b"after\n", 0)
    quorate("down", "--purge", "--dir", folder)


def test_a_folder_that_cannot_be_made_is_told(quorate: Quorate) -> None:
    done = quorate("up", "--dir", "/proc/none/here", code=1)
    assert "/proc/none/here cannot be made" in done.err and "mistake in Quorate" not in done.err


def test_a_master_that_cannot_start_is_told_with_its_own_words_and_nothing_is_left(
    quorate: Quorate, folder: Path
) -> None:
    (folder / "master").mkdir(parents=True)
    (folder / "master" / "master.db").write_text("this is no database, whatever its name says" * 100)
    done = quorate("up", "--dir", folder, code=1)
    assert "the master ended while it started" in done.err and "Traceback" not in done.err
    assert processes_with("QUORATE_LOCAL", json.loads((folder / "cluster.json").read_text())["mark"]) == []


def test_two_local_clusters_do_not_share_addresses(quorate: Quorate, folder: Path) -> None:
    other = Quorate(quorate.home, {"XDG_CONFIG_HOME": str(quorate.home / "other")})
    up(quorate, folder)
    up(other, folder.with_name("other-local"))
    addresses = [{agent["address"] for agent in cli("agent", "list", "--json").json} for cli in (quorate, other)]
    assert not addresses[0] & addresses[1]
    assert sorted(quorate("run", "--nodes", "2", "--", "echo", "one").out.split()) == sorted(
        ["main1", "|", "one", "sub1", "|", "one"]
    )
    assert other("run", "--nodes", "2", "--", "echo", "two").out.count("two") == 2


def test_down_without_a_cluster_is_no_error(quorate: Quorate, folder: Path) -> None:
    assert "no local cluster" in quorate("down", "--dir", folder).err


def test_up_does_not_take_a_users_login_away(quorate: Quorate, folder: Path) -> None:
    settings = Path(quorate.environment["XDG_CONFIG_HOME"]) / "quorate" / "client.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text("master: https://master.example:8443\ntoken: mine\n")
    quorate("up", "--agents", "1", "--port", str(free_port()), "--dir", folder)
    assert "master.example" in settings.read_text()
    quorate("down", "--purge", "--dir", folder)
    assert "master.example" in settings.read_text()


# --- the demo ----------------------------------------------------------------------------------------------------


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.torch
@pytest.mark.slow
def test_the_demo_trains_a_model_and_leaves_nothing_behind(quorate: Quorate, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = quorate("demo", TMPDIR=str(scratch), QUORATE_TEST=str(tmp_path))
    assert "of the digits that the model had never seen are read right" in done.out
    # 127.0.0.11 and .12, but where another local cluster has those.
    assert re.search(r"main1 on agent a \(127\.0\.\d+\.11\), sub1 on agent b \(127\.0\.\d+\.12\)", done.out)
    for word in ("waited", "started", "ran", "Try next"):
        assert word in done.out
    assert left_behind(scratch) == []
    assert processes_with("QUORATE_TEST", str(tmp_path)) == []
    assert not Path(quorate.environment["XDG_CONFIG_HOME"]).exists(), "the user's settings are left alone"


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [b"starting the master", b"runs on"])
def test_an_interrupted_demo_leaves_nothing_behind(
    quorate: Quorate, tmp_path: Path, number: signal.Signals, moment: bytes
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**quorate.environment, "TMPDIR": str(scratch), "QUORATE_TEST": str(tmp_path)}
    demo = quorate.start("demo", env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert demo.stderr is not None
    for line in demo.stderr:
        if moment in line:
            break
    demo.send_signal(number)
    told = demo.stderr.read().decode()
    assert demo.wait(60) == 130, told
    assert left_behind(scratch) == []
    assert processes_with("QUORATE_TEST", str(tmp_path)) == []


@pytest.mark.torch
@pytest.mark.slow
def test_a_kept_demo_stays_until_down(quorate: Quorate) -> None:
    done = quorate("demo", "--keep", "--epochs", "8")
    assert "quorate down" in done.out
    jobs = quorate("job", "list", "--json").json
    assert [(job["spec"]["name"], job["state"]) for job in jobs] == [("digits", "completed")]
    quorate("down", "--purge")


def test_a_demo_without_torch_says_what_to_install(quorate: Quorate) -> None:
    hidden = quorate.home / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'torch' else find(name, package)\n"
    )
    done = quorate("demo", code=1, PYTHONPATH=f"{hidden}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert "torch" in done.err and "make demo" in done.err
