"""The commands of README.md, run as they stand there, one page from top to bottom."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    """Every command of the page, in order."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def person(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody who has just cloned the repository; whatever runs at the end is ended."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("QUORATE_", "XDG_"))}
    home = {name: str(tmp_path / name) for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")}
    environment = {**clean, **home, "QUORATE_TEST": str(tmp_path)}
    (tmp_path / "HOME").mkdir()
    yield environment
    for process in psutil.process_iter():
        try:
            if process.environ().get("QUORATE_TEST") == str(tmp_path):
                process.send_signal(signal.SIGKILL)
        except (psutil.Error, OSError):
            continue


def clone(folder: Path) -> Path:
    """The files of the repository as a clone would have them, with the environment that `make` has already made."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    return folder


def run(script: str, where: Path, environment: dict[str, str], within: float, *, apart: tuple[str, ...] = ()) -> str:
    ran = subprocess.run(
        [*apart, "bash", "-c", script], cwd=where, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=within,
    )  # fmt: skip
    assert ran.returncode == 0, f"{script}\n{ran.stdout}"
    return ran.stdout


@pytest.mark.torch
@pytest.mark.slow
def test_the_one_minute_and_your_own_training(person: dict[str, str], tmp_path: Path) -> None:
    page = commands()
    first = page.index("make demo")
    local = page[first + 1 : page.index("quorate down") + 1]
    where = clone(tmp_path / "quorate")
    if (Path(sys.prefix) / ".demo").exists():
        shown = run(page[first], where, person, 300)
    else:
        # A developer's environment that make has not made: nothing is to be installed into it by a test.
        shown = run("source .venv/bin/activate; quorate demo", where, person, 300)
    assert "are read right" in shown
    shown = run("set -e\n" + "\n".join(local), where, person, 600)
    assert shown.count("test accuracy 0.9") == 2
    assert "digits" in shown and "the local cluster is down" in shown


@pytest.mark.slow
def test_several_machines(person: dict[str, str], tmp_path: Path) -> None:
    """Both machines are this one; `master.example` is the only thing that is put in the place of what stands there."""
    page = commands()
    at = page.index("quorate master --listen 0.0.0.0 &")
    master, token, agent = (line.replace("master.example", "127.0.0.1") for line in page[at : at + 3])
    wait = "until quorate {} 2>/dev/null | grep -q {}; do :; done"
    root = os.geteuid() == 0
    script = [
        "source .venv/bin/activate",
        # Root's state lies below /var/lib, which is not a test's to write to: these see a disk of their own there.
        "mount -t tmpfs none /var/lib" if root else "",
        "export QUORATE_AGENT_MEMBERS_AS=self",
        master.replace("&", "2>master.log &"), wait.format("job list", "ID"),
        token, f"{agent} 2>agent.log &", wait.format("agent list", "ready"), "quorate run -- echo it runs",
        "kill %2; quorate master stop; wait",
    ]  # fmt: skip
    apart = ("unshare", "--mount") if root else ()
    assert "it runs\n" in run("\n".join(script), clone(tmp_path / "quorate"), person, 300, apart=apart)


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="private networks need an agent that is root")
def test_a_network_of_its_own(person: dict[str, str], tmp_path: Path) -> None:
    page = commands()
    at = page.index("quorate cluster start --nodes 3")
    start, enter, check = page[at : at + 3]
    folder = Path(tempfile.mkdtemp(prefix="quorate-page-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.chmod(0o755)  # members run as users of their own
    script = [
        "source .venv/bin/activate",
        f"export QUORATE_MASTER_STATE_DIR={folder}/m QUORATE_AGENT_STATE_DIR={folder}/a",
        f"quorate master --listen 127.0.0.1 --port {port} 2>master.log &",
        f"until [ -s {folder}/m/master.ready ]; do :; done",
        f"quorate login http://127.0.0.1:{port} --token @{folder}/m/admin.token",
        "quorate token create --pool default --ttl 1h > join.token",
        f"quorate agent --master http://127.0.0.1:{port} --token @join.token --slots 3 2>agent.log &",
        "until quorate agent list 2>/dev/null | grep -q ready; do :; done",
        start, f"echo 'getent hosts main1; ssh main1 hostname' | {enter}", check,
        "ID=$(quorate cluster list --json | python -c 'import json, sys; print(json.load(sys.stdin)[0][\"id\"])')",
        "quorate cluster stop $ID; quorate job wait $ID",
        "kill %2; quorate master stop; wait",
    ]  # fmt: skip
    try:
        shown = run("\n".join(script), clone(tmp_path / "quorate"), person, 300)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert re.search(r"^10\.\S+ +main1\nmain1$", shown, re.MULTILINE), shown


def test_every_command_of_the_page_is_tested() -> None:
    tested = {"make demo", "quorate up", "quorate down", "quorate job list", "quorate agent list", "quorate net check"}
    for line in commands():
        known = line in tested or line.startswith(
            ("source ", "quorate run ", "quorate master --listen", "quorate token", "quorate cluster ")
        )
        assert known or line.startswith("quorate agent --master"), line


def test_the_page_names_no_file_that_is_not_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / target).exists(), target


def test_the_job_file_of_the_page_is_a_job(tmp_path: Path) -> None:
    from quorate.cli.jobfile import load

    text = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "job.yaml").write_text(text)
    assert load(tmp_path / "job.yaml", {}).spec.resources.nodes == 2
