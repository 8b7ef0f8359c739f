"""The SSH server of one member: a process that becomes part of the member before it hears a single byte.

The member's shim starts it when somebody first comes to the door (door.py), and gives it the listeners. It reads what
it serves from standard input, loads all its code, enters the member's group, namespaces and user, and has from then on
exactly the rights of the member's own command: whoever breaks into it has gained nothing.
"""

import asyncio
import ctypes
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import asyncssh

from quorate.agent import command, sshkeys
from quorate.agent.door import Service
from quorate.agent.sshchild import Child, Client, ProcessChild, Terminal
from quorate.agent.sshsession import Server

#: With nobody there for so long, it ends; the next one who knocks has it started again.
_IDLE_S = 60.0
#: A client has so long to show its key.
_LOGIN_S = 20
_KEEPALIVE_S = 30
_BACKLOG = 64

#: sched.h, sys/prctl.h.
_NAMESPACES = {"net": 0x40000000, "uts": 0x04000000, "mnt": 0x00020000}
_PR_SET_PDEATHSIG = 1
#: What Python and asyncssh load when they first need it, which would be where this interpreter's files cannot be read.
_LOADED_LATE = ("concurrent.futures.thread", "encodings.idna", "encodings.latin_1", "grp", "pwd")


def main() -> int:
    service = Service.from_json(sys.stdin.read())
    nonce = service.offer.nonce
    host = asyncssh.import_private_key(sshkeys.private_text(sshkeys.host_key(nonce, service.offer.rank)))
    allowed = asyncssh.import_authorized_keys(sshkeys.public_text(sshkeys.user_key(nonce)))
    for module in _LOADED_LATE:
        importlib.import_module(module)
    enter(service)
    asyncio.run(_serve(service, host, allowed))
    return 0


def enter(service: Service) -> None:
    """Becomes part of the member, for good. Raises OSError where the member is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    if service.group:
        Path(service.group, "cgroup.procs").write_text("0")
    # The mounts come last: behind them there may be no /proc.
    for kind, flag in _NAMESPACES.items():
        path = Path(f"/proc/{service.pid}/ns/{kind}")
        if path.samefile(f"/proc/self/ns/{kind}"):
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(descriptor, flag):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        finally:
            os.close(descriptor)
    if service.uid is not None and service.gid is not None:
        command.become(command.User(service.uid, service.gid))
    # The shim ends it; should the shim be killed, the kernel does. To be said after every change of user (prctl(2)).
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.umask(0o022)
    os.chdir(service.offer.work)


async def _serve(service: Service, host: asyncssh.SSHKey, allowed: asyncssh.SSHAuthorizedKeys) -> None:
    people = _People()
    members = _Members(service)

    def server(trusted: bool) -> Callable[[], Server]:
        return lambda: Server(members.start, people.count, trusted=trusted)

    options: dict[str, Any] = {
        "server_host_keys": [host],
        "encoding": None,
        "line_editor": False,
        "login_timeout": _LOGIN_S,
        "keepalive_interval": _KEEPALIVE_S,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "server_version": "Quorate",
        "backlog": _BACKLOG,
        "public_key_auth": True,
        "password_auth": False,
        "kbdint_auth": False,
        "host_based_auth": False,
        "gss_host": None,
    }
    folder = socket.socket(fileno=service.folder)
    doors = [await asyncssh.listen(sock=folder, server_factory=server(True), **options)]
    if service.port is not None:
        network = socket.socket(fileno=service.port)
        options["authorized_client_keys"] = allowed
        doors.append(await asyncssh.listen(sock=network, server_factory=server(False), **options))
    await people.gone()
    for door in doors:
        door.close()


class _People:
    """Who is connected; and when nobody was for a while."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = asyncio.Event()

    def count(self, change: int) -> None:
        self._count += change
        self._changed.set()

    async def gone(self) -> None:
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(_IDLE_S):
                    await self._changed.wait()
            except TimeoutError:
                if self._count == 0:
                    return


class _Members:
    """Starts commands as the member's own are."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def start(self, line: str | None, wanted: Mapping[str, str], terminal: Terminal | None, client: Client) -> Child:
        environment = {**self._environment(), **wanted}
        argv = ["/bin/sh", "-c", line] if line is not None else [_shell(environment)]
        return ProcessChild(argv, environment, terminal, client)

    def _environment(self) -> dict[str, str]:
        """What the member's command has, with what its bootstrap has exported; what it was given, when it has gone."""
        try:
            entries = Path(f"/proc/{self._service.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            entries = []
        found = dict(os.fsdecode(entry).split("=", 1) for entry in entries if b"=" in entry)
        return found or self._service.environment


def _shell(environment: Mapping[str, str]) -> str:
    """The user's; in place of a bare sh, one that people can type in."""
    shell = environment.get("SHELL", "/bin/sh")
    candidates = ("/bin/bash", shell, "/bin/sh") if shell == "/bin/sh" else (shell, "/bin/bash", "/bin/sh")
    return next((path for path in candidates if os.access(path, os.X_OK)), "/bin/sh")


if __name__ == "__main__":
    sys.exit(main())
