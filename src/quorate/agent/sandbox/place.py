"""Where a machine's private networks are kept: their namespaces as files, and what is known of their rules."""

import fcntl
import ipaddress
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from quorate.agent.sandbox import names

#: Emptied when the machine starts, as namespaces are.
DEFAULT: Final = Path("/run/quorate/network")
#: Where the machine's helper listens; only root and the agent's user may connect.
SOCKET: Final = "/run/quorate/helper.sock"
#: A pair of addresses of it joins each hub to the host. RFC 2544 keeps the range for benchmarks, so nobody routes it.
UPLINKS: Final = ipaddress.IPv4Network("198.18.0.0/15")

#: What `nft.fingerprint` makes; before the host's, the digest of what was asked for.
_RECORD: Final = re.compile(r"([0-9a-f]{16} )?[0-9a-f]{32}")


@dataclass(frozen=True)
class Place:
    """The state folder, root's alone, and the range of uplinks' addresses."""

    folder: Path = DEFAULT
    uplinks: ipaddress.IPv4Network = field(default=UPLINKS)

    def prepare(self) -> None:
        """Makes the folders."""
        for folder in (self.folder, self.namespaces, self.records):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def namespaces(self) -> Path:
        """One file for each namespace."""
        return self.folder / "namespaces"

    @property
    def records(self) -> Path:
        """One file for each set of rules: the fingerprint that it had when it was loaded."""
        return self.folder / "rules"

    def hub(self, allocation: str) -> Path:
        """The hub's namespace."""
        return self.namespaces / f"{names.HUB}{allocation}"

    def sandbox(self, member: str) -> Path:
        """The sandbox's namespace."""
        return self.namespaces / f"{names.SANDBOX}{member}"

    def record(self, name: str, fingerprint: str) -> None:
        """Keeps the fingerprint of rules that have just been loaded."""
        # Not among the records, where a death before the renaming would leave it.
        fresh = self.folder / "record"
        fresh.write_text(fingerprint)
        fresh.rename(self.records / name)

    def recorded(self, name: str) -> str | None:
        """The fingerprint that the rules had; None where a death came between loading and recording, and where the
        machine's own death has left a record that is empty or cut short: it is not synced, for it outlives no boot."""
        try:
            text = (self.records / name).read_text(errors="replace")
        except FileNotFoundError:
            return None
        return text if _RECORD.fullmatch(text) else None

    def forget(self, name: str) -> None:
        """The rules are gone."""
        (self.records / name).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else works on this place meanwhile."""
        self.prepare()
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
