"""How many ports of its window a member needs, and whether a narrowed window has them.

The figures for Gloo, TCPStore, Dask and TensorFlow were counted with the real libraries: torch 2.13.0, dask 2026.8.0,
TensorFlow 2.21.0 (`bench/port_budget.py`, `bench/results/port_budget.json`). Those for NCCL are read from its source
(NVIDIA/nccl at 5067397c26: src/bootstrap.cc, src/ras/ras.cc, src/transport/net_socket.cc). Those for Horovod and
Open MPI are estimates: neither was counted, and their sources leave the numbers to the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quorate.model.ports import LAST_PORT, PortRange
from quorate.network.findings import Finding

#: A world group and one each for data, tensor and pipeline parallelism.
DEFAULT_GROUPS = 4
#: NCCL's own choice depends on the machine; 32 was its upper limit until 2.19, and more is rare over sockets.
DEFAULT_CHANNELS = 32
#: NCCL opens `NCCL_SOCKET_NTHREADS` x `NCCL_NSOCKS_PERTHREAD` data sockets to a peer: 16 on AWS, 4 on GCP, else none,
#: and never more than 64. One more carries control.
DEFAULT_SOCKETS_PER_PEER = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """What a member's need of ports depends on."""

    launcher: str
    #: Processes of the framework in one member.
    ranks: int
    nodes: int
    groups: int = DEFAULT_GROUPS
    gpu: bool = False
    channels: int = DEFAULT_CHANNELS
    sockets_per_peer: int = DEFAULT_SOCKETS_PER_PEER


class Figures(StrEnum):
    """How far a share can be relied upon."""

    MEASURED = "measured"
    SOURCE = "from source"
    ESTIMATE = "estimate"


@dataclass(frozen=True, slots=True)
class Share:
    """What one library takes of a member's window, at the most at one time."""

    library: str
    listeners: int
    #: Connections from one member to one address and port: each needs a source port of its own.
    to_one_destination: int
    because: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Budget:
    """A member's need of ports, with where it comes from."""

    shares: tuple[Share, ...]

    @property
    def listeners(self) -> int:
        """Ports on which the member listens at one time, outside its fixed ones."""
        return sum(share.listeners for share in self.shares)

    @property
    def to_one_destination(self) -> int:
        """The most connections that it has to one address and port."""
        return max((share.to_one_destination for share in self.shares), default=0)

    @property
    def needed(self) -> int:
        """The smallest window that is always enough.

        Linux gives outgoing connections the ports of one parity first, and `bind(0)` those of the other
        (inet_hash_connect and inet_csk_find_open_port, net/ipv4). Connections to different destinations share ports,
        those to one do not; over many destinations they take every port of their parity. So half of the window must
        hold the listeners; and where one destination's connections outgrow their half, they take listeners' ports.
        """
        return max(2 * self.listeners + self.to_one_destination, 2 * self.to_one_destination)


def budget(shape: Shape) -> Budget:
    """Return what a member of that shape needs."""
    if shape.nodes * shape.ranks < 2:
        return Budget(())
    ranks, groups = shape.ranks, shape.groups
    shares = []
    if shape.launcher in ("torch", "deepspeed"):
        because = f"{ranks} ranks and the launcher connect to the store; a second store listens on a port of its own"
        shares.append(Share("TCPStore", 1, ranks + 1, because, Figures.MEASURED))
    if shape.launcher in ("torch", "deepspeed", "horovod"):
        because = f"each of {ranks} ranks listens once for each of {groups} groups and connects once to each peer"
        shares.append(Share("Gloo", ranks * groups, ranks, because, Figures.MEASURED))
        if shape.gpu:
            shares.append(_nccl(shape))
    if shape.launcher == "horovod":
        because = f"{ranks} tasks and a driver listen and connect to each other"
        shares.append(Share("Horovod", ranks + 2, ranks + 1, because, Figures.ESTIMATE))
    if shape.launcher == "mpi":
        because = f"{ranks} ranks and a daemon listen, over TCP and for PMIx"
        shares.append(Share("Open MPI", 2 * (ranks + 1), ranks + 1, because, Figures.ESTIMATE))
    if shape.launcher == "dask":
        because = f"each of {ranks} workers serves HTTP on a random port, besides its planned ones"
        shares.append(Share("Dask", ranks, 2 * ranks, because, Figures.MEASURED))
    if shape.launcher == "tensorflow":
        shares.append(
            Share("TensorFlow", 0, ranks, "servers listen on fixed ports and connect to each", Figures.MEASURED)
        )
    return Budget(tuple(shares))


def check_window(shape: Shape, window: PortRange, subject: str) -> Finding | None:
    """Return the finding if the window is smaller than the members of that shape need."""
    need = budget(shape)
    needed = need.needed
    if len(window) >= needed:
        return None
    parts = ", ".join(f"{share.library} {share.listeners}" for share in need.shares)
    evidence = (
        f"the window {window} has {len(window)} ports, {needed} are needed: twice the {need.listeners} listeners "
        f"({parts}) and {need.to_one_destination} connections to one destination"
    )
    last = window.first + needed - 1
    wider = f"window: {window.first}-{last}" if last <= LAST_PORT else f"window: {LAST_PORT + 1 - needed}-{LAST_PORT}"
    return Finding("PORT-BUDGET", subject, evidence, remedy=wider)


def _nccl(shape: Shape) -> Share:
    communicators = shape.groups
    # Each rank listens for the ring, for its peers and for its proxy as long as the communicator lives, and for the
    # root while it starts; RAS listens once a process. While rings and trees connect, the member listens on each
    # channel for the neighbours outside it: one of a ring, then at most three of a tree, whichever rank has them.
    # All-to-all would need one more for each pair of ranks.
    lasting = shape.ranks * (3 * communicators + 1)
    connecting = shape.ranks + 1 + 3 * shape.channels
    because = (
        f"each of {shape.ranks} ranks listens three times for each of {communicators} communicators, once for RAS and "
        f"once to start; while one connects, the member listens three times for each of {shape.channels} channels"
    )
    to_one = max(shape.ranks, shape.sockets_per_peer + 1)
    return Share("NCCL", lasting + connecting, to_one, because, Figures.SOURCE)
