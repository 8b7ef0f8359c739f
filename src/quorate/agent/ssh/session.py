"""SSH sessions in a member: commands, shells, sftp and scp; and forwarding, as the member itself could connect."""

import signal
from collections.abc import Callable
from typing import Any, cast

import asyncssh

from quorate.agent.ssh.child import Child, Start, Terminal

#: What a client may set besides TERM.
_ACCEPTED = ("LANG", "LC_", "COLORTERM")
_ERROR = asyncssh.EXTENDED_DATA_STDERR
_SIGNALLED = 128


class Server(asyncssh.SSHServer):
    """One connection. `trusted` ones have come through the member's own folder, and need no key."""

    def __init__(self, start: Start, count: Callable[[int], None], *, trusted: bool) -> None:
        self._start = start
        self._count = count
        self._trusted = trusted

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._count(1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._count(-1)

    def begin_auth(self, username: str) -> bool:
        return not self._trusted

    def session_requested(self) -> "Session":
        return Session(self._start)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return True


class Files(asyncssh.SFTPServer):
    """What sftp and scp see: all that the member sees, with its rights."""

    def __init__(self, channel: "asyncssh.channel.SSHChannel[bytes]") -> None:
        self._session = cast("asyncssh.SSHServerChannel[bytes]", channel)
        super().__init__(self._session)

    def exit(self) -> None:
        # OpenSSH's scp takes an sftp server without an exit code for one that has failed. By its old protocol it gets
        # one from the library.
        if self._session.get_subsystem() == "sftp":
            self._session.exit(0)


class Session(asyncssh.stream.SSHServerStreamSession[bytes]):
    """A command or a shell; sftp and scp are the library's own."""

    def __init__(self, start: Start) -> None:
        super().__init__(None, Files, 3, True)
        self._start = start
        self._child: Child | None = None
        self._ours = False

    @property
    def _channel(self) -> "asyncssh.SSHServerChannel[bytes]":
        return cast("asyncssh.SSHServerChannel[bytes]", self._chan)

    def pty_requested(self, term_type: str, term_size: Any, term_modes: Any) -> bool:
        return True

    def shell_requested(self) -> bool:
        self._ours = True
        return True

    def exec_requested(self, command: str) -> bool:
        self._ours = not command.startswith("scp ")
        return True

    def session_started(self) -> None:
        if not self._ours:
            super().session_started()
            return
        channel = self._channel
        kind = channel.get_terminal_type()
        terminal = None if kind is None else Terminal(kind, *channel.get_terminal_size())
        wanted = {name: value for name, value in channel.get_environment().items() if name.startswith(_ACCEPTED)}
        if terminal is not None:
            wanted["TERM"] = terminal.kind
        try:
            self._child = self._start(channel.get_command(), wanted, terminal, self)
        except OSError as error:
            channel.write(f"quorate: {error}\n".encode(), _ERROR)
            channel.exit(127)

    # --- what the client says ----------------------------------------------------------------------------------

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if not self._ours:
            super().data_received(data, datatype)
        elif self._child is not None:
            self._child.feed(data)

    def eof_received(self) -> bool:
        if not self._ours:
            return bool(super().eof_received())
        if self._child is not None:
            self._child.feed_eof()
        # The command may go on for as long as it likes.
        return True

    def signal_received(self, signal_name: str) -> None:
        if self._child is not None and (number := getattr(signal, f"SIG{signal_name}", None)) is not None:
            self._child.signal(number)

    def break_received(self, msec: int) -> bool:
        self.signal_received("INT")
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._child is not None:
            self._child.resize(Terminal("", width, height, pixwidth, pixheight))

    def pause_writing(self) -> None:
        if not self._ours:
            super().pause_writing()
        elif self._child is not None:
            self._child.hold(True)

    def resume_writing(self) -> None:
        if not self._ours:
            super().resume_writing()
        elif self._child is not None:
            self._child.hold(False)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._child is not None:
            self._child.hang_up()
            self._child = None

    # --- what the child says -----------------------------------------------------------------------------------

    def output(self, data: bytes, error: bool) -> None:
        self._channel.write(data, _ERROR if error else None)

    def input_wanted(self, wanted: bool) -> None:
        if wanted:
            self._channel.resume_reading()
        else:
            self._channel.pause_reading()

    def ended(self, code: int | None, number: int | None) -> None:
        self._child = None
        name = None if number is None else _signal_name(number)
        if name is not None:
            self._channel.exit_with_signal(name)
        else:
            # Of a signal without a name, as shells have it.
            self._channel.exit((code or 0) if number is None else _SIGNALLED + number)


def _signal_name(number: int) -> str | None:
    """As SSH has it (RFC 4254, section 6.10); real-time signals have none."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return None
