"""What one allocation leaves on a machine is out of the next one's reach, and nobody leads root astray meanwhile."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import NoReturn

import pytest
from tests.agent.conftest import eventually
from tests.agent.peer import JOB, spec

from quorate.agent import leftovers, secretsfolder, temporary
from quorate.agent.command import User
from quorate.agent.events import Event
from quorate.agent.members import Members
from quorate.agent.orders import Machine
from quorate.agent.users import UserPool

pytestmark = pytest.mark.anyio

M = f"{JOB}-1.0.1"
#: Of no other agent on this machine.
FIRST, LAST = 1_899_990_000, 1_899_990_003
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has members with users of their own")


class Watched:
    """Supplies that note how the working folder stood while it was filled."""

    def __init__(self) -> None:
        self.found: os.stat_result | None = None

    async def context(self, sha256: str, into: Path, user: User | None) -> None:
        self.found = into.stat()  # noqa: ASYNC240 (a folder that was just made)

    async def secrets(self, allocation: str) -> dict[str, str]:
        return {"token": "s"}


def no_zygote() -> NoReturn:
    raise OSError("nothing is started here")


class Machines:
    """Members of an agent that starts none, on this machine."""

    def __init__(self, folder: Path) -> None:
        self.supplies = Watched()
        self.users = UserPool(FIRST, LAST, {})
        self.heard: list[Event] = []
        self.members = Members(
            folder, no_zygote, Machine(), self.users, self.supplies, self.heard.append, lambda _, size: size,
            lambda _: None,
        )  # fmt: skip

    async def prepare(self, member: str, context: str = "") -> None:
        """To where it would be started."""
        said = len(self.heard)
        self.members.start(member, spec(("true",), member.split(".")[0], context=context))
        await eventually(lambda: len(self.heard) > said)


@pytest.fixture
def machine(tmp_path: Path) -> Machines:
    return Machines(tmp_path / "members")


@needs_root
async def test_nobody_else_gets_into_a_working_folder_before_its_context_is_complete(machine: Machines) -> None:
    await machine.prepare(M, context="ab" * 32)
    found = machine.supplies.found
    assert found is not None
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o700)
    assert (machine.members.folder(M) / "work").stat().st_uid == FIRST


@needs_root
async def test_a_user_is_given_to_nobody_while_anything_of_it_is_on_the_disk(
    machine: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = threading.Event()

    def slow(folder: Path) -> None:
        assert allowed.wait(20)
        remove(folder)

    remove = leftovers.remove_tree
    monkeypatch.setattr(leftovers, "remove_tree", slow)
    await machine.prepare(M)
    left = Path("/dev/shm") / f"quorate-test-{os.getpid()}"
    left.touch(mode=0o600)
    os.chown(left, FIRST, FIRST)
    machine.members.forget(M)
    others = [machine.users.user(f"other{number}-1", "bob").uid for number in range(LAST - FIRST)]
    assert FIRST not in others
    allowed.set()
    await machine.members.settle()
    assert not machine.members.folder(M).exists()
    assert not left.exists()
    assert machine.users.user("last-1", "bob").uid == FIRST


@needs_root
def test_a_process_that_nobody_may_look_into_is_seen_before_its_user_is_given_to_others() -> None:
    """As a companion, which has changed its user: /proc says that it is root's (proc(5)), as most kernels do."""
    program = f"import os, sys; os.setresuid(*[{LAST}] * 3); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        assert leftovers.has_processes(LAST)
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # What is left of it until somebody has asked how it ended does nothing more.
        assert not leftovers.has_processes(LAST)


@needs_root
async def test_an_allocation_keeps_its_user_until_its_last_member_has_gone(machine: Machines) -> None:
    second = f"{JOB}-1.0.2"
    await machine.prepare(M)
    await machine.prepare(second)
    machine.members.forget(M)
    await machine.members.settle()
    assert machine.users.user(f"{JOB}-1", "ann").uid == FIRST
    machine.members.forget(second)
    await machine.members.settle()
    assert machine.users.user(f"{JOB}-1", "ann").uid == FIRST + 1


@needs_root
def test_what_a_user_left_where_all_may_write_goes_and_nothing_else(tmp_path: Path) -> None:
    shared, private = tmp_path / "shared", tmp_path / "private"
    for folder, mode in ((shared, 0o777), (private, 0o755)):
        folder.mkdir()
        folder.chmod(mode)
        for name in ("theirs", "mine"):
            (folder / name).touch()
        os.chown(folder / "theirs", FIRST, FIRST)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "inner").touch()
    os.chown(tmp_path / "theirs", FIRST, FIRST)
    (tmp_path / "link").symlink_to(private)
    os.chown(tmp_path / "link", FIRST, FIRST, follow_symlinks=False)
    leftovers.remove_files(FIRST, (str(tmp_path),))
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"shared", "shared/mine", "private", "private/mine", "private/theirs"}


@needs_root
def test_root_changes_no_modes_in_a_tree_that_somebody_may_still_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be removed stands for one in which somebody makes new things all the time."""
    inner = tmp_path / "member" / "inner"
    inner.mkdir(parents=True)
    inner.chmod(0o755)
    monkeypatch.setattr(leftovers.shutil, "rmtree", lambda *_, **__: None)
    leftovers.remove_tree(tmp_path / "member")
    assert stat.S_IMODE(inner.stat().st_mode) == 0o755


@needs_root
def test_an_agent_that_is_not_root_removes_folders_that_their_owner_has_closed(tmp_path: Path) -> None:
    (tmp_path / "member" / "closed" / "inner").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "member", tmp_path / "member" / "closed", tmp_path / "member/closed/inner"):
        os.chown(folder, FIRST, FIRST)
    (tmp_path / "member" / "closed").chmod(0)
    pid = os.fork()
    if pid == 0:
        # pytest's folders above this one let nobody else through.
        os.chdir(tmp_path)
        os.setresgid(FIRST, FIRST, FIRST)
        os.setresuid(FIRST, FIRST, FIRST)
        leftovers.remove_tree(Path("member"))
        os._exit(0)
    os.waitpid(pid, 0)
    assert not (tmp_path / "member").exists()


def test_the_folder_for_secrets_is_there_before_anybody_can_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "secrets"
    monkeypatch.setattr(secretsfolder, "_place", lambda: place)
    Machines(tmp_path / "members")
    assert place.is_dir()


@needs_root
def test_who_holds_the_place_of_secrets_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "secrets"
    place.mkdir()
    os.chown(place, 4242, 4242)
    monkeypatch.setattr(secretsfolder, "_place", lambda: place)
    with pytest.raises(secretsfolder.NoSecrets, match=f"user 4242 has put something at {place}"):
        secretsfolder.SecretsFolder().make()


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for the machine's /tmp, below which tests themselves lie."""
    monkeypatch.setattr(temporary, "_SEEN", {"tmp": str(tmp_path / "seen")})
    return tmp_path / "seen"


def test_a_members_temporary_folder_is_everybodys_and_reached_by_nobody_else(tmp_path: Path, seen: Path) -> None:
    ((own, over),) = temporary.make(tmp_path, ("python", "train.py", str(seen))).items()
    assert over == str(seen)
    assert stat.S_IMODE(Path(own).stat().st_mode) == 0o1777
    assert stat.S_IMODE(Path(own).parent.stat().st_mode) == 0o700


def test_a_member_whose_command_names_a_file_in_a_temporary_folder_sees_the_machines(
    tmp_path: Path, seen: Path
) -> None:
    assert temporary.make(tmp_path, ("python", f"{seen}/train.py")) == {}


def test_a_member_whose_own_folder_lies_in_a_temporary_folder_sees_the_machines(seen: Path) -> None:
    member = seen / "member"
    member.mkdir(parents=True)
    assert temporary.make(member, ("python", "train.py")) == {}
