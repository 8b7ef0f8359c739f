"""The ninth of the field's pains: NCCL falls back from RDMA to TCP without a complaint. Read from recorded logs."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.network.test_diagnosis import all_reduce, codes, rank, subject

from quorate.network.diagnosis import Subject, conclude
from quorate.network.fabric import choice, fell_back, telling

RECORDED = Path(__file__).parent / "nccl"


def said(name: str) -> tuple[str, ...]:
    return telling((RECORDED / f"{name}.log").read_text().splitlines())


@pytest.mark.parametrize(("log", "network"), [("ib", "IB"), ("roce", "IB"), ("efa", "efa")])
def test_a_fabric_that_is_used_is_no_finding(log: str, network: str) -> None:
    assert choice(said(log)).network == network
    assert fell_back(log, said(log)) == ""


@pytest.mark.parametrize(
    ("log", "fabric", "because"),
    [
        ("ib_no_device", "ib", "NCCL found no device for RDMA"),
        ("ib_no_device", "roce", "NCCL found no device for RDMA"),
        ("ib_no_library", "ib", "there is no libibverbs where the member runs"),
        ("ib_disabled", "ib", "NCCL_IB_DISABLE is set, which forbids RDMA"),
        ("efa_no_plugin", "efa", "NCCL found no plugin for EFA (libnccl-net.so of aws-ofi-nccl)"),
        ("efa_by_tcp", "efa", "the plugin for EFA found no device"),
    ],
)
def test_a_fall_back_is_told_with_its_reason(log: str, fabric: str, because: str) -> None:
    sentence = fell_back(fabric, said(log))
    assert f"though the pool's fabric is {fabric}" in sentence
    assert sentence.endswith(because)


@pytest.mark.parametrize("fabric", ["", "tcp"])
def test_tcp_is_right_where_nothing_else_was_promised(fabric: str) -> None:
    assert fell_back(fabric, said("ib_no_device")) == ""


def test_who_has_said_nothing_is_not_accused() -> None:
    assert fell_back("ib", ()) == ""
    assert fell_back("ib", ("NCCL INFO NET/IB : No device found.",)) == ""


def test_of_the_output_only_what_nccl_said_of_its_network_is_taken_and_each_line_once() -> None:
    lines = said("ib_no_device")
    assert not any("secret" in line or "epoch" in line for line in lines)
    many = [f"h:1:{n} [0] NCCL INFO Channel 0{n}/0 : 0[0] -> 1[0] [send] via NET/Socket/0" for n in range(9)]
    assert len(telling(many)) == 1
    assert len(telling(f"NCCL INFO Using network N{n}" for n in range(999))) < 20


def on(fabric: str, log: str, number: int) -> Subject:
    one = subject(number, all_reduce(number))
    assert one.seen is not None
    return replace(one, seen=type(one.seen)(**{**_fields(one.seen), "fabric": fabric, "nccl": said(log)}))


def _fields(seen: object) -> dict[str, object]:
    return {name: getattr(seen, name) for name in seen.__struct_fields__}  # type: ignore[attr-defined]


def test_a_diagnosis_names_the_member_that_makes_all_of_them_slow_and_the_remedy() -> None:
    diagnosis = conclude([on("ib", "ib", 0), on("ib", "ib_no_device", 1)], [])
    assert codes(diagnosis) == ["NET-FABRIC-FALLBACK"]
    assert diagnosis.cause.startswith("sub1 on agent b uses TCP (NCCL's network is Socket)")
    assert "ibv_devinfo" in diagnosis.findings[0].remedy


def test_a_rank_that_hangs_is_named_first() -> None:
    elsewhere = subject(1, rank(1, "load (data.py:7)", at="data.py:7"))
    diagnosis = conclude([on("ib", "ib_no_device", 0), elsewhere], [])
    assert "has not joined it" in diagnosis.cause
    assert set(codes(diagnosis)) == {"COLLECTIVE-MISSED", "NET-FABRIC-FALLBACK"}
