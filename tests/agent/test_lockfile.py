"""Lock files: one has it, who comes too late learns who, and nobody holds a file that is none any more."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from quorate.agent import lockfile
from quorate.agent.helper import process as helper
from quorate.agent.lockfile import Lock
from quorate.agent.processes import process

#: Takes the lock of its argument, says so, and waits.
_HOLDS = """
import sys
from pathlib import Path
from quorate.agent import lockfile
lock = lockfile.take(Path(sys.argv[1]))
print("has it", flush=True)
input()
"""


def took(path: Path) -> Lock:
    lock = lockfile.take(path)
    assert lock is not None
    return lock


def test_one_has_it_and_who_comes_too_late_learns_who(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = took(path)
    lock.sign()
    assert lockfile.take(path) is None
    assert lockfile.holder(path) == process(os.getpid())
    lock.close()
    took(path).remove()
    assert not path.exists()


def test_whoever_reads_it_while_it_is_signed_finds_somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    before = took(path)
    before.sign()
    before.close()
    seen = []

    def watched(call: Callable[..., object]) -> Callable[..., object]:
        def watch(*values: object) -> object:
            done = call(*values)
            seen.append(lockfile.holder(path))
            return done

        return watch

    for name in ("ftruncate", "pwrite", "write"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    after = took(path)
    after.sign()
    assert seen
    assert None not in seen


def test_signing_replaces_whatever_lay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"{" * 5000)
    took(path).sign()
    assert lockfile.holder(path) == process(os.getpid())


def test_a_file_that_its_holder_removes_while_another_waits_is_locked_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = tmp_path / "lock", fcntl.flock
    first = took(path)

    def slowly(fd: int, how: int) -> None:
        """Between opening the file and locking it."""
        monkeypatch.undo()
        first.remove()
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", slowly)
    second = took(path)
    assert path.exists()
    assert lockfile.take(path) is None, "two would have the lock"
    second.remove()
    assert not path.exists()


def test_who_removes_a_lock_leaves_another_one_of_its_name_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lost = took(path)
    path.unlink()
    other = took(path)
    lost.remove()
    assert lockfile.take(path) is None
    other.close()


def test_whoever_claims_a_network_removes_the_locks_of_the_dead_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "_LOCKS", tmp_path)
    killed, living, foreign = (tmp_path / name for name in ("network-1.lock", "network-2.lock", "helper.lock"))
    foreign.touch()
    command = [sys.executable, "-c", _HOLDS, str(killed)]
    dies = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with dies:
        assert dies.stdout is not None
        assert dies.stdout.readline()
        dies.send_signal(signal.SIGKILL)
    held = took(living)
    claimed = helper.claim()
    assert sorted(tmp_path.iterdir()) == sorted([claimed.path, living, foreign])
    claimed.remove()
    assert sorted(tmp_path.iterdir()) == sorted([living, foreign])
    held.close()
