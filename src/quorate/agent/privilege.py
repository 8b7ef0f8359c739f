"""Who does what needs root for members' networks: the helper of this machine, or one of the agent's own."""

import logging
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from quorate.agent import standing
from quorate.agent.config import AgentConfig
from quorate.agent.helper.client import Helper, HelperAway, HelperError
from quorate.agent.helper.process import HelperProcess, Taken
from quorate.agent.sandbox.place import Place

log = logging.getLogger(__name__)

#: Hello.features: this agent makes private networks.
SANDBOX: Final = "sandbox"
#: An agent does not wait longer for a helper before it goes without.
_ANSWER_S: Final = 20.0
#: Nor for one that is away.
_AWAY_S, _AGAIN_S = 5.0, 0.1


@dataclass
class Privilege:
    """A helper, and where it keeps namespaces, once it has said so."""

    helper: Helper
    place: Place = field(default_factory=Place)
    #: The one that is this agent's own.
    process: HelperProcess | None = None
    #: Keeps others from the helper that is not.
    lock: int | None = None

    def close(self) -> None:
        """Ends what is this agent's own."""
        if self.lock is not None:
            os.close(self.lock)
        if self.process is not None:
            self.process.close()


def seek(config: AgentConfig) -> Privilege | None:
    """A helper that has been started or was found; None, with a line in the log, where members can have no networks.

    Comes back before the helper has said anything: see `able`.
    """
    if not config.sandboxes:
        return None
    if os.geteuid() != 0 or not config.own_users:
        # Only root may enter a namespace, and members that are root could leave theirs.
        log.info("members share this machine's network: private ones need an agent that is root, and users for members")
        return None
    try:
        if config.helper.is_socket():
            return Privilege(Helper(config.helper), lock=standing.use(config.helper, config.state_dir))
        process = HelperProcess(config.state_dir)
    except (Taken, OSError) as error:
        log.warning("members share this machine's network: %s", error)
        return None
    process.start()
    return Privilege(process.client, process=process)


def able(privilege: Privilege) -> bool:
    """Whether the helper answers and the kernel can do what it takes; why not is in the log."""
    helper, deadline = replace(privilege.helper, timeout_s=_ANSWER_S), time.monotonic() + _AWAY_S
    while True:
        try:
            tried = helper.tried()
            privilege.place, why = Place(Path(tried.folder)), tried.why
        except HelperAway as error:
            # It may just be starting anew.
            if time.monotonic() < deadline:
                time.sleep(_AGAIN_S)
                continue
            why = str(error)
        except HelperError as error:
            why = str(error)
        break
    if why:
        log.warning("members share this machine's network, since it can have no private ones: %s", why)
    return not why
