"""SSH servers on the lab's hosts, and a desk from which `ssh HOST` works, as an operator has it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from tests.lab.hosts import Host, Lab, until

NEEDED = ("ssh", "ssh-keygen", "sshd")

_SERVER = """
HostKey /etc/ssh/lab_host_key
AuthorizedKeysFile /etc/ssh/lab_user_key.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
"""
_CLIENT = """
Host *
    IdentityFile /etc/ssh/lab_user_key
    IdentitiesOnly yes
    UserKnownHostsFile /etc/ssh/lab_known_hosts
    StrictHostKeyChecking yes
    BatchMode yes
"""


def missing() -> list[str]:
    """The programs that this needs and this machine lacks."""
    return [program for program in NEEDED if not shutil.which(program, path="/usr/bin:/usr/sbin:/bin:/sbin")]


@contextlib.contextmanager
def servers(lab: Lab, *hosts: Host) -> Iterator[None]:
    """For the body root at the desk logs in to these hosts with a key; every host's key is known there.

    Nothing of it lies in anybody's home: it is all in the hosts' own /etc/ssh.
    """
    desk = lab["desk"]
    desk.run("mkdir", "-p", "/etc/ssh")
    desk.file("/etc/ssh/ssh_config").write_text(_CLIENT)
    _make_key(desk, "/etc/ssh/lab_user_key")
    public = desk.file("/etc/ssh/lab_user_key.pub").read_text()
    known = []
    with contextlib.ExitStack() as stack:
        for host in hosts:
            host.run("mkdir", "-p", "/etc/ssh", "/run/sshd")
            _make_key(host, "/etc/ssh/lab_host_key")
            host.file("/etc/ssh/lab_user_key.pub").write_text(public)
            host.file("/etc/ssh/lab_sshd_config").write_text(_SERVER)
            key = " ".join(host.file("/etc/ssh/lab_host_key.pub").read_text().split()[:2])
            known.append(f"{host.name},{host.address} {key}\n")
            server = host.start("/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/lab_sshd_config", log="sshd")
            stack.callback(server.kill)
            until(lambda server=server: "Server listening" in server.said(), f"sshd on {host.name}")
        desk.file("/etc/ssh/lab_known_hosts").write_text("".join(known))
        yield


def _make_key(host: Host, path: str) -> None:
    host.run("rm", "-f", path, f"{path}.pub")
    host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
