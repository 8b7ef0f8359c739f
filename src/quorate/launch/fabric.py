"""Whether this machine has what the pool's fabric says: devices for RDMA, as the kernel lists them.

Linux: /sys/class/infiniband has a folder for each of them, whatever its kind (the kernel's
Documentation/ABI/stable/sysfs-class-infiniband): `ports/N/link_layer` is `InfiniBand`, `Ethernet` (RoCE) or
`Unspecified` (EFA), `ports/N/state` begins with `4:` where the port is active, and `device/driver` leads to the driver.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import List, Tuple

from quorate.launch.config import Configuration
from quorate.launch.names import Finding

DEVICES = Path("/sys/class/infiniband")
#: Fabrics that pass beside the kernel's TCP, with what the kernel calls their ports.
_LAYERS = {"ib": "InfiniBand", "roce": "Ethernet", "efa": "Unspecified"}
_CALLED = {"ib": "InfiniBand", "roce": "RoCE", "efa": "EFA"}
_ACTIVE = "4:"


@dataclasses.dataclass(frozen=True)
class Device:
    """A device for RDMA."""

    name: str
    driver: str
    #: Of each port its link layer and its state, in the kernel's words.
    ports: Tuple[Tuple[str, str], ...]

    def carries(self, fabric: str) -> bool:
        """Whether it is one of that kind, up or down."""
        if fabric == "efa":
            return self.driver == "efa" or self.name.startswith("efa")
        return any(layer == _LAYERS[fabric] for layer, _ in self.ports)

    def is_up(self, fabric: str) -> bool:
        # EFA has no link of its own to wait for.
        return fabric == "efa" or any(
            layer == _LAYERS[fabric] and state.startswith(_ACTIVE) for layer, state in self.ports
        )


def listed(folder: Path) -> List[Device]:
    """The devices in the kernel's list; none where there is no such list."""
    try:
        return [_device(path) for path in sorted(folder.iterdir())]
    except OSError:
        return []


def absent(configuration: Configuration, folder: Path | None = None) -> List[Finding]:
    """A notice where the pool declares RDMA and this machine has none that works: NCCL would take TCP, silently."""
    fabric = configuration.fabric
    if fabric not in _LAYERS:
        return []
    found = listed(folder or DEVICES)
    of_kind = [device for device in found if device.carries(fabric)]
    if any(device.is_up(fabric) for device in of_kind):
        return []
    if of_kind:
        states = ", ".join(f"{device.name} is {_state(device)}" for device in of_kind)
        seen = f"none of its {_CALLED[fabric]} ports is active ({states})"
        mend = "rdma link show"
    else:
        others = f", only {', '.join(device.name for device in found)}" if found else ""
        seen = f"its machine has no {_CALLED[fabric]} device{others}"
        mend = f"lspci | grep -i {'Amazon' if fabric == 'efa' else 'Mellanox'}, or name its fabric in master.yaml"
    own = configuration.own.described()
    sentence = f"the pool's fabric is {fabric}, but {own} cannot use it: {seen}; NCCL would take TCP; mend: {mend}"
    return [Finding("NET-FABRIC-FALLBACK", sentence, fatal=False)]


def _device(path: Path) -> Device:
    ports = sorted((path / "ports").iterdir()) if (path / "ports").is_dir() else []
    driver = path / "device" / "driver"
    return Device(
        path.name,
        driver.resolve().name if driver.exists() else "",
        tuple((_read(port / "link_layer"), _read(port / "state")) for port in ports),
    )


def _state(device: Device) -> str:
    return " and ".join(state.partition(": ")[2].lower() for _, state in device.ports) or "without ports"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
