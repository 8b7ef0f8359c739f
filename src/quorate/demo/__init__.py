"""What `quorate demo` submits: a small, real training that ships with the package."""

from pathlib import Path
from typing import Final

#: The folder that is uploaded as the job's context: `train.py`, and nothing else.
CONTEXT: Final = Path(__file__).parent / "context"
#: The command of each member, in that folder.
ENTRYPOINT: Final = ("python", "train.py")
#: The line of the log in which the training states its result begins with this; a number between 0 and 1 follows.
ACCURACY_LINE: Final = "test accuracy "
#: A result below this means that something is broken, not that the training was unlucky.
ACCURACY_GOAL: Final = 0.95
