"""The root helper does what one user asks, says why where it cannot, and holds few privileges itself."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from tests.sandbox.hosts import Lab, everything, hub, sandbox

from quorate.agent.helper.client import Helper, HelperAway, HelperError
from quorate.agent.helper.protocol import MAX_BYTES
from quorate.agent.helper.server import serve
from quorate.agent.sandbox import namespaces
from quorate.agent.sandbox.network import Network
from quorate.agent.sandbox.place import SOCKET, Place
from quorate.agent.sandbox.spec import Desired

pytestmark = pytest.mark.lab

#: The user of the agent, and one that is somebody else.
AGENT, STRANGER = 1_234_567, 1_234_568


@dataclass
class Running:
    """A helper on the lab's first host, asked by a process of a user."""

    process: subprocess.Popen[str]
    socket: Path
    helper: Helper

    def asked_by(self, user: int) -> str:
        """What a process of that user, without any privilege, gets for an answer."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
                os.write(writing, str(self.helper.drift()).encode())
            except HelperError as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            os.waitpid(child, 0)
            return answer.read()

    def answers(self, said: bytes) -> bytes:
        """To these bytes, whatever they are."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.socket))
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.fixture
def running(lab: Lab) -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="quorate-helper-"))
    folder.chmod(0o755)
    path = folder / "made" / "helper.sock"
    host = lab.hosts[0]
    with namespaces.entered(host.namespace):
        process = subprocess.Popen(
            [sys.executable, "-m", "quorate.agent.helper", "--socket", path, "--user", str(AGENT), "--folder",
             host.network.place.folder],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    try:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        yield Running(process, path, Helper(path))
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(folder)


def test_networks_are_made_and_removed_on_request(lab: Lab, running: Running) -> None:
    (host, _) = lab.hosts
    desired = Desired(
        (hub(host, host, host),), (sandbox("jjjj-1.0.1", everything()), sandbox("jjjj-1.1.1", everything()))
    )
    steps = running.helper.converge(desired).steps
    assert steps == ("make-host", "make-hub jjjj-1", "make-sandbox jjjj-1.0.1", "make-sandbox jjjj-1.1.1")
    with host.member("jjjj-1.1.1").serves("rank1", "tcp/0.0.0.0/29400"):
        assert host.member("jjjj-1.0.1").tries("10.128.0.11", 29400) == "open rank1 sees 10.128.0.10"
    assert {count.packets for count in running.helper.counters("jjjj-1").flows} == {0, 1}
    assert running.helper.drift() == ()
    running.helper.converge(Desired())
    assert host.links() == {"lo", "u0"}


def test_the_agents_user_may_ask_and_another_may_not(running: Running) -> None:
    assert running.asked_by(AGENT) == "()"
    assert "Permission denied" in running.asked_by(STRANGER)
    # Not by the socket's mode alone.
    running.socket.chmod(0o666)
    assert "does not answer" in running.asked_by(STRANGER)


def test_a_folder_that_the_helper_makes_lets_its_user_through_to_the_socket(running: Running) -> None:
    assert stat.S_IMODE(running.socket.parent.stat().st_mode) == 0o711
    # The machine's own, where another helper or an agent may have been before.
    assert stat.S_IMODE(Path(SOCKET).parent.stat().st_mode) == 0o711


def test_what_is_no_request_is_answered_with_the_reason_and_the_next_one_is_served(running: Running) -> None:
    for said, expected in (
        (b"\x00\x00\x00\x03abc", b"no request"),
        ((MAX_BYTES + 1).to_bytes(4, "big"), b"larger than"),
        (b"\x00\x00\x00\x0f\x82\xa4type\xa5shell\xa1c\x01", b"no request"),
    ):
        assert expected in running.answers(said)
    assert running.helper.drift() == ()


def test_a_request_names_what_is_ours_and_no_path(running: Running, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.touch()
    for request in (
        {"type": "converge", "desired": {}, "distrust": [str(others)]},
        {"type": "converge", "desired": {}, "distrust": ["hub-../../x"]},
        {"type": "count", "allocation": "/../../x"},
        {"type": "resolver", "allocation": "../x", "gateway": "10.128.0.1"},
        {"type": "resolver", "allocation": "jjjj-1", "gateway": "localhost"},
        {"type": "admit", "allocation": "../x", "addresses": {"192.0.2.1": 1}},
    ):
        body = msgspec.msgpack.encode(request)
        assert b"no request" in running.answers(len(body).to_bytes(4, "big") + body), request
    assert others.exists()


class Mistaken(Network):
    def drift(self) -> tuple[str, ...]:
        raise KeyError("nobody thought of this")


class Voluble(Network):
    def drift(self) -> tuple[str, ...]:
        return ("x" * MAX_BYTES,)


@pytest.mark.parametrize(("network", "said"), [(Mistaken, "nobody thought of this"), (Voluble, "larger than")])
def test_a_mistake_of_the_helper_is_answered_and_the_next_request_is_served(
    tmp_path: Path, network: type[Network], said: str
) -> None:
    path = tmp_path / "helper.sock"
    until, end = socket.socketpair()
    with until, end, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        served = network(Place(tmp_path / "network"))
        serving = threading.Thread(target=serve, args=(listener, os.geteuid(), served, until.fileno()))
        serving.start()
        try:
            for _ in range(2):
                with pytest.raises(HelperError, match=said):
                    Helper(path, 5).drift()
        finally:
            end.close()
            serving.join()


def test_a_request_that_is_too_large_is_not_taken_for_a_helper_that_is_away(lab: Lab, running: Running) -> None:
    host = lab.hosts[0]
    (rule, *_) = everything()
    large = sandbox("jjjj-1.0.1", (msgspec.structs.replace(rule, purpose="x" * MAX_BYTES),))
    with pytest.raises(HelperError, match="larger than") as raised:
        running.helper.converge(Desired((hub(host, host),), (large,)))
    # Who is away is asked again and again, and everybody waits meanwhile.
    assert not isinstance(raised.value, HelperAway)


def test_the_helper_has_no_other_capabilities_than_those_for_networks(running: Running) -> None:
    status = dict(
        line.split(":\t")
        for line in Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    # CAP_NET_ADMIN, CAP_SYS_PTRACE and CAP_SYS_ADMIN.
    kept = 1 << 12 | 1 << 19 | 1 << 21
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {kept}
    assert status["NoNewPrivs"] == "1"


def test_a_helper_that_is_not_there_is_told_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(HelperError, match="start it as root"):
        Helper(tmp_path / "none").drift()


def test_two_helpers_do_not_work_on_one_machine(lab: Lab, running: Running, tmp_path: Path) -> None:
    with namespaces.entered(lab.hosts[0].namespace):
        second = subprocess.run(
            [sys.executable, "-m", "quorate.agent.helper", "--socket", tmp_path / "other.sock", "--user", "0"],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
    assert second.returncode == 1
    assert "another agent makes the private networks of this machine" in second.stderr
    assert running.helper.drift() == ()


def test_a_machine_says_whether_it_can_have_private_networks_and_is_left_as_it_was(lab: Lab, running: Running) -> None:
    assert running.helper.tried().why == ""
    assert lab.hosts[0].links() == {"lo", "u0"}
    assert not (lab.hosts[0].network.place.folder / "trial").exists()
