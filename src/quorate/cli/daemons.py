"""The only place where the command line reaches into master and agent; it imports them when they are started."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quorate.cli.errors import CommandError
from quorate.cli.exits import Exit


def run_master(config: Path | None, flags: Mapping[str, Any], *, ready_fd: int | None, verbose: bool) -> int:
    """Runs the master until it is told to stop; raises CommandError for settings that cannot be used."""
    from quorate.master import config as master_config
    from quorate.master import server
    from quorate.model.yamlfile import FileProblems

    try:
        settings = master_config.load(flags, os.environ, config, ready_fd=_also_systemd(ready_fd), verbose=verbose)
    except FileProblems as error:
        raise CommandError(
            "the settings cannot be used", lines=tuple(map(str, error.problems)), code=Exit.USAGE
        ) from None
    except master_config.ConfigError as error:
        raise CommandError(str(error), hint="quorate master --help", code=Exit.USAGE) from None
    return server.run(settings)


def _also_systemd(ready_fd: int | None) -> int | None:
    """Where systemd waits for word (Type=notify), passes readiness on to it, as sd_notify(3) describes."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if not address or ready_fd is not None:
        return ready_fd
    reader, writer = os.pipe()

    def pass_on() -> None:
        with os.fdopen(reader, "rb") as ready:
            if not ready.readline():
                return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.sendall(b"READY=1")

    threading.Thread(target=pass_on, name="systemd", daemon=True).start()
    return writer
