"""The process beside each member that owns its output and its end, and outlives the agent. Standard library only.

It is forked by the zygote, single-threaded, and waits for: output, the end of a child, its agent, its companion.
"""

import json
import os
import select
import selectors
import signal
import socket
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from quorate.agent import command, leasefile, memberfolder, processes
from quorate.agent.order import Order
from quorate.agent.outcome import OUTCOME_BYTES, Outcome, write_outcome
from quorate.agent.processes import boottime
from quorate.agent.runtime.process import ProcessRunner
from quorate.agent.runtime.runner import End, Runner
from quorate.agent.runtime.surroundings import Surroundings
from quorate.agent.shim import companion, secrets
from quorate.agent.shim.log import FULL, ShimLog
from quorate.agent.shim.output import Output
from quorate.agent.shim.peer import Peer
from quorate.agent.ssh.door import Door

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
#: How long what a command left running has to end by itself once the command has ended.
_LEFTOVER_GRACE_S = 5.0
#: Kills are repeated at this pace until nothing is left: a process may fork while it is being killed.
_KILL_AGAIN_S = 0.05
#: The companion ends by itself once it has told the others; twice the time that it takes for that at most.
_COMPANION_GRACE_S = 10.0
#: The agent ends members when its lease is over. So much later the shim does it for an agent that is stopped or dead,
#: and yet well before the master may take the member for ended (its margin is 30 s).
_AGENT_FIRST_S = 5.0
#: When a lease cannot be read, it is looked at again after this.
_LEASE_AGAIN_S = 1.0


def become_supervisor() -> None:
    """Makes this process one that may be a shim: nobody's signal ends it, and what its children leave comes to it."""
    command.libc.prctl(_PR_SET_NAME, b"quorate-shim", 0, 0, 0)
    command.libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


class Shim:
    """Holds one member from before its start until after its end."""

    def __init__(self, order: Order, agent: socket.socket) -> None:
        self._order = order
        self._selector = selectors.DefaultSelector()
        self._agents: list[Peer] = []
        self._companion: Peer | None = None
        self._companion_pid = 0
        self._since: float | None = None
        #: Since when its companion, at the first member, has waited for others.
        self._waits_since: float | None = None
        self._ran_s = 0.0
        #: How the command ended, once that was told.
        self._end: End | None = None
        self._failure: tuple[str, str, bool] | None = None
        self._stop: tuple[str, bool] | None = None
        self._kill_at: float | None = None
        #: When the agent's lease is looked at next.
        self._lease_at = None if order.stop_after_s is None else boottime() + order.stop_after_s + _AGENT_FIRST_S
        self._wake_on_children()
        if order.companion:
            # Before everything else: the others wait for it, and what is done here meanwhile is done beside it.
            try:
                self._start_companion()
            except OSError as error:
                self._fail("START-FAILED", str(error))
        self._prepare(agent)

    # --- before the command ------------------------------------------------------------------------------------

    def _wake_on_children(self) -> None:
        wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._selector.register(wake, selectors.EVENT_READ, lambda: os.read(wake, 4096))

    def _prepare(self, agent: socket.socket) -> None:
        order = self._order
        os.chdir(order.folder)
        own = processes.process(os.getpid())
        assert own is not None
        with open(f"{memberfolder.IDENTITY}.new", "w") as file:  # noqa: PTH123 (pathlib costs a shim a megabyte)
            file.write(json.dumps(asdict(own)))
        os.rename(f"{memberfolder.IDENTITY}.new", memberfolder.IDENTITY)  # noqa: PTH104
        # Room for the outcome, taken now: a full disk must not hide how a member ended.
        with suppress(OSError):
            fd = os.open(f"{memberfolder.EXIT}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(fd, 0, OUTCOME_BYTES)
            os.close(fd)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with suppress(FileNotFoundError):
            os.unlink(memberfolder.SOCKET)  # noqa: PTH108
        listener.bind(memberfolder.SOCKET)
        os.chmod(memberfolder.SOCKET, 0o600)  # noqa: PTH101
        listener.listen(8)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))
        self._log = ShimLog(memberfolder.LOG, order.secrets.values())
        self._runner = self._make_runner()
        self._output = Output(self._selector, self._log, self._runner, self._tell)
        say = self._output.say
        self._door = Door(self._selector, order.member, order.ssh, self._visitor, say) if order.ssh else None
        self._add_agent(agent)

    def _make_runner(self) -> Runner:
        order = self._order
        if order.container is not None:
            # Imported here: what talks to an engine would be a burden for the shims of processes.
            from quorate.agent.runtime.container import ContainerRunner

            return ContainerRunner(order.container)
        more = tuple(order.ssh.over.items()) if order.ssh else ()
        surroundings = replace(self._surroundings, more=more)
        return ProcessRunner(order.member, order.argv, order.work, self._user, surroundings, self._beside)

    def _beside(self) -> list[int]:
        """What serves the member here and is none of what it runs."""
        return [pid for pid in (self._companion_pid, self._door.pid if self._door else 0) if pid]

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            self._add_agent(listener.accept()[0])

    def _add_agent(self, connection: socket.socket) -> None:
        peer = Peer(connection)
        self._agents.append(peer)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear_agent(peer))
        peer.send({"shim": self._order.member, "since": self._since, "log": self._log.size, "waits": self._waits_since})
        self._output.arm()
        if self._log.blocked:
            self._output.tell_blocked()

    def run(self) -> None:
        try:
            secrets.write(self._order)
            if self._door is not None:
                self._door.furnish()
            if not self._order.companion:
                self._start_command({})
        except (OSError, command.CommandError) as error:
            self._fail(_code_of(error), str(error))
        while not self._over():
            self._wait()
        self._finish()

    @property
    def _user(self) -> command.User | None:
        order = self._order
        return command.User(order.uid, order.gid) if order.uid is not None and order.gid is not None else None

    @property
    def _visitor(self) -> command.User | None:
        """Whom those who come into the member are there: the same as its command."""
        return command.User(*self._order.reader) if self._order.reader is not None else self._user

    @property
    def _surroundings(self) -> Surroundings:
        order = self._order
        folders = tuple(order.temporary.items())
        return Surroundings(order.netns, order.hosts_file, order.resolv_file, order.hostname, folders=folders)

    def _start_companion(self) -> None:
        self._companion_pid, ours = companion.start(self._surroundings, self._user)
        # The configuration may be larger than a socket's buffer, and there is nothing to do before it is read.
        ours.sendall(self._order.companion.encode() + b"\n")
        self._companion = peer = Peer(ours)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear_companion(peer))

    def _start_command(self, more: dict[str, str]) -> None:
        order = self._order
        environment = {**order.environment, **more, **order.user_environment, processes.MARKER: order.member}
        self._runner.start(environment)
        self._since = boottime()
        self._output.listen()
        self._tell({"running": self._since})
        if self._door is not None:
            try:
                self._door.open(*self._runner.entry, environment)
            except OSError as error:
                self._output.say(f"SSH-UNAVAILABLE: nobody can come in by SSH: {error}")

    # --- while it runs -----------------------------------------------------------------------------------------

    def _wait(self) -> None:
        due = [at for at in (self._kill_at, self._output.retry_at, self._lease_at, self._runner.due) if at is not None]
        timeout = max(0.0, min(due) - boottime()) if due else None
        for key, _ in self._selector.select(timeout):
            key.data()
        self._reap()
        now = boottime()
        if self._runner.due is not None and now >= self._runner.due:
            self._runner.tick()
            self._output.listen()
        if self._end is None and self._runner.end is not None:
            self._ended(self._runner.end)
        if self._output.retry_at is not None and now >= self._output.retry_at:
            self._output.retry(now)
        if self._lease_at is not None and now >= self._lease_at:
            self._look_at_lease(now)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = now + _KILL_AGAIN_S
            self._runner.signal(signal.SIGKILL)

    def _look_at_lease(self, now: float) -> None:
        order = self._order
        assert order.stop_after_s is not None
        ends = leasefile.ends(order.lease, order.stop_after_s)
        self._lease_at = now + _LEASE_AGAIN_S if ends is None else ends + _AGENT_FIRST_S
        if now >= self._lease_at:
            self._lease_at = None
            self._stop_member("its agent is gone, or heard nothing from the master for too long", False, order.grace_s)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._runner.reaped(pid, status)
            if self._door is not None:
                self._door.reaped(pid, status)
            if pid == self._companion_pid:
                self._companion_pid = 0
                if self._since is None and self._failure is None:
                    self._fail("COMPANION-LOST", "its companion ended before the members had met")

    def _ended(self, end: End) -> None:
        self._end = end
        self._output.ended = True
        if self._since is not None:
            self._ran_s = boottime() - self._since
        if self._door is not None:
            self._door.close()
        if self._companion is not None:
            exited = {"code": end.code, "signal": end.signal, "stopped": self._stop is not None}
            self._companion.send({"exited": exited})
        if self._kill_at is None and self._runner.left():
            self._runner.signal(signal.SIGTERM)
            self._kill_at = boottime() + min(_LEFTOVER_GRACE_S, self._order.grace_s)

    def _stop_member(self, reason: str, echo: bool, grace_s: float) -> None:
        if self._since is None:
            self._fail("", reason or "it was stopped before it began", echo)
            return
        now = boottime()
        if self._stop is None and self._end is None:
            self._stop = (reason, echo)
            self._log.say(f"stopping: {reason}")
            if not echo and self._companion is not None:
                # Before the signal: whoever then loses a connection to this member must not be taken for the cause.
                self._companion.send({"ended": reason})
            self._runner.signal(signal.SIGTERM)
        self._kill_at = min(self._kill_at or now + grace_s, now + grace_s)

    def _fail(self, code: str, sentence: str, echo: bool = False) -> None:
        if self._failure is None and self._since is None:
            self._failure = (code, sentence, echo)

    # --- those who talk to it ----------------------------------------------------------------------------------

    def _tell(self, message: dict[str, Any]) -> None:
        for peer in self._agents:
            peer.send(message)

    def _hear_agent(self, peer: Peer) -> None:
        messages = peer.receive()
        if messages is None:
            self._selector.unregister(peer.connection)
            peer.connection.close()
            self._agents.remove(peer)
            return
        for message in messages:
            if "stop" in message:
                stop = message["stop"]
                self._stop_member(stop["reason"], stop["echo"], stop["grace_s"])
            elif "read" in message:
                self._output.asked(message["read"])
            elif "first_waits" in message and self._companion is not None:
                self._companion.send(message)

    def _hear_companion(self, peer: Peer) -> None:
        messages = peer.receive()
        if messages is None:
            self._selector.unregister(peer.connection)
            peer.connection.close()
            self._companion = None
            if self._since is None:
                self._fail("COMPANION-LOST", "its companion went silent before the members had met")
            return
        for message in messages:
            if "go" in message and self._since is None and self._failure is None:
                try:
                    self._start_command(message["go"].get("environment", {}))
                except (OSError, command.CommandError) as error:
                    self._fail(_code_of(error), str(error))
                    peer.send({"exited": {"code": 127, "signal": None, "stopped": False}})
            elif "failed" in message:
                self._fail(message["failed"]["code"], message["failed"]["sentence"])
            elif "stop" in message:
                stop = message["stop"]
                self._stop_member(stop["reason"], bool(stop.get("echo", True)), self._order.grace_s)
            elif "waits" in message:
                self._waits_since = boottime() - message["waits"]
                self._tell({"waits": self._waits_since})
            elif "notice" in message:
                self._output.say(f"{message['notice']['code']}: {message['notice']['sentence']}")

    # --- the end -----------------------------------------------------------------------------------------------

    def _over(self) -> bool:
        if self._failure is not None:
            return True
        if self._end is None or self._runner.left():
            return False
        if not self._output.drain() and self._stop is None:
            if self._output.retry_at is None:
                self._output.hold()
            return False
        return True

    def _finish(self) -> None:
        """No process of the member is left: makes the outcome durable, then tells it."""
        lost = self._log.give_up()
        secrets.remove(self._order)
        if self._door is not None:
            self._door.clear()
        end = self._end or End()
        reason, echo = self._stop or (end.reason, False)
        finding = (end.finding or self._bootstrap_failure(end)) if self._stop is None else ""
        if self._failure is not None:
            finding, reason, echo = self._failure
        elif lost:
            finding, reason = (
                "DISK-FULL",
                f"{reason}; the disk is full and {lost} bytes of output are lost".lstrip("; "),
            )
        outcome = Outcome(
            ran=self._failure is None,
            code=end.code,
            signal=end.signal,
            tail=self._log.tail,
            reason=reason,
            finding=finding,
            echo=echo,
            since=self._since,
            log_bytes=self._log.size,
            ran_s=round(self._ran_s, 3),
        )
        write_outcome(memberfolder.EXIT, outcome, told=lambda: self._tell({"over": asdict(outcome)}))
        self._runner.remove()
        self._let_companion_end()

    def _bootstrap_failure(self, end: End) -> str:
        if not end.code:
            return ""
        # Imported here: most members end well.
        from quorate.launch import bootstrap

        return "BOOTSTRAP-FAILED" if bootstrap.has_failed(self._order.member, self._log.tail) else ""

    def _let_companion_end(self) -> None:
        """It may still have to tell the others; and it must not outlive us."""
        if self._failure is not None and self._companion is not None:
            self._companion.connection.close()
        if not self._companion_pid:
            return
        # It alone: whatever else could be read is heeded no more, and would wake whoever waits for it again and again.
        handle = os.pidfd_open(self._companion_pid)
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        ended.poll(_COMPANION_GRACE_S * 1000)
        os.close(handle)
        self._reap()
        if self._companion_pid:
            processes.signal_all([self._companion_pid], signal.SIGKILL)


def _code_of(error: OSError | command.CommandError) -> str:
    if isinstance(error, command.CommandError):
        return error.code
    return "DISK-FULL" if error.errno in FULL else "START-FAILED"
