"""Which files travel with a job, and that the same files are always the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from quorate.client import context as contexts
from quorate.client.context import list_context, packed
from quorate.client.errors import ContextRefused


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(folder: Path) -> list[str]:
    return [entry.name for entry in list_context(folder)]


def digest(folder: Path) -> str:
    with packed(folder) as context:
        return context.sha256


def test_the_same_files_have_the_same_digest_whenever_and_wherever_they_were_written(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"train.py": "print()", "lib/a.py": ""})
    other = write(tmp_path / "other", {"lib/a.py": "", "train.py": "print()"})
    os.utime(other / "train.py", (1, 1))
    (other / "train.py").chmod(0o600)
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "train.py").write_text("other"),
        lambda folder: (folder / "train.py").rename(folder / "main.py"),
        lambda folder: (folder / "train.py").chmod(0o755),
        lambda folder: (folder / "empty").mkdir(),
        lambda folder: (folder / "link").symlink_to("train.py"),
    ],
)
def test_whatever_a_job_could_notice_changes_the_digest(tmp_path: Path, change: object) -> None:
    folder = write(tmp_path / "job", {"train.py": "print()"})
    before = digest(folder)
    change(folder)  # type: ignore[operator]
    assert digest(folder) != before


def test_the_archive_is_what_the_folder_was(tmp_path: Path) -> None:
    folder = write(tmp_path / "job", {"train.py": "print()", "lib/data.txt": "é"})
    (folder / "run.sh").write_text("#!/bin/sh")
    (folder / "run.sh").chmod(0o700)
    (folder / "latest").symlink_to("lib/data.txt")
    with packed(folder) as context:
        with tarfile.open(context.file) as archive:
            archive.extractall(tmp_path / "out")
        assert (context.files, context.bytes) == (5, len("print()") + len("é".encode()) + len("#!/bin/sh"))
    out = tmp_path / "out"
    assert (out / "lib/data.txt").read_text() == "é"
    assert (out / "latest").readlink() == Path("lib/data.txt")
    assert os.access(out / "run.sh", os.X_OK)
    assert not os.access(out / "train.py", os.X_OK)


def test_the_temporary_archive_is_gone_afterwards(tmp_path: Path) -> None:
    with packed(write(tmp_path / "job", {"a": ""})) as context:
        assert context.file.exists()
    assert not context.file.exists()


def test_quorateignore_is_read_as_git_reads_its_own(tmp_path: Path) -> None:
    ignore = "# comment\n*.ckpt\n!keep.ckpt\n/data/\nlogs/\n**/tmp\n"
    files = {
        ".quorateignore": ignore, "train.py": "", "a.ckpt": "", "keep.ckpt": "", "data/big": "", "lib/data/small": "",
        "lib/logs/x": "", "lib/tmp": "", "lib/code.py": "",
    }  # fmt: skip
    assert names(write(tmp_path / "job", files)) == [
        ".quorateignore", "keep.ckpt", "lib", "lib/code.py", "lib/data", "lib/data/small", "train.py",
    ]  # fmt: skip


def test_what_no_job_needs_stays_behind_unless_it_is_asked_for(tmp_path: Path) -> None:
    folder = write(tmp_path / "job", {".git/config": "", "__pycache__/a.pyc": "", ".venv/x": "", "train.py": ""})
    assert names(folder) == ["train.py"]
    (folder / ".quorateignore").write_text("!.venv/\n")
    assert names(folder) == [".quorateignore", ".venv", ".venv/x", "train.py"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "lib/../../secret", "lib/../.."])
def test_a_link_out_of_the_folder_is_refused_with_its_name(tmp_path: Path, target: str) -> None:
    folder = write(tmp_path / "job", {"lib/a": ""})
    (folder / "link").symlink_to(target)
    with pytest.raises(ContextRefused, match=r"link is a link to .*outside"):
        names(folder)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "job", {"a": ""})
    os.mkfifo(folder / "pipe")
    with pytest.raises(ContextRefused, match="pipe is no file"):
        names(folder)


def test_a_folder_beyond_the_limits_is_refused_and_the_heaviest_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "job", {"small": "x", "data/one": "y" * 3000, "data/two": "z" * 3000})
    monkeypatch.setattr(contexts, "MAX_BYTES", 5000)
    with pytest.raises(ContextRefused, match=r"data \(0\.0 MiB, 3 files\)") as caught:
        names(folder)
    assert ".quorateignore" in caught.value.problem.hint
    monkeypatch.setattr(contexts, "MAX_BYTES", 50_000)
    monkeypatch.setattr(contexts, "MAX_FILES", 2)
    with pytest.raises(ContextRefused, match="more than 2 files"):
        names(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContextRefused, match="no folder"):
        names(tmp_path / "nowhere")


def test_a_disk_that_is_full_while_packing_is_told_with_its_place(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: both fail a write in the middle."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "weights").write_bytes(os.urandom(500_000))
    script = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from quorate.client.context import packed\nfrom quorate.client.errors import ContextRefused\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "try:\n    with packed(Path(sys.argv[1])): pass\n"
        "except ContextRefused as error: print(error.problem.detail, error.problem.hint)"
    )
    place = tmp_path / "temporary"
    place.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "folder"], env={**os.environ, "TMPDIR": str(place)}, text=True,
        capture_output=True,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"cannot be packed in {place}: File too large" in ran.stdout and f"df -h {place}" in ran.stdout
    assert list(place.iterdir()) == []
