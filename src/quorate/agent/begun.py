"""Whether anything of a member can have begun, of which no process is left: by what lies in its folder."""

from pathlib import Path
from typing import Final

from quorate.agent import memberfolder
from quorate.agent.processes import boot_id

#: In the member's folder: the boot in which it was prepared.
_BOOT: Final = "boot"


def prepare(folder: Path) -> None:
    """Before anything of the member may begin."""
    (folder / _BOOT).write_text(boot_id())


def never(folder: Path) -> bool:
    """For certain: no shim has ever taken its order. To be asked once there can be none any more.

    A shim writes itself down before anything else, and no agent starts before every shim of the last one has done so
    (zygote.py). After another boot that means nothing: what was written then may be lost.
    """
    try:
        return (folder / _BOOT).read_text() == boot_id() and not (folder / memberfolder.IDENTITY).exists()
    except OSError:
        return False
