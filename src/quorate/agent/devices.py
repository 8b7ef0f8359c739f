"""The slots of this machine: accelerators where there are any, else one CPU slot for the whole of it."""

import fcntl
import logging
import socket
import struct
from typing import Any

from quorate.agent.sandbox import names
from quorate.launch.devices import addresses, device_of
from quorate.model.messages import MOST_ADDRESSES, SlotInfo

log = logging.getLogger(__name__)

GPU, CPU, FAKE = "gpu", "cpu", "fake"
#: netdevice(7).
_SIOCGIFMTU, _IFREQ = 0x8921, struct.Struct("16si20x")


def find_slots(slots: int | None = None, fake_slots: int | None = None) -> tuple[SlotInfo, ...]:
    """What the operator said, else NVIDIA's GPUs, else one CPU slot."""
    if fake_slots is not None:
        return tuple(SlotInfo(index, FAKE, brand="fake") for index in range(fake_slots))
    if slots is not None:
        return tuple(SlotInfo(index, CPU) for index in range(slots))
    return _nvidia() or (SlotInfo(0, CPU),)


def _nvidia() -> tuple[SlotInfo, ...]:
    # Imported only here: most machines of a test cluster have no driver, and the library takes a while.
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            log.warning("NVIDIA's driver does not answer, so no GPU is offered: %s", error)
        return ()
    try:
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                device = pynvml.nvmlDeviceGetHandleByIndex(index)
                uuid, brand = _text(pynvml.nvmlDeviceGetUUID(device)), _text(pynvml.nvmlDeviceGetName(device))
            except pynvml.NVMLError as error:
                # One that has fallen off the bus must not take the others with it.
                log.warning("GPU %d does not answer and is not offered: %s", index, error)
                continue
            found.append(SlotInfo(index, GPU, uuid, brand, _memory(pynvml, device)))
        return tuple(found)
    finally:
        pynvml.nvmlShutdown()


def _memory(pynvml: Any, device: Any) -> int:
    """Bytes; 0 where the GPU has none of its own but shares the machine's (NVML_ERROR_NOT_SUPPORTED)."""
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(device).total)
    except pynvml.NVMLError:
        return 0


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def held_gpus(slots: tuple[SlotInfo, ...], held: tuple[int, ...]) -> tuple[str, ...]:
    """UUIDs of the GPUs among the slots that a member holds."""
    return tuple(slot.device for slot in slots if slot.kind == GPU and slot.index in held and slot.device)


def visible_devices(slots: tuple[SlotInfo, ...], held: tuple[int, ...]) -> dict[str, str]:
    """The variable that shows a member its own GPUs and no others; none where the machine has no GPU."""
    if not any(slot.kind == GPU for slot in slots):
        return {}
    mine = [slot.device for slot in slots if slot.index in held and slot.device]
    return {"CUDA_VISIBLE_DEVICES": ",".join(mine)}


def mtu_of(address: str) -> int:
    """MTU in bytes of the network device that owns the address; 0 where that is not known."""
    device = device_of(address)
    if device is None:
        return 0
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            answer = fcntl.ioctl(asked, _SIOCGIFMTU, _IFREQ.pack(device.encode(), 0))
    except OSError:
        return 0
    return int(_IFREQ.unpack(answer)[1])


def own_addresses() -> tuple[str, ...]:
    """Every address at which another machine could find this one; not those by which members' networks leave it."""
    try:
        uplinks = {index for index, name in socket.if_nameindex() if name.startswith(names.UPLINK_PREFIX)}
        found = {address for address, index in addresses() if index not in uplinks}
    except OSError as error:
        log.warning("the kernel does not tell this machine's addresses, so members elsewhere may reach them: %s", error)
        return ()
    outward = sorted((one for one in found if not (one.is_loopback or one.is_link_local)), key=lambda one: one.packed)
    if len(outward) > MOST_ADDRESSES:
        log.warning(
            "of this machine's %d addresses members elsewhere are kept from the first %d alone",
            len(outward),
            MOST_ADDRESSES,
        )
    return tuple(map(str, outward[:MOST_ADDRESSES]))
