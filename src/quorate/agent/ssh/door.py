"""Where a member can be reached by SSH, at no cost until somebody comes: listens, and has the server started then.

Of the member's shim, like which it is standard library only. The server (sshserver.py) takes 0.3 s and 40 MB; it
accepts on the listeners itself, and ends when nobody was there for a while.
"""

import fcntl
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from quorate.agent.command import User
from quorate.agent.processes import serving

#: In the member's folder: for its agent, which needs no key.
SOCKET = "ssh.sock"
#: Those who come while the server is on its way; a launcher may come for all ranks at once.
_BACKLOG = 1024
#: Above every descriptor that the server is given, so that none of them is overwritten while they are moved.
_HIGH = 100
_PORT, _FOLDER = 3, 4
#: How a server ends that would be outside of limits that the job has asked for (EX_NOPERM).
UNLIMITED = 77


@dataclass(frozen=True)
class Offer:
    """What an order says of it."""

    #: The allocation's, hex: its keys are made of it (sshkeys.py).
    nonce: str = field(repr=False)
    rank: int
    work: str
    #: The member's address in its private network, the port there, and the network namespace; without them there is
    #: only the socket in the folder.
    address: str = ""
    port: int = 0
    netns: str = ""
    #: What its own client reads: texts by name, for a folder in memory; and which files of the machine some of them
    #: take the place of, in its eyes.
    files: dict[str, str] = field(default_factory=dict, repr=False)
    folder: str = ""
    over: dict[str, str] = field(default_factory=dict)
    #: For a member with an image: the engine's socket, its API's version, and the container's name.
    container: tuple[str, str, str] | None = None
    #: Which of its container's limits the job has asked for: nobody comes in past them.
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """All that the server is told, as JSON on its standard input."""

    member: str
    offer: Offer
    uid: int | None
    gid: int | None
    #: A process of the member, whose namespaces and environment are the member's.
    pid: int = 0
    #: The member's control group; empty for none.
    group: str = ""
    #: The command's variables, for when they cannot be read from the process.
    environment: dict[str, str] = field(default_factory=dict)
    #: The descriptor that listens in the network, if there is one, and the one in the folder.
    port: int | None = None
    folder: int = -1

    @classmethod
    def from_json(cls, data: str | bytes) -> "Service":
        fields = json.loads(data)
        return cls(**{**fields, "offer": Offer(**fields["offer"])})


class Door:
    """Of one member. Closed until `open`; to be told of every child of the shim that ends."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        member: str,
        offer: Offer,
        user: User | None,
        say: Callable[[str], None],
    ) -> None:
        """`say` takes sentences for the member's log."""
        self._selector = selector
        self._say = say
        self._service = Service(member, offer, user.uid if user else None, user.gid if user else None)
        self._listeners: dict[int, socket.socket] = {}
        #: The server's, 0 while none runs.
        self.pid = 0

    def furnish(self) -> None:
        """Writes the files of the member's own client, which nobody else can read. Raises OSError."""
        offer = self._service.offer
        if not offer.files:
            return
        self.clear()
        os.mkdir(offer.folder, 0o700)  # noqa: PTH102 (pathlib costs a shim a megabyte)
        paths = [f"{offer.folder}/{name}" for name in offer.files]
        for path, text in zip(paths, offer.files.values(), strict=True):
            # Those that lie over the machine's own must be readable there; here the folder keeps others out.
            mode = 0o644 if path in offer.over else 0o600
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w") as file:  # noqa: PTH123
                file.write(text)
        if self._service.uid is not None and self._service.gid is not None:
            for path in (*paths, offer.folder):
                os.chown(path, self._service.uid, self._service.gid)

    def clear(self) -> None:
        """Removes them."""
        offer = self._service.offer
        for name in offer.files:
            with suppress(OSError):
                os.unlink(f"{offer.folder}/{name}")  # noqa: PTH108
        if offer.files:
            with suppress(OSError):
                os.rmdir(offer.folder)  # noqa: PTH106

    def open(self, pid: int, group: str, environment: dict[str, str]) -> None:
        """The member's command runs: whoever comes is let in from now on. Raises OSError."""
        self._service = replace(self._service, pid=pid, group=group, environment=environment)
        self._listeners[_FOLDER] = _listen_in_folder()
        if self._service.offer.address:
            self._listeners[_PORT] = _listen_in_network(self._service.offer)
        self._wait()

    def close(self) -> None:
        """Ends the server, and with it the terminals of its sessions; what else they started is the runner's to end."""
        for listener in self._listeners.values():
            with suppress(KeyError):
                self._selector.unregister(listener)
            listener.close()
        self._listeners = {}
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            # Its connections are closed as long as there is a network that tells the others: they would wait for ever.
            os.waitpid(self.pid, 0)
            self.pid = 0

    def reaped(self, pid: int, status: int) -> None:
        """A child of the shim has ended."""
        if pid != self.pid or not pid:
            return
        self.pid = 0
        if status:
            # It could not serve them: they are better told so than kept, and it must not be started for ever.
            self._send_away()
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == UNLIMITED:
                limits = " and ".join(self._service.offer.limits)
                self._say(
                    f"SSH-UNAVAILABLE: nobody is let in by SSH, since what he does would not count towards this "
                    f"member's {limits}: its agent cannot enter the container's control groups. Its own log says why"
                )
        self._wait()

    def _wait(self) -> None:
        for listener in self._listeners.values():
            self._selector.register(listener, selectors.EVENT_READ, self._knock)

    def _knock(self) -> None:
        # Both may have been found ready by one look.
        if self.pid:
            return
        for listener in self._listeners.values():
            self._selector.unregister(listener)
        try:
            self.pid = self._start()
        except OSError:
            self._send_away()
            self._wait()

    def _send_away(self) -> None:
        for listener in self._listeners.values():
            # Until nobody is left, or the kernel gives no more of them: that must not end the shim, and so the member.
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()

    def _start(self) -> int:
        offer = replace(self._service.offer, files={}, over={})
        port = _PORT if _PORT in self._listeners else None
        service = replace(self._service, offer=offer, port=port, folder=_FOLDER)
        told = os.memfd_create("quorate-ssh", os.MFD_CLOEXEC)
        try:
            os.write(told, json.dumps(asdict(service)).encode())
            os.lseek(told, 0, os.SEEK_SET)
            moves = [(os.POSIX_SPAWN_DUP2, told, 0)]
            moves += [(os.POSIX_SPAWN_DUP2, listener.fileno(), to) for to, listener in self._listeners.items()]
            return os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", "quorate.agent.ssh.server"],
                {
                    "PYTHONPATH": str(Path(__file__).parents[2]),
                    "PATH": os.environ.get("PATH", os.defpath),
                    # What a dead shim has left is found by it.
                    **serving(self._service.member),
                },
                file_actions=moves,
                setsid=True,
                setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD],
            )
        finally:
            os.close(told)


def _listen_in_folder() -> socket.socket:
    """In the present folder, which is the member's."""
    with suppress(FileNotFoundError):
        os.unlink(SOCKET)  # noqa: PTH108
    listener = _moved(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    listener.bind(SOCKET)
    os.chmod(SOCKET, 0o600)  # noqa: PTH101
    listener.listen(_BACKLOG)
    return listener


def _listen_in_network(offer: Offer) -> socket.socket:
    """A socket stays in the namespace in which it was made."""
    # Imported here: few members have a network of their own.
    from quorate.agent.sandbox import namespaces

    with namespaces.entered(Path(offer.netns)):
        family = socket.AF_INET6 if ":" in offer.address else socket.AF_INET
        listener = _moved(socket.socket(family, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((offer.address, offer.port))
        listener.listen(_BACKLOG)
    return listener


def _moved(made: socket.socket) -> socket.socket:
    """The same socket under a high number."""
    with made:
        high = socket.socket(fileno=fcntl.fcntl(made.fileno(), fcntl.F_DUPFD_CLOEXEC, _HIGH))
    high.setblocking(False)
    return high
