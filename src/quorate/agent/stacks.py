"""Where Python processes are in their code, by py-spy where it is installed: nothing is changed in them.

It reads memory and files that a job has made, so it has the rights of the process that it looks at and no others, and
what it prints is not believed.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from quorate.agent import asuser

#: py-spy pauses a process for some milliseconds; what takes longer is given up.
_TIMEOUT_S: Final = 10.0
#: Frames that are told of a thread: the outermost are the interpreter's own.
_FRAMES: Final = 40
#: Of what it says where it fails.
_SENTENCE: Final = 200
_YAMA: Final = Path("/proc/sys/kernel/yama/ptrace_scope")
_LIBRARIES: Final = re.compile(r".*/(site-packages|dist-packages|python3\.\d+)/")

MISSING: Final = "Python stacks need py-spy on the agent's machine: pip install 'quorate[diagnose]'"


def find() -> str | None:
    """The py-spy that is installed for this Python, or that is in the search path."""
    try:
        files = metadata.files("py-spy") or ()
    except metadata.PackageNotFoundError:
        files = ()
    installed = (str(file.locate()) for file in files if file.name == "py-spy")
    return next((path for path in installed if Path(path).exists()), None) or shutil.which("py-spy")


def is_python(pid: int) -> bool:
    """Whether the process is a Python interpreter."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name.startswith("python")
    except OSError:
        return False


class Stack(NamedTuple):
    """The main thread of a process."""

    #: The innermost first.
    frames: tuple[str, ...] = ()
    #: The innermost that is in no library, as `train.py:33`.
    at: str = ""
    #: Why there are none.
    why: str = ""


class _Frame(msgspec.Struct):
    name: str
    filename: str
    line: int


class _Thread(msgspec.Struct):
    frames: tuple[_Frame, ...]
    os_thread_id: int | None = None


class _NotToBeRead(Exception):
    """Nobody with the rights of this process could read it; the text says why."""


def of_process(py_spy: str, pid: int) -> Stack:
    """Where it is."""
    try:
        uid, gid = _rights(pid)
        looks = _is_strict() and asuser.can_look()
        with (
            os.fdopen(os.memfd_create("quorate-stack"), "w+b") as told,
            os.fdopen(os.memfd_create("quorate-stack"), "w+b") as complaint,
        ):
            done = subprocess.run(
                [sys.executable, "-I", "-S", asuser.__file__, str(uid), str(gid), "looks" if looks else "",
                 py_spy, "dump", "--json", "--pid", str(pid),
                 # To hold the process meanwhile takes what else the right is good for.
                 *(["--nonblocking"] if looks else [])],
                stdin=subprocess.DEVNULL, stdout=told, stderr=complaint, cwd="/", env={}, timeout=_TIMEOUT_S,
            )  # fmt: skip
            printed, said = (_whole(file.fileno()) for file in (told, complaint))
    except subprocess.TimeoutExpired:
        return Stack(why=f"py-spy took longer than {_TIMEOUT_S:g} s for process {pid}")
    except _NotToBeRead as error:
        return Stack(why=str(error))
    except OSError as error:
        return Stack(why=f"process {pid} could not be read: {error.strerror}")
    if done.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        why = lines[-1][:_SENTENCE] if lines else f"it ended with {done.returncode}"
        hint = "; this machine forbids it (sysctl kernel.yama.ptrace_scope)" if _is_strict() else ""
        return Stack(why=f"py-spy could not read process {pid}: {why}{hint}")
    try:
        return _main_thread(msgspec.json.decode(printed, type=list[_Thread]), pid)
    except (msgspec.DecodeError, RecursionError):
        return Stack(why=f"what py-spy printed of process {pid} is not understood")


def _rights(pid: int) -> tuple[int, int]:
    """User and group of a process. Raises OSError, and _NotToBeRead for a root that is kept from most of root's rights.

    Whoever is the same user may look into a process, but this one's user is also that of the machine's own files.
    """
    said, own = _status(pid), _status(os.getpid())
    uid, gid = int(said["Uid"].split()[0]), int(said["Gid"].split()[0])
    if uid == 0 and int(said["CapBnd"], 16) & int(own["CapEff"], 16) != int(own["CapEff"], 16):
        raise _NotToBeRead(f"process {pid} is root in a container, and nobody else may read its Python stack")
    return uid, gid


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    return {name: value for name, _, value in (line.partition(":") for line in lines)}


def _whole(file: int) -> bytes:
    return os.pread(file, asuser.OUTPUT_BYTES, 0)


def _is_strict() -> bool:
    """Whether this machine lets nobody without a right of root's read what is no child of its own."""
    try:
        return int(_YAMA.read_text()) > 0
    except (OSError, ValueError):
        return False


def _main_thread(threads: list[_Thread], pid: int) -> Stack:
    by_id = {thread.os_thread_id: thread for thread in threads}
    thread = by_id.get(pid) or next(iter(by_id.values()), None)
    if thread is None:
        return Stack(why=f"process {pid} runs no Python code")
    frames = thread.frames[:_FRAMES]
    # What is frozen or made up has no file of its own.
    own = (frame for frame in frames if not _LIBRARIES.match(frame.filename) and "<" not in frame.filename)
    first = next(own, None)
    at = f"{Path(first.filename).name}:{first.line}" if first else ""
    return Stack(tuple(map(_shown, frames)), at)


def _shown(frame: _Frame) -> str:
    """Without the folders in which libraries lie, which differ from machine to machine."""
    return f"{frame.name} ({_LIBRARIES.sub('', frame.filename)}:{frame.line})"
