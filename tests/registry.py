"""A real image registry on the loopback, open to all or to one user: engines take plain HTTP from 127.0.0.0/8."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("docker-registry", "docker")
USER, PASSWORD = "ali", "open sesame"
#: bcrypt, which is all that the registry takes.
_HTPASSWD = "ali:$2b$04$V/s4uiArf1BijFxjlZ1Y4envJF6FjKGQSnJtpWddiEeEWb9lNboXa"
_STARTS_S = 20.0


def missing() -> str:
    """Why there can be no registry here; empty where there can."""
    lacking = [program for program in NEEDED if not shutil.which(program)]
    return f"there is no {', '.join(lacking)}" if lacking else ""


@dataclass
class Registry:
    """One that runs."""

    host: str
    folder: Path

    def login(self, config: Path) -> None:
        """Writes a Docker configuration with which its user is known."""
        import base64
        import json

        text = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        config.mkdir(exist_ok=True)
        (config / "config.json").write_text(json.dumps({"auths": {self.host: {"auth": text}}}))


@contextmanager
def registry(folder: Path, *, closed: bool = False) -> Iterator[Registry]:
    """It answers when this is entered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    lines = [
        "version: 0.1", "log: {level: warn}", f"storage: {{filesystem: {{rootdirectory: {folder / 'blobs'}}}}}",
        f"http: {{addr: '{host}'}}",
    ]  # fmt: skip
    if closed:
        (folder / "htpasswd").write_text(_HTPASSWD + "\n")
        lines.append(f"auth: {{htpasswd: {{realm: tests, path: {folder / 'htpasswd'}}}}}")
    (folder / "config.yml").write_text("\n".join(lines) + "\n")
    log = (folder / "log").open("wb")
    process = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _STARTS_S
        while not _answers(host):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        yield Registry(host, folder)
    finally:
        process.terminate()
        process.wait()


def _answers(host: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{host}/v2/", timeout=1)
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    return True
