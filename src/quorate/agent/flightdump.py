"""Reads one dump of the flight recorder, in a process with no rights and little room, since a job may write anything.

Run as a program by flightrecorder.py: the dump is standard input, what is known of it goes to standard output as JSON,
a list of `[group, sequence, operation, state]`. It fails where that is not possible. Standard library only.
"""

import ctypes
import json
import os
import pickle
import resource
import sys
from typing import Any

#: PyTorch's own, of a few thousand collectives with their stacks, take a tenth of it.
_MEMORY_BYTES = 1 << 30
_CPU_S = 20
#: What is told.
_OUTPUT_BYTES = 256 * 1024
#: Nobody (setgroups(2) and setuid(2) of a process that is root).
_NOBODY = 65534
_PR_SET_NO_NEW_PRIVS = 38


class _Values(pickle.Unpickler):
    """Numbers, texts, lists, tuples and dictionaries; whoever wants more is no flight recorder."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a dump")


def newest(dump: Any) -> list[tuple[str, int, str, str]]:
    """The newest collective of every process group."""
    found: dict[str, tuple[str, int, str, str]] = {}
    entries = dump.get("entries") if isinstance(dump, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("is_p2p"):
            continue
        group, sequence = entry.get("process_group"), entry.get("collective_seq_id")
        if not isinstance(sequence, int) or not 0 <= sequence < 2**63 or not isinstance(group, tuple) or not group:
            continue
        operation = str(entry.get("profiling_name", "")).partition(":")[2][:64]
        one = (str(group[-1] or group[0])[:64], sequence, operation, str(entry.get("state", ""))[:16])
        known = found.get(one[0])
        if known is None or known[1] <= sequence:
            found[one[0]] = one
    return list(found.values())


def _give_up() -> None:
    """All that is not needed to read one file that is open already, and to write to another."""
    limits = {
        resource.RLIMIT_AS: _MEMORY_BYTES,
        resource.RLIMIT_CPU: _CPU_S,
        resource.RLIMIT_FSIZE: _OUTPUT_BYTES,
        resource.RLIMIT_CORE: 0,
    }
    for which, most in limits.items():
        resource.setrlimit(which, (most, most))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def main() -> None:
    _give_up()
    told = json.dumps(newest(_Values(sys.stdin.buffer).load()))
    sys.stdout.write(told)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
