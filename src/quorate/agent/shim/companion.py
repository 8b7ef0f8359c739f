"""Forks a member's companion: in the member's surroundings, as its user, with one socket. Standard library only."""

import os
import signal
import socket

from quorate.agent import command
from quorate.agent.runtime.surroundings import Surroundings
from quorate.launch import companion


def start(surroundings: Surroundings, user: command.User | None) -> tuple[int, socket.socket]:
    """Its pid, and the shim's end of the conversation with it. Raises OSError."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ours.close()
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            keep = theirs.fileno()
            os.closerange(3, keep)
            os.closerange(keep + 1, 4096)
            surroundings.enter()
            if user is not None:
                command.become(user)
            companion.serve(theirs)
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    return pid, ours
