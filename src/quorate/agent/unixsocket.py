"""Unix sockets at paths of any length: an address holds 107 bytes of one. Standard library only."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager


def connect(connection: socket.socket, path: str | os.PathLike[str]) -> None:
    """Raises OSError."""
    with _short(path) as address:
        connection.connect(address)


def bind(listener: socket.socket, path: str | os.PathLike[str]) -> None:
    """Raises OSError."""
    with _short(path) as address:
        listener.bind(address)


@contextmanager
def _short(path: str | os.PathLike[str]) -> Iterator[str]:
    """The same place by way of a descriptor of its folder."""
    folder, name = os.path.split(path)
    descriptor = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
