"""Unpacks the context of a job into a member's working folder, and nowhere else."""

import os
import tarfile
from pathlib import Path

from quorate.agent.command import User
from quorate.model.contextlimits import MAX_BYTES, MAX_FILES, MAX_PATH


class ContextError(Exception):
    """The archive is damaged, too large, or wants to write outside its place; the text says which."""


def unpack(archive: Path, into: Path, user: User | None = None) -> None:
    """Extracts a tar.gz. Raises ContextError; what was extracted before stays, in a folder that is not used then.

    The `data` filter (PEP 706) refuses absolute names, `..`, links that lead out, devices and set-uid bits.
    """
    count = size = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for entry in tar:
                count, size = count + 1, size + entry.size
                if count > MAX_FILES:
                    raise ContextError(f"the context holds more than {MAX_FILES} files")
                if size > MAX_BYTES:
                    raise ContextError(f"the context is larger than {MAX_BYTES} bytes when it is unpacked")
                if entry.name.startswith("/"):
                    raise ContextError(f"the context holds an absolute path: {entry.name[:200]}")
                if len(entry.name) > MAX_PATH:
                    raise ContextError(f"the context holds a path of more than {MAX_PATH} characters")
                tar.extract(entry, into, filter="data")
                if user is not None:
                    _give(into, entry.name, user)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ContextError(f"the context cannot be unpacked: {error}") from error


def _give(into: Path, name: str, user: User) -> None:
    """Hands what was just extracted, and the folders above it, to the member; never what a link leads to."""
    path = into / name.strip("/")
    while path != into:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
        path = path.parent
