"""Where members' secrets lie: in memory, in a folder that nobody else can have made."""

import logging
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)


class NoSecrets(Exception):
    """This machine has no place for secrets, or somebody else has it; the text says who and what to do."""


class SecretsFolder:
    """Of all agents of one user on this machine; each member has folders of its own in it."""

    def __init__(self) -> None:
        self._folder = _place()
        # At once: whoever comes later finds the name taken, and cannot keep secrets from members.
        try:
            self.make()
        except (NoSecrets, OSError) as error:
            log.error("members can have no secrets: %s", error)

    def of(self, member: str) -> Path:
        """For the job's secrets."""
        return self._folder / member

    def ssh_of(self, member: str) -> Path:
        """For the keys and files of the member's SSH client."""
        return self._folder / f"{member}.ssh"

    def make(self) -> None:
        """Makes it, where it is not there. Raises NoSecrets or OSError."""
        if not self._folder.parent.is_dir():
            raise NoSecrets("there is no /dev/shm, and secrets are not put on a disk")
        with suppress(FileExistsError):
            self._folder.mkdir(mode=0o711)
        found = self._folder.lstat()
        if found.st_uid != os.geteuid():
            raise NoSecrets(
                f"user {found.st_uid} has put something at {self._folder}, where this agent keeps secrets: "
                f"see what it is, then rm -r {self._folder}"
            )
        if not stat.S_ISDIR(found.st_mode):
            raise NoSecrets(f"{self._folder} is no folder: rm {self._folder}")

    def remove(self, member: str) -> None:
        """Removes what of a member is in it."""
        for folder in (self.of(member), self.ssh_of(member)):
            shutil.rmtree(folder, ignore_errors=True)


def _place() -> Path:
    return Path("/dev/shm") / f"quorate-{os.geteuid()}"
