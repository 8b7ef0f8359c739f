"""Before the first step: a pool that promises RDMA, on a machine that has none. Read from recorded lists of devices."""

from __future__ import annotations

from pathlib import Path

import pytest
from launch_vocabulary import gang, with_preflight

from quorate.launch import fabric, preflight
from quorate.launch.config import Configuration
from quorate.launch.reactor import Reactor

RECORDED = Path(__file__).parent / "rdma"


def machine(folder: Path, name: str) -> Path:
    """The recorded list, as files."""
    for line in (RECORDED / f"{name}.txt").read_text().splitlines():
        path, _, value = line.partition(" ")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if value.startswith("-> "):
            driver = folder.parent / "drivers" / Path(value[3:]).name
            driver.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to(driver)
        else:
            (folder / path).write_text(f"{value}\n")
    return folder


def found(tmp_path: Path, declared: str, name: str) -> list[str]:
    configuration = gang(2, fabric=declared)
    findings = fabric.absent(configuration, machine(tmp_path / "infiniband", name) if name else tmp_path / "none")
    assert all((each.code, each.fatal) == ("NET-FABRIC-FALLBACK", False) for each in findings)
    return [each.sentence for each in findings]


@pytest.mark.parametrize(("declared", "name"), [("ib", "infiniband"), ("roce", "roce"), ("efa", "efa")])
def test_a_machine_that_has_what_its_pool_declares_is_no_finding(tmp_path: Path, declared: str, name: str) -> None:
    assert found(tmp_path, declared, name) == []


@pytest.mark.parametrize("declared", ["", "tcp"])
def test_nothing_was_promised(tmp_path: Path, declared: str) -> None:
    assert found(tmp_path, declared, "") == []


@pytest.mark.parametrize("declared", ["ib", "roce", "efa"])
def test_a_machine_without_any_such_device_is_named(tmp_path: Path, declared: str) -> None:
    (sentence,) = found(tmp_path, declared, "")
    assert f"the pool's fabric is {declared}, but main1 (agent agent-0, " in sentence
    assert "mend: lspci" in sentence


def test_a_device_of_another_kind_does_not_count(tmp_path: Path) -> None:
    (sentence,) = found(tmp_path, "ib", "roce")
    assert "no InfiniBand device, only mlx5_bond_0" in sentence


def test_ports_that_are_down_are_named_with_their_state(tmp_path: Path) -> None:
    (sentence,) = found(tmp_path, "ib", "infiniband_down")
    assert "none of its InfiniBand ports is active (mlx5_0 is down, mlx5_1 is init)" in sentence


def test_it_is_part_of_the_preflight_and_travels_with_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fabric, "DEVICES", Path("/nonexistent"))
    configuration = Configuration.from_json(with_preflight(gang(2, fabric="ib")).to_json())
    reactor = Reactor()
    part = preflight.Part(reactor, configuration)
    try:
        assert "NET-FABRIC-FALLBACK" in {finding.code for finding in part.findings()}
    finally:
        part.close()
        reactor.close()
