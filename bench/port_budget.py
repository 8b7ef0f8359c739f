"""Counts the ports that frameworks really use: the listeners and outgoing connections of each of their ranks.

The figures are those of `quorate.network.budget`. Each framework runs in an interpreter that has it:

    python bench/port_budget.py --dask /path/to/python --tensorflow /path/to/python

Without one of the options that framework's earlier figures are kept. The kernel's part needs root, for a namespace.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import RESULTS, write

RANKS = (2, 4)
GROUPS = (1, 2, 3)


def sockets(pid: int) -> dict[str, int]:
    """What a process has: listeners, outgoing connections, and the most of these to one destination."""
    import psutil

    listening, established = set(), []
    for connection in psutil.Process(pid).net_connections("tcp"):
        if connection.status == "LISTEN":
            listening.add(connection.laddr.port)
        elif connection.status == "ESTABLISHED":
            established.append(connection)
    # A connection whose own port is a listener's was accepted; all others were opened by this process.
    outgoing = Counter((c.raddr.ip, c.raddr.port) for c in established if c.laddr.port not in listening)
    return {
        "listeners": len(listening),
        "outgoing": sum(outgoing.values()),
        "to_one_destination": max(outgoing.values(), default=0),
    }


# --- the kernel -------------------------------------------------------------------------------------------------


def kernel() -> list[dict[str, int]]:
    """How many listeners still fit a window of 100 ports beside connections to many destinations."""
    script = f"ip link set lo up && exec {sys.executable} {__file__} --kernel-trials"
    done = subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def in_namespace() -> None:
    """Run the kernel's trials in the present namespace, whose window they change, and print them."""
    trials = [(50, 10), (50, 50), (5, 60), (1, 100)]
    print(json.dumps([one_window(destinations, each) for destinations, each in trials]))


def one_window(destinations: int, each: int, size: int = 100) -> dict[str, int]:
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"40000 {40000 + size - 1}")
    servers, clients, listeners = [], [], []
    for number in range(destinations):
        server = socket.create_server(("127.0.0.1", 10_000 + number), backlog=512)
        servers.append(server)
        clients += [socket.create_connection(server.getsockname()) for _ in range(each)]
    while True:
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", 0))
        except OSError:
            break
        listener.listen()
        listeners.append(listener)
    used = {client.getsockname()[1] for client in clients}
    for item in (*servers, *clients, *listeners):
        item.close()
    return {
        "window": size,
        "destinations": destinations,
        "connections_to_each": each,
        "source_ports": len(used),
        "listeners_that_fit": len(listeners),
    }


# --- PyTorch ----------------------------------------------------------------------------------------------------


def torch_gloo() -> list[dict[str, int]]:
    """Gloo: the largest figures over the ranks, for each number of ranks and process groups."""
    found = []
    for ranks in RANKS:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "--gloo-ranks", str(ranks)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        found += json.loads(done.stdout.splitlines()[-1])
    return found


def gloo_job(ranks: int) -> None:
    import torch.multiprocessing

    torch.multiprocessing.spawn(gloo_rank, (ranks, free_port()), nprocs=ranks)


def gloo_rank(rank: int, ranks: int, port: int) -> None:
    import torch
    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.TCPStore("127.0.0.1", port, ranks, rank == 0)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    seen = []
    group = None
    for groups in GROUPS:
        dist.all_reduce(torch.ones(8), group=group)
        dist.barrier()
        seen.append({"ranks": ranks, "groups": groups, **sockets(os.getpid())})
        dist.barrier()
        group = dist.new_group(list(range(ranks)), backend="gloo")
    gathered: list[Any] = [None] * ranks
    dist.all_gather_object(gathered, seen)
    if rank == 0:
        print(json.dumps([largest(each) for each in zip(*gathered, strict=True)]))
    dist.barrier()
    dist.destroy_process_group()


def torchrun() -> dict[str, Any]:
    """A second node's and the first node's sockets under torchrun, agent and workers together."""
    import psutil

    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "wait.py")
        script.write_text(TORCHRUN)
        port = free_port()
        environment = {
            **os.environ,
            "MARK": f"{directory}/mark",
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2"]
        command += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
        each_node = [[*command, "--node-rank", str(node), str(script)] for node in range(2)]
        nodes = [subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL) for words in each_node]
        try:
            wait_until(lambda: all(Path(directory, f"mark{rank}").exists() for rank in range(4)))
            found = {}
            for name, node in zip(("first", "second"), nodes, strict=True):
                tree = [node.pid, *(child.pid for child in psutil.Process(node.pid).children(recursive=True))]
                each = [sockets(pid) for pid in tree]
                found[name] = {key: sum(one[key] for one in each) for key in each[0]}
            return {"ranks_per_node": 2, "nodes": found}
        finally:
            for node in nodes:
                for child in psutil.Process(node.pid).children(recursive=True):
                    child.kill()
                node.kill()
                node.wait()


TORCHRUN = """
import os, time, torch.distributed as dist
dist.init_process_group("gloo")
dist.barrier()
open(os.environ["MARK"] + os.environ["RANK"], "w").close()
time.sleep(60)
"""


# --- Dask and TensorFlow ----------------------------------------------------------------------------------------

DASK = """
import json, sys
import distributed
def at_worker(path):
    import os, sys
    sys.path.insert(0, path)
    import port_budget
    return port_budget.sockets(os.getpid())
if __name__ == "__main__":
    cluster = distributed.LocalCluster(n_workers=3, threads_per_worker=1, processes=True, host="127.0.0.1",
                                       dashboard_address="127.0.0.1:0")
    client = distributed.Client(cluster)
    data = client.map(lambda number: bytes(1000), range(6), pure=False)
    client.gather(client.map(lambda *all: len(all), *[[item] * 3 for item in data], pure=False))
    workers = list(client.run(at_worker, sys.argv[1]).values())
    print(json.dumps({"worker": {key: max(one[key] for one in workers) for key in workers[0]}, "workers": 3}))
"""

TENSORFLOW = """
import json, os, sys
sys.path.insert(0, sys.argv[1]); import port_budget
rank, ports = int(sys.argv[2]), sys.argv[3].split(',')
os.environ['TF_CONFIG'] = json.dumps({'cluster': {'worker': ['127.0.0.1:' + p for p in ports]},
                                      'task': {'type': 'worker', 'index': rank}})
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
@tf.function
def step(): return strategy.reduce('SUM', strategy.run(lambda: tf.ones([8])), axis=None)
step()
print(json.dumps(port_budget.sockets(os.getpid())), flush=True)
sys.stdin.read()
"""


def dask(python: str) -> dict[str, Any]:
    """Three Dask workers with their nannies: the largest figures over the workers."""
    return json.loads(run_in(python, DASK, [str(Path(__file__).parent)]).splitlines()[-1])


def run_in(python: str, program: str, arguments: list[str]) -> str:
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "program.py")
        script.write_text(program)
        return subprocess.run(
            [python, str(script), *arguments], capture_output=True, text=True, check=True, timeout=180
        ).stdout


def tensorflow(python: str) -> dict[str, Any]:
    """Three TensorFlow workers of a multi-worker strategy: the largest figures over the workers."""
    ports = ",".join(str(free_port()) for _ in range(3))
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "program.py")
        script.write_text(TENSORFLOW)
        workers = [
            subprocess.Popen(
                [python, str(script), str(Path(__file__).parent), str(rank), ports],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
            )
            for rank in range(3)
        ]
        try:
            lines = [json.loads(worker.stdout.readline()) for worker in workers if worker.stdout]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    return {"worker": largest(lines), "workers": 3}


# --- helpers ----------------------------------------------------------------------------------------------------


def largest(figures: Sequence[dict[str, int]]) -> dict[str, int]:
    return {key: max(one[key] for one in figures) for key in figures[0]}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until(condition: Any, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the job did not come up")
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dask", help="an interpreter with dask[distributed] and psutil")
    parser.add_argument("--tensorflow", help="an interpreter with tensorflow and psutil")
    parser.add_argument("--gloo-ranks", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kernel-trials", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.gloo_ranks:
        gloo_job(options.gloo_ranks)
        return
    if options.kernel_trials:
        in_namespace()
        return
    earlier = RESULTS / "port_budget.json"
    figures: dict[str, Any] = json.loads(earlier.read_text())["figures"] if earlier.exists() else {}
    if os.geteuid() == 0:
        figures["kernel"] = kernel()
    figures["gloo"] = torch_gloo()
    figures["torchrun"] = torchrun()
    if options.dask:
        figures["dask"] = dask(options.dask)
    if options.tensorflow:
        figures["tensorflow"] = tensorflow(options.tensorflow)
    how = "each process counts its own TCP sockets after a collective operation; the largest count of any rank is shown"
    write("port_budget", figures, how=how)


if __name__ == "__main__":
    main()
