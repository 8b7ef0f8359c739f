"""The small part of an agent that is root: it makes private networks when the agent asks, and can do little else.

One user may connect, which the kernel vouches for (SO_PEERCRED, unix(7)); one request on each connection, one at a
time. It runs no shell and takes no command, path or name of a program; what it takes is checked as it is decoded.
"""

import argparse
import contextlib
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from quorate.agent import syscalls
from quorate.agent.helper.process import PASSABLE, Taken, claim
from quorate.agent.helper.protocol import (
    Admit,
    Admitted,
    Answer,
    Converge,
    Converged,
    Count,
    Counted,
    Drift,
    Drifted,
    Failed,
    Listening,
    Look,
    Obstructed,
    ProtocolError,
    Request,
    Resolver,
    Tried,
    Try,
    receive_request,
    send,
)
from quorate.agent.sandbox.network import Incomplete, Network
from quorate.agent.sandbox.nft import NftError
from quorate.agent.sandbox.place import DEFAULT, SOCKET, Place
from quorate.agent.sandbox.reconcile import (
    Action,
    MakeHost,
    MakeHub,
    MakeSandbox,
    RemoveHost,
    RemoveHub,
    RemoveSandbox,
    RemoveStray,
)

#: Seconds that one who has connected may take to say what it wants, and to take the answer.
_PATIENCE_S: Final = 10.0
_BACKLOG: Final = 16

#: capabilities(7). SYS_ADMIN enters and binds namespaces; SYS_PTRACE lets a container's be taken.
_NET_ADMIN, _SYS_PTRACE, _SYS_ADMIN = 12, 19, 21
_KEPT: Final = (_NET_ADMIN, _SYS_PTRACE, _SYS_ADMIN)


def main() -> int:
    """`python -m quorate.agent.helper --user UID`; runs until SIGTERM. Exit code 1 where it cannot start.

    An agent that is root starts its own: it gives it a socket that listens already, so that what is asked while this
    process is away waits for the next one, and its standard input, whose end is the agent's.
    """
    parser = argparse.ArgumentParser(prog="quorate-helper", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--socket", type=Path, default=Path(SOCKET), help="where to listen (%(default)s)")
    parser.add_argument("--listener", type=int, help="a descriptor that listens already, instead; ends with its stdin")
    parser.add_argument("--user", type=int, required=True, help="UID of the agent; nobody else may ask")
    parser.add_argument("--folder", type=Path, default=DEFAULT, help="where namespaces are kept (%(default)s)")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("quorate-helper: it makes namespaces and rules, and needs root for that", file=sys.stderr)
        return 1
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _leave)
    if options.listener is not None:
        drop_privileges()
        serve(socket.socket(fileno=options.listener), options.user, Network(Place(options.folder)), sys.stdin.fileno())
        return 0
    try:
        lock = claim()
    except (Taken, OSError) as error:
        print(f"quorate-helper: {error}", file=sys.stderr)
        return 1
    with contextlib.ExitStack() as held:
        held.callback(lock.remove)
        listener = held.enter_context(_listening(options.socket, options.user))
        drop_privileges()
        print(f"quorate-helper: listening at {options.socket} for UID {options.user}", file=sys.stderr, flush=True)
        _tell_systemd()
        serve(listener, options.user, Network(Place(options.folder)))
    return 0


def serve(listener: socket.socket, user: int, network: Network, until: int | None = None) -> None:
    """Answers one after the other, until `until` can be read. Only root and `user` are heard."""
    while True:
        if until is not None and until in select.select([listener.fileno(), until], [], [])[0]:
            return
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(_PATIENCE_S)
            _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid not in (0, user):
                _log(f"UID {uid} may not ask")
                continue
            _serve_one(connection, network)


def _serve_one(connection: socket.socket, network: Network) -> None:
    try:
        request = receive_request(connection)
    except ProtocolError as error:
        send(connection, Failed(f"this is no request: {error}"))
        return
    try:
        if isinstance(request, Resolver):
            asked, listener = network.resolver(request.allocation, request.gateway)
            with asked, listener:
                send(connection, Listening(), asked.fileno(), listener.fileno())
            return
        answer = answer_to(request, network)
    except (OSError, NftError) as error:
        _log(f"{type(request).__name__}: {error}")
        answer = Failed(str(error))
    except Exception as error:
        # A mistake of ours. Who ends on it ends on every repetition, and the machine has no helper.
        _log("".join(traceback.format_exception(error)))
        answer = Failed(f"a mistake in the helper itself, which its log shows: {error!r}")
    try:
        send(connection, answer)
    except ProtocolError as error:
        send(connection, Failed(f"the answer cannot be told: {error}"))


def answer_to(request: Request, network: Network) -> Answer:
    """Does what is asked. Raises OSError or NftError."""
    match request:
        case Converge():
            return _converge(request, network)
        case Drift():
            return Drifted(network.drift())
        case Count(allocation):
            return Counted(network.counters(allocation))
        case Look():
            return Obstructed(network.obstacles())
        case Admit(allocation, addresses):
            network.admit(allocation, addresses)
            return Admitted()
        case Try():
            return Tried(network.able(), str(network.place.folder))
        case Resolver():
            return Failed("sockets are sent, not told")


def _converge(request: Converge, network: Network) -> Converged:
    failures: dict[str, str] = {}
    try:
        done = network.converge(request.desired, request.distrust)
    except Incomplete as error:
        done, failures = error.done, error.failures
        _log(str(error))
    steps = tuple(map(_named, done))
    if steps:
        _log(", ".join(steps))
    return Converged(steps, failures)


def drop_privileges() -> None:
    """Gives up, for good and for every program that it starts, all capabilities that networks do not need."""
    syscalls.drop_capabilities(_KEPT)
    syscalls.keep_capabilities(_KEPT)


@contextlib.contextmanager
def _listening(path: Path, user: int) -> Iterator[socket.socket]:
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
        # The user must get through, and the socket is that user's alone.
        path.parent.chmod(PASSABLE)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        os.chown(path, user, -1)
        path.chmod(0o600)
        listener.listen(_BACKLOG)
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def _tell_systemd() -> None:
    """That it listens, where systemd waits for word (sd_notify(3))."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.connect("\0" + address[1:] if address.startswith("@") else address)
            told.sendall(b"READY=1")


def _named(action: Action) -> str:
    match action:
        case RemoveSandbox(member):
            return f"remove-sandbox {member}"
        case RemoveHub(allocation):
            return f"remove-hub {allocation}"
        case RemoveStray(link):
            return f"remove-stray {link}"
        case RemoveHost():
            return "remove-host"
        case MakeHost():
            return "make-host"
        case MakeHub(hub):
            return f"make-hub {hub.allocation}"
        case MakeSandbox(_, sandbox):
            return f"make-sandbox {sandbox.member}"


def _leave(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)


def _log(text: str) -> None:
    print(f"quorate-helper: {text}", file=sys.stderr, flush=True)
