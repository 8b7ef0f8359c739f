"""Writes a member's secrets to where it alone can read them, and removes them. Standard library only."""

import os

from quorate.agent.order import Order


def write(order: Order) -> None:
    """Raises OSError."""
    if not order.secrets:
        return
    remove(order)
    own = (-1, -1) if order.uid is None else (order.uid, order.gid if order.gid is not None else -1)
    reader = order.reader or own
    os.makedirs(order.secrets_folder, 0o700)  # noqa: PTH103
    for name, value in order.secrets.items():
        path = f"{order.secrets_folder}/{name}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w") as file:  # noqa: PTH123 (a descriptor)
            file.write(value)
        os.chown(path, *reader)
    os.chown(order.secrets_folder, *reader)


def remove(order: Order) -> None:
    """Nothing where there are none."""
    if not order.secrets:
        return
    # Imported here: it brings libraries of compression into every fork, and few members have secrets.
    import shutil

    shutil.rmtree(order.secrets_folder, ignore_errors=True)
