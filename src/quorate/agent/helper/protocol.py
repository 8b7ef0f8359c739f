"""What an agent may ask of its root helper, and how it answers: a few typed requests, one on each connection."""

import os
import socket
from ipaddress import IPv4Address
from typing import Final, TypeVar

import msgspec

from quorate.agent.sandbox import names
from quorate.agent.sandbox.counters import Counters
from quorate.agent.sandbox.foreign import Obstacle
from quorate.agent.sandbox.spec import Desired
from quorate.model.ids import ALLOCATION_ID

#: A hub's part grows with its allocation, some 40 bytes a member; a sandbox's, some kilobytes, does not.
MAX_BYTES: Final = 16 * 1024 * 1024
#: Of that, what all hubs and sandboxes of a machine may take; the rest is for names and UIDs. Who asks sees to it.
MAX_NETWORKS_BYTES: Final = 15 * 1024 * 1024
#: An answer to one question of DNS names far fewer; nobody remembers one for longer.
MAX_ADMITTED: Final = 1024
LONGEST_ADMISSION_S: Final = 86_400
#: Of the length before every message, big-endian.
_HEADER: Final = 4
_MAX_DESCRIPTORS: Final = 2


class ProtocolError(ValueError):
    """Bytes that are no message of this protocol, or too many of them.

    ProtocolError
    └── Cut    the other end was gone before its message was whole
    """


class Cut(ProtocolError):
    """Nobody knows what the other end did; only this is mended by asking again."""


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Converge(_Message, frozen=True, tag="converge"):
    """Make the machine's private networks as desired; what `distrust` names is made anew."""

    desired: Desired
    #: As in Drifted.
    distrust: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.distrust:
            if not names.are_rules(name):
                raise ValueError(f"{name!r} names no rules")


class Drift(_Message, frozen=True, tag="drift"):
    """Which rules are not as they were loaded?"""


class Count(_Message, frozen=True, tag="count"):
    """What have the allocation's members sent and been refused?"""

    allocation: str

    def __post_init__(self) -> None:
        _check_allocation(self.allocation)


class Resolver(_Message, frozen=True, tag="resolver"):
    """Sockets on which an allocation's members ask for names: UDP and TCP, on the hub's address; two descriptors."""

    allocation: str
    gateway: str

    def __post_init__(self) -> None:
        _check_allocation(self.allocation)
        IPv4Address(self.gateway)


class Admit(_Message, frozen=True, tag="admit"):
    """Let the allocation's members reach these IPv4 addresses, each for so many seconds from now on."""

    allocation: str
    addresses: dict[str, int]

    def __post_init__(self) -> None:
        _check_allocation(self.allocation)
        if not 1 <= len(self.addresses) <= MAX_ADMITTED:
            raise ValueError(f"{len(self.addresses)} addresses at once; 1 to {MAX_ADMITTED} are possible")
        for address, seconds in self.addresses.items():
            IPv4Address(address)
            if not 1 <= seconds <= LONGEST_ADMISSION_S:
                raise ValueError(f"{address} for {seconds} s; 1 to {LONGEST_ADMISSION_S} are possible")


class Look(_Message, frozen=True, tag="look"):
    """Whose rules keep members from the outside?"""


class Try(_Message, frozen=True, tag="try"):
    """Can this machine have private networks at all?"""


class Converged(_Message, frozen=True, tag="converged"):
    """What was done, in order, as `make-hub jjjj-1`; and by allocation, or `host`, why not all of it could be done."""

    steps: tuple[str, ...]
    failures: dict[str, str] = {}


class Drifted(_Message, frozen=True, tag="drifted"):
    """`host`, `hub-<allocation>`, `sandbox-<member>`; empty where all is as it was."""

    names: tuple[str, ...]


class Counted(_Message, frozen=True, tag="counted"):
    """The counters of the allocation."""

    counters: Counters


class Listening(_Message, frozen=True, tag="listening"):
    """The descriptors come with this."""


class Admitted(_Message, frozen=True, tag="admitted"):
    """They are reached from now on."""


class Tried(_Message, frozen=True, tag="tried"):
    """Why it can have none, empty where it can; and the folder in which the helper keeps them."""

    why: str
    folder: str


class Obstructed(_Message, frozen=True, tag="obstructed"):
    """The chains that drop members' packets to the outside."""

    obstacles: tuple[Obstacle, ...]


class Failed(_Message, frozen=True, tag="failed"):
    """Nothing, or not all, was done; the sentence says why. Asking again goes on from there."""

    sentence: str


Request = Converge | Drift | Count | Look | Resolver | Admit | Try
Answer = Converged | Drifted | Counted | Obstructed | Listening | Admitted | Tried | Failed

Message = TypeVar("Message")

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def size_of(value: msgspec.Struct) -> int:
    """How many bytes of a message the value takes."""
    return len(_encoder.encode(value))


def send(connection: socket.socket, message: msgspec.Struct, *descriptors: int) -> None:
    """Sends one message, and descriptors with its first byte. Raises OSError, or ProtocolError for one too large."""
    body = _encoder.encode(message)
    if len(body) > MAX_BYTES:
        raise ProtocolError(f"a message of {len(body)} bytes is larger than {MAX_BYTES}")
    header = len(body).to_bytes(_HEADER, "big")
    if descriptors:
        socket.send_fds(connection, [header], descriptors)
    else:
        connection.sendall(header)
    connection.sendall(body)


def receive_request(connection: socket.socket) -> Request:
    """Raises ProtocolError for what is no request, or OSError."""
    return receive_alone(connection, _requests)


def receive_alone(connection: socket.socket, decoder: "msgspec.msgpack.Decoder[Message]") -> Message:
    """One message; the kernel drops the descriptors that come with it. Raises ProtocolError or OSError."""
    return _decoded(decoder, _body(connection, _exactly(connection, _HEADER)))


def receive_answer(connection: socket.socket) -> tuple[Answer, list[int]]:
    """The answer, and the descriptors that came with it. Raises ProtocolError or OSError."""
    return receive(connection, _answers)


def receive(connection: socket.socket, decoder: "msgspec.msgpack.Decoder[Message]") -> tuple[Message, list[int]]:
    """One message, and the descriptors that came with it. Raises ProtocolError or OSError."""
    header, descriptors, _, _ = socket.recv_fds(connection, _HEADER, _MAX_DESCRIPTORS)
    for descriptor in descriptors:
        # Else whatever is started next has it, too, and a hub lives as long as a socket in it.
        os.set_inheritable(descriptor, False)
    header += _exactly(connection, _HEADER - len(header))
    return _decoded(decoder, _body(connection, header)), descriptors


def _check_allocation(text: str) -> None:
    if not ALLOCATION_ID.fullmatch(text):
        raise ValueError(f"{text!r} is no allocation id")


def _decoded(decoder: msgspec.msgpack.Decoder[Message], body: bytes) -> Message:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ProtocolError(str(error)) from error


def _body(connection: socket.socket, header: bytes) -> bytes:
    size = int.from_bytes(header, "big")
    if size > MAX_BYTES:
        raise ProtocolError(f"a message of {size} bytes is larger than {MAX_BYTES}")
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts, left = [], size
    while left:
        part = connection.recv(min(left, 1024 * 1024))
        if not part:
            raise Cut("the connection ended in the middle of a message")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
