"""PyTorch: `torch.distributed.run` around the entry point, with static rendezvous at the first member.

Facts are of PyTorch 2.13: torch/distributed/run.py and elastic/rendezvous/static_tcp_rendezvous.py. Static rendezvous
needs exactly one port that is known beforehand (the workers use torchrun's own store), where c10d picks a second one.
"""

from __future__ import annotations

import re
from typing import List, Mapping, Tuple

from quorate.launch.config import Configuration, Purpose
from quorate.launch.environment import main_host
from quorate.launch.launchers import Launch, LauncherError

#: Where the entry point is no Python itself, torchrun needs one; Debian has it under this name only.
_DEFAULT_PYTHON = "python3"
#: `-m torch.distributed.run`, but its end is the entry point's own: torchrun would exit with 1 whatever happened, and
#: hide the script's last words under a traceback of itself.
_TORCHRUN = """
import sys
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main
try:
    main()
except ChildFailedError as error:
    code = error.get_first_failure()[1].exitcode
    sys.exit(code if code > 0 else 128 - code)
except SignalException as error:
    sys.exit(128 + error.sigval)
"""
#: Collectives that each rank remembers.
FLIGHT_RECORDER_ENTRIES = "2000"
_PYTHON = re.compile(r"python(\d+(\.\d+)*)?t?")
#: torchrun starts its workers unbuffered by itself, so this option of Python is kept without any effort.
_HARMLESS = frozenset({"-u"})
_LAUNCHES_ITSELF = frozenset({"torch.distributed.run", "torch.distributed.launch"})


def derive(configuration: Configuration, entrypoint: Tuple[str, ...], environment: Mapping[str, str]) -> Launch:
    python, what = _split(entrypoint)
    processes = max(1, len(configuration.own.slots))
    argv = [python, "-c", _TORCHRUN]
    argv += _rendezvous(configuration)
    argv += [f"--nproc-per-node={processes}", *what]
    added = {
        # Without it, a restart under c10d reads the addresses of the attempt before: pytorch/pytorch#135712. Static
        # rendezvous does not need it, but a script that starts an elastic agent of its own does.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        # The flight recorder: without it nobody can say which rank missed which collective. An entry takes a few
        # hundred bytes; where dumps go is for the agent to say. By its older name (TORCH_NCCL_TRACE_BUFFER_SIZE) it
        # would be found by older versions too, but newer ones warn about that in the output of every rank.
        "TORCH_FR_BUFFER_SIZE": FLIGHT_RECORDER_ENTRIES,
    }
    if processes > 1:
        # torchrun does the same, with a warning on every start.
        added["OMP_NUM_THREADS"] = "1"
    return Launch(tuple(argv), added)


def _rendezvous(configuration: Configuration) -> List[str]:
    if configuration.size == 1 and Purpose.TORCH not in configuration.own.ports:
        return ["--standalone", "--nnodes=1"]
    return [
        f"--nnodes={configuration.size}",
        f"--node-rank={configuration.rank}",
        f"--master-addr={main_host(configuration)}",
        f"--master-port={configuration.first.port(Purpose.TORCH)}",
        # The prefix of all keys in the store: what strays in from elsewhere never mixes with ours.
        f"--rdzv-id={configuration.allocation}",
    ]


def _split(entrypoint: Tuple[str, ...]) -> Tuple[str, List[str]]:
    """The interpreter for torchrun, and what torchrun is to start.

    The entry point's own Python is used, because it is the one that has torch. A script or module is handed over as
    such; anything that only Python's command line can say (`-c`, `-X …`) is started as the command that it is.
    """
    program = entrypoint[0].rsplit("/", 1)[-1]
    if program == "torchrun":
        raise _launched_already(entrypoint[0])
    if not _PYTHON.fullmatch(program):
        return _DEFAULT_PYTHON, ["--no-python", *entrypoint]
    python, rest = entrypoint[0], list(entrypoint[1:])
    while rest and rest[0] in _HARMLESS:
        del rest[0]
    if len(rest) > 1 and rest[0] == "-m":
        if rest[1] in _LAUNCHES_ITSELF:
            raise _launched_already(f"-m {rest[1]}")
        return python, ["--module", *rest[1:]]
    if rest and not rest[0].startswith("-"):
        return python, rest
    return python, ["--no-python", *entrypoint]


def _launched_already(by: str) -> LauncherError:
    return LauncherError(
        f"the entry point starts {by} itself, and launcher torch would do so once more; "
        "write the script alone (python train.py), or use launcher none"
    )
