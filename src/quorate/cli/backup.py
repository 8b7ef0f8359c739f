"""Taking a backup from a running master into a file, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from quorate.cli.errors import CommandError, usage
from quorate.cli.output import note, size

if TYPE_CHECKING:
    from quorate.client.api import Client


def download(client: Client, file: Path) -> None:
    """Writes the backup to `file`, which must not exist; nothing is left of one that broke off."""
    if file.exists():
        usage(f"{file} exists; a backup replaces nothing")
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        # Others on this machine must not read it: it holds hashes of tokens and everybody's jobs.
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            for piece in client.backup():
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        draft.rename(file)
    except OSError as error:
        raise CommandError(
            f"{file} cannot be written: {error.strerror}", hint=f"df -h {file.parent}, or name another file"
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    print(f"{file}: {size(file.stat().st_size)}")
    note("keys are not in it: keep a copy of secrets.key and tls/ of the master's state folder elsewhere")
