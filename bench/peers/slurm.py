"""A Slurm of two nodes on this machine, in a directory of its own, stopped at the end.

Needs root and the packages slurm-wlm and munge (apt-get install --no-install-recommends slurm-wlm munge).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

CONTROL, NODE = 26817, 26818

CONFIGURATION = """
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/munge/socket
CredType=cred/munge
SlurmctldPort={control}
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd.%n.pid
SlurmdSpoolDir={dir}/spool.%n
StateSaveLocation={dir}/state
SlurmctldLogFile={dir}/slurmctld.log
SlurmdLogFile={dir}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
PriorityType=priority/basic
ReturnToService=2
MinJobAge=300
NodeName=node0 NodeHostname={host} NodeAddr=127.0.0.1 Port={node0} CPUs=8 RealMemory=4000
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={node1} CPUs=8 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


class SlurmUnavailable(RuntimeError):
    """Slurm is not installed here, or did not come up; the text says which."""


class Slurm:
    """A running Slurm; its commands are called with its own configuration."""

    def __init__(self, configuration: Path) -> None:
        self.environment = {**os.environ, "SLURM_CONF": str(configuration)}
        self.directory = configuration.parent

    def srun(self, nodes: int) -> None:
        """Runs `true` on so many nodes and waits for it."""
        self._call("srun", f"-N{nodes}", "--ntasks-per-node=1", "/bin/true")

    def sbatch(self) -> None:
        """Submits one batch job that runs `true`."""
        self._call("sbatch", "-n1", "-o", "/dev/null", "--wrap", "true")

    def drained(self) -> bool:
        """Whether no job is left in the queue."""
        return not self._call("squeue", "-h").strip()

    def version(self) -> str:
        """Such as 22.05.8."""
        return self._call("sinfo", "-V").split()[-1]

    def _call(self, *command: str) -> str:
        return subprocess.run(
            command, env=self.environment, cwd=self.directory, check=True, capture_output=True, text=True
        ).stdout


def _await(what: str, condition: object, deadline_s: float = 30.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            raise SlurmUnavailable(f"{what} did not come up within {deadline_s:.0f} s")
        time.sleep(0.05)


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Starts munge, the controller and two nodes; ends them by their own process ids."""
    for program in ("munged", "slurmctld", "slurmd", "srun"):
        if not shutil.which(program):
            raise SlurmUnavailable(f"{program} is missing: apt-get install --no-install-recommends slurm-wlm munge")
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="bench-slurm-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        for name in ("munge", "state", "spool.node0", "spool.node1"):
            (directory / name).mkdir()
        key = directory / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        for path in (directory / "munge", key):
            shutil.chown(path, "munge", "munge")
        (directory / "munge").chmod(0o700)
        key.chmod(0o400)
        (directory / "cgroup.conf").write_text("CgroupAutomount=no\n")
        configuration = directory / "slurm.conf"
        configuration.write_text(
            CONFIGURATION.format(
                dir=directory,
                host=socket.gethostname().split(".")[0],
                control=CONTROL,
                node0=NODE,
                node1=NODE + 1,
            )
        )
        server = Slurm(configuration)

        def start(*command: str) -> None:
            process = subprocess.Popen(
                command, env=server.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)

        identity = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"]
        files = [f"--{n}={directory / 'munge' / n.split('-')[0]}" for n in ("pid-file", "log-file", "seed-file")]
        munge_socket = directory / "munge" / "socket"
        start(*identity, "munged", "--force", "--foreground", "-S", str(munge_socket), f"--key-file={key}", *files)
        _await("munged", munge_socket.exists)
        start("slurmctld", "-D")
        start("slurmd", "-D", "-N", "node0")
        start("slurmd", "-D", "-N", "node1")

        def both_idle() -> bool:
            try:
                return server._call("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == "2"
            except subprocess.CalledProcessError:
                return False

        _await("Slurm", both_idle)
        yield server
