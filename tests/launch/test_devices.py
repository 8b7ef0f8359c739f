"""Gloo and NCCL are told the device that owns a member's address."""

import ipaddress
import json
import subprocess

from quorate.launch import devices


def test_every_address_of_this_machine_has_its_device() -> None:
    listed = subprocess.run(["ip", "-json", "address"], capture_output=True, check=True).stdout
    pairs = {
        (address["local"], link["ifname"])
        for link in json.loads(listed)
        for address in link.get("addr_info", [])
        if not ipaddress.ip_address(address["local"]).is_link_local
    }
    assert pairs
    assert {(address, devices.device_of(address)) for address, _ in pairs} == pairs


def test_all_of_loopback_is_one_device() -> None:
    assert devices.device_of("127.0.0.11") == devices.device_of("127.0.0.1") == "lo"


def test_nobody_s_address_has_no_device_and_sets_nothing() -> None:
    assert devices.device_of("192.0.2.1") is None
    assert devices.variables("192.0.2.1") == {}


def test_nccl_is_given_the_whole_name() -> None:
    assert devices.variables("127.0.0.12") == {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "=lo"}
