"""Unpacks the context of a job into a member's working folder, and nowhere else."""

import os
import shutil
import stat
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from quorate.agent.command import User
from quorate.model.contextlimits import MAX_BYTES, MAX_FILES, MAX_PATH


class ContextError(Exception):
    """The archive is damaged, too large, or wants to write outside its place; the text says which."""


def unpack(archive: Path, into: Path, user: User | None = None, wanted: Callable[[], bool] = lambda: True) -> None:
    """Extracts a tar.gz. Raises ContextError; what was extracted before stays, in a folder that is not used then.

    `wanted`: whether anybody still is; asked again and again. Without it nothing more is written.

    Files, folders and links that stay inside are all that a context may hold. No name is followed through a link, so
    nothing that was extracted before can lead what comes after it elsewhere. (tarfile's own `data` filter came with
    Python 3.11.4, which is later than what Debian 12 has.)
    """
    count = size = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for entry in tar:
                if not wanted():
                    raise ContextError("nobody wants the context any more")
                count, size = count + 1, size + entry.size
                if count > MAX_FILES:
                    raise ContextError(f"the context holds more than {MAX_FILES} files")
                if size > MAX_BYTES:
                    raise ContextError(f"the context is larger than {MAX_BYTES} bytes when it is unpacked")
                if entry.name.startswith("/"):
                    raise ContextError(f"the context holds an absolute path: {entry.name[:200]}")
                if len(entry.name) > MAX_PATH:
                    raise ContextError(f"the context holds a path of more than {MAX_PATH} characters")
                _extract(tar, entry, into)
                if user is not None:
                    _give(into, entry.name, user)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise ContextError(f"the context cannot be unpacked: {error}") from error


def _extract(tar: tarfile.TarFile, entry: tarfile.TarInfo, into: Path) -> None:
    parts = [part for part in entry.name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ContextError(f"the context holds a path that leads out of it: {entry.name[:200]}")
    if not parts:
        return
    folder = into
    for part in parts[:-1]:
        folder /= part
        _real_folder(folder, entry.name)
    path = folder / parts[-1]
    if entry.isdir():
        _real_folder(path, entry.name)
    elif entry.issym():
        lands = os.path.normpath("/".join((*parts[:-1], entry.linkname)))
        if entry.linkname.startswith("/") or lands == ".." or lands.startswith("../"):
            raise ContextError(f"the context holds a link that leads out of it: {entry.name[:200]}")
        path.symlink_to(entry.linkname)
    elif entry.isreg():
        content = tar.extractfile(entry)
        assert content is not None
        # Never an existing file, never through a link; and of the mode nothing but who may execute and read.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(content, file)
            os.fchmod(descriptor, entry.mode & 0o755 | 0o600)
    else:
        raise ContextError(f"the context holds something that is no file, folder or link: {entry.name[:200]}")


def _real_folder(path: Path, name: str) -> None:
    """Makes a folder, or takes the one that is there; a link to one is refused."""
    try:
        path.mkdir(0o755)
    except FileExistsError:
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise ContextError(f"the context holds a path through something that is no folder: {name[:200]}") from None


def _give(into: Path, name: str, user: User) -> None:
    """Hands what was just extracted, and the folders above it, to the member; never what a link leads to."""
    path = into / name.strip("/")
    while path != into:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
        path = path.parent
