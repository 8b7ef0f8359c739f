"""PyTorch's flight recorder of the collectives, read from the dumps of a member's ranks.

NCCL's process group writes a dump when a collective times out, and when something is written to its pipe
(torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp, DumpPipe). Gloo's records, and never writes: its ranks say by their
stacks where they are. A dump comes from the job, so nothing in it is believed: it is unpickled without any class.
"""

import io
import os
import pickle
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from quorate.model.asks import Collective

#: In a member's working folder: the beginning of the names of dumps and pipes, to which PyTorch adds the rank.
DUMP: Final = ".quorate-flight-"
PIPE: Final = ".quorate-flight-ask-"
_MAX_BYTES: Final = 64 * 1024 * 1024
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
    for path in sorted(work.glob(f"{DUMP}*")):
        rank = path.name.removeprefix(DUMP)
        if rank.isdigit() and (dump := _load(path)) is not None:
            found += _newest(int(rank), dump)
    return tuple(found)


def _newest(rank: int, dump: dict[Any, Any]) -> list[Collective]:
    newest: dict[str, Collective] = {}
    entries = dump.get("entries")
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("is_p2p"):
            continue
        group, sequence = entry.get("process_group"), entry.get("collective_seq_id")
        if not isinstance(sequence, int) or not isinstance(group, tuple) or not group:
            continue
        one = Collective(
            rank,
            str(group[-1] or group[0])[:64],
            sequence,
            str(entry.get("profiling_name", "")).partition(":")[2][:64],
            str(entry.get("state", ""))[:16],
        )
        known = newest.get(one.group)
        if known is None or known.sequence <= sequence:
            newest[one.group] = one
    return list(newest.values())


def _load(path: Path) -> dict[Any, Any] | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
                return None
            loaded = _Values(io.BytesIO(file.read(_MAX_BYTES))).load()
    except Exception:  # a pickle can fail in any way, and one that is being written does
        return None
    return loaded if isinstance(loaded, dict) else None


class _Values(pickle.Unpickler):
    """Numbers, texts, lists, tuples and dictionaries; whoever wants more is no flight recorder."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a dump")


def _is_newer(path: Path, since: float) -> bool:
    try:
        # The clock of files ticks coarser than time.time().
        return path.stat().st_mtime >= since - 0.05 and path.stat().st_size > 0
    except OSError:
        return False
