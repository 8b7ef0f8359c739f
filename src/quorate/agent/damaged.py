"""Files of the agent's state that cannot be read: what is said of them, and how they are put out of the way."""

import os
from contextlib import suppress
from pathlib import Path


class StateDamaged(Exception):
    """The agent must not go on without a file of its state; the text has the cause, the evidence and what to do."""


def kept_aside(path: Path) -> Path:
    """Gives a damaged file a second name, beside its own, for whoever wants to know what became of it.

    Its own stays until it is written anew: without it a crash in between would look as if there had never been any.
    Raises StateDamaged where that is impossible.
    """
    aside = path.with_name(f"{path.name}.damaged")
    try:
        with suppress(FileNotFoundError):
            aside.unlink()
        os.link(path, aside)
    except OSError as error:
        raise StateDamaged(
            f"{path} is damaged and cannot be put aside: {error.strerror}; see ls -ld {path}, then move it away"
        ) from error
    return aside
