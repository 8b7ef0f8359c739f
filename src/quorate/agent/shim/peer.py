"""The shim's end of a conversation with its agent or its companion. Standard library only."""

import json
import socket
from contextlib import suppress
from typing import Any

_READ_BYTES = 64 * 1024


class Peer:
    """One line of JSON a message, in both directions, without ever blocking."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self._received = b""

    def send(self, message: dict[str, Any]) -> None:
        # An agent that does not read is gone or stopped; the file says all that a lost line would have said.
        with suppress(OSError):
            self.connection.send(json.dumps(message).encode() + b"\n", socket.MSG_NOSIGNAL)

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have come; None at the end of the connection."""
        try:
            data = self.connection.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        *lines, self._received = (self._received + data).split(b"\n")
        return [json.loads(line) for line in lines if line]
