"""Notices that a pause container has ended: a member whose network nobody holds any more has failed."""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quorate.agent.events import Event, NetworkLost
from quorate.agent.runtime.containers import is_held, pause_pid


@dataclass
class PauseWatch:
    """`tell` hears NetworkLost, in the event loop, when a member's pause container ends before `forget`."""

    tell: Callable[[Event], None]
    #: By member: a descriptor of that process.
    _handles: dict[str, int] = field(default_factory=dict)

    def watch(self, member: str, pid: int) -> None:
        """From now on; one that has ended already is told of at once."""
        self.forget(member)
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            self.tell(NetworkLost(member))
            return
        self._handles[member] = handle
        asyncio.get_running_loop().add_reader(handle, self._has_ended, member)

    def resume(self, folders: Mapping[str, Path]) -> None:
        """After a restart of the agent: the pause containers of members that live, by their folders."""
        for member, folder in folders.items():
            if (pid := pause_pid(folder)) is not None:
                self.watch(member, pid)
            elif is_held(folder):
                self.tell(NetworkLost(member))

    def forget(self, member: str) -> None:
        """What becomes of it means nothing any more."""
        handle = self._handles.pop(member, None)
        if handle is not None:
            asyncio.get_running_loop().remove_reader(handle)
            os.close(handle)

    def _has_ended(self, member: str) -> None:
        self.forget(member)
        self.tell(NetworkLost(member))
