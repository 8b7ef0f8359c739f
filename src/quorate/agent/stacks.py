"""Where Python processes are in their code, by py-spy where it is installed: nothing is changed in them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

#: py-spy pauses a process for some milliseconds; what takes longer is given up.
_TIMEOUT_S: Final = 10.0
#: Frames that are told of a thread: the outermost are the interpreter's own.
_FRAMES: Final = 40
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


def of_process(py_spy: str, pid: int) -> Stack:
    """Where it is."""
    try:
        done = subprocess.run([py_spy, "dump", "--json", "--pid", str(pid)], capture_output=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Stack(why=f"py-spy took longer than {_TIMEOUT_S:g} s for process {pid}")
    except OSError as error:
        return Stack(why=f"{py_spy} cannot be run: {error.strerror}")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"it ended with {done.returncode}"
        return Stack(why=f"py-spy could not read process {pid}: {why}")
    try:
        return _main_thread(json.loads(done.stdout), pid)
    except (ValueError, KeyError, TypeError):
        return Stack(why=f"what py-spy printed of process {pid} is not understood")


def _main_thread(threads: Iterable[dict[str, Any]], pid: int) -> Stack:
    by_id = {thread.get("os_thread_id"): thread for thread in threads}
    thread = by_id.get(pid) or next(iter(by_id.values()), None)
    if thread is None:
        return Stack(why=f"process {pid} runs no Python code")
    frames = thread["frames"][:_FRAMES]
    # What is frozen or made up has no file of its own.
    own = (frame for frame in frames if not _LIBRARIES.match(frame["filename"]) and "<" not in frame["filename"])
    first = next(own, None)
    at = f"{Path(first['filename']).name}:{first['line']}" if first else ""
    return Stack(tuple(map(_frame, frames)), at)


def _frame(frame: dict[str, Any]) -> str:
    """Without the folders in which libraries lie, which differ from machine to machine."""
    return f"{frame['name']} ({_LIBRARIES.sub('', frame['filename'])}:{frame['line']})"
