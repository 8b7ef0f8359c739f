"""A session in a member with this process's own terminal, or its pipes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import asyncssh

from quorate.cli import errors
from quorate.cli.exits import Exit
from quorate.client.inside import entered

if TYPE_CHECKING:
    from quorate.client.api import Client

_CHUNK_BYTES = 64 * 1024


def run(client: Client, job: str, member: str, line: str | None, terminal: str | None) -> int:
    """Runs a command, or a shell; returns its exit code. `terminal`: the kind of terminal that it is to have."""
    try:
        return asyncio.run(_session(client, job, member, line, terminal))
    except BrokenPipeError:
        # Nobody reads our output any more, as with `| head`: that is no broken connection.
        raise
    except (asyncssh.Error, ConnectionError) as error:
        errors.show(f"the connection to {member} broke: {error}", hint=f"quorate job show {job}")
        return Exit.PLATFORM


async def _session(client: Client, job: str, member: str, line: str | None, terminal: str | None) -> int:
    async with entered(client, job, member) as connection:
        process = await connection.create_process(
            line, term_type=terminal, term_size=_size() if terminal else (), encoding=None
        )
        loop = asyncio.get_running_loop()
        with _raw(terminal is not None):
            if terminal:
                loop.add_signal_handler(signal.SIGWINCH, lambda: process.change_terminal_size(*_size()))
            # Nothing can take a read of a terminal back, so it is one that the end of this process ends.
            threading.Thread(target=_feed, args=(loop, process), daemon=True).start()
            await asyncio.gather(_show(process.stdout, 1), _show(process.stderr, 2))
            await process.wait_closed()
    if process.exit_signal is not None:
        number = getattr(signal, f"SIG{process.exit_signal[0]}", None)
        return 128 + int(number) if number is not None else Exit.PLATFORM
    if process.exit_status is None:
        raise ConnectionError("it ended without an exit code")
    return process.exit_status


def _size() -> tuple[int, int]:
    columns, rows = shutil.get_terminal_size()
    return columns, rows


def _feed(loop: asyncio.AbstractEventLoop, process: asyncssh.SSHClientProcess[bytes]) -> None:
    """Standard input, as fast as it is taken there."""

    async def write(data: bytes) -> None:
        if data:
            process.stdin.write(data)
            await process.stdin.drain()
        else:
            process.stdin.write_eof()

    with suppress(OSError, RuntimeError, asyncssh.Error):
        while True:
            data = os.read(0, _CHUNK_BYTES)
            asyncio.run_coroutine_threadsafe(write(data), loop).result()
            if not data:
                return


async def _show(reader: asyncssh.SSHReader[bytes], to: int) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        await asyncio.to_thread(_write, to, data)


def _write(to: int, data: bytes) -> None:
    while data:
        data = data[os.write(to, data) :]


@contextmanager
def _raw(wanted: bool) -> Iterator[None]:
    """The terminal passes every key on, and is given back as it was."""
    if not wanted or not sys.stdin.isatty():
        yield
        return
    was = termios.tcgetattr(0)
    try:
        # What was typed while the connection was made is for the other side.
        tty.setraw(0, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, was)
