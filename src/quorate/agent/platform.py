"""Which cloud this machine stands in, as its firmware says, so that remedies are commands of that cloud."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from quorate.network.remedies import Platform

_FIRMWARE: Final = Path("/sys/class/dmi/id")
#: What the clouds write into their machines' firmware (their documents on identifying instances).
_WORDS: Final = {
    "amazon ec2": Platform.AWS,
    "google": Platform.GCP,
    "oraclecloud.com": Platform.OCI,
}


def at_hand(firmware: Path = _FIRMWARE, environment: Mapping[str, str] = os.environ) -> Platform:
    """The platform whose firewall is to be asked first; the machine's own where it is in no cloud that is known."""
    if "KUBERNETES_SERVICE_HOST" in environment:
        return Platform.KUBERNETES
    said = ""
    for name in ("sys_vendor", "product_name", "chassis_asset_tag", "board_vendor"):
        with suppress(OSError):
            said += (firmware / name).read_text(encoding="utf-8", errors="replace").lower() + "\n"
    return next((platform for word, platform in _WORDS.items() if word in said), Platform.NFTABLES)
