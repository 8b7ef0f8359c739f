"""What an agent has its helper make: planned once and beside other work, and never more than the helper can read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from tests.agent.conftest import eventually
from tests.sandbox.agents import standing_helper
from tests.sandbox.hosts import Lab, wait_until

from quorate.agent import planning
from quorate.agent.helper.client import Helper
from quorate.agent.helper.protocol import Converged
from quorate.agent.networks import NetworkError, Networks
from quorate.agent.sandbox import wanted
from quorate.agent.sandbox.place import Place
from quorate.agent.sandbox.spec import Desired, SandboxSpec
from quorate.model.messages import AllocationSpec, NetworkSpec, PlannedMember
from quorate.network.plan import Plan

pytestmark = [pytest.mark.lab, pytest.mark.anyio]

AGENT = "10.77.0.10"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def networks(helper: Helper, place: Place, **settings: Any) -> AsyncIterator[Networks]:
    made = Networks(helper, place, AGENT, lambda _: None, **settings)
    await made.recover({}, {}, {})
    try:
        yield made
    finally:
        await made.close(())


def allocation(number: int, here: int, elsewhere: int = 0) -> AllocationSpec:
    """An open gang; its first members are on this agent."""
    first = ip_address("10.128.0.2") + 65_536 * number
    members = tuple(
        PlannedMember(
            rank, "main" if rank == 0 else "sub", max(1, rank), f"m{rank}", "alpha" if rank < here else "beta",
            str(first + rank), underlay=AGENT if rank < here else "10.77.0.11",
        )
        for rank in range(here + elsewhere)
    )  # fmt: skip
    told = NetworkSpec("overlay", 100 + number, f"{first - 2}/16", str(first - 1), members="open", egress="none")
    return AllocationSpec(
        f"abcd1234-{number}", "abcd1234", number, "ab" * 32, "test", "ann", ("true",), "none",
        {}, members, 5.0, 30.0, network=told,
    )  # fmt: skip


async def test_an_allocation_that_would_be_too_large_is_refused_and_the_others_are_made_and_removed(
    lab: Lab, tmp_path: Path
) -> None:
    host, path, folder = lab.hosts[0], tmp_path / "helper.sock", host_folder(lab)
    small, large = allocation(1, here=1), allocation(2, here=1, elsewhere=4000)
    with standing_helper(host, path, folder):
        wait_until(path.exists)
        async with networks(Helper(path), Place(folder), max_bytes=100_000) as made:
            await made.make("abcd1234-1.0.1", small)
            with pytest.raises(NetworkError, match="bytes to describe, and 100000 are possible"):
                await made.make("abcd1234-2.0.1", large)
            assert Place(folder).sandbox("abcd1234-1.0.1").exists()
            made.release("abcd1234-1.0.1")
            await eventually(lambda: not Place(folder).sandbox("abcd1234-1.0.1").exists())
            await made.make("abcd1234-3.0.1", allocation(3, here=1))


async def test_an_allocation_is_planned_once_for_all_its_members_and_not_where_others_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = []

    def plan_of(spec: AllocationSpec) -> Plan:
        planned.append(threading.current_thread())
        return plan(spec)

    plan = planning.plan_of
    monkeypatch.setattr(planning, "plan_of", plan_of)
    made = Networks(Helper(tmp_path / "none"), Place(tmp_path), AGENT, lambda _: None)
    gang, members = allocation(1, here=8), [f"abcd1234-1.{rank}.1" for rank in range(8)]
    await asyncio.gather(*(made.hold(member, gang) for member in members))
    assert len(planned) == 1
    assert planned[0] is not threading.main_thread()
    # Whoever comes once all have gone is planned for anew: nothing is kept of what nobody holds.
    for member in members:
        made.release(member)
    await made.hold(members[0], gang)
    assert len(planned) == 2


async def test_nothing_is_kept_of_an_allocation_whose_only_member_nobody_waits_for_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, go_on = threading.Event(), threading.Event()

    def sandbox_of(*given: Any) -> SandboxSpec:
        planned.set()
        assert go_on.wait(20)
        return sandboxed(*given)

    sandboxed = wanted.sandbox_of
    monkeypatch.setattr(wanted, "sandbox_of", sandbox_of)
    made = Networks(Helper(tmp_path / "none"), Place(tmp_path), AGENT, lambda _: None)
    making = asyncio.create_task(made.make("abcd1234-1.0.1", allocation(1, here=1)))
    assert await asyncio.to_thread(planned.wait, 20)
    making.cancel()
    await asyncio.wait([making])
    go_on.set()
    assert not made._allocations


async def test_a_mistake_fails_those_who_wait_for_it_and_nobody_after_them(lab: Lab, tmp_path: Path) -> None:
    class Mistaken(Helper):
        def converge(self, desired: Desired, distrust: tuple[str, ...] = ()) -> Converged:
            if "abcd1234-1" in {hub.allocation for hub in desired.hubs}:
                raise KeyError("nothing of that name")
            return super().converge(desired, distrust)

        def drift(self) -> tuple[str, ...]:
            looks.append(1)
            if len(looks) == 1:
                raise LookupError("a mistake")
            return super().drift()

    looks: list[int] = []
    host, path, folder = lab.hosts[0], tmp_path / "helper.sock", host_folder(lab)
    with standing_helper(host, path, folder):
        wait_until(path.exists)
        async with networks(Mistaken(path), Place(folder), look_s=0.05) as made, asyncio.timeout(20):
            with pytest.raises(NetworkError, match=r"a mistake in the agent itself.*nothing of that name"):
                await made.make("abcd1234-1.0.1", allocation(1, here=1))
            await made.make("abcd1234-2.0.1", allocation(2, here=1))
            await eventually(lambda: len(looks) > 1)


def host_folder(lab: Lab) -> Path:
    return lab.hosts[0].network.place.folder
