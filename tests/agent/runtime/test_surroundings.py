"""A process sees the network and the names that were made for it, and no other process does."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quorate.agent import command
from quorate.agent.runtime.surroundings import Surroundings

pytestmark = pytest.mark.lab


@pytest.fixture(autouse=True)
def root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may enter namespaces")


def run(script: str, surroundings: Surroundings, folder: Path) -> str:
    """What the script prints as a member with these surroundings."""
    out = folder / "out"
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        pid = command.start(
            ["/bin/sh", "-c", script], dict(os.environ), "/", None, None, surroundings, descriptor, descriptor
        )
    finally:
        os.close(descriptor)
    assert os.waitpid(pid, 0)[1] == 0
    return out.read_text()


@contextmanager
def namespace() -> Iterator[str]:
    """The path of a network namespace with nothing in it but loopback."""
    holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdin is not None
        assert holder.stdout is not None
        # It echoes once it has been replaced by cat, and thus is where it should be.
        holder.stdin.write(b"there\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"there\n"
        yield f"/proc/{holder.pid}/ns/net"
    finally:
        holder.kill()
        holder.communicate()


def test_a_member_is_in_the_network_namespace_that_was_made_for_it(tmp_path: Path) -> None:
    with namespace() as inside:
        seen = run("readlink /proc/self/ns/net", Surroundings(netns=inside), tmp_path)
        assert seen.strip() == str(Path(inside).readlink()) != str(Path("/proc/self/ns/net").readlink())


def test_a_member_has_hosts_and_resolver_of_its_own_and_the_machine_keeps_its(tmp_path: Path) -> None:
    hosts, resolver = tmp_path / "hosts", tmp_path / "resolv.conf"
    hosts.write_text("10.128.0.2 main1\n")
    resolver.write_text("nameserver 10.128.0.1\n")
    before = Path("/etc/hosts").read_bytes()
    seen = run("cat /etc/hosts /etc/resolv.conf", Surroundings("", str(hosts), str(resolver)), tmp_path)
    assert seen == hosts.read_text() + resolver.read_text()
    assert Path("/etc/hosts").read_bytes() == before


def test_a_member_has_a_name_of_its_own_and_sees_the_devices_of_its_namespace_alone(tmp_path: Path) -> None:
    before = socket.gethostname()
    with namespace() as inside:
        script = "hostname; ls /sys/class/net; ls -d /sys/fs/cgroup/*"
        name, device, *groups = run(script, Surroundings(inside, hostname="sub1"), tmp_path).splitlines()
    assert (name, device) == ("sub1", "lo")
    assert groups == sorted(map(str, Path("/sys/fs/cgroup").iterdir()))
    assert socket.gethostname() == before


@contextmanager
def listening(path: Path) -> Iterator[None]:
    """Somebody listens there, if only for the test."""
    if path.exists():
        yield
        return
    missing = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            yield
    finally:
        path.unlink()
        for folder in missing:
            folder.rmdir()


@pytest.mark.parametrize(
    "path",
    [
        "/run/nscd/socket",
        "/run/systemd/resolve/io.systemd.Resolve",
        "/run/dbus/system_bus_socket",
        "/run/avahi-daemon/socket",
    ],
)
def test_who_answers_for_the_machine_is_not_asked_by_a_member(tmp_path: Path, path: str) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.128.0.2 main1\n")
    asking = f"python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"{path}\")' 2>&1 | tail -1"
    with listening(Path(path)):
        assert "ConnectionRefused" in run(asking, Surroundings(hosts_file=str(hosts)), tmp_path)
        assert run(asking, Surroundings(), tmp_path) == ""


def test_a_namespace_that_is_gone_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(command.CommandError, match=r"network namespace is gone.*/proc/1/nowhere"):
        run("true", Surroundings(netns="/proc/1/nowhere"), tmp_path)


def test_a_member_writes_to_a_folder_of_its_own_where_others_have_the_machines(tmp_path: Path) -> None:
    own, seen = tmp_path / "own", tmp_path / "seen"
    own.mkdir()
    seen.mkdir()
    (seen / "theirs").touch()
    script = f"ls {seen}; echo hello > {seen}/mine"
    assert run(script, Surroundings(folders=((str(own), str(seen)),)), tmp_path) == ""
    assert (own / "mine").read_text() == "hello\n"
    assert [path.name for path in seen.iterdir()] == ["theirs"]
