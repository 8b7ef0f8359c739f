"""Packs the folder that travels with a job: the same bytes for the same files, limits kept, .quorateignore obeyed."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from quorate.client.errors import ContextRefused
from quorate.model.contextlimits import MAX_BYTES, MAX_FILES, MAX_PACKED_BYTES

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".quorateignore"
#: Never useful to a job, often large: left out unless .quorateignore takes them in again with `!`.
ALWAYS_IGNORED = (".git/", "__pycache__/", ".venv/", "*.pyc", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/")


@dataclass(frozen=True)
class Entry:
    """One file, folder or link of a context; `name` is its path in it, with slashes."""

    name: str
    path: Path
    mode: int
    size: int
    link: str = ""


@dataclass(frozen=True)
class PackedContext:
    """A context ready to be sent: sha256 of the archive, its file, and how much is in it."""

    sha256: str
    file: Path
    packed_bytes: int
    files: int
    bytes: int


def list_context(folder: Path) -> list[Entry]:
    """The files that would be sent, in the order of the archive.

    Links are sent as links where they point inside the folder; one that points out of it is refused, since it would
    be broken or, worse, would name something else on the agent. Sockets, pipes and devices are refused.
    """
    if not folder.is_dir():
        raise ContextRefused(f"{folder} is no folder", "context: .")
    spec = _ignored(folder)
    entries: list[Entry] = []
    total = 0
    for entry in _walk(folder, folder, spec):
        entries.append(entry)
        total += entry.size
        if len(entries) > MAX_FILES:
            raise ContextRefused(
                f"{folder} has more than {MAX_FILES} files; the largest folders are {_largest(entries)}", _IGNORE_HINT
            )
        if total > MAX_BYTES:
            raise ContextRefused(
                f"{folder} holds more than {MAX_BYTES >> 20} MiB; the largest are {_largest(entries)}", _IGNORE_HINT
            )
    return entries


_IGNORE_HINT = f"name what the job does not need in {IGNORE_FILE}; large data belongs on shared storage"


@contextlib.contextmanager
def packed(folder: Path, told: Callable[[int, int], None] | None = None) -> Iterator[PackedContext]:
    """Packs `folder` into a temporary tar.gz that is gone when the block ends.

    `told` hears how many bytes are packed, and of how many.

    Times, owners and the gzip header are fixed, so the digest depends on names, contents, modes and links alone.
    """
    entries = list_context(folder)
    done, total = 0, sum(entry.size for entry in entries)
    with tempfile.NamedTemporaryFile(prefix="quorate-context-", suffix=".tar.gz") as file:
        try:
            # The fastest level that is worth it: source code packs well at once, and the rest does not pack at all.
            with (
                gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0) as stream,
                tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
            ):
                for entry in entries:
                    _add(archive, entry)
                    done += entry.size
                    if told:
                        told(done, total)
            file.flush()
        except OSError as error:
            # What is still to be written would fail once more when the block ends.
            with contextlib.suppress(OSError):
                file.close()
            place = Path(file.name).parent
            raise ContextRefused(
                f"{folder} cannot be packed in {place}: {error.strerror}", f"df -h {place}; TMPDIR names another folder"
            ) from None
        size = file.tell()
        if size > MAX_PACKED_BYTES:
            raise ContextRefused(
                f"{folder} packs to {size >> 20} MiB, and {MAX_PACKED_BYTES >> 20} MiB are allowed; the largest are "
                f"{_largest(entries)}",
                _IGNORE_HINT,
            )
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield PackedContext(digest, Path(file.name), size, len(entries), total)


def chunks(file: IO[bytes], told: Callable[[int], None] | None, size: int = 256 * 1024) -> Iterator[bytes]:
    """The file's bytes in pieces; `told` hears how many have been taken so far."""
    sent = 0
    while piece := file.read(size):
        yield piece
        sent += len(piece)
        if told:
            told(sent)


def _ignored(folder: Path) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    lines = list(ALWAYS_IGNORED)
    file = folder / IGNORE_FILE
    if file.is_file():
        lines += file.read_text(errors="surrogateescape").splitlines()
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise ContextRefused(f"{file}: {error}", "each line is a pattern as in .gitignore") from None


def _walk(root: Path, folder: Path, spec: GitIgnoreSpec) -> Iterator[Entry]:
    try:
        children = sorted(os.scandir(folder), key=lambda child: child.name)
    except OSError as error:
        raise ContextRefused(f"{folder}: {error.strerror}") from None
    for child in children:
        path = Path(child.path)
        name = path.relative_to(root).as_posix()
        is_folder = child.is_dir(follow_symlinks=False)
        # As in git: a folder that is left out is not looked into, so nothing below it can be taken in again.
        if spec.match_file(name + "/" if is_folder else name):
            continue
        try:
            about = child.stat(follow_symlinks=False)
        except OSError as error:
            raise ContextRefused(f"{path}: {error.strerror}") from None
        if is_folder:
            yield Entry(name, path, 0o755, 0)
            yield from _walk(root, path, spec)
        elif stat.S_ISLNK(about.st_mode):
            yield Entry(name, path, 0o777, 0, _inside(root, path))
        elif stat.S_ISREG(about.st_mode):
            yield Entry(name, path, 0o755 if about.st_mode & 0o111 else 0o644, about.st_size)
        else:
            raise ContextRefused(f"{path} is no file, folder or link", f"name it in {IGNORE_FILE}")


def _inside(root: Path, path: Path) -> str:
    target = str(path.readlink())
    base = os.path.normpath(root)
    # By its words alone, not by what lies there now: so it will be read on the agent.
    lands = os.path.normpath(path.parent / target)
    if target.startswith("/") or not (lands == base or lands.startswith(base + os.sep)):
        raise ContextRefused(
            f"{path} is a link to {target}, outside the context; it would not be there on the agent",
            f"copy what it points to, or name it in {IGNORE_FILE}",
        )
    return target


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.name)
    info.mode = entry.mode
    if entry.link:
        info.type, info.linkname = tarfile.SYMTYPE, entry.link
        archive.addfile(info)
    elif entry.path.is_dir():
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    else:
        try:
            with entry.path.open("rb") as file:
                # tarfile takes exactly so many bytes: a file that grows meanwhile cannot spoil the archive.
                info.size = os.fstat(file.fileno()).st_size
                archive.addfile(info, file)
        except OSError as error:
            why = error.strerror or "changed while it was read"
            raise ContextRefused(f"{entry.path}: {why}", f"name it in {IGNORE_FILE}") from None


def _largest(entries: list[Entry], count: int = 3) -> str:
    """The top-level names that weigh most, for people."""
    weights: dict[str, tuple[int, int]] = {}
    for entry in entries:
        top = entry.name.split("/", 1)[0]
        size, files = weights.get(top, (0, 0))
        weights[top] = (size + entry.size, files + 1)
    heaviest = sorted(weights.items(), key=lambda item: (-item[1][0], -item[1][1]))[:count]
    return ", ".join(f"{name} ({size / 2**20:.1f} MiB, {files} files)" for name, (size, files) in heaviest)
