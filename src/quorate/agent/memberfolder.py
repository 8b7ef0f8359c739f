"""What lies in a member's folder, where its shim and each life of its agent find it again. Standard library only."""

import socket
from pathlib import Path
from typing import Final

from quorate.agent import unixsocket

#: Where all of them lie, in the agent's state folder.
ALL: Final = "members"
#: The shim's: its socket, who it is, the member's output, and how the member ended.
SOCKET: Final = "shim.sock"
IDENTITY: Final = "shim.json"
LOG: Final = "log"
EXIT: Final = "exit.json"
#: The agent's, for its next life: the UID of the allocation; and that of a member in the host's network.
UID: Final = "uid"
HOST_UID: Final = "host-uid"
#: The working folder of the command, whose owner is the user that it runs as.
WORK: Final = "work"


def connect(folder: Path) -> socket.socket | None:
    """A connection to the shim that serves this folder; None if there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        unixsocket.connect(connection, folder / SOCKET)
    except OSError:
        connection.close()
        return None
    return connection
