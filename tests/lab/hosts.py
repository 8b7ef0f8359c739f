"""Machines of one's own on this one: each has its processes, network, name, /etc and disk, and all hang on one switch.

Nothing here has a name outside: a host is its first process, and all of it goes when that one does, also when the
tests are killed. What stays is a folder, its disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from quorate.agent.sandbox import namespaces

Value = TypeVar("Value")

#: The programs that make a lab.
NEEDED = ("bridge", "ip", "nft", "nsenter", "setpriv", "sysctl", "unshare")

#: Bounds a hang on a loaded machine; nothing here takes a tenth of it.
PATIENCE_S = 60.0
#: The checkout, which hosts see as it is.
REPOSITORY = Path(__file__).parents[2]
#: Where the commands of the interpreter that runs the tests lie: `quorate`, `python`.
BIN = Path(sys.executable).parent
#: The device with a host's address.
DEVICE = "eth0"

#: A host's first process makes it a machine: its own /proc and /sys, /run, /tmp as it is, /etc and /var/lib over ours.
#: It inherits to all that nobody waits for them, so what loses its parent leaves no zombie.
_BOOT = r"""
set -e
disk=$1 boot=$2
hostname "$3"
ip link set lo up
mount -t tmpfs -o mode=755 none /run
mkdir /run/cgroup
if [ -d /sys/fs/cgroup ]; then mount --rbind /sys/fs/cgroup /run/cgroup; fi
mount -t sysfs none /sys
if [ -d /sys/fs/cgroup ]; then mount --move /run/cgroup /sys/fs/cgroup; fi
rmdir /run/cgroup
for over in etc var/lib; do
    name=$(echo $over | tr / -)
    mkdir -p /run/over/$name/upper /run/over/$name/work
    mount -t overlay -o lowerdir=/$over,upperdir=/run/over/$name/upper,workdir=/run/over/$name/work none /$over
done
mkdir -p /var/lib/quorate /var/lib/docker
mount --bind "$disk" /var/lib/quorate
mount -t tmpfs none /var/lib/docker
echo "$boot" > /run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
rm -rf /etc/quorate
mkdir /etc/quorate
echo "$3" > /etc/hostname
"""
_STAY = 'trap "" CHLD; echo up; exec sleep infinity'


class CommandFailed(AssertionError):
    """A command in the lab ended with another code than 0."""


def run(*command: str, text: str | None = None, timeout_s: float = 60.0) -> str:
    """Runs a command and returns what it printed; raises CommandFailed with what it said."""
    done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=timeout_s)
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def until(condition: Callable[[], Value], what: object, patience_s: float = PATIENCE_S) -> Value:
    """Waits for what nobody announces; returns what the condition gave. `what` is told where it does not come about:
    words, or who has them then."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {patience_s:g} s: {what() if callable(what) else what}"
        time.sleep(0.02)
    return value


@dataclass
class Process:
    """A program in a host. `pid` is what this machine calls it; inside it has another one."""

    entry: subprocess.Popen[str]
    log: Path
    pid: int = 0

    def __post_init__(self) -> None:
        # nsenter forks, for only a child lives in another PID namespace.
        def child() -> list[psutil.Process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                return psutil.Process(self.entry.pid).children() or [self.entry] * (self.entry.poll() is not None)
            return [self.entry]

        self.pid = until(child, f"a process of {self.entry.args}")[0].pid

    @property
    def running(self) -> bool:
        return self.entry.poll() is None

    def signal(self, number: int) -> None:
        """Sends a signal to the program, if it still runs."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and waits."""
        self.signal(9)
        self.wait()

    def terminate(self) -> int:
        """SIGTERM, and waits; returns the exit code."""
        self.signal(15)
        return self.wait()

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        return self.entry.wait(patience_s)

    def said(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace")


@dataclass
class Host:
    """A machine on the switch."""

    name: str
    address: str
    folder: Path
    _init: subprocess.Popen[str] | None = None
    _pid: int = 0
    processes: list[Process] = field(default_factory=list)
    #: What every program on this host finds in its environment.
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """Its first process, as this machine calls it."""
        assert self._init is not None, f"{self.name} is off"
        return self._pid

    @property
    def network(self) -> Path:
        """Its network namespace."""
        return Path(f"/proc/{self.pid}/ns/net")

    @property
    def root(self) -> Path:
        """Its files, as it sees them."""
        return Path(f"/proc/{self.pid}/root")

    # --- power -------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Boots it, under a new boot id; it has what is on its disk, and no network yet."""
        disk = self.folder / "disk"
        disk.mkdir(parents=True, exist_ok=True, mode=0o755)
        script = "\n".join((_BOOT, *_passable(), _STAY))
        self._init = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--uts", "--mount", "--ipc", "--pid"),
                *("--fork", "--mount-proc", "--kill-child=KILL"),
                *("sh", "-c", script, "sh", str(disk), str(uuid.uuid4()), self.name),
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._init.stdout is not None
        assert self._init.stderr is not None
        if self._init.stdout.readline() != "up\n":
            raise CommandFailed(f"{self.name} does not boot: {self._init.stderr.read()}")
        self._pid = psutil.Process(self._init.pid).children()[0].pid

    def power_off(self) -> None:
        """Pulls its plug: every process of it is gone, and nothing was told to end."""
        if self._init is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, 9)
        self._init.communicate()
        self._init = None
        for process in self.processes:
            process.wait()
        self.processes.clear()

    # --- what happens on it ------------------------------------------------------------------------------------

    def inside(self, *command: str) -> list[str]:
        """The command, to be run from outside."""
        enter = ("nsenter", "--target", str(self.pid), "--net", "--uts", "--mount", "--ipc", "--pid", "--")
        return [*enter, "env", "-C", "/", *(f"{name}={value}" for name, value in self.environment.items()), *command]

    def run(self, *command: str, text: str | None = None, timeout_s: float = 60.0) -> str:
        """Runs a command and returns what it printed; raises CommandFailed."""
        return run(*self.inside(*command), text=text, timeout_s=timeout_s)

    def start(
        self, *command: str, log: str = "", environment: Mapping[str, str] | None = None, keep: tuple[int, ...] = ()
    ) -> Process:
        """Starts a program and lets it run; what it says goes to the file `log` in the host's folder."""
        path = self.folder / f"{log or Path(command[0]).name}.log"
        with path.open("a") as file:
            entry = subprocess.Popen(
                self.inside(*command), stdin=subprocess.DEVNULL, stdout=file, stderr=file, text=True, pass_fds=keep,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        process = Process(entry, path)
        self.processes.append(process)
        return process

    def quorate(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command of Quorate's, whatever it comes to."""
        command = self.inside(str(BIN / "quorate"), *arguments)
        return subprocess.run(command, input=text, text=True, capture_output=True, timeout=PATIENCE_S, check=False)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The body's own sockets are this host's; of this thread alone."""
        with namespaces.entered(self.network):
            yield

    def file(self, path: str) -> Path:
        """A file of this host's, to be read or written from outside."""
        return self.root / path.lstrip("/")

    def sysctl(self, name: str, value: str) -> None:
        self.run("sysctl", "-qw", f"{name}={value}")

    # --- its own faults ----------------------------------------------------------------------------------------

    def firewall(self, rules: str) -> None:
        """Loads rules with nft, in one go."""
        self.run("nft", "-f", "-", text=rules)

    def resolves(self, names: Mapping[str, str]) -> None:
        """Writes /etc/hosts: these names, to these addresses, and localhost."""
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in names.items())]
        self.file("/etc/hosts").write_text("\n".join(lines) + "\n")

    def clock_ahead(self, seconds: float) -> None:
        """Every Python that starts from now on, and what it starts, takes it to be so much later."""
        library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
        assert library, "apt install --no-install-recommends libfaketime"
        # libfaketime 0.9.10 takes a time to sleep until for one of its own clock, and Python sleeps so: out of the
        # table of names with that function, which comes before any other place that the name stands in.
        self.file("/run/libfaketime.so").write_bytes(
            library.read_bytes().replace(b"\0clock_nanosleep\0", b"\0clock_nanosleeq\0", 1)
        )
        real = Path(sys.executable).resolve()
        shutil.copy2(real, self.file("/run/python"))
        # In place of the interpreter, for neither the zygote nor a member inherits the agent's variables. Only the wall
        # clock: a program whose clock for waiting is not the kernel's waits for ever.
        wrapper = self.file("/run/python-ahead")
        wrapper.write_text(
            "#!/bin/bash\n"
            f"export LD_PRELOAD=/run/libfaketime.so FAKETIME={seconds:+g}s FAKETIME_DONT_FAKE_MONOTONIC=1\n"
            'exec -a "$0" /run/python "$@"\n'
        )
        wrapper.chmod(0o755)
        self.run("mount", "--bind", "/run/python-ahead", str(real))

    def clock_right(self) -> None:
        """Takes `clock_ahead` back, for what starts from now on."""
        self.run("umount", "-l", str(Path(sys.executable).resolve()))


def _passable() -> Iterator[str]:
    """Members are no root, and Python or the checkout may lie in root's home: let them pass, and see no more of it."""
    closed: dict[Path, set[Path]] = {}
    for needed in (Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), REPOSITORY):
        for folder in reversed(needed.parents):
            if not folder.stat().st_mode & 0o001:
                closed.setdefault(folder, set()).add(needed)
                break
    for folder, kept in closed.items():
        places = list(enumerate(sorted(kept)))
        for number, path in places:
            yield f"mkdir /run/kept{number} && mount --bind '{path}' /run/kept{number}"
        yield f"mount -t tmpfs -o mode=755 none '{folder}'"
        for number, path in places:
            yield f"mkdir -p '{path}' && mount --move /run/kept{number} '{path}' && rmdir /run/kept{number}"


@dataclass
class Switch:
    """What hosts hang on. Faults of the network happen here, so that the hosts' own firewalls stay as they are."""

    _process: subprocess.Popen[bytes] | None = None

    def power_on(self) -> None:
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", "echo; exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self.run("ip", "link", "add", "switch", "type", "bridge")
        self.run("ip", "link", "set", "switch", "up")

    def power_off(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def run(self, *command: str, text: str | None = None) -> str:
        assert self._process is not None
        return run("nsenter", "--target", str(self._process.pid), "--net", "--", *command, text=text)

    def plug(self, host: Host, mtu: int = 1500) -> None:
        """Gives the host its link and address; returns once packets pass."""
        port = self.port(host)
        self.run(
            "ip", "link", "add", port, "mtu", str(mtu), "type", "veth",
            "peer", "name", DEVICE, "mtu", str(mtu), "netns", str(host.pid),
        )  # fmt: skip
        self.run("ip", "link", "set", port, "master", "switch", "up")
        host.run("ip", "address", "add", f"{host.address}/24", "dev", DEVICE)
        host.run("ip", "link", "set", DEVICE, "up")
        until(
            lambda: "state forwarding" in self.run("bridge", "link", "show", "dev", port), f"{host.name} on the switch"
        )

    @staticmethod
    def port(host: Host) -> str:
        """The switch's side of the host's link."""
        return f"to-{host.name}"


@dataclass
class Lab:
    """A switch and what hangs on it: 10.77.0.2 the master, .3 a user's desk, .4 the outside, from .11 on the rest."""

    folder: Path
    switch: Switch = field(default_factory=Switch)
    hosts: dict[str, Host] = field(default_factory=dict)

    def open(self, *names: str) -> None:
        """Makes the three that every lab has, and hosts of these names."""
        self.switch.power_on()
        for name, last in (("master", 2), ("desk", 3), ("outside", 4), *((n, 11 + i) for i, n in enumerate(names))):
            self.add(name, f"10.77.0.{last}")
        self.know_each_other()

    def add(self, name: str, address: str, mtu: int = 1500) -> Host:
        """One more machine."""
        host = Host(name, address, self.folder / name)
        host.folder.mkdir(parents=True)
        self.hosts[name] = host
        self.boot(host, mtu)
        return host

    def boot(self, host: Host, mtu: int = 1500) -> None:
        """Powers a host on and plugs it in."""
        host.power_on()
        self.switch.plug(host, mtu)

    def know_each_other(self) -> None:
        """Every host knows every other's name, as a name server would tell it."""
        for host in self.hosts.values():
            host.resolves({other.name: other.address for other in self.hosts.values()})

    def close(self) -> None:
        """Nothing of it is left: no process, namespace, mount or folder."""
        for host in self.hosts.values():
            host.power_off()
        self.switch.power_off()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]


@contextlib.contextmanager
def a_lab() -> Iterator[Lab]:
    """An empty lab, of which nothing is left afterwards. Skips the test, saying why, where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("the lab makes namespaces and firewalls, and needs root for that: sudo .venv/bin/pytest tests/lab")
    if missing := [program for program in NEEDED if not shutil.which(program)]:
        pytest.skip(f"the lab needs {', '.join(missing)}: apt install --no-install-recommends iproute2 nftables procps")
    # Not pytest's own folder, which nobody else may enter.
    made = Lab(Path(tempfile.mkdtemp(prefix="quorate-lab-")))
    made.folder.chmod(0o755)
    try:
        yield made
    finally:
        made.close()
