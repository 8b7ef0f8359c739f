"""The agent's side of its root helper: blocking calls, to be made from a thread."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from quorate.agent.helperprotocol import (
    SOCKET,
    Answer,
    Converge,
    Converged,
    Count,
    Counted,
    Drift,
    Drifted,
    Failed,
    Listen,
    Listening,
    Look,
    Obstructed,
    ProtocolError,
    Request,
    receive_answer,
    send,
)
from quorate.agent.sandbox.counters import Counters
from quorate.agent.sandbox.foreign import Obstacle
from quorate.agent.sandbox.spec import Desired

#: Seconds; hundreds of sandboxes are made in a fraction of it.
_TIMEOUT_S: Final = 120.0

Expected = TypeVar("Expected", Converged, Drifted, Counted, Obstructed, Listening)


class HelperError(Exception):
    """The helper could not do it, or could not be reached; the text says why."""


@dataclass(frozen=True)
class Helper:
    """The helper behind a socket."""

    path: Path = Path(SOCKET)

    def converge(self, desired: Desired, distrust: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Makes the machine's private networks as desired; returns what was done. Raises HelperError."""
        return self._ask(Converge(desired, distrust), Converged)[0].steps

    def drift(self) -> tuple[str, ...]:
        """Which rules somebody has changed, for NET-DRIFT. Raises HelperError."""
        return self._ask(Drift(), Drifted)[0].names

    def counters(self, allocation: str) -> Counters:
        """What passed and what was refused. Raises HelperError."""
        return self._ask(Count(allocation), Counted)[0].counters

    def obstacles(self) -> tuple[Obstacle, ...]:
        """Other programs' rules that keep members from the outside. Raises HelperError."""
        return self._ask(Look(), Obstructed)[0].obstacles

    def listen(self, member: str, port: int) -> socket.socket:
        """A listener on 127.0.0.1 in the member's sandbox. Raises HelperError."""
        _, descriptor = self._ask(Listen(member, port), Listening)
        if descriptor is None:
            raise HelperError("the helper sent no listener")
        return socket.socket(fileno=descriptor)

    def _ask(self, request: Request, expected: type[Expected]) -> tuple[Expected, int | None]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_TIMEOUT_S)
                connection.connect(str(self.path))
                send(connection, request)
                answer, descriptor = receive_answer(connection)
        except FileNotFoundError as error:
            raise HelperError(
                f"no helper listens at {self.path}; start it as root: "
                f"python -m quorate.agent.helper --user {os.geteuid()}"
            ) from error
        except (OSError, ProtocolError) as error:
            raise HelperError(f"the helper at {self.path} does not answer: {error}") from error
        if isinstance(answer, expected):
            return answer, descriptor
        raise HelperError(answer.sentence if isinstance(answer, Failed) else f"the helper answered {_kind(answer)}")


def _kind(answer: Answer) -> str:
    return type(answer).__name__
