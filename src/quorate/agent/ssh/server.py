"""The SSH server of one member: a process that becomes part of the member before it hears a single byte.

The member's shim starts it when somebody first comes to the door (door.py), and gives it the listeners. It reads what
it serves from standard input, loads its code, enters the member's groups, namespaces and user, and has from then on the
rights of the member's own command: whoever breaks into it has gained nothing. Only a container's seccomp filter and
label it has not; in place of them it has no capability, and gains none.
"""

import asyncio
import ctypes
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh

from quorate.agent import command, processes, syscalls
from quorate.agent.runtime.engine import Engine
from quorate.agent.ssh import keys as sshkeys
from quorate.agent.ssh.broker import Broker
from quorate.agent.ssh.child import Child, Client, ProcessChild, Start, Terminal
from quorate.agent.ssh.door import UNLIMITED, Service
from quorate.agent.ssh.exec import Executions
from quorate.agent.ssh.session import Server

#: With nobody there for so long, it ends; the next one who knocks has it started again.
_IDLE_S = 60.0
#: A client has so long to show its key.
_LOGIN_S = 20
_KEEPALIVE_S = 30
#: A launcher may come for all ranks of a large job in one moment.
_BACKLOG = 1024

_NAMESPACES = {"net": syscalls.CLONE_NEWNET, "uts": syscalls.CLONE_NEWUTS, "mnt": syscalls.CLONE_NEWNS}
#: nss(5).
_DATABASES = (
    b"aliases", b"ethers", b"group", b"gshadow", b"hosts", b"initgroups", b"netgroup", b"networks", b"passwd",
    b"protocols", b"publickey", b"rpc", b"services", b"shadow",
)  # fmt: skip

#: What Python and asyncssh load when they first need it, which would be where this interpreter's files cannot be read.
_LOADED_LATE = ("concurrent.futures.thread", "encodings.idna", "encodings.latin_1", "grp", "pwd")


def main() -> int:
    service = Service.from_json(sys.stdin.read())
    nonce = service.offer.nonce
    host = asyncssh.import_private_key(sshkeys.private_text(sshkeys.host_key(nonce, service.offer.rank)))
    allowed = asyncssh.import_authorized_keys(sshkeys.public_text(sshkeys.user_key(nonce)))
    for module in _LOADED_LATE:
        importlib.import_module(module)
    # Before anybody else's process can be beside it: the member's own may be of the same user, and the nonce is none
    # of their business.
    _hide()
    if service.offer.container is not None:
        return _with_broker(service, host, allowed)
    enter(service)
    asyncio.run(_serve(service, host, allowed, lambda: _Members(service).start))
    return 0


def _with_broker(service: Service, host: asyncssh.SSHKey, allowed: asyncssh.SSHAuthorizedKeys) -> int:
    """The server is a child in the container's process namespace; this process stays outside, for the engine."""
    assert service.offer.container is not None
    path, api, name = service.offer.container
    engine = Engine(path, api)
    # Asked for now: the container may have ended since, and its pid be another process's.
    service = replace(service, pid=int(engine.inspect(name)["State"]["Pid"]))
    if not service.pid:
        return 1
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _enter_namespace(service.pid, "pid", syscalls.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ours.close()
            enter(service)
            asyncio.run(_serve(service, host, allowed, lambda: _Container(Executions(theirs)).start))
            code = 0
        except Unlimited as error:
            print(f"{service.member}: {error}", file=sys.stderr)
            code = UNLIMITED
        except Exception:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    theirs.close()
    for listener in filter(None, (service.port, service.folder)):
        os.close(listener)
    _die_with_parent()
    user = command.User(service.uid, service.gid) if service.uid is not None and service.gid is not None else None
    Broker(ours, engine, name, service.pid, user).run()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF


class Unlimited(Exception):
    """This process would not count towards limits of the member that its job has asked for; the text says which."""


def enter(service: Service) -> None:
    """Becomes part of the member, for good. Raises OSError where the member is gone, or Unlimited."""
    _hide()
    if service.offer.container is not None:
        _look_up_in_files_alone()
        enter_groups(service.pid, service.offer.limits)
    if service.group:
        Path(service.group, "cgroup.procs").write_text("0")
    # The mounts come last: behind them there may be no /proc.
    for kind, flag in _NAMESPACES.items():
        _enter_namespace(service.pid, kind, flag)
    if service.offer.container is not None:
        syscalls.drop_capabilities()
    if service.uid is not None and service.gid is not None:
        command.become(command.User(service.uid, service.gid))
    if service.offer.container is not None:
        # Root in a container has none of root's rights on the machine, and here nobody else would take them away.
        syscalls.keep_capabilities()
    _die_with_parent()
    # A change of user may have undone it.
    _hide()
    os.umask(0o022)
    os.chdir(service.offer.work)
    # asyncssh asks for it, and the user may have no entry to find it in.
    os.environ["HOME"] = service.offer.work


def _hide() -> None:
    """Nobody without root's rights traces this process or reads its memory (prctl(2), PR_SET_DUMPABLE)."""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def _look_up_in_files_alone() -> None:
    """Names of users, groups and hosts are looked up by the C library's own code, in an image's files and DNS.

    What a nsswitch.conf names besides would be loaded from the image, into this process.
    """
    configure = getattr(syscalls.libc, "__nss_configure_lookup", None)
    if configure is None:
        # No glibc, and so no modules.
        return
    for database in _DATABASES:
        syscalls.check(
            configure(database, b"files dns" if database == b"hosts" else b"files"), "__nss_configure_lookup"
        )
    # Before glibc 2.34 these two were modules as well, and the one that unwinds a thread's stack still is.
    for library in ("libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1"):
        with suppress(OSError):
            ctypes.CDLL(library)


def enter_groups(pid: int, limits: Sequence[str]) -> None:
    """The container's limits are this process's too: raises Unlimited where one that was asked for is not."""
    failed = []
    for group in processes.groups_of(pid):
        try:
            (group / "cgroup.procs").write_text("0")
        except OSError as error:
            failed.append(f"{group}: {error.strerror}")
    # What counts is where this process is: groups may also be where this machine does not show them.
    own, theirs = processes.group_names(), processes.group_names(pid)
    outside = [limit for limit in limits if own.get(limit) != theirs.get(limit)]
    if outside:
        why = "; ".join(failed) or "this machine does not show them"
        raise Unlimited(f"the control groups for {' and '.join(outside)} cannot be entered: {why}")


def _enter_namespace(pid: int, kind: str, flag: int) -> None:
    path = Path(f"/proc/{pid}/ns/{kind}")
    if path.samefile(f"/proc/self/ns/{kind}"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(descriptor, flag, str(path))
    finally:
        os.close(descriptor)


def _die_with_parent() -> None:
    """The shim ends it, or the kernel, should the shim be killed. Said after every change of user (prctl(2))."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


async def _serve(
    service: Service, host: asyncssh.SSHKey, allowed: asyncssh.SSHAuthorizedKeys, starter: Callable[[], Start]
) -> None:
    people = _People()
    start = starter()

    def server(trusted: bool) -> Callable[[], Server]:
        return lambda: Server(start, people.count, trusted=trusted)

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
            entries = processes.environment(self._service.pid).split(b"\0")
        except OSError:
            entries = []
        found = dict(os.fsdecode(entry).split("=", 1) for entry in entries if b"=" in entry)
        return found or self._service.environment


class _Container:
    """Starts commands by way of the engine, which gives them the container's own variables."""

    def __init__(self, executions: Executions) -> None:
        self._executions = executions

    def start(self, line: str | None, wanted: Mapping[str, str], terminal: Terminal | None, client: Client) -> Child:
        argv = ["/bin/sh", "-c", line] if line is not None else [_shell(wanted)]
        return self._executions.start(argv, wanted, terminal, client)


def _shell(environment: Mapping[str, str]) -> str:
    """The user's; in place of a bare sh, one that people can type in."""
    shell = environment.get("SHELL", "/bin/sh")
    candidates = ("/bin/bash", shell, "/bin/sh") if shell == "/bin/sh" else (shell, "/bin/bash", "/bin/sh")
    return next((path for path in candidates if os.access(path, os.X_OK)), "/bin/sh")


if __name__ == "__main__":
    sys.exit(main())
