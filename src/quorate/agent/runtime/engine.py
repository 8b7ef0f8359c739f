"""Talks to Docker Engine, or to Podman through the same interface. Standard library only: shims of containers use it.

EngineError
├── EngineUnreachable   nobody answers at the socket
├── NoSuchThing         404: no such container or image
├── FileTooLarge        a file of an image has no room here
└── EngineRefused       every other no, with the engine's own words
"""

import io
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from quorate.agent.runtime import http

#: The interface as of Docker 19.03 (DeviceRequests), and the newest one that this was written against.
_OLDEST, _NEWEST = (1, 40), (1, 47)
#: Seconds for what an engine does at once, and for what may wait for a disk.
_QUICK_S, _SLOW_S = 10.0, 120.0

#: Most bytes of an image's file that is looked at, and what the tar around it may add.
_FILE_MIB, _AROUND_BYTES = 1, 64 * 1024

Json = dict[str, Any]


class EngineError(Exception):
    """The engine could not do it; the text says why. `code` is that of the finding."""

    code = "ENGINE-FAILED"


class EngineUnreachable(EngineError):
    """Nobody answers at the socket, or the answer broke off."""

    code = "ENGINE-UNREACHABLE"


class NoSuchThing(EngineError):
    """There is no such container or image."""


class FileTooLarge(EngineError):
    """A file of an image is larger than any that is looked at; the image's fault, and no machine's."""

    code = "START-FAILED"


class EngineRefused(EngineError):
    """What the engine said no to, and why."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Engine:
    """One engine. Each call is a connection of its own, so threads may share it; calls block, and raise EngineError."""

    #: Of its unix socket.
    path: str
    #: The version of the interface that is spoken, such as `1.41`.
    api: str
    #: `Docker` or `Podman`, and its version: for people.
    name: str = ""

    @classmethod
    def at(cls, path: str) -> "Engine":
        """The engine behind a socket, asked which versions it speaks."""
        found = cls(path, "")._json("GET", "/version", timeout_s=_QUICK_S)
        newest, oldest = _version(found.get("ApiVersion", "")), _version(found.get("MinAPIVersion", "1.0"))
        spoken = min(newest, _NEWEST)
        if spoken < max(oldest, _OLDEST):
            raise EngineError(
                f"the engine at {path} speaks {found.get('MinAPIVersion')} to {found.get('ApiVersion')} of Docker's "
                f"interface, and {_text(_OLDEST)} to {_text(_NEWEST)} are understood here"
            )
        podman = any("podman" in part.get("Name", "").lower() for part in found.get("Components") or ())
        return cls(path, _text(spoken), f"{'Podman' if podman else 'Docker'} {found.get('Version', '')}".strip())

    @property
    def is_podman(self) -> bool:
        """Whether it is Podman, which does some things otherwise."""
        return self.name.startswith("Podman")

    def info(self) -> Json:
        """What it says of itself and of its machine."""
        found: Json = self._json("GET", "/info")
        return found

    # --- images ------------------------------------------------------------------------------------------------

    def image(self, reference: str) -> Json:
        """What the engine has under this name. Raises NoSuchThing."""
        found: Json = self._json("GET", f"/images/{quote(reference, safe='/:@')}/json")
        return found

    def pull(self, name: str, tag: str, credentials: str, hold: Callable[[socket.socket], None]) -> Iterator[Json]:
        """Pulls an image; yields what the engine says meanwhile. An `error` in it is for the caller to see.

        A registry may be silent for as long as it likes, so nothing here ends this: whoever is given the connection by
        `hold` shuts it down, and then the engine stops too.
        """
        target = f"/images/create?{urlencode({'fromImage': name, 'tag': tag})}"
        headers = {"X-Registry-Auth": credentials} if credentials else {}

        def sent(connection: socket.socket) -> None:
            connection.settimeout(None)
            hold(connection)

        for line in self._ask("POST", target, headers=headers, sent=sent).lines():
            if line.strip():
                yield json.loads(line)

    def ask_registry(self, reference: str, credentials: str) -> None:
        """Raises EngineRefused or NoSuchThing where the registry does not give the image away, had it or not.

        A pull does not tell: by its digest, Docker takes what it has and asks nobody. Podman always asks, and has no
        such call.
        """
        if not self.is_podman:
            headers = {"X-Registry-Auth": credentials} if credentials else {}
            self._do("GET", f"/distribution/{quote(reference, safe='/:@')}/json", headers, _SLOW_S)

    def load(self, tar: bytes, repository: str, tag: str, changes: Sequence[str]) -> None:
        """Makes an image of a file system, with changes such as `ENTRYPOINT ["/pause"]`."""
        # The tag within the name, where the interface allows it too: Podman 4.3 knows no other way, and takes `latest`.
        query = [("fromSrc", "-"), ("repo", f"{repository}:{tag}"), *(("changes", change) for change in changes)]
        answer = self._ask(
            "POST", f"/images/create?{urlencode(query)}", tar, {"Content-Type": "application/x-tar"}, _SLOW_S
        )
        for line in answer.lines():
            if line.strip() and (error := json.loads(line).get("error")):
                raise EngineRefused(500, error)

    def files(self, image: str, paths: Sequence[str], labels: Mapping[str, str]) -> dict[str, str | None]:
        """The text of files of an image, None for one that it lacks: asked of a container that never runs.

        Raises FileTooLarge.
        """
        container = self.create(
            "", {"Image": image, "Cmd": ["-"], "Labels": dict(labels), "HostConfig": {"NetworkMode": "none"}}
        )
        try:
            return {path: self._file(container, path) for path in paths}
        finally:
            self.remove(container)

    def _file(self, container: str, path: str) -> str | None:
        try:
            answer = self._ask("GET", f"/containers/{container}/archive?{urlencode({'path': path})}")
            data = answer.read((_FILE_MIB << 20) + _AROUND_BYTES)
        except NoSuchThing:
            return None
        except http.TooLarge:
            raise _too_large(path) from None
        except OSError as error:
            raise self._unreachable(error) from error
        # Imported here: no shim asks for files.
        import tarfile

        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            file = tar.extractfile(entry) if (entry := tar.next()) is not None and entry.isfile() else None
            if entry is not None and entry.size > _FILE_MIB << 20:
                raise _too_large(path)
            return None if file is None else file.read().decode(errors="replace")

    # --- containers --------------------------------------------------------------------------------------------

    def create(self, name: str, body: Mapping[str, Any], warned: Callable[[str], None] | None = None) -> str:
        """The id of a new container. Raises NoSuchThing where its image is not here.

        `warned` hears what the engine has left out of the body, in its own words.
        """
        query = f"?{urlencode({'name': name})}" if name else ""
        made = self._json("POST", f"/containers/create{query}", body, _SLOW_S)
        for warning in made.get("Warnings") or ():
            if warned is not None:
                warned(str(warning))
        return str(made["Id"])

    def start(self, container: str) -> None:
        """Returns when its command has been executed."""
        self._do("POST", f"/containers/{container}/start", timeout_s=_SLOW_S)

    def attach(self, container: str) -> tuple[socket.socket, bytes]:
        """Its output from now on, both streams framed in one (see stream.py), and what has come of it already."""
        target = f"/containers/{container}/attach?stream=1&stdout=1&stderr=1"
        return self._ask("POST", target, timeout_s=_QUICK_S).stream()

    def wait(self, container: str) -> socket.socket:
        """A connection on which the engine answers once the container has ended; `http.whole` reads the answer.

        A container that does not run has ended, so this is for one that does.
        """
        try:
            return http.send(self.path, "POST", self._target(f"/containers/{container}/wait"), b"", {}, _QUICK_S)
        except OSError as error:
            raise self._unreachable(error) from error

    def execution(self, container: str, body: Mapping[str, Any]) -> str:
        """The id of a further command in a container, which does not run yet."""
        return str(self._json("POST", f"/containers/{container}/exec", body)["Id"])

    def execute(self, execution: str, terminal: bool) -> tuple[socket.socket, bytes]:
        """Runs it; its input and output, and what has come of that already. Framed (stream.py) without a terminal."""
        body = json.dumps({"Detach": False, "Tty": terminal}).encode()
        fields = {"Content-Type": "application/json"}
        return self._ask("POST", f"/exec/{execution}/start", body, fields).stream()

    def resize(self, execution: str, columns: int, rows: int) -> None:
        """The size of its terminal."""
        self._do("POST", f"/exec/{execution}/resize?w={columns}&h={rows}")

    def executed(self, execution: str) -> Json:
        """Whether it runs, its pid on this machine, and its exit code."""
        found: Json = self._json("GET", f"/exec/{execution}/json")
        return found

    def inspect(self, container: str) -> Json:
        """All about a container. Raises NoSuchThing."""
        found: Json = self._json("GET", f"/containers/{container}/json")
        return found

    def kill(self, container: str, signal: str) -> None:
        """Signals its first process; nothing where it does not run any more."""
        try:
            self._do("POST", f"/containers/{container}/kill?{urlencode({'signal': signal})}")
        except NoSuchThing:
            pass
        except EngineRefused as error:
            # Docker says 409 where it does not run, Podman 409 or 500 with these words.
            if error.status != 409 and "not running" not in str(error):
                raise

    def remove(self, container: str) -> None:
        """Ends and removes it with its volumes; nothing where there is none, or somebody is at it already."""
        try:
            self._do("DELETE", f"/containers/{container}?force=1&v=1", timeout_s=_SLOW_S)
        except NoSuchThing:
            pass
        except EngineRefused as error:
            if error.status != 409:
                raise

    def containers(self, labels: Mapping[str, str]) -> list[Json]:
        """All that carry these labels, whatever they do."""
        filters = {"label": [f"{name}={value}" if value else name for name, value in labels.items()]}
        found = self._json("GET", f"/containers/json?{urlencode({'all': 1, 'filters': json.dumps(filters)})}")
        assert isinstance(found, list)
        return found

    # --- the interface -----------------------------------------------------------------------------------------

    def _target(self, path: str) -> str:
        return f"/v{self.api}{path}" if self.api else path

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = _QUICK_S,
        sent: Callable[[socket.socket], None] | None = None,
    ) -> http.Response:
        try:
            response = http.request(self.path, method, self._target(path), body, headers or {}, timeout_s, sent)
            if response.status < 400:
                return response
            said = response.read()
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            sentence = str(json.loads(said)["message"])
        except (ValueError, KeyError, TypeError):
            sentence = said.decode(errors="replace").strip() or f"status {response.status}"
        if response.status == 404:
            raise NoSuchThing(sentence)
        raise EngineRefused(response.status, sentence)

    def _do(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, timeout_s: float = _QUICK_S
    ) -> None:
        response = self._ask(method, path, headers=headers, timeout_s=timeout_s)
        try:
            response.read()
        except OSError as error:
            raise self._unreachable(error) from error

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = _QUICK_S) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        response = self._ask(method, path, data, {"Content-Type": "application/json"} if data else {}, timeout_s)
        try:
            return json.loads(response.read())
        except OSError as error:
            raise self._unreachable(error) from error
        except ValueError:
            raise EngineUnreachable(f"{self.path} answers with something else than an engine would") from None

    def _unreachable(self, error: OSError) -> EngineUnreachable:
        return EngineUnreachable(
            f"no engine answers at {self.path}: {error.strerror or error}; is it running (systemctl status docker)?"
        )


#: Where engines listen, the more usual first. Those of a user come after the machine's.
_SOCKETS: Final = ("/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock")
_USER_SOCKETS: Final = ("docker.sock", "podman/podman.sock")


def find(wanted: str = "", environment: Mapping[str, str] = os.environ) -> Engine:
    """The engine at `wanted`, else the first one that answers where engines usually are. Raises EngineError."""
    if wanted:
        return Engine.at(wanted.removeprefix("unix://"))
    runtime = environment.get("XDG_RUNTIME_DIR")
    places = [*_SOCKETS, *(f"{runtime}/{name}" for name in _USER_SOCKETS if runtime and os.geteuid() != 0)]
    why: EngineError = EngineUnreachable(f"no engine answers at {', '.join(places)}")
    for place in places:
        try:
            return Engine.at(place)
        except EngineError as error:
            # Of those that fail, the one that is there is worth a word.
            why = error if os.path.exists(place) else why  # noqa: PTH110
    raise why


def _too_large(path: str) -> FileTooLarge:
    return FileTooLarge(f"{path} of the image has more than {_FILE_MIB} MiB, which is the most that is looked at")


def _version(text: str) -> tuple[int, int]:
    try:
        major, minor = text.split(".")[:2]
        return int(major), int(minor)
    except ValueError:
        return 0, 0


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
