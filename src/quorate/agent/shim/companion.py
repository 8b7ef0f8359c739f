"""Forks a member's companion: in the member's surroundings, as its user, with one socket. Standard library only."""

import json
import os
import signal
import socket

from quorate.agent import command
from quorate.agent.runtime.surroundings import Surroundings, SurroundingsError
from quorate.launch import companion

_READ_BYTES = 64 * 1024


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
            try:
                surroundings.enter()
                if user is not None:
                    command.become(user)
            except (OSError, SurroundingsError) as error:
                _refuse(theirs, f"the companion could not come to its member: {error}")
            else:
                companion.serve(theirs)
                code = 0
        finally:
            os._exit(code)
    theirs.close()
    return pid, ours


def _refuse(channel: socket.socket, why: str) -> None:
    # What the shim says first is read, to its end: else what is said here could go with the connection.
    while (data := channel.recv(_READ_BYTES)) and not data.endswith(b"\n"):
        pass
    channel.sendall(json.dumps({"failed": {"code": "COMPANION-FAILED", "sentence": why}}).encode() + b"\n")
