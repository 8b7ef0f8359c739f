"""The prober on a machine of somebody else: does what standard input says, a JSON object a line, until it ends.

    {"nonce": hex, "who": name, "listen": [place or span, …]}   → {"ports": [port or null, …], "failed": [why, …]}
    {"probe": [target, …], "timeout_s": 3.5}                    → {"probes": [probe, …]}
    {"look": [address, …]}                                      → {"devices": {address: name or null}, "name": […]}
    {"clock": true}                                             → {"time": seconds since 1970}

Places, spans, targets and probes are those of probevalues.py. `name` is what the machine's own name resolves to.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

from quorate.launch import devices, probewords
from quorate.launch.probe import TIMEOUT_S, Place, Target, probe
from quorate.launch.probelisten import Listeners
from quorate.launch.probevalues import Span


class _Remote:
    def __init__(self) -> None:
        self._listeners: Listeners | None = None
        self._nonce = b""

    def answer(self, order: Dict[str, Any]) -> Dict[str, Any]:
        known: Dict[str, Callable[[Dict[str, Any]], Dict[str, Any]]] = {
            "listen": self._listen,
            "probe": self._probe,
            "look": self._look,
            "clock": lambda _: {"time": time.time()},
        }
        return next(does for word, does in known.items() if word in order)(order)

    def _listen(self, order: Dict[str, Any]) -> Dict[str, Any]:
        self._nonce = bytes.fromhex(order["nonce"])
        if self._listeners is not None:
            self._listeners.close()
        wanted = [Place(**each) if "port" in each else Span(**each) for each in order["listen"]]
        listeners = self._listeners = Listeners(self._nonce, order["who"], wanted)
        ports = [listeners.at[each].port if each in listeners.at else None for each in wanted]
        return {"ports": ports, "failed": [listeners.failed.get(each, "") for each in wanted]}

    def _probe(self, order: Dict[str, Any]) -> Dict[str, Any]:
        targets = [Target(**{**target, "place": Place(**target["place"])}) for target in order["probe"]]
        probes = probe(targets, self._nonce, timeout_s=order.get("timeout_s", TIMEOUT_S))
        return {"probes": [each.to_object() for each in probes]}

    def _look(self, order: Dict[str, Any]) -> Dict[str, Any]:
        try:
            found = {str(answer[4][0]).split("%")[0] for answer in socket.getaddrinfo(socket.gethostname(), None)}
        except OSError:
            found = set()
        return {"devices": {address: devices.device_to(address) for address in order["look"]}, "name": sorted(found)}


def main() -> None:
    """Greets, and answers until standard input ends."""
    _say(
        {
            "quorate_probe": probewords.VERSION,
            "host": socket.gethostname(),
            "time": time.time(),
            "python": platform.python_version(),
            "reached_at": _reached_at(),
            "ephemeral": _ephemeral(),
        }
    )
    remote = _Remote()
    for line in sys.stdin:
        _say(remote.answer(json.loads(line)))


def _reached_at() -> str:
    """The own address at which SSH was reached: behind NAT it is the one by which neighbours know this machine."""
    words: List[str] = os.environ.get("SSH_CONNECTION", "").split()
    return words[2].split("%")[0] if len(words) == 4 else ""


def _ephemeral() -> List[int]:
    """First and last of the ports that the kernel gives to whoever asks for any; empty where it does not say."""
    try:
        return [int(word) for word in Path("/proc/sys/net/ipv4/ip_local_port_range").read_bytes().split()]
    except (OSError, ValueError):
        return []


def _say(message: Dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
