"""What is done once a member is over: its processes, its container, its folder, and its user's files are removed."""

import asyncio
import logging
import signal
import time
from pathlib import Path

from quorate.agent import begun, leftovers, memberfolder
from quorate.agent.outcome import read_outcome
from quorate.agent.processes import Process
from quorate.agent.runtime import containers as found_containers
from quorate.agent.runtime.containers import Containers
from quorate.agent.secretsfolder import SecretsFolder
from quorate.agent.users import UserPool

log = logging.getLogger(__name__)

#: How long a companion may take to go after its member, and how often that is looked at, before its user is given out.
_LAST_PROCESS_S, _LAST_LOOK_S = 30.0, 0.5


class Clearing:
    """For all members of one agent."""

    def __init__(
        self, folder: Path, users: UserPool | None, secrets: SecretsFolder, containers: Containers | None
    ) -> None:
        """`folder`: of all members."""
        self._folder = folder
        self._users = users
        self._secrets = secrets
        self._containers = containers

    async def kill(self, member: str) -> None:
        """Ends what a lost shim has left; nothing of the member runs when this returns."""
        await asyncio.to_thread(leftovers.kill_all, member)
        if self._containers is not None:
            await self._containers.ended(member)
        self._secrets.remove(member)

    async def forget(self, member: str) -> None:
        """Removes the folder and the containers of a member that has ended, and what its user has left."""
        if self._containers is not None and found_containers.is_held(self._folder / member):
            await self._containers.forget(member)
        await self._clear_away(member)

    async def end_unknown(self, member: str) -> None:
        """Whatever is left of a member that the journal does not know: processes only where a journal was lost."""
        folder = self._folder / member
        if (folder / memberfolder.IDENTITY).exists() and read_outcome(str(folder / memberfolder.EXIT)) is None:
            log.warning("the journal does not know member %s: what is left of it is ended", member)
            if (shim := Process.kept(folder / memberfolder.IDENTITY)) is not None:
                shim.kill(signal.SIGKILL)
            await asyncio.to_thread(leftovers.kill_all, member)
            self._secrets.remove(member)
        await self._clear_away(member)

    async def _clear_away(self, member: str) -> None:
        """The user is given to nobody else before everything of it is gone: the next one may read all of that."""
        begun.forget(self._folder / member)
        await asyncio.to_thread(leftovers.remove_tree, self._folder / member)
        allocation, _, _ = member.rpartition(".")[0].rpartition(".")
        if self._users is None or any(found.name.startswith(f"{allocation}.") for found in self._folder.iterdir()):
            return
        if (uid := self._users.retire(allocation)) is None:
            return
        until = time.monotonic() + _LAST_PROCESS_S
        while await asyncio.to_thread(leftovers.has_processes, uid):
            if time.monotonic() > until:
                log.warning("user %d of allocation %s still has processes: nobody else gets this user", uid, allocation)
                return
            await asyncio.sleep(_LAST_LOOK_S)
        await asyncio.to_thread(leftovers.remove_files, uid)
        self._users.free(uid)
