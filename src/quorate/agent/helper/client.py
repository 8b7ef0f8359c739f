"""The agent's side of its root helper: blocking calls, to be made from a thread."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from quorate.agent import unixsocket
from quorate.agent.helper.protocol import (
    Admit,
    Admitted,
    Answer,
    Converge,
    Converged,
    Count,
    Counted,
    Cut,
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
    receive_answer,
    send,
)
from quorate.agent.sandbox.counters import Counters
from quorate.agent.sandbox.foreign import Obstacle
from quorate.agent.sandbox.place import SOCKET
from quorate.agent.sandbox.spec import Desired

#: Seconds; hundreds of sandboxes are made in a fraction of it.
_TIMEOUT_S: Final = 120.0

Expected = TypeVar("Expected", Converged, Drifted, Counted, Obstructed, Listening, Admitted, Tried)


class HelperError(Exception):
    """The helper could not do it; the text says why.

    HelperError
    └── HelperAway    it could not be reached, or ended before it answered
    """


class HelperAway(HelperError):
    """Nobody knows how much of it was done; to ask again is harmless."""


@dataclass(frozen=True)
class Helper:
    """The helper behind a socket."""

    path: Path = Path(SOCKET)
    timeout_s: float = _TIMEOUT_S

    def converge(self, desired: Desired, distrust: tuple[str, ...] = ()) -> Converged:
        """Makes the machine's private networks as desired. Raises HelperError."""
        return self._ask(Converge(desired, distrust), Converged)[0]

    def drift(self) -> tuple[str, ...]:
        """Which rules somebody has changed, for NET-DRIFT. Raises HelperError."""
        return self._ask(Drift(), Drifted)[0].names

    def counters(self, allocation: str) -> Counters:
        """What passed and what was refused. Raises HelperError."""
        return self._ask(Count(allocation), Counted)[0].counters

    def obstacles(self) -> tuple[Obstacle, ...]:
        """Other programs' rules that keep members from the outside. Raises HelperError."""
        return self._ask(Look(), Obstructed)[0].obstacles

    def resolver(self, allocation: str, gateway: str) -> tuple[socket.socket, socket.socket]:
        """Where the allocation's members ask for names: UDP and TCP. Raises HelperError."""
        asked, listener = self._sockets(Resolver(allocation, gateway), 2)
        return asked, listener

    def admit(self, allocation: str, addresses: dict[str, int]) -> None:
        """Lets the allocation's members reach these addresses for so many seconds. Raises HelperError."""
        self._ask(Admit(allocation, addresses), Admitted)

    def tried(self) -> Tried:
        """Why this machine can have no private networks, and where they are kept. Raises HelperError."""
        return self._ask(Try(), Tried)[0]

    def _sockets(self, request: Request, count: int) -> list[socket.socket]:
        _, descriptors = self._ask(request, Listening)
        found = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if len(found) != count:
            for each in found:
                each.close()
            raise HelperError(f"the helper sent {len(found)} sockets instead of {count}")
        return found

    def _ask(self, request: Request, expected: type[Expected]) -> tuple[Expected, list[int]]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self.timeout_s)
                unixsocket.connect(connection, self.path)
                send(connection, request)
                answer, descriptors = receive_answer(connection)
        except FileNotFoundError as error:
            raise HelperAway(
                f"no helper listens at {self.path}; start it as root: "
                f"python -m quorate.agent.helper --user {os.geteuid()}"
            ) from error
        except (OSError, Cut) as error:
            raise HelperAway(f"the helper at {self.path} does not answer: {error}") from error
        except ProtocolError as error:
            raise HelperError(f"the helper at {self.path} cannot be spoken to: {error}") from error
        if isinstance(answer, expected):
            return answer, descriptors
        raise HelperError(answer.sentence if isinstance(answer, Failed) else f"the helper answered {_kind(answer)}")


def _kind(answer: Answer) -> str:
    return type(answer).__name__
