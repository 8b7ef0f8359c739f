"""Python stacks of members: read with the rights of the process that is looked at, and with little room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from quorate.agent import asuser, stacks

#: The machine's own: others may execute it, too.
PYTHON = shutil.which("python3", path=os.defpath)
UID, GID = 1_234_567, 1_234_568
WAITS = "def deep():\n    print('there', flush=True)\n    input()\ndef outer():\n    deep()\nouter()"


@pytest.fixture(autouse=True)
def root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may start the process of another user")
    if PYTHON is None:
        pytest.skip("the machine itself has no Python")


@contextmanager
def process(*before: str, user: int | None = None, group: int | None = None) -> Iterator[int]:
    """A Python process that waits in a function of its own."""
    with subprocess.Popen(
        [*before, str(PYTHON), "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=user, group=group,
        extra_groups=[] if user else None,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stdout.readline() == b"there\n"
        yield running.pid
        running.communicate(b"\n")


def program(folder: Path, *lines: str) -> str:
    """Something else in py-spy's place, in a folder of root's alone."""
    folder.chmod(0o700)
    path = folder / "spy"
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return str(path)


def frames(found: stacks.Stack) -> Sequence[str]:
    return [frame.partition(" ")[0] for frame in found.frames]


def test_the_stack_of_a_process_of_another_user_is_read() -> None:
    py_spy = stacks.find()
    assert py_spy is not None
    with process(user=UID, group=GID) as pid:
        found = stacks.of_process(py_spy, pid)
    assert found.why == ""
    assert frames(found)[:3] == ["deep", "outer", "<module>"]


def test_whoever_reads_a_process_has_its_user_and_no_right_besides(tmp_path: Path) -> None:
    look = "echo $(id -u) $(id -g) $(id -G) $(grep -E '^(CapPrm|CapEff|NoNewPrivs)' /proc/self/status) >&2; exit 1"
    with process(user=UID, group=GID) as pid:
        why = stacks.of_process(program(tmp_path, look), pid).why
    nothing = "0" * 16
    assert why.endswith(f": {UID} {GID} {GID} CapPrm: {nothing} CapEff: {nothing} NoNewPrivs: 1")


#: What the one right that a reader may keep is good for, each with what comes of it.
ATTEMPTS = """#!/usr/bin/python3
import ctypes, os, socket, sys
libc, pid = ctypes.CDLL(None, use_errno=True), int(sys.argv[-2])
def tried(name, attempt):
    try:
        done = attempt()
        error = ctypes.get_errno() if isinstance(done, int) and done < 0 else 0
    except OSError as failure:
        error = failure.errno
    print(name, os.strerror(error) if error else "done", file=sys.stderr, end="; ")
tried("read", lambda: open(f"/proc/{pid}/maps").read() and 0)
tried("write", lambda: open(f"/proc/{pid}/mem", "r+b"))
tried("attach", lambda: libc.ptrace(16, pid, 0, 0))
tried("write by vm", lambda: libc.process_vm_writev(pid, 0, 0, 0, 0, 0))
tried("take a file", lambda: libc.syscall(438, os.pidfd_open(pid), 0, 0))
tried("connect", lambda: socket.socket())
sys.exit(1)
"""


@pytest.fixture
def strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine as Ubuntu sets it up, as far as the agent can tell."""
    (tmp_path / "ptrace_scope").write_text("1\n")
    monkeypatch.setattr(stacks, "_YAMA", tmp_path / "ptrace_scope")


@pytest.mark.usefixtures("strict")
def test_where_users_may_not_read_each_other_the_stack_is_read_all_the_same() -> None:
    py_spy = stacks.find()
    assert py_spy is not None
    with process(user=UID, group=GID) as pid:
        found = stacks.of_process(py_spy, pid)
    assert found.why == ""
    assert frames(found)[:3] == ["deep", "outer", "<module>"]


@pytest.mark.usefixtures("strict")
def test_there_the_reader_can_read_and_do_nothing_else_to_a_process(tmp_path: Path) -> None:
    spy = program(tmp_path)
    Path(spy).write_text(ATTEMPTS)
    # Of another user, so that nothing but the right counts.
    with process(user=UID, group=GID) as pid:
        said = {
            looks: subprocess.run(
                [sys.executable, "-I", "-S", asuser.__file__, str(UID + 1), str(GID), looks, spy, str(pid), ""],
                capture_output=True, text=True, check=False,
            ).stderr
            for looks in ("looks", "")
        }  # fmt: skip
    no = "Operation not permitted"
    assert said["looks"] == (f"read done; write {no}; attach {no}; write by vm {no}; take a file {no}; connect {no}; ")
    assert said[""].startswith("read Permission denied; ")


def test_a_reader_that_prints_without_end_takes_no_memory_of_the_agents(tmp_path: Path) -> None:
    with process(user=UID, group=GID) as pid:
        found = stacks.of_process(program(tmp_path, "exec yes"), pid)
    assert "could not read" in found.why


def test_what_is_printed_is_not_believed(tmp_path: Path) -> None:
    for number, printed in enumerate(('[{"frames": [7]}]', "[" * 100_000, "{}", '[{"frames": [{"name": null}]}]')):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "printed").write_text(printed)
        (folder / "printed").chmod(0o644)
        with process() as pid:
            found = stacks.of_process(program(folder, f"cat {folder}/printed"), pid)
        assert found.why.endswith("is not understood")


def test_a_process_that_is_root_in_a_container_is_not_read_by_the_machines_root(tmp_path: Path) -> None:
    with process("setpriv", "--bounding-set=-all", "--inh-caps=-all") as pid:
        found = stacks.of_process(program(tmp_path, "echo []"), pid)
    assert "is root in a container" in found.why
