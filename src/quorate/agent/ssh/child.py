"""A command of an SSH session, as a process of the member: its pipes or its terminal, moved with back pressure."""

import asyncio
import errno
import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

_READ_BYTES = 64 * 1024
#: Input that the command does not read is held up to this; then the client is told to wait.
_HELD_BYTES = 256 * 1024


@dataclass(frozen=True)
class Terminal:
    """What the client's terminal is; sizes in characters and pixels."""

    kind: str
    columns: int = 80
    rows: int = 24
    width: int = 0
    height: int = 0


class Client(Protocol):
    """The other end of a session, as a child sees it."""

    def output(self, data: bytes, error: bool) -> None:
        """Something was written."""
        ...

    def input_wanted(self, wanted: bool) -> None:
        """Whether more input may come."""
        ...

    def ended(self, code: int | None, number: int | None) -> None:
        """It has ended with an exit code or by a signal, and all its output was told."""
        ...


class Child(Protocol):
    """A command that was started for a session."""

    def feed(self, data: bytes) -> None:
        """Input."""
        ...

    def feed_eof(self) -> None:
        """There is no more input."""
        ...

    def hold(self, held: bool) -> None:
        """Whether output is to wait."""
        ...

    def resize(self, terminal: Terminal) -> None:
        """The client's window has changed."""
        ...

    def signal(self, number: int) -> None:
        """To the command and what it started."""
        ...

    def hang_up(self) -> None:
        """The client has gone."""
        ...


class Feed:
    """Input on its way to a descriptor that takes it when it likes; the client waits while too much is held."""

    def __init__(self, client: Client, close: Callable[[int], None] | None) -> None:
        """`close`: does what tells the other side that there is no more, and closes for good; None: nothing does."""
        self._client = client
        self._close = close
        self._loop = asyncio.get_running_loop()
        self._to: int | None = None
        self._held = bytearray()
        self._over = False
        #: The client was told to wait.
        self._full = False

    def attach(self, descriptor: int) -> None:
        """Where it goes, from now on."""
        self._to = descriptor
        self._write()

    def detach(self) -> None:
        """Nobody takes any more; the descriptor is the caller's again."""
        if self._to is not None:
            self._loop.remove_writer(self._to)
        self._to, self._over = None, True
        self._held.clear()

    @property
    def attached(self) -> int | None:
        """The descriptor, if there is one still."""
        return self._to

    def take(self, data: bytes) -> None:
        """More."""
        if not self._over:
            self._held += data
            self._write()

    def end(self, last: bytes) -> None:
        """There is no more after `last`."""
        if not self._over:
            self._held += last
            self._over = self._close is not None
            self._write()

    def _write(self) -> None:
        if self._to is None:
            self._wait_if_full()
            return
        try:
            while self._held:
                del self._held[: os.write(self._to, self._held[:_READ_BYTES])]
        except BlockingIOError:
            self._loop.add_writer(self._to, self._write)
            self._wait_if_full()
            return
        except OSError:
            # Nobody reads it any more.
            self._held.clear()
            self._over = self._close is not None
        self._loop.remove_writer(self._to)
        if self._over and self._close is not None:
            descriptor, self._to = self._to, None
            self._close(descriptor)
        if self._full:
            self._full = False
            # Last, since more comes in this very call, and its end.
            self._client.input_wanted(True)

    def _wait_if_full(self) -> None:
        if len(self._held) > _HELD_BYTES and not self._full:
            self._full = True
            self._client.input_wanted(False)


class ProcessChild:
    """A Child in a session and process group of its own. Made in the event loop; raises OSError if it cannot start."""

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], terminal: Terminal | None, client: Client
    ) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._input = Feed(client, None if terminal is not None else os.close)
        self._paused = False
        self._end: tuple[int | None, int | None] | None = None
        self._told = False
        self._terminal = terminal is not None
        if terminal is not None:
            master, slave = os.openpty()
            given = master
            self._outputs = {master: False}
            ends: tuple[int, int, int] = (slave, slave, slave)
            _set_size(master, terminal)
        else:
            given, out, err, ends = _pipes()
            self._outputs = {out: False, err: True}
        for descriptor in {given, *self._outputs}:
            os.set_blocking(descriptor, False)
        try:
            self._process = subprocess.Popen(
                argv,
                env=dict(environment),
                stdin=ends[0],
                stdout=ends[1],
                stderr=ends[2],
                start_new_session=True,
                preexec_fn=_take_terminal if terminal is not None else _default_signals,
            )
        except BaseException:
            for descriptor in {given, *self._outputs}:
                os.close(descriptor)
            raise
        finally:
            for end in set(ends):
                os.close(end)
        self._input.attach(given)
        self._death = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._death, self._died)
        self._listen()

    def feed(self, data: bytes) -> None:
        self._input.take(data)

    def feed_eof(self) -> None:
        # A terminal has no end; the character that stands for it does what a person would do.
        self._input.end(b"\x04" if self._terminal else b"")

    # --- output ------------------------------------------------------------------------------------------------

    def hold(self, held: bool) -> None:
        self._paused = held
        self._listen()

    def _listen(self) -> None:
        for output in self._outputs:
            if self._paused:
                self._loop.remove_reader(output)
            else:
                self._loop.add_reader(output, self._read, output)
        if not self._paused:
            self._tell_end()

    def _read(self, output: int) -> None:
        if self._take(output):
            return
        if output not in self._outputs:
            self._tell_end()

    def _take(self, output: int) -> bool:
        """Moves what one read gives; False if there is nothing now, or never again."""
        try:
            data = os.read(output, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            # That is how a terminal ends.
            if error.errno != errno.EIO:
                raise
            data = b""
        if data:
            self._client.output(data, self._outputs[output])
            return True
        self._loop.remove_reader(output)
        del self._outputs[output]
        if not self._terminal:
            os.close(output)
        return False

    # --- the end -----------------------------------------------------------------------------------------------

    def _died(self) -> None:
        self._loop.remove_reader(self._death)
        os.close(self._death)
        code = self._process.wait()
        self._end = (code, None) if code >= 0 else (None, -code)
        self._tell_end()

    def _tell_end(self) -> None:
        """Once the command has ended and its output is at its end. What it left behind may hold a terminal for ever."""
        if self._end is None or self._told or not self._at_its_end():
            return
        self._told = True
        self._close()
        self._client.ended(*self._end)

    def _at_its_end(self) -> bool:
        if self._terminal:
            for output in tuple(self._outputs):
                while not self._paused and self._take(output):
                    pass
            return not self._paused
        return not self._outputs

    def resize(self, terminal: Terminal) -> None:
        if self._terminal and self._input.attached is not None:
            _set_size(self._input.attached, terminal)

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def hang_up(self) -> None:
        self.signal(signal.SIGHUP)
        self._paused = False
        self._close()
        self._told = True

    def _close(self) -> None:
        given = self._input.attached
        self._input.detach()
        for descriptor in {*self._outputs, *(() if given is None else (given,))}:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._outputs = {}


def _pipes() -> tuple[int, int, int, tuple[int, int, int]]:
    """Our ends for input, output and errors, then the command's."""
    (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = (os.pipe2(os.O_CLOEXEC) for _ in range(3))
    return ours_in, ours_out, ours_err, (theirs_in, theirs_out, theirs_err)


def _set_size(terminal: int, size: Terminal) -> None:
    fields = (min(max(0, field), 0xFFFF) for field in (size.rows, size.columns, size.width, size.height))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *fields))


def _take_terminal() -> None:
    """In the child: standard input becomes the terminal that controls its session."""
    _default_signals()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _default_signals() -> None:
    # What is ignored stays so across exec.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


Start = Callable[[str | None, Mapping[str, str], Terminal | None, Client], Child]
