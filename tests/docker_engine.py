"""A Docker engine of a test's own, in a folder of its own, and images that are made in a second and need no registry.

It has no bridge and changes nothing of the machine's network; its members share that, or have none.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.agent.conftest import until

from quorate.agent.runtime.engine import Engine, EngineError

NEEDED = ("dockerd", "containerd", "runc", "busybox")
IMAGE = "quorate-test/busybox:1"
_STARTS_S = 30.0
_CGROUPS = Path("/sys/fs/cgroup")


def missing() -> str:
    """Why there can be no engine here; empty where there can."""
    if os.geteuid() != 0:
        return "only root may run a Docker engine"
    lacking = [program for program in NEEDED if not shutil.which(program)]
    return f"there is no {', '.join(lacking)}" if lacking else ""


@dataclass
class DockerEngine:
    """One engine, through any number of lives."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    _group: str = field(default_factory=lambda: f"quorate-test-{os.getpid()}")

    @property
    def socket(self) -> str:
        return str(self.folder / "docker.sock")

    @property
    def engine(self) -> Engine:
        return Engine.at(self.socket)

    def start(self, *options: str) -> None:
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [
                "dockerd", "--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec"),
                "--pidfile", str(self.folder / "pid"), "-H", f"unix://{self.socket}", "--cgroup-parent",
                f"/{self._group}", "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-masq=false",
                "--ip-forward=false", *options,
            ],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.until_it_answers()

    def until_it_answers(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + _STARTS_S
        while True:
            assert self.process.poll() is None, self.said()
            with suppress(EngineError):
                self.engine.info()
                return
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return (self.folder / "log").read_text()[-4000:]

    def leave(self) -> None:
        """As at an upgrade: with --live-restore its containers stay."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)

    def stop(self) -> None:
        if self.process is None:
            return
        with suppress(EngineError):
            engine = self.engine
            for container in engine.containers({}):
                engine.remove(container["Id"])
        self.process.terminate()
        self.process.wait(60)
        for group in (*_CGROUPS.glob(f"*/{self._group}"), _CGROUPS / self._group):
            for below in (*sorted(group.rglob("*/"), reverse=True), group):
                with suppress(OSError):
                    below.rmdir()

    def image(self, name: str, files: dict[str, bytes | str], changes: Sequence[str] = ()) -> None:
        """An image with these files: bytes are a program, text is a link to it."""
        repository, _, tag = name.rpartition(":")
        self.engine.load(archive(files), repository, tag, changes)

    def names(self) -> list[str]:
        return sorted(name.lstrip("/") for one in self.engine.containers({}) for name in one["Names"])

    def container(self, member: str) -> dict:
        return self.engine.inspect(f"quorate-{member}")


def archive(files: dict[str, bytes | str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.mode, entry.size = 0o755, len(content)
                tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def busybox() -> dict[str, bytes | str]:
    """The files of an image with a shell and its usual company, and nothing else."""
    program = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    applets = ("sh", "cat", "echo", "env", "grep", "head", "id", "ls", "mkdir", "pwd", "readlink", "sleep", "tail",
               "tee", "touch", "true", "wget", "dd", "df", "hostname", "kill", "stat", "wc", "printf")  # fmt: skip
    return {"bin/busybox": program, **{f"bin/{applet}": "busybox" for applet in applets}}


@contextmanager
def docker_engine(*options: str) -> Iterator[DockerEngine]:
    """A running engine with IMAGE in it; the options are dockerd's."""
    folder = Path(tempfile.mkdtemp(prefix="quorate-docker-"))
    docker = DockerEngine(folder)
    try:
        docker.start(*options)
        docker.image(IMAGE, busybox())
        yield docker
    finally:
        docker.stop()
        # What a killed engine has mounted goes last.
        until(lambda: not mounted(folder))
        shutil.rmtree(folder, ignore_errors=True)


def mounted(folder: Path) -> list[str]:
    """What is mounted below it, and is not to stay so."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    found = [mount for mount in mounts if mount.startswith(str(folder))]
    for mount in reversed(found):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
    return found
