"""Which images of a machine came with a job's own secret: for every other job the registry is asked before they run.

Without this, whoever guesses the name of an image would have it as soon as somebody with the right to it has run here.
Blocks; may be used from several threads.
"""

import hashlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from quorate.agent.damaged import kept_aside
from quorate.agent.runtime.engine import Json
from quorate.agent.runtime.references import Reference
from quorate.model.messages import Finding

log = logging.getLogger(__name__)


class _Kept(msgspec.Struct, frozen=True):
    """What the file holds, where it is more than a list of the closed."""

    closed: set[str]
    #: Since a file that was damaged: the images that registries have given to anybody. All others are closed.
    given: set[str] | None = None


def names(found: Json) -> set[str]:
    """The whole names, with tags and with digests, under which an engine has an image."""
    said = (*(found.get("RepoTags") or ()), *(found.get("RepoDigests") or ()))
    # An image without a name has `<none>` in its place.
    return {str(Reference.parse(text)) for text in said if "<" not in text}


class SecretImages:
    """Kept in a file, as the images outlive the agent. What it holds are ids of images, and names while they come."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        #: What is wrong with the file; empty where nothing is.
        self.findings: tuple[Finding, ...] = ()
        try:
            kept = _read(file)
        except FileNotFoundError:
            kept = _Kept(set())
        except (OSError, ValueError) as error:
            # To go on with an empty list would open every image of somebody's to everybody. So all are closed instead:
            # whoever may have one by its registry gets it, for one question more.
            kept = _Kept(set(), set())
            self.findings = (_damaged(file, kept_aside(file), error),)
            self._write(kept)
        self._closed, self._given = kept.closed, kept.given
        #: Names of pulls that an earlier life of the agent did not see the end of: nobody knows what they brought.
        self._left = frozenset(self._closed)
        self._under_way: Counter[str] = Counter()
        #: Ids with fingerprints of the secrets that have opened them since the agent started.
        self._opened: set[tuple[str, str]] = set()

    def closed(self, found: Json, secret: str) -> bool:
        """Whether the registry has to be asked before a job with this secret may have the image."""
        with self._lock:
            known = self._given is None or found["Id"] in self._given
            if known and not self._closed & {found["Id"], *names(found)}:
                return False
            return (found["Id"], _fingerprint(secret)) not in self._opened

    def coming(self, reference: Reference) -> None:
        """Before a pull with a job's secret: whatever interrupts it, the image is not anybody's."""
        with self._lock:
            self._under_way[str(reference)] += 1
        self._change(add=(str(reference),))

    def failed(self, reference: Reference) -> None:
        """After such a pull that brought nothing new."""
        self._change(remove=self._ended(reference))

    def came(self, reference: Reference, identity: str, secret: str) -> None:
        """After such a pull."""
        with self._lock:
            self._opened.add((identity, _fingerprint(secret)))
        self._change(add=(identity,), remove=self._ended(reference))

    def _ended(self, reference: Reference) -> tuple[str, ...]:
        """The name, where no other pull with a secret needs it."""
        name = str(reference)
        with self._lock:
            self._under_way[name] -= 1
            return () if self._under_way[name] > 0 or name in self._left else (name,)

    def public(self, reference: Reference, identity: str) -> None:
        """The registry gives it to this agent, so any job may have it."""
        self._change(remove=(identity, str(reference)), given=(identity,))

    def _change(self, *, add: Iterable[str] = (), remove: Iterable[str] = (), given: Iterable[str] = ()) -> None:
        with self._lock:
            closed = (self._closed - set(remove)) | set(add)
            kept = _Kept(closed, None if self._given is None else self._given | set(given))
            if kept == _Kept(self._closed, self._given):
                return
            self._write(kept)
            self._closed, self._given = kept.closed, kept.given

    def _write(self, kept: _Kept) -> None:
        new = self._file.with_suffix(".new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(kept.closed if kept.given is None else kept, order="sorted"))
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._file)


def _read(file: Path) -> _Kept:
    """Raises OSError, or ValueError for what it cannot hold."""
    found = msgspec.json.decode(file.read_bytes(), type=set[str] | _Kept)
    return found if isinstance(found, _Kept) else _Kept(found)


def _damaged(file: Path, aside: Path, error: Exception) -> Finding:
    found = Finding(
        "STATE-DAMAGED",
        "warning",
        "Which images came with a job's own secret is not known any more",
        f"{file}: {error}; kept as {aside}",
        "nothing: registries are asked before jobs have the images of this machine. Images that are in no registry "
        f"are refused meanwhile; if no job has ever brought a secret here: rm {file}, and restart the agent",
    )
    log.warning("%s: %s: %s; remedy: %s", found.code, found.title, found.evidence, found.remedy)
    return found


def _fingerprint(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
