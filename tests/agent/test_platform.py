"""A machine knows its cloud by what its firmware says."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.agent.platform import at_hand
from quorate.network.remedies import Platform


@pytest.mark.parametrize(
    ("file", "text", "platform"),
    [
        ("sys_vendor", "Amazon EC2\n", Platform.AWS),
        ("sys_vendor", "Google\n", Platform.GCP),
        ("chassis_asset_tag", "OracleCloud.com\n", Platform.OCI),
        ("sys_vendor", "Dell Inc.\n", Platform.NFTABLES),
        ("nothing", "", Platform.NFTABLES),
    ],
)
def test_firmware_names_the_cloud(tmp_path: Path, file: str, text: str, platform: Platform) -> None:
    tmp_path.joinpath(file).write_text(text)
    assert at_hand(tmp_path, {}) is platform


def test_a_pod_is_asked_for_a_policy_whatever_its_node_is(tmp_path: Path) -> None:
    tmp_path.joinpath("sys_vendor").write_text("Google\n")
    assert at_hand(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) is Platform.KUBERNETES
