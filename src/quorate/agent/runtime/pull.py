"""Brings an image to this machine, and tells how far it is."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from quorate.agent.runtime.engine import Engine, EngineRefused, Json, NoSuchThing
from quorate.agent.runtime.references import Reference
from quorate.agent.runtime.secretimages import names

#: Of a layer's way, what fetching is; unpacking is the rest.
_FETCHING = 0.7
#: The code of a finding that may be for want of a way outside.
FAILED = "IMAGE-PULL-FAILED"
_DONE = ("Pull complete", "Already exists")


class PullError(Exception):
    """The image did not come; the text says why and what to do, `code` is that of the finding."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass
class _Layer:
    size: int = 0
    fetched: float = 0.0
    unpacked: float = 0.0
    done: bool = False

    @property
    def share(self) -> float:
        return 1.0 if self.done else _FETCHING * self.fetched + (1 - _FETCHING) * self.unpacked


@dataclass
class Progress:
    """How much of an image has come, from what the engine says; it never goes back."""

    percent: int = 0
    _layers: dict[str, _Layer] = field(default_factory=dict)

    def hear(self, said: Json) -> bool:
        """Whether the percentage has changed."""
        status, name = str(said.get("status", "")), str(said.get("id", ""))
        if not name or status.startswith(("Pulling from", "Digest", "Status")):
            return False
        layer = self._layers.setdefault(name, _Layer())
        detail = said.get("progressDetail") or {}
        current, total = detail.get("current", 0), detail.get("total", 0)
        if total > 0:
            layer.size = max(layer.size, total)
            if status == "Downloading":
                layer.fetched = current / total
            elif status == "Extracting":
                layer.fetched, layer.unpacked = 1.0, current / total
        if status in ("Download complete", "Verifying Checksum"):
            layer.fetched = 1.0
        layer.done = layer.done or status in _DONE
        was, self.percent = self.percent, max(self.percent, self._measure())
        return self.percent > was

    def _measure(self) -> int:
        # A layer whose size is not told yet counts as much as those that are on their way do on average.
        known = [layer.size for layer in self._layers.values() if layer.size]
        usual = sum(known) / len(known) if known else 1.0
        weights = [(layer.size or usual, layer.share) for layer in self._layers.values()]
        return int(100 * sum(size * share for size, share in weights) / sum(size for size, _ in weights))


class Line:
    """The connection of one pull, which another thread may hang up, also before there is one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self.hung_up = False

    def hold(self, connection: socket.socket) -> None:
        """Once, by the thread that pulls."""
        with self._lock:
            # A descriptor of its own: that of a connection which is closed meanwhile may be another file's by now.
            self._connection = connection.dup()
        if self.hung_up:
            self.hang_up()

    def hang_up(self) -> None:
        """The engine stops, and so does the thread that listens to it."""
        with self._lock, suppress(OSError):
            self.hung_up = True
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """At the end of the pull."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None


def pull(
    engine: Engine,
    reference: Reference,
    credentials: str,
    tell: Callable[[int], None],
    line: Line,
    *,
    ask_first: bool = False,
) -> None:
    """Blocks until the image is here; `tell` hears each new percentage. Raises PullError or EngineError.

    It ends when `line` is hung up, too. With `ask_first` it comes only if the registry itself gives it away, whatever
    the engine has already.
    """
    progress = Progress()
    try:
        if ask_first:
            engine.ask_registry(str(reference), credentials)
        for said in engine.pull(reference.name, reference.tag, credentials, line.hold):
            if error := said.get("error"):
                raise _why(reference, str(error), credentials)
            if progress.hear(said):
                tell(progress.percent)
    except NoSuchThing as error:
        raise _why(reference, str(error), credentials) from error
    except EngineRefused as error:
        raise _why(reference, str(error), credentials) from error
    except (OSError, ValueError) as error:
        raise PullError(FAILED, f"{reference}: the engine stopped in the middle: {error}") from error
    finally:
        line.close()
    if line.hung_up:
        raise PullError(FAILED, f"{reference}: nobody waits for it any more")


def _why(reference: Reference, said: str, credentials: str) -> PullError:
    low = said.lower()
    denied = ("denied", "unauthorized", "authentication required", "no basic auth", "forbidden")
    if any(word in low for word in denied):
        how = (
            "the credentials that it was asked with are not enough"
            if credentials
            else f"log the agent's machine in (docker login {reference.registry}) or give the job "
            "a secret docker-config"
        )
        return PullError("IMAGE-PULL-DENIED", f"the registry does not give {reference} away: {said}; {how}")
    if "not found" in low or "manifest unknown" in low or "does not exist" in low:
        return PullError("IMAGE-NOT-FOUND", f"there is no image {reference}: {said}; look at its name and its tag")
    return PullError(FAILED, f"{reference} could not be pulled: {said}")


def present(engine: Engine, reference: Reference) -> Json | None:
    """What the engine has under this very name; None if it has none. Raises EngineError.

    Asked for the whole name: what a job wrote could be the beginning of any image's id to an engine.
    """
    try:
        found = engine.image(str(reference))
    except NoSuchThing:
        return None
    return found if str(reference) in names(found) else None
