"""A small process that forks a shim in two milliseconds, where starting an interpreter takes twenty.

It has one thread and the standard library only, knows no secret, and ends when its agent does; shims live on. For each
byte that comes, with a socket attached, one shim is forked; that reads its order from the socket, so it may be forked
before there is one: a spare. A spare whose agent ends, ends too.
"""

import gc
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

from quorate.agent import processes
from quorate.agent.order import Order
from quorate.agent.shim.supervisor import Shim, become_supervisor

#: Larger than any allocation; an order holds environment, secrets and the members of the gang.
_MAX_ORDER = 64 * 1024 * 1024


class Zygote:
    """The agent's end. Raises OSError where the process is gone; make another then."""

    def __init__(self, lock: int) -> None:
        """`lock`: the lock on the agent's folder. The zygote holds it too, so that the next agent comes after it."""
        ours, theirs = socket.socketpair()
        root = str(Path(__file__).parents[2])
        # A bare interpreter: no site-packages, nothing of this process but the two descriptors.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-S", "-s", "-m", __name__, str(theirs.fileno()), str(lock)],
            env={"PYTHONPATH": root, "PATH": os.environ.get("PATH", os.defpath)},
            pass_fds=(theirs.fileno(), lock),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        theirs.close()
        self._socket = ours
        self._spare: socket.socket | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def spare(self) -> None:
        """Has one shim forked ahead, which saves the next member the wait: for when there is nothing better to do."""
        if self._spare is None:
            self._spare = self._fork()

    def fork(self) -> socket.socket:
        """A new shim's socket; write the order to it, as one line."""
        spare, self._spare = self._spare, None
        if spare is not None:
            # It says nothing before its order, so what can be read is its end. Not by select(2), which knows no
            # descriptor from 1024 on: an agent of hundreds of members has more.
            poll = select.poll()
            poll.register(spare, select.POLLIN)
            if not poll.poll(0):
                return spare
            spare.close()
        return self._fork()

    def _fork(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self._socket, [b"+"], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        """Lets it end; shims are left alone."""
        if self._spare is not None:
            self._spare.close()
        self._socket.close()
        self._process.wait()


def main(control: int, lock: int) -> None:
    """The zygote's loop; returns when its agent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The kernel reaps what it forked; a shim takes the default back before it has children of its own.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    connection = socket.socket(fileno=control)
    # Found out once for all shims.
    processes.boot_id()
    processes.hierarchies()
    gc.collect()
    gc.freeze()
    while True:
        data, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        if not data:
            return
        # What comes over a socket would be inherited by the member's command.
        os.set_inheritable(descriptors[0], False)
        if os.fork() == 0:
            code = 1
            try:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                connection.close()
                _be_shim(socket.socket(fileno=descriptors[0]), lock)
                code = 0
            except BaseException:
                # Into the agent's log: nobody else would ever hear of it.
                traceback.print_exc()
            finally:
                # Before _exit: it drops what Python has not written.
                sys.stderr.flush()
                os._exit(code)
        os.close(descriptors[0])


def _be_shim(agent: socket.socket, lock: int) -> None:
    os.setsid()
    become_supervisor()
    received = bytearray()
    while not received.endswith(b"\n"):
        # Not a byte more than the order: the agent may have told the member to stop by now, and that is for the shim.
        data = agent.recv(1 << 20, socket.MSG_PEEK)
        if not data or len(received) > _MAX_ORDER:
            return
        received += agent.recv(data.find(b"\n") + 1 or len(data))
    life = Shim(Order.from_json(bytes(received)), agent)
    # From here on a new agent finds this shim, so it may begin.
    os.close(lock)
    life.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
