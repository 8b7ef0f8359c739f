"""What is seen of processes from outside: sockets, dumps of the flight recorder, signs of life; and what is not."""

import os
import pickle
import resource
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.agent.conftest import until

from quorate.agent import flightrecorder, sockets
from quorate.agent.processes import MARKER, environment, marked
from quorate.agent.progress import Sign, is_progress, signs
from quorate.model.asks import Collective


def test_listeners_and_connections_of_a_process_are_listed_with_both_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            client.send(b"unread")
            accepted.recv(1, socket.MSG_PEEK)
            found = sockets.of_processes([os.getpid()])
            own, far = server.getsockname()[1], client.getsockname()[1]
            assert [e for e in found if e.state == "LISTEN" and e.local_port == own and e.local == "127.0.0.1"]
            (there,) = [e for e in found if e.local_port == own and e.remote_port == far]
            assert (there.state, there.unread, there.pid) == ("ESTABLISHED", 6, os.getpid())


def test_a_mapped_address_is_shown_as_the_one_that_it_is() -> None:
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server,
        socket.create_connection(("127.0.0.1", server.getsockname()[1])) as client,
    ):
        far = client.getsockname()[1]
        accepted, _ = server.accept()
        with accepted:
            (there,) = [e for e in sockets.of_processes([os.getpid()]) if e.remote_port == far]
            assert (there.local, there.remote) == ("127.0.0.1", "127.0.0.1")


RECORDED = """
import sys
import torch
import torch.distributed as dist
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/store", rank=0, world_size=1)
dist.all_reduce(torch.ones(2))
dist.broadcast(torch.ones(2), 0)
dump = torch._C._distributed_c10d._dump_fr_trace()
open(f"{sys.argv[1]}/.quorate-flight-0", "wb").write(dump)
"""


@pytest.mark.torch
def test_a_dump_of_pytorch_is_read(tmp_path: Path) -> None:
    environment = {**os.environ, "TORCH_FR_BUFFER_SIZE": "100"}
    subprocess.run([sys.executable, "-c", RECORDED, str(tmp_path)], env=environment, check=True, timeout=60)
    (newest,) = flightrecorder.read(tmp_path)
    assert (newest.rank, newest.sequence, newest.operation) == (0, 2, "broadcast")


def entry(**more: object) -> dict[str, object]:
    known = {"process_group": ("0", "default_pg"), "collective_seq_id": 3, "profiling_name": "nccl:all_reduce"}
    return {**known, "state": "started", "is_p2p": False, **more}


def dump(folder: Path, rank: str, value: object) -> None:
    (folder / f"{flightrecorder.DUMP}{rank}").write_bytes(pickle.dumps(value))


def test_of_every_rank_and_group_the_newest_collective_is_told(tmp_path: Path) -> None:
    dump(tmp_path, "1", {"entries": [entry(collective_seq_id=2), entry(), entry(process_group=("7", "tp"))]})
    assert set(flightrecorder.read(tmp_path)) == {
        Collective(1, "default_pg", 3, "all_reduce", "started"),
        Collective(1, "tp", 3, "all_reduce", "started"),
    }


class Evil:
    """A pickle that would run something."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/quorate-was-here",)


def test_a_dump_is_not_believed(tmp_path: Path) -> None:
    dump(tmp_path, "0", {"entries": [Evil()]})
    dump(tmp_path, "1", ["no", "dump"])
    dump(tmp_path, "2", {"entries": [entry(collective_seq_id="many"), entry(process_group="x"), 7]})
    (tmp_path / f"{flightrecorder.DUMP}3").write_bytes(b"\x80")
    (tmp_path / f"{flightrecorder.DUMP}4").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / f"{flightrecorder.DUMP}5")
    assert flightrecorder.read(tmp_path) == ()
    assert not Path("/tmp/quorate-was-here").exists()


def test_a_dump_that_would_take_all_memory_takes_none_of_the_agent_s(tmp_path: Path) -> None:
    # PUT at index 2**26: the memo becomes an array of twice as many places, which is 1 GiB.
    (tmp_path / f"{flightrecorder.DUMP}1").write_bytes(b"\x80\x04K\x01r\x00\x00\x00\x04.")
    dump(tmp_path, "3", {"entries": [entry()]})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert [one.rank for one in flightrecorder.read(tmp_path)] == [3]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024


def test_a_dump_that_tells_too_much_is_not_heard(tmp_path: Path) -> None:
    dump(tmp_path, "0", {"entries": [entry(process_group=(str(number),)) for number in range(20_000)]})
    dump(tmp_path, "1", {"entries": [entry()]})
    assert [one.rank for one in flightrecorder.read(tmp_path)] == [1]


def test_ranks_that_listen_on_their_pipe_are_asked_for_a_dump(tmp_path: Path) -> None:
    pipe, folder = tmp_path / f"{flightrecorder.PIPE}0.pipe", tmp_path
    os.mkfifo(pipe)
    # What is no pipe, and a pipe on which nobody listens, keep nobody waiting.
    (tmp_path / f"{flightrecorder.PIPE}1.pipe").write_text("")
    os.mkfifo(tmp_path / f"{flightrecorder.PIPE}2.pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    def answer() -> None:
        os.read(reader, 1)
        dump(folder, "0", {"entries": [entry()]})

    # Opened for writing here as well, so that the reader waits instead of seeing the end.
    keep = os.open(pipe, os.O_WRONLY)
    rank = threading.Thread(target=answer)
    rank.start()
    try:
        assert flightrecorder.ask_for_dumps(tmp_path) == 1
        assert [one.sequence for one in flightrecorder.read(tmp_path)] == [3]
    finally:
        rank.join(20)
        os.close(keep)
        os.close(reader)


#: Says, as any process may, that 64 MiB of its memory are its environment (prctl(2), PR_SET_MM_MAP).
BOASTS = """
import ctypes, mmap, struct
room = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
start = ctypes.addressof(ctypes.c_char.from_buffer(room))
stat = open("/proc/self/stat").read().rpartition(")")[2].split()
field = lambda number: int(stat[number - 3])
known = (field(26), field(27), field(45), field(46), field(47), field(47), field(28), field(48), field(49))
told = struct.pack("11QQII", *known, start, start + len(room), 0, 0, 0xFFFFFFFF)
libc = ctypes.CDLL(None, use_errno=True)
failed = libc.prctl(35, 14, told, ctypes.c_ulong(len(told)), 0)
print(ctypes.get_errno() if failed else "done", flush=True)
input()
"""


def test_a_process_that_calls_all_its_memory_its_environment_is_read_no_further_than_an_honest_one() -> None:
    with subprocess.Popen([sys.executable, "-c", BOASTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        assert len(environment(process.pid)) == 8 << 20
        process.communicate(b"\n")


def test_the_mark_is_found_behind_all_the_variables_that_a_process_may_have() -> None:
    member = "zzzz-2.0.1"
    variables = {f"FILL{number}": "x" * 120_000 for number in range(15)}
    with subprocess.Popen(["cat"], env={**variables, MARKER: member}, stdin=subprocess.PIPE) as process:
        # Until it has become `cat`, it has the variables of this process.
        until(lambda: environment(process.pid).endswith(f"{MARKER}={member}\0".encode()))
        assert marked(member) == [process.pid]
        process.communicate()


def test_output_work_and_traffic_are_signs_of_progress_and_a_heartbeat_is_none() -> None:
    before = Sign(output=100, cpu_s=5.0, sent=10_000)
    assert not is_progress(before, Sign(100, 5.1, 12_000), 60.0)
    assert is_progress(before, Sign(101, 5.0, 10_000), 60.0)
    assert is_progress(before, Sign(100, 30.0, 10_000), 60.0)
    assert is_progress(before, Sign(100, 5.0, 10_000_000), 60.0)
    # NCCL's ranks keep a core busy while they wait.
    assert not is_progress(before, Sign(100, 65.0, 10_000), 60.0, spins=True)


def test_a_process_that_bears_the_members_mark_counts_although_it_is_nobodys_child_here(tmp_path: Path) -> None:
    member = "zzzz-1.0.1"
    (tmp_path / "log").write_bytes(b"said")
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint('warm', flush=True)\ninput()"
    environment = {**os.environ, "QUORATE_MEMBER": member}
    with subprocess.Popen(
        [sys.executable, "-c", burn], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"warm\n"
        (sign,) = signs({member: tmp_path}).values()
        assert sign.output == 4
        assert sign.cpu_s >= 0.2
        process.communicate(b"\n")
