"""A Podman of a test's own behind its Docker-compatible socket, in a folder of its own; see tests/docker_engine.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.agent.conftest import until
from tests.docker_engine import IMAGE, DockerEngine, busybox, mounted

NEEDED = ("podman", "conmon", "catatonit", "runc", "busybox")


def missing() -> str:
    """Why there can be no Podman here; empty where there can."""
    if os.geteuid() != 0:
        return "only root may run the Podman of these tests"
    lacking = [program for program in NEEDED if not shutil.which(program)]
    return f"there is no {', '.join(lacking)}: apt install --no-install-recommends podman catatonit" if lacking else ""


class PodmanEngine(DockerEngine):
    """One service, through any number of lives; its containers have processes of their own and outlive it."""

    def start(self, *_: str) -> None:
        """Its containers always live on, so Docker's option for that means nothing here."""
        (self.folder / "containers.conf").write_text(_settings())
        storage = {"driver": "vfs", "graphroot": str(self.folder / "data"), "runroot": str(self.folder / "run")}
        (self.folder / "storage.conf").write_text(_table("storage", storage))
        # As Docker does without a word.
        (self.folder / "registries.conf").write_text('[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n')
        environment = {
            **os.environ,
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self.folder / "registries.conf"),
        }
        command = ["podman", "--tmpdir", str(self.folder / "tmp"), "system", "service", "--time", "0"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, f"unix://{self.socket}"],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                # Where its conmon leaves a file for each container that was killed for memory.
                cwd=self.folder,
            )
        self.until_it_answers()


def _settings() -> str:
    """Limits of processes that need no CAP_SYS_RESOURCE, and control groups as version 1 has them."""
    limits = ["nofile=20000:20000", "nproc=20000:20000"]
    engine = {"cgroup_manager": "cgroupfs", "runtime": "runc", "events_logger": "file"}
    return _table("containers", {"default_ulimits": limits}) + _table("engine", engine)


def _table(name: str, values: dict[str, object]) -> str:
    # Texts and lists of them are the same in TOML.
    return "\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])


@contextmanager
def podman_engine() -> Iterator[PodmanEngine]:
    """A running service with IMAGE in it."""
    folder = Path(tempfile.mkdtemp(prefix="quorate-podman-"))
    podman = PodmanEngine(folder)
    try:
        podman.start()
        podman.image(IMAGE, busybox())
        yield podman
    finally:
        podman.stop()
        until(lambda: not mounted(folder))
        shutil.rmtree(folder, ignore_errors=True)
