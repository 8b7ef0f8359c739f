"""What an agent may ask of its root helper, and how it answers: a few typed requests, one on each connection."""

import socket
from typing import Final, TypeVar

import msgspec

from quorate.agent.sandbox.counters import Counters
from quorate.agent.sandbox.foreign import Obstacle
from quorate.agent.sandbox.spec import Desired
from quorate.model.ports import LAST_PORT

#: Where the helper listens; in a folder that only root and the agent's user may enter.
SOCKET: Final = "/run/quorate/helper.sock"
#: A machine's whole desired set, with a gang of ten thousand members, stays well below.
MAX_BYTES: Final = 16 * 1024 * 1024
#: Of the length before every message, big-endian.
_HEADER: Final = 4


class ProtocolError(ValueError):
    """Bytes that are no message of this protocol, or too many of them."""


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Converge(_Message, frozen=True, tag="converge"):
    """Make the machine's private networks as desired; what `distrust` names is made anew."""

    desired: Desired
    distrust: tuple[str, ...] = ()


class Drift(_Message, frozen=True, tag="drift"):
    """Which rules are not as they were loaded?"""


class Count(_Message, frozen=True, tag="count"):
    """What have the allocation's members sent and been refused?"""

    allocation: str


class Listen(_Message, frozen=True, tag="listen"):
    """A TCP listener on 127.0.0.1 in the member's sandbox; it comes with the answer, as a descriptor."""

    member: str
    port: int

    def __post_init__(self) -> None:
        if not 1 <= self.port <= LAST_PORT:
            raise ValueError(f"{self.port} is no port")


class Look(_Message, frozen=True, tag="look"):
    """Whose rules keep members from the outside?"""


class Converged(_Message, frozen=True, tag="converged"):
    """What was done, in order, as `make-hub jjjj-1`."""

    steps: tuple[str, ...]


class Drifted(_Message, frozen=True, tag="drifted"):
    """`host`, `hub-<allocation>`, `sandbox-<member>`; empty where all is as it was."""

    names: tuple[str, ...]


class Counted(_Message, frozen=True, tag="counted"):
    """The counters of the allocation."""

    counters: Counters


class Listening(_Message, frozen=True, tag="listening"):
    """The descriptor comes with this."""


class Obstructed(_Message, frozen=True, tag="obstructed"):
    """The chains that drop members' packets to the outside."""

    obstacles: tuple[Obstacle, ...]


class Failed(_Message, frozen=True, tag="failed"):
    """Nothing, or not all, was done; the sentence says why. Asking again goes on from there."""

    sentence: str


Request = Converge | Drift | Count | Look | Listen
Answer = Converged | Drifted | Counted | Obstructed | Listening | Failed

Message = TypeVar("Message")

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def send(connection: socket.socket, message: Request | Answer, descriptor: int | None = None) -> None:
    """Sends one message, and a descriptor with its first byte. Raises OSError, or ProtocolError for one too large."""
    body = _encoder.encode(message)
    if len(body) > MAX_BYTES:
        raise ProtocolError(f"a message of {len(body)} bytes is larger than {MAX_BYTES}")
    header = len(body).to_bytes(_HEADER, "big")
    if descriptor is None:
        connection.sendall(header)
    else:
        socket.send_fds(connection, [header], [descriptor])
    connection.sendall(body)


def receive_request(connection: socket.socket) -> Request:
    """Raises ProtocolError for what is no request, or OSError."""
    return _decoded(_requests, _body(connection, _exactly(connection, _HEADER)))


def receive_answer(connection: socket.socket) -> tuple[Answer, int | None]:
    """The answer, and the descriptor that came with it. Raises ProtocolError or OSError."""
    header, descriptors, _, _ = socket.recv_fds(connection, _HEADER, 1)
    header += _exactly(connection, _HEADER - len(header))
    answer = _decoded(_answers, _body(connection, header))
    return answer, descriptors[0] if descriptors else None


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
            raise ProtocolError("the connection ended in the middle of a message")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
