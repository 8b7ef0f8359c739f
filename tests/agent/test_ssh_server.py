"""What the SSH server of a member does to itself before it is among the member's processes."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quorate.agent.processes import groups_of

#: Asks for a user whom nobody knows, in a root whose nsswitch.conf names a module that it brings along.
LOOKS_UP = """
import ctypes, os, pwd, socket, sys
from quorate.agent.ssh import server as sshserver
if sys.argv[2] == "protected":
    sshserver._look_up_in_files_alone()
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    assert not result, os.strerror(ctypes.get_errno())
check(libc.unshare(0x00020000))
check(libc.mount(b"none", b"/", None, 0x44000, None))
check(libc.mount(os.fsencode(sys.argv[1]), b"/etc/nsswitch.conf", None, 0x1000, None))
for look in (lambda: pwd.getpwuid(4242424), lambda: socket.getaddrinfo(b"nobody..invalid", 80)):
    try:
        look()
    except (KeyError, OSError):
        pass
print("libnss_brought" in open("/proc/self/maps").read())
print(pwd.getpwuid(0).pw_name)
"""


@pytest.mark.lab
@pytest.mark.parametrize(("how", "loaded"), [("bare", "True"), ("protected", "False")])
def test_no_module_for_names_that_an_image_brings_is_loaded(tmp_path: Path, how: str, loaded: str) -> None:
    (tmp_path / "nsswitch.conf").write_text("passwd: files brought\nhosts: files brought\n")
    some = next(Path(path) for path in _libraries() if "libcrypto" in path or "libz" in path or "libm" in path)
    shutil.copy(some, tmp_path / "libnss_brought.so.2")
    done = subprocess.run(
        [sys.executable, "-c", LOOKS_UP, str(tmp_path / "nsswitch.conf"), how],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [loaded, "root"]


def _libraries() -> list[str]:
    ctypes.CDLL("libm.so.6")
    return [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line]


def test_the_groups_of_a_process_are_those_that_list_it() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        groups = groups_of(process.pid)
        assert groups
        assert all(str(process.pid) in (group / "cgroup.procs").read_text().split() for group in groups)
        process.communicate()


#: Is of the member's user, could be traced by it, and enters a member that is gone.
ENTERS = """
import ctypes, os, sys
from quorate.agent.ssh import server as sshserver
from quorate.agent.ssh.door import Service
os.setgid(65534)
os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
print("as it was", flush=True)
sys.stdin.readline()
try:
    sshserver.enter(Service.from_json(sys.argv[1]))
except OSError:
    print("hidden", flush=True)
sys.stdin.readline()
"""


@pytest.mark.lab
def test_before_it_enters_anything_the_server_can_be_traced_by_nobody() -> None:
    offer = {"nonce": "00", "rank": 0, "work": "/"}
    told = json.dumps({"member": "m", "uid": None, "gid": None, "pid": 2**22, "offer": offer})
    with subprocess.Popen(
        [sys.executable, "-c", ENTERS, told], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        memory = Path(f"/proc/{process.pid}/mem")
        assert process.stdout.readline() == b"as it was\n"
        assert memory.stat().st_uid == 65534
        process.stdin.write(b"\n")
        assert process.stdout.readline() == b"hidden\n"
        # The kernel gives to root what nobody else may read.
        assert memory.stat().st_uid == 0
        process.communicate(b"\n")
