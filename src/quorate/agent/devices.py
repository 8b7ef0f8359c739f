"""The slots of this machine: accelerators where there are any, else one CPU slot for the whole of it."""

import logging

from quorate.model.messages import SlotInfo

log = logging.getLogger(__name__)

GPU, CPU, FAKE = "gpu", "cpu", "fake"


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
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(device).total
            uuid, brand = _text(pynvml.nvmlDeviceGetUUID(device)), _text(pynvml.nvmlDeviceGetName(device))
            found.append(SlotInfo(index, GPU, uuid, brand, int(memory)))
        return tuple(found)
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def visible_devices(slots: tuple[SlotInfo, ...], held: tuple[int, ...]) -> dict[str, str]:
    """The variable that shows a member its own GPUs and no others; none where the machine has no GPU."""
    if not any(slot.kind == GPU for slot in slots):
        return {}
    mine = [slot.device for slot in slots if slot.index in held and slot.device]
    return {"CUDA_VISIBLE_DEVICES": ",".join(mine)}
