"""What a shim asks of whatever runs its member's command. Standard library only: every shim is forked with it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from quorate.model.logframes import Stream


@dataclass(frozen=True)
class End:
    """How a command ended. Exactly one of code and signal is set, unless nobody can know."""

    code: int | None = None
    signal: int | None = None
    #: Where the two do not tell all: why, in words, and the finding's code.
    reason: str = ""
    finding: str = ""


class Runner(Protocol):
    """One member's command from its start to its end. Nothing here blocks for longer than starting something does."""

    @property
    def outputs(self) -> Collection[int]:
        """Descriptors that may have output; one at its end is no longer among them."""
        ...

    @property
    def signs(self) -> Mapping[int, Callable[[], None]]:
        """Descriptors to wait for besides, and what is to be called when one can be read."""
        ...

    @property
    def due(self) -> float | None:
        """When `tick` is to be called, in seconds of CLOCK_BOOTTIME."""
        ...

    @property
    def end(self) -> End | None:
        """None until the command itself has ended; what it left may live on."""
        ...

    @property
    def entry(self) -> tuple[int, str]:
        """How others come into the member: a process of it, and its control group, empty where there is none."""
        ...

    def start(self, environment: Mapping[str, str]) -> None:
        """Starts the command. Raises OSError or CommandError, and nothing runs then."""
        ...

    def read(self, output: int) -> Sequence[tuple[Stream, bytes]]:
        """What one read gives; nothing where there is nothing now. On the stream PLATFORM the runner speaks itself."""
        ...

    def reaped(self, pid: int, status: int) -> None:
        """A child of the shim has ended."""
        ...

    def tick(self) -> None:
        """Time has passed."""
        ...

    def left(self) -> bool:
        """Whether anything of the member may still run, or its last words be under way."""
        ...

    def signal(self, number: int) -> None:
        """To everything of the member that runs."""
        ...

    def remove(self) -> None:
        """Nothing is left: clears away what held it."""
        ...
