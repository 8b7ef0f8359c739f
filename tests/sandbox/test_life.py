"""A network is made once, repaired where it is damaged, and leaves nothing: whoever dies in the middle, and where."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.sandbox.hosts import Host, Lab, everything, hub, sandbox

from quorate.agent.sandbox import namespaces, nft
from quorate.agent.sandbox.links import Links
from quorate.agent.sandbox.network import Incomplete
from quorate.agent.sandbox.place import Place
from quorate.agent.sandbox.reconcile import MakeHost, MakeHub, MakeSandbox, Observed

pytestmark = pytest.mark.lab

OPEN = everything()
#: Everything that changes the machine: after each of them an agent may die.
STEPS = (
    *((Links, name) for name in ("make", "remove", "change", "bridge_port", "address", "default_route")),
    *((Links, name) for name in ("neighbours", "forwarding", "tunnels")),
    *((Place, name) for name in ("record", "forget")),
    *((namespaces, name) for name in ("remove", "_bind")),
    (nft, "load"),
)


def assert_nothing_is_left(host: Host) -> None:
    assert host.links() == {"lo", "u0"}
    assert host.run("nft", "list", "tables") == ""
    assert list(host.network.place.namespaces.iterdir()) == []
    assert list(host.network.place.records.iterdir()) == []


def test_what_is_complete_is_not_touched_again(lab: Lab) -> None:
    host, far = lab.hosts
    desired = (hub(host, host, far), sandbox("jjjj-1.0.1", OPEN))
    assert [type(action) for action in host.converge(*desired)] == [MakeHost, MakeHub, MakeSandbox]
    assert host.converge(*desired) == ()


def test_what_nobody_wants_any_more_leaves_nothing(lab: Lab) -> None:
    host, far = lab.hosts
    host.converge(hub(host, host, far), sandbox("jjjj-1.0.1", OPEN))
    host.converge()
    assert_nothing_is_left(host)


def test_links_that_somebody_removed_are_made_again_and_the_members_process_stays_inside(lab: Lab) -> None:
    host, _ = lab.hosts
    desired = (hub(host, host, host), sandbox("jjjj-1.0.1", OPEN), sandbox("jjjj-1.1.1", OPEN))
    host.converge(*desired)
    with host.member("jjjj-1.1.1").serves("rank1", "tcp/0.0.0.0/29400"):
        host.hub("jjjj-1").run("ip", "link", "del", "br0")
        host.hub("jjjj-1").run("ip", "link", "del", "p0")
        assert host.member("jjjj-1.0.1").tries("10.128.0.11", 29400) == "ENETUNREACH"
        host.converge(*desired)
        assert host.member("jjjj-1.0.1").tries("10.128.0.11", 29400) == "open rank1 sees 10.128.0.10"


def test_a_link_of_ours_that_leads_nowhere_is_removed(lab: Lab) -> None:
    host, _ = lab.hosts
    host.run("ip", "link", "add", "quoratezzzzzzzz", "type", "veth", "peer", "name", "other")
    host.converge()
    assert host.links() == {"lo", "u0"}


def test_a_containers_namespace_becomes_the_sandbox(lab: Lab) -> None:
    host, _ = lab.hosts
    with subprocess.Popen(["unshare", "-n", "sh", "-c", "echo in; exec sleep 60"], stdout=subprocess.PIPE) as container:
        try:
            assert container.stdout is not None
            assert container.stdout.readline() == b"in\n"
            host.converge(
                hub(host, host, host),
                sandbox("jjjj-1.0.1", OPEN, container=container.pid),
                sandbox("jjjj-1.1.1", OPEN),
            )
            with host.member("jjjj-1.1.1").serves("rank1", "tcp/0.0.0.0/29400"):
                inside = ("nsenter", f"--net=/proc/{container.pid}/ns/net")
                program = "import socket; print(socket.create_connection(('10.128.0.11', 29400), 5).recv(99).decode())"
                seen = host.run(*inside, sys.executable, "-I", "-S", "-c", program)
                assert seen == "rank1 sees 10.128.0.10\n"
            host.converge()
            assert "eth0" not in host.run(*inside, "ip", "link")
        finally:
            container.kill()


def test_neither_the_hosts_namespace_nor_another_sandbox_is_taken_for_a_containers(lab: Lab) -> None:
    host, _ = lab.hosts
    boxes = (hub(host, host, host), sandbox("jjjj-1.0.1", OPEN))
    host.converge(*boxes)
    for place in (host.namespace, host.network.place.sandbox("jjjj-1.0.1"), host.network.place.hub("jjjj-1")):
        with namespaces.entered(place):
            process = subprocess.Popen(["sleep", "60"])
        try:
            with pytest.raises(Incomplete, match="no network namespace of its own"):
                host.converge(*boxes, sandbox("jjjj-1.1.1", OPEN, container=process.pid))
        finally:
            process.kill()
            process.wait()
    assert "eth0" not in host.links()
    assert host.converge(*boxes) == ()


def test_an_agent_killed_after_any_step_of_making_leaves_nothing_behind(lab: Lab) -> None:
    host, far = lab.hosts
    desired = (hub(host, host, far), sandbox("jjjj-1.0.1", OPEN))
    steps = _steps_of(lambda: host.converge(*desired))
    host.converge()
    assert steps > 40
    for number in range(steps):
        _killed_after(number, lambda: host.converge(*desired))
        if number % 4 == 0:
            # What was begun is finished, under the same names and the same VNI…
            host.converge(*desired)
            assert host.converge(*desired) == ()
        # …or, where nobody wants it any more, removed.
        host.converge()
        assert_nothing_is_left(host)


def test_an_agent_killed_after_any_step_of_removing_leaves_nothing_behind(lab: Lab) -> None:
    host, far = lab.hosts
    desired = (hub(host, host, far), sandbox("jjjj-1.0.1", OPEN))
    host.converge(*desired)
    steps = _steps_of(lambda: host.converge())
    assert steps >= 8
    for number in range(steps):
        host.converge(*desired)
        _killed_after(number, lambda: host.converge())
        host.converge()
        assert_nothing_is_left(host)


def test_an_agent_that_starts_finds_what_the_last_one_made(lab: Lab) -> None:
    host, far = lab.hosts
    host.converge(hub(host, host, far), sandbox("jjjj-1.0.1", OPEN))
    with namespaces.entered(host.namespace):
        found = host.network.observe()
    assert found != Observed()
    assert list(found.hubs) == ["jjjj-1"]
    assert list(found.sandboxes) == ["jjjj-1.0.1"]
    assert found.host is not None
    assert found.strays == ()


@pytest.mark.parametrize("left", ["", "0123", "\0" * 32, "0" * 16 + " "])
def test_a_record_that_a_power_loss_has_damaged_is_as_none(lab: Lab, left: str) -> None:
    host, far = lab.hosts
    desired = (hub(host, host, far), sandbox("jjjj-1.0.1", OPEN))
    host.converge(*desired)
    records = list(host.network.place.records.iterdir())
    assert len(records) == 3
    for record in records:
        record.write_text(left)
    host.drift()
    assert [type(action) for action in host.converge(*desired)] == [MakeHost, MakeHub, MakeSandbox]
    assert host.drift() == host.converge(*desired) == ()


def _steps_of(action: Callable[[], Any]) -> int:
    """How many steps the action takes."""
    steps: list[None] = []
    with _watched(lambda: steps.append(None)):
        action()
    return len(steps)


def _killed_after(number: int, action: Callable[[], Any]) -> None:
    """Runs the action in a process that kills itself as soon as that step is taken."""
    child = os.fork()
    if child == 0:
        left = iter(range(number))
        try:
            with _watched(lambda: next(left, None) is None and os.kill(os.getpid(), signal.SIGKILL)):
                action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"step {number} was not reached"


@contextmanager
def _watched(step: Callable[[], Any]) -> Iterator[None]:
    """Calls `step` when one of STEPS has been taken, and when a namespace has its name and is not bound to it yet."""

    def watched(name: str, taken: Callable[..., Any]) -> Callable[..., Any]:
        def then(*arguments: Any, **more: Any) -> Any:
            if name == "_bind":
                step()
            result = taken(*arguments, **more)
            step()
            return result

        return then

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in STEPS:
            patch.setattr(owner, name, watched(name, getattr(owner, name)))
        yield
