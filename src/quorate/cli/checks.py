"""What `quorate doctor` looks at on this machine: each check is one small function that returns one result."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC
from enum import StrEnum
from pathlib import Path

from quorate.network.findings import CLOCK_REMEDY, CLOCK_SKEW_S

#: For a master: Determined docs, "Deploy Determined with Dynamic Agents", compute engine machine types.
MASTER_CPUS = 2
MASTER_MEMORY = 4 * 10**9
MASTER_DISK = 100 * 10**9
#: What an agent keeps of its members' logs and contexts until the master has them.
AGENT_DISK = 5 * 10**9
#: Gloo and NCCL share memory between the processes of one machine.
SHARED_MEMORY = 64 * 2**20


class Level(StrEnum):
    """How a check came out. `skipped`: there was nothing to look at, or no way to tell; the evidence says which."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Result:
    """One check: a stable code, how it came out, what was seen, and what to do."""

    code: str
    level: Level
    evidence: str
    remedy: str = ""


@dataclass(frozen=True)
class Subject:
    """What the machine is to be fit for."""

    role: str
    state: Path
    master: str = ""


Check = Callable[[Subject], Result]


def python(_: Subject) -> Result:
    """Quorate needs 3.11."""
    return Result("PYTHON", Level.OK, f"{platform.python_version()} at {sys.executable}")


def system(_: Subject) -> Result:
    """Linux alone has what agents are built on."""
    seen = f"{platform.system()} {platform.release()}"
    return Result("SYSTEM", Level.OK if sys.platform == "linux" else Level.ERROR, seen, "use a Linux machine")


def cpus(subject: Subject) -> Result:
    """Cores that this process may use."""
    count = len(os.sched_getaffinity(0))
    if subject.role == "master" and count < MASTER_CPUS:
        return Result("CPU", Level.WARNING, f"{count} core; a master wants {MASTER_CPUS}", "take a larger machine")
    return Result("CPU", Level.OK, f"{count} cores")


def memory(subject: Subject) -> Result:
    """Memory of the machine, or what its control group allows."""
    import psutil

    total = min(psutil.virtual_memory().total, _cgroup_limit() or 2**63)
    seen = f"{total / 10**9:.1f} GB"
    if subject.role == "master" and total < MASTER_MEMORY * 0.95:
        return Result("MEMORY", Level.WARNING, f"{seen}; a master wants 4 GB", "take a larger machine")
    return Result("MEMORY", Level.OK, seen)


def _cgroup_limit() -> int | None:
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None


def disk(subject: Subject) -> Result:
    """Room where the state lies."""
    place = next(path for path in (subject.state, *subject.state.parents) if path.exists())
    usage = shutil.disk_usage(place)
    wanted, of = (MASTER_DISK, usage.total) if subject.role == "master" else (AGENT_DISK, usage.free)
    seen = f"{usage.free / 10**9:.0f} of {usage.total / 10**9:.0f} GB free at {place}"
    if of < wanted * 0.95:
        what = "a master wants a disk of 100 GB" if subject.role == "master" else "an agent wants 5 GB free"
        return Result(
            "DISK", Level.WARNING, f"{seen}; {what}", f"quorate {subject.role} --state-dir FOLDER, on a larger disk"
        )
    return Result("DISK", Level.OK, seen)


def open_files(_: Subject) -> Result:
    """Each agent's link and each member's log is an open file."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        return Result(
            "OPEN-FILES",
            Level.WARNING,
            f"at most {hard} open files",
            "as root: ulimit -n 65536, or LimitNOFILE=65536 in its unit",
        )
    return Result("OPEN-FILES", Level.OK, f"{soft} now, {hard} at most")


def ports(subject: Subject) -> Result:
    """The master's ports are free, or it is Quorate that holds them."""
    from quorate.network import catalogue

    wanted = (catalogue.port("api"), catalogue.port("api-tls"))
    taken = []
    for port in wanted:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("0.0.0.0", port))
            except OSError:
                taken.append(str(port))
    if taken and _own_master(taken):
        return Result("PORTS", Level.OK, f"this machine's master listens on {' and '.join(taken)}")
    if taken:
        seen = f"somebody listens on {' and '.join(taken)}, and it is no master of this user's"
        return Result("PORTS", Level.INFO, seen, f"ss -ltnp 'sport = :{taken[0]}'; quorate master --port takes another")
    return Result("PORTS", Level.OK, f"{wanted[0]} and {wanted[1]} are free")


def _own_master(ports: list[str]) -> bool:
    """Whether the master that this user runs here, or a local cluster's, listens on them."""
    from quorate.client.settings import load, of_this_machine
    from quorate.model.problem import QuorateError

    try:
        known = [one.master for one in (of_this_machine(), load()) if one is not None]
    except QuorateError:
        return False
    return any(url.endswith(f"//127.0.0.1:{port}") for url in known for port in ports)


def shared_memory(_: Subject) -> Result:
    """Members of one machine exchange tensors there."""
    try:
        about = os.statvfs("/dev/shm")
    except OSError:
        return Result("SHARED-MEMORY", Level.WARNING, "there is no /dev/shm", "mount -t tmpfs tmpfs /dev/shm")
    room = about.f_bavail * about.f_frsize
    level = Level.OK if room >= SHARED_MEMORY else Level.WARNING
    return Result(
        "SHARED-MEMORY", level, f"{room / 2**20:.0f} MiB free in /dev/shm", "mount -o remount,size=8g /dev/shm"
    )


def root(_: Subject) -> Result:
    """Whether members can be kept apart."""
    if os.geteuid() == 0:
        return Result("ROOT", Level.OK, "root: members can have users and networks of their own")
    return Result(
        "ROOT",
        Level.INFO,
        "not root: members run as this user, in the host's network: one trust domain",
        "sudo quorate service install agent",
    )


def control_groups(_: Subject) -> Result:
    """A member's processes are ended together, however they fork."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    if unified.exists():
        own = Path("/proc/self/cgroup").read_text().strip().rpartition(":")[2]
        writable = os.access(Path("/sys/fs/cgroup") / own.lstrip("/"), os.W_OK)
        seen = "cgroup v2, " + ("writable" if writable else "not writable for this user")
        return Result(
            "CGROUP", Level.OK if writable else Level.INFO, seen, "sudo quorate service install agent (Delegate=yes)"
        )
    if Path("/sys/fs/cgroup/pids").exists():
        return Result("CGROUP", Level.INFO, "cgroup v1: members are ended by their process tree", _BOOT)
    return Result("CGROUP", Level.INFO, "no control groups: members are ended by their process tree", _BOOT)


def private_networks(_: Subject) -> Result:
    """Whether members can have networks of their own: a small one is made, and removed again."""
    if os.geteuid() != 0:
        return Result(
            "NETWORKS",
            Level.SKIPPED,
            "only root can try whether members can have private networks",
            "sudo quorate doctor agent",
        )
    from quorate.cli.daemons import try_private_network

    why = try_private_network()
    if why:
        seen = f"no private networks, so members share the host's: {why}"
        return Result("NETWORKS", Level.INFO, seen, "modprobe -a vxlan bridge veth nf_tables; apt install libnftables1")
    return Result("NETWORKS", Level.OK, "members can have private networks: bridge, VXLAN and rules work")


#: On the kernel's command line: what most boot loaders call GRUB_CMDLINE_LINUX.
_BOOT = "boot with systemd.unified_cgroup_hierarchy=1: members are then ended together, however they fork"


def docker(_: Subject) -> Result:
    """Members in containers need it; members as processes do not."""
    if shutil.which("docker") is None:
        return Result("DOCKER", Level.SKIPPED, "not installed; members run as processes")
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Result("DOCKER", Level.WARNING, f"it does not answer: {error}", "systemctl status docker")
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
        denied = "permission denied" in why.lower()
        remedy = "sudo usermod -aG docker $USER, and log in again" if denied else "sudo systemctl start docker"
        return Result("DOCKER", Level.INFO, f"no engine answers: {why}", remedy)
    return Result("DOCKER", Level.OK, f"engine {done.stdout.strip()}")


def engine_proxy(_: Subject) -> Result:
    """Images come by the engine, so what the agent's file says of a proxy has to be told to that."""
    from quorate.cli.daemons import engine_detour
    from quorate.cli.errors import CommandError

    try:
        seen, remedy = engine_detour()
    except CommandError as error:
        return Result("ENGINE-PROXY", Level.SKIPPED, str(error))
    if seen:
        return Result("ENGINE-PROXY", Level.WARNING, seen, remedy)
    return Result("ENGINE-PROXY", Level.OK, "the engine pulls images by the agent's proxy")


def accelerators(_: Subject) -> Result:
    """What NVML sees."""
    try:
        import pynvml  # type: ignore[import-untyped]

        pynvml.nvmlInit()
    except Exception as error:
        return Result("GPU", Level.SKIPPED, f"no NVIDIA GPU: {error}")
    count = pynvml.nvmlDeviceGetCount()
    names = {str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(n))) for n in range(count)}
    driver = pynvml.nvmlSystemGetDriverVersion()
    return Result("GPU", Level.OK, f"{count} x {', '.join(sorted(names))}, driver {driver}")


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)); the rest is room."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 512))


def clock(_: Subject) -> Result:
    """Whether the kernel holds the clock to be kept right."""
    # TIME_ERROR (5): the clock is not synchronised, says adjtimex(2).
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(_Timex()))
    if state == 5:
        return Result("CLOCK", Level.WARNING, "the kernel's clock is not kept right by NTP", CLOCK_REMEDY)
    if state < 0:
        return Result("CLOCK", Level.SKIPPED, f"adjtimex: {os.strerror(ctypes.get_errno())}")
    return Result("CLOCK", Level.OK, "kept right by NTP")


def name(_: Subject) -> Result:
    """Frameworks look the host's own name up; one that does not resolve makes them wait."""
    host = socket.gethostname()
    began = time.monotonic()
    try:
        address = socket.gethostbyname(host)
    except OSError as error:
        return Result(
            "HOST-NAME",
            Level.WARNING,
            f"{host} does not resolve: {_short(error)}",
            f"echo '127.0.1.1 {host}' | sudo tee -a /etc/hosts",
        )
    took = time.monotonic() - began
    if took > 1:
        return Result("HOST-NAME", Level.WARNING, f"{host} takes {took:.1f} s to resolve", f"name {host} in /etc/hosts")
    return Result("HOST-NAME", Level.OK, f"{host} is {address}")


def _short(error: Exception) -> str:
    """`Connection refused`, without its number."""
    return str(error).partition("] ")[2] or str(error)


def master_answers(subject: Subject) -> Result:
    """The master, if one is named, and how far its clock is from ours."""
    if not subject.master:
        return Result("MASTER", Level.SKIPPED, "none was named", "quorate doctor --master URL")
    import httpx

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        # Only whether and when it answers is of interest here; nothing is sent that would need trust.
        answer = httpx.get(f"{subject.master}/healthz", timeout=5, verify=context, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Result(
            "MASTER",
            Level.ERROR,
            f"{subject.master}: {_short(error)}",
            "on its machine: quorate master show; between the two: quorate net explain agent-link-tls",
        )
    from email.utils import parsedate_to_datetime

    date = answer.headers.get("date")
    skew = abs(time.time() - parsedate_to_datetime(date).astimezone(UTC).timestamp()) if date else 0.0
    if skew > CLOCK_SKEW_S:
        return Result("CLOCK-SKEW", Level.WARNING, f"its clock differs by {skew:.0f} s", CLOCK_REMEDY)
    took = answer.elapsed.total_seconds() * 1000
    return Result("MASTER", Level.OK, f"{subject.master} answers in {took:.0f} ms")


_BOTH: tuple[Check, ...] = (system, python, cpus, memory, disk, open_files, clock, name)
_OF: dict[str, tuple[Check, ...]] = {
    "master": (*_BOTH, ports),
    "agent": (
        *_BOTH,
        shared_memory,
        root,
        control_groups,
        private_networks,
        docker,
        engine_proxy,
        accelerators,
        master_answers,
    ),
}


def run(subject: Subject) -> Iterator[Result]:
    """The results, one after the other; a check that breaks is a result as well."""
    for check in _OF[subject.role]:
        try:
            yield check(subject)
        except Exception as error:
            yield Result(check.__name__.upper().replace("_", "-"), Level.SKIPPED, f"could not look: {error}")
