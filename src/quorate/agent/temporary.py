"""Temporary folders that a member with surroundings of its own has for itself, instead of the machine's."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import quorate

#: Of the machine, and what stands for them in a member's folder.
_SEEN: Final = {"tmp": "/tmp", "var-tmp": "/var/tmp"}


def make(member: Path, needed: Iterable[str]) -> dict[str, str]:
    """Own folder to that which it takes the place of, except where something lies that the member needs.

    `needed` are words, such as those of a command and of its variables; paths among them count. Raises OSError.
    """
    paths = [Path(word) for word in needed if word.startswith("/")]
    paths += [member, Path(sys.prefix), Path(quorate.__file__)]
    # Everybody may write to what it holds; nobody but root gets here, except by way of a mount.
    within = member / "temporary"
    within.mkdir(mode=0o700)
    made = {}
    for name, seen in _SEEN.items():
        if not any(Path(seen) in path.parents for path in paths):
            own = within / name
            own.mkdir()
            own.chmod(0o1777)
            made[str(own)] = seen
    return made
