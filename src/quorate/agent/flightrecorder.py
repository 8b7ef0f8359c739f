"""PyTorch's flight recorder of the collectives, read from the dumps of a member's ranks.

NCCL's process group writes a dump when a collective times out, and when something is written to its pipe
(torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp, DumpPipe). Gloo's records, and never writes: its ranks say by their
stacks where they are. A dump comes from the job, so nothing in it is believed, and a process without rights reads it
(flightdump.py).
"""

import os
import re
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from quorate.agent import flightdump
from quorate.model.asks import Collective

#: In a member's working folder: the beginning of the names of dumps and pipes, to which PyTorch adds the rank.
DUMP: Final = ".quorate-flight-"
PIPE: Final = ".quorate-flight-ask-"
_MAX_BYTES: Final = 64 * 1024 * 1024
#: A machine has fewer processors of one member; all of its dumps are read in this time.
_MOST_DUMPS: Final = 64
_READ_S: Final = 30.0
_RANK: Final = re.compile(r"0|[1-9][0-9]{0,6}")
_WRITTEN_S: Final = 5.0
_LOOK_S: Final = 0.05


def variables(work: str) -> dict[str, str]:
    """Where dumps go, and where they are asked for."""
    return {
        "TORCH_FR_DUMP_TEMP_FILE": f"{work}/{DUMP}",
        "TORCH_NCCL_DEBUG_INFO_PIPE_FILE": f"{work}/{PIPE}",
    }


def ask_for_dumps(work: Path) -> int:
    """Has every rank that listens on a pipe write a dump; returns how many were asked. Returns when they have."""
    asked: dict[Path, float] = {}
    for pipe in work.glob(f"{PIPE}*.pipe"):
        rank = pipe.name.removeprefix(PIPE).removesuffix(".pipe")
        with suppress(OSError):
            descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                    asked[work / f"{DUMP}{rank}"] = time.time()
                    os.write(descriptor, b"1")
            finally:
                os.close(descriptor)
    deadline = time.monotonic() + _WRITTEN_S
    while time.monotonic() < deadline and not all(_is_newer(dump, since) for dump, since in asked.items()):
        time.sleep(_LOOK_S)
    return len(asked)


def read(work: Path) -> tuple[Collective, ...]:
    """The newest collective of every rank and process group that has written a dump."""
    found: list[Collective] = []
    dumps = {path.name.removeprefix(DUMP): path for path in work.glob(f"{DUMP}*")}
    ranks = sorted(int(rank) for rank in dumps if _RANK.fullmatch(rank))
    deadline = time.monotonic() + _READ_S
    for rank in ranks[:_MOST_DUMPS]:
        found += [Collective(rank, *one) for one in _newest(dumps[str(rank)], deadline - time.monotonic())]
    return tuple(found)


def _newest(path: Path, patience_s: float) -> list[tuple[str, int, str, str]]:
    """Of one dump; nothing where it is none, or is not read in time."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file, os.fdopen(os.memfd_create("quorate-dump"), "w+b") as told:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
                return []
            subprocess.run(
                [sys.executable, "-I", "-S", flightdump.__file__],
                stdin=file,
                stdout=told,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                timeout=max(0.0, patience_s),
                check=True,
            )
            told.seek(0)
            return msgspec.json.decode(told.read(), type=list[tuple[str, int, str, str]])
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError):
        # One that is being written fails, too.
        return []


def _is_newer(path: Path, since: float) -> bool:
    try:
        # The clock of files ticks coarser than time.time().
        return path.stat().st_mtime >= since - 0.05 and path.stat().st_size > 0
    except OSError:
        return False
