"""What lies in the way of an allowed folder, and what is mounted beneath it; no engine is needed for either."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from quorate.agent.runtime import mounts
from quorate.agent.runtime.policy import Allow, AllowedMount, Policy, Unsafe
from quorate.model.messages import Mount

SOMEBODY = 1234

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give folders away and mount")


def allowing(path: Path, *, read_only: bool = True) -> Policy:
    return Policy(Allow(mounts=(AllowedMount(path=path, read_only=read_only),)), "agent.yaml")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[str]:
    """That of an agent with a state folder of this test's own."""
    folder = mounts.stage_of(str(tmp_path))
    yield folder
    with suppress(FileNotFoundError):
        Path(folder).rmdir()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    """The socket of something in our own mount namespace."""
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield str(path)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A shared mount, as all of a machine with systemd are, with another one beneath it."""
    folder = tmp_path / "data"
    folder.mkdir()
    mount("-t", "tmpfs", "data", str(folder))
    mount("--make-shared", str(folder))
    (folder / "deep").mkdir()
    mount("-t", "tmpfs", "deep", str(folder / "deep"))
    yield folder
    for path in (folder / "deep", folder):
        subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


def test_an_allowed_folder_with_an_ancestor_of_somebody_else_is_refused_by_name(tmp_path: Path) -> None:
    theirs = tmp_path / "alice"
    (theirs / "data").mkdir(parents=True)
    os.chown(theirs, SOMEBODY, SOMEBODY)
    with pytest.raises(Unsafe, match=rf"agent\.yaml, allow\.mounts\[0\]\.path: .*{theirs} .*belongs to UID {SOMEBODY}"):
        allowing(theirs / "data")
    # The folder itself may be anybody's: what is in it is what the operator gives.
    assert allowing(theirs).mounts([Mount(str(theirs / "data"), "/in", read_only=True)])


def test_an_allowed_folder_that_is_reached_by_somebody_elses_link_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "alice"
    theirs.mkdir()
    (theirs / "data").symlink_to("/etc")
    os.chown(theirs, SOMEBODY, SOMEBODY)
    (tmp_path / "ours").symlink_to(theirs / "data")
    for path in (theirs / "data", tmp_path / "ours"):
        with pytest.raises(Unsafe, match=f"{theirs} on its way"):
            allowing(path)


def test_in_a_sticky_folder_only_what_is_there_and_roots_can_be_allowed(tmp_path: Path) -> None:
    sticky = tmp_path / "scratch"
    sticky.mkdir()
    sticky.chmod(0o1777)
    (sticky / "ours").mkdir()
    (sticky / "theirs").mkdir()
    os.chown(sticky / "theirs", SOMEBODY, SOMEBODY)
    allowing(sticky / "ours")
    with pytest.raises(Unsafe, match=f"{sticky}/theirs belongs to UID {SOMEBODY}"):
        allowing(sticky / "theirs")
    with pytest.raises(Unsafe, match=f"{sticky}/later does not exist yet"):
        allowing(sticky / "later" / "data")
    sticky.chmod(0o777)
    with pytest.raises(Unsafe, match=f"others may write to {sticky}"):
        allowing(sticky / "ours")


def test_where_an_entry_leads_is_settled_when_the_agent_starts(tmp_path: Path, engine: str, stage: str) -> None:
    (tmp_path / "disk1").mkdir()
    (tmp_path / "data").symlink_to("disk1")
    policy = allowing(tmp_path / "data")
    judged = policy.mounts([Mount(str(tmp_path / "data"), "/in", read_only=True)])
    assert judged[0]["root"] == str(tmp_path / "disk1")
    (tmp_path / "disk1").rmdir()
    (tmp_path / "disk1").symlink_to("/etc")
    with (
        pytest.raises(mounts.MountError, match="a link has come into its way"),
        mounts.staged(judged, engine, stage, "quorate-test-link"),
    ):
        pass


def test_what_is_mounted_beneath_a_folder_for_reading_cannot_be_written_either(
    data: Path, engine: str, stage: str
) -> None:
    judged = allowing(data).mounts([Mount(str(data), "/in", read_only=True)])
    with mounts.staged(judged, engine, stage, "quorate-test-deep") as bound:
        for folder in ("", "deep"):
            with pytest.raises(OSError, match="Read-only file system"):
                Path(bound[0]["Source"], folder, "no").touch()
    (data / "deep" / "yes").touch()


def test_the_end_of_a_stage_ends_no_mount_of_the_machine(data: Path, engine: str, stage: str) -> None:
    judged = allowing(data, read_only=False).mounts([Mount(str(data), "/in")])
    with mounts.staged(judged, engine, stage, "quorate-test-shared") as bound:
        Path(bound[0]["Source"], "deep", "made").touch()
    assert (data / "deep").is_mount()
    assert (data / "deep" / "made").exists()


def test_agents_of_one_machine_have_stages_of_their_own_and_clear_up_no_other_ones(
    tmp_path: Path, engine: str, data: Path
) -> None:
    judged = allowing(data).mounts([Mount(str(data), "/in", read_only=True)])
    first, second = (mounts.stage_of(str(tmp_path / agent)) for agent in ("first", "second"))
    assert first != second and mounts.stage_of(str(tmp_path / "first")) == first
    # Both have a member of one name, as clusters that were made from one backup may.
    with mounts.staged(judged, engine, first, "quorate-test-same") as kept:
        torn = mounts.staged(judged, engine, second, "quorate-test-same")
        torn.__enter__()
        # The second agent starts, and wants nothing of what its last life has left.
        mounts.forget(engine, second, lambda _: False)
        assert not list(Path(second).iterdir())
        assert Path(kept[0]["Source"]).is_mount() and (Path(kept[0]["Source"]) / "deep").is_mount()
        assert kept[0]["Source"].startswith(f"{first}/")
    for gone in (first, second):
        mounts.remove(engine, gone)
        assert not Path(gone).exists()


def test_a_stage_that_others_can_look_into_is_not_used(data: Path, engine: str, stage: str) -> None:
    judged = allowing(data).mounts([Mount(str(data), "/in", read_only=True)])
    Path(stage).mkdir(parents=True, mode=0o755)
    Path(stage).chmod(0o755)
    with (
        pytest.raises(mounts.MountError, match=f"{stage} is open to others than root"),
        mounts.staged(judged, engine, stage, "quorate-test-open"),
    ):
        pass
