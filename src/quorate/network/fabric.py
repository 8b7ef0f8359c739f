"""Which network NCCL has chosen, read from what it says of itself, and whether that is the pool's fabric; pure.

With NCCL_DEBUG=INFO NCCL writes a line for each network that it tries, and one for the choice: NVIDIA's NCCL,
src/transport/net_ib, src/transport/net_socket.cc, src/plugin/net.cc; for EFA also AWS's plugin, aws-ofi-nccl. Where it
finds no device for RDMA it takes TCP without a complaint, and training is many times slower.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from quorate.network.joining import BESIDE_THE_KERNEL

#: Lines of a member that are worth keeping, and characters of each.
_MOST: Final = 16
_LENGTH: Final = 300

_SAYS: Final = re.compile(r"NCCL (?:INFO|WARN) (?P<words>.*)")
#: The first is that of most versions, the second that of the newest; a plugin for libfabric has a choice of its own.
_CHOICES: Final = (
    re.compile(r"Using network (?P<network>\S.*?)\s*$"),
    re.compile(r"Assigned NET plugin (?P<network>\S.*?) to comm"),
    re.compile(r"NET/OFI Selected [Pp]rovider is (?P<network>\w+)"),
)
_TCP: Final = frozenset({"socket", "sockets", "tcp"})
_CHANNEL: Final = re.compile(r"Channel .* via NET/(?P<network>[^/]+?)/")
#: What NCCL says before it takes TCP, and why that is.
_REASONS: Final = (
    (re.compile(r"NCCL_IB_DISABLE set by environment to [1-9]"), "NCCL_IB_DISABLE is set, which forbids RDMA"),
    (re.compile(r"NCCL_NET set by environment to Socket", re.IGNORECASE), "NCCL_NET is set to Socket"),
    (re.compile(r"Failed to open libibverbs"), "there is no libibverbs where the member runs"),
    (re.compile(r"NET/IB : No device found"), "NCCL found no device for RDMA"),
    (re.compile(r"NET/OFI No eligible providers were found"), "the plugin for EFA found no device"),
    (re.compile(r"Failed to initialize NET plugin IB"), "NCCL could not make use of any device for RDMA"),
)
#: Of the fabrics that NCCL reaches by a plugin, that nothing of it was found is the reason.
_NO_PLUGIN: Final = re.compile(r"(?:NET/Plugin ?: No plugin found|(?:Could not find|Plugin load .*): libnccl-net)")
_MENDS: Final = {
    "ib": "ls /dev/infiniband && ibv_devinfo, both where the member runs; in an image add devices: [/dev/infiniband]",
    "efa": "fi_info -p efa, where the member runs; its image needs aws-ofi-nccl and devices: [/dev/infiniband]",
}
_MENDS["roce"] = f"{_MENDS['ib']}; show_gids lists what NCCL_IB_GID_INDEX may be"


@dataclass(frozen=True, slots=True)
class Choice:
    """What NCCL has chosen, in its own word (`IB`, `Socket`, `AWS Libfabric`); empty where it has not said."""

    network: str
    #: Why it is not RDMA, as far as NCCL said it.
    because: str = ""

    @property
    def is_tcp(self) -> bool:
        """Whether it goes through the kernel's TCP."""
        return self.network.casefold() in _TCP


def telling(lines: Iterable[str]) -> tuple[str, ...]:
    """Of a member's output, what NCCL said about its network: without repetitions by its many ranks and channels."""
    found: dict[str, None] = {}
    for line in lines:
        said = _SAYS.search(line)
        if said is None:
            continue
        words = said["words"][:_LENGTH].strip()
        channel = _CHANNEL.search(words)
        if channel is not None:
            words = f"Channel 00 : via NET/{channel['network']}/"
        telling_ones = (*_CHOICES, _NO_PLUGIN, *(pattern for pattern, _ in _REASONS))
        if channel or any(pattern.search(words) for pattern in telling_ones):
            found.setdefault(f"NCCL INFO {words}")
            if len(found) == _MOST:
                break
    return tuple(found)


def choice(lines: Iterable[str], fabric: str = "") -> Choice:
    """What the lines say. If one rank has fallen back to TCP all of them wait for it, so that this is what counts."""
    networks, words = [], []
    for line in lines:
        said = _SAYS.search(line)
        if said is None:
            continue
        words.append(said["words"])
        for pattern in (*_CHOICES, _CHANNEL):
            named = pattern.search(said["words"])
            networks += [named["network"].strip()] if named else []
    network = min(networks, key=lambda one: not Choice(one).is_tcp, default="")
    if not Choice(network).is_tcp:
        return Choice(network)
    if fabric == "efa" and any(map(_NO_PLUGIN.search, words)):
        return Choice(network, "NCCL found no plugin for EFA (libnccl-net.so of aws-ofi-nccl)")
    because = next((why for pattern, why in _REASONS if any(map(pattern.search, words))), "")
    return Choice(network, because)


def fell_back(fabric: str, lines: Iterable[str]) -> str:
    """What is wrong, as a sentence's end; empty where NCCL uses the fabric, has not said, or the fabric is TCP."""
    if fabric not in BESIDE_THE_KERNEL:
        return ""
    chosen = choice(lines, fabric)
    if not chosen.is_tcp:
        return ""
    because = f": {chosen.because}" if chosen.because else ""
    return f"uses TCP (NCCL's network is {chosen.network}), though the pool's fabric is {fabric}{because}"


def mend(fabric: str) -> str:
    """What to look at, and to change, where RDMA is not used."""
    return _MENDS[fabric]
