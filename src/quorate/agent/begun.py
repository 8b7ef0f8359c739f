"""Whether anything of a member can have begun, of which no process is left: by what lies in its folder."""

from contextlib import suppress
from pathlib import Path
from typing import Final

from quorate.agent import memberfolder
from quorate.agent.processes import boot_id

#: In the member's folder: the boot in which it was made.
_BOOT: Final = "boot"


def mark(folder: Path) -> None:
    """Makes the folder of a member before the intent to start it is durable.

    So an intent without anything else is never what a death has left: of that nobody could say whether it was acted on.
    A folder without an intent means nothing. Where there can be no folder, `prepare` says why.
    """
    with suppress(OSError):
        _make(folder)


def unmark(folder: Path) -> None:
    """Nothing is intended after all."""
    if never(folder):
        with suppress(OSError):
            _remove(folder)


def prepare(folder: Path) -> None:
    """Before anything of the member may begin. Raises OSError, also where something of an earlier life is there."""
    if not never(folder):
        _make(folder)


def never(folder: Path) -> bool:
    """For certain: no shim has ever taken its order. To be asked once there can be none any more.

    A shim writes itself down before anything else, and no agent starts before every shim of the last one has done so
    (zygote.py). After another boot that means nothing: what was written then may be lost.
    """
    try:
        return (folder / _BOOT).read_text() == boot_id() and not (folder / memberfolder.IDENTITY).exists()
    except OSError:
        return False


def forget(folder: Path) -> None:
    """Before the folder of a member that has ended is removed: half of it must not look as if nothing had begun."""
    with suppress(OSError):
        (folder / _BOOT).unlink(missing_ok=True)


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o711)
    try:
        (folder / _BOOT).write_text(boot_id())
    except OSError:
        _remove(folder)
        raise


def _remove(folder: Path) -> None:
    (folder / _BOOT).unlink(missing_ok=True)
    folder.rmdir()
