"""A Docker engine on a host of the lab, at its usual place, and an image that weighs nothing.

Each engine has its host's own /run, /var/lib/docker, network and processes, so any number of them run side by side.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.lab.hosts import BIN, Host, Process, until

NEEDED = ("dockerd", "docker", "containerd", "runc")
#: Folders and links of a merged /usr, which containers get from their host, and the little of /etc that programs need.
IMAGE = "quorate-lab/tiny:1"
_CGROUPS = Path("/sys/fs/cgroup")


def _python() -> list[Path]:
    """Every folder that the interpreter of these tests needs, each in none of the others."""
    wanted = {Path("/usr"), Path(sys.prefix), Path(sys.base_prefix), *(Path(entry) for entry in sys.path if entry)}
    found = {path for path in wanted if path.is_dir()}
    return sorted(path for path in found if not found & set(path.parents))


#: What a container of the tiny image needs to run the host's programs, and `python` with all that a training imports.
MOUNTS = [{"source": str(path), "target": str(path), "read_only": True} for path in _python()]
#: What makes a job's members containers that can do all that the host's processes can.
CONTAINER = {
    "image": {"name": IMAGE, "pull": "never"},
    "mounts": MOUNTS,
    "environment": {"PATH": f"{BIN}{os.pathsep}{os.defpath}"},
}
#: What the operator says in agent.yaml, so that jobs may have them.
ALLOW = {"mounts": [{"path": str(path)} for path in _python()]}


def missing() -> list[str]:
    """The programs that an engine needs and this machine lacks."""
    return [program for program in NEEDED if not shutil.which(program)]


@contextlib.contextmanager
def engine(host: Host) -> Iterator[Process]:
    """The host's Docker for the body, with the tiny image in it; its containers die with it."""
    process = start(host)
    try:
        host.file("/run/tiny.tar").write_bytes(tiny_image())
        host.run("docker", "import", "/run/tiny.tar", IMAGE)
        yield process
    finally:
        for process in _running(host):
            with contextlib.suppress(AssertionError):
                host.run("sh", "-c", "docker ps -aq | xargs -r docker rm -f")
            process.terminate()
        _forget_groups(_group(host))


def configure(host: Host, **settings: object) -> None:
    """Writes the host's daemon.json, which an engine reads when it starts."""
    path = host.file("/etc/docker/daemon.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(settings))


def stop(host: Host) -> None:
    """As `systemctl stop docker` does it: its containers stay with `live-restore`, and end without."""
    (process,) = _running(host)
    process.terminate()


def restart(host: Host) -> Process:
    """As `systemctl restart docker` does it."""
    stop(host)
    return start(host)


def start(host: Host) -> Process:
    """The engine of a host that has it already, once it answers."""
    process = host.start("dockerd", "--cgroup-parent", f"/{_group(host)}", log="dockerd")
    until(lambda: _answers(host, process), f"Docker on {host.name}")
    return process


def _running(host: Host) -> list[Process]:
    return [process for process in host.processes if process.log.name == "dockerd.log" and process.running]


def _group(host: Host) -> str:
    """The control group of the engine's containers."""
    return f"{host.folder.parent.name}-{host.name}"


def tiny_image() -> bytes:
    """A tar of it: whoever binds the host's /usr to /usr has all of the host's programs in it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for folder in ("usr", "etc", "proc", "sys", "dev", "run", "root", "tmp", "var", "var/tmp", "work"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder.endswith("tmp") else 0o755
            tar.addfile(info)
        for name in ("bin", "lib", "lib64", "sbin"):
            if Path("/", name).is_symlink():
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, f"usr/{name}"
                tar.addfile(info)
        for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache", "ld.so.conf"):
            path = Path("/etc", name)
            if path.exists():
                tar.add(path, f"etc/{name}")
    return data.getvalue()


def _answers(host: Host, process: Process) -> bool:
    assert process.running, process.said()
    with contextlib.suppress(AssertionError):
        return bool(host.run("docker", "version", "--format", "{{.Server.Version}}"))
    return False


def _forget_groups(name: str) -> None:
    """Control groups belong to the whole machine: empty ones would stay."""
    for group in (*_CGROUPS.glob(f"*/{name}"), _CGROUPS / name):
        for folder in sorted(group.rglob("*/"), reverse=True) if group.exists() else ():
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()
