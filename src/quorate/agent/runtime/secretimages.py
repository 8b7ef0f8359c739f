"""Which images of a machine came with a job's own secret: for every other job the registry is asked before they run.

Without this, whoever guesses the name of an image would have it as soon as somebody with the right to it has run here.
Blocks; may be used from several threads.
"""

import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from quorate.agent.runtime.engine import Json
from quorate.agent.runtime.references import Reference


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
        try:
            self._closed: set[str] = set(json.loads(file.read_text()))
        except FileNotFoundError:
            self._closed = set()
        #: Names of pulls that an earlier life of the agent did not see the end of: nobody knows what they brought.
        self._left = frozenset(self._closed)
        self._under_way: Counter[str] = Counter()
        #: Ids with fingerprints of the secrets that have opened them since the agent started.
        self._opened: set[tuple[str, str]] = set()

    def closed(self, found: Json, secret: str) -> bool:
        """Whether the registry has to be asked before a job with this secret may have the image."""
        with self._lock:
            if not self._closed & {found["Id"], *names(found)}:
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
        self._change(remove=(identity, str(reference)))

    def _change(self, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        with self._lock:
            closed = (self._closed - set(remove)) | set(add)
            if closed == self._closed:
                return
            new = self._file.with_suffix(".new")
            with new.open("w") as file:
                json.dump(sorted(closed), file)
                file.flush()
                os.fsync(file.fileno())
            new.rename(self._file)
            self._closed = closed


def _fingerprint(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
