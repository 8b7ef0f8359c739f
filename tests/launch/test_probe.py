"""The prober tells apart what it can see on one machine; what needs firewalls and routers is in test_probe_lab.py."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from launch_vocabulary import free_port
from test_travels_alone import old_pythons

from quorate.cli.travel import BOOTSTRAP, parcel, program
from quorate.launch.probe import Outcome, Place, Probe, Target, probe
from quorate.launch.probelisten import Listeners
from quorate.launch.probevalues import Span

NONCE = b"n" * 16
HERE = "127.0.0.11"
TRANSPORTS = ["tcp", "udp"]


def place(transport: str = "tcp", address: str = HERE) -> Place:
    return Place(address, free_port(address), transport)


def tried(target: Target, nonce: bytes = NONCE, timeout_s: float = 10.0) -> Probe:
    (result,) = probe([target], nonce, timeout_s=timeout_s)
    return result


@contextmanager
def service(answers: bytes | None) -> Iterator[Place]:
    """A service of somebody else: it says something to everybody, or (None) accepts and is silent."""
    with socket.socket() as listener:
        listener.bind((HERE, 0))
        listener.listen()
        guests: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    guest, _ = listener.accept()
                except OSError:
                    return
                guests.append(guest)
                if answers is not None:
                    guest.sendall(answers)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Place(HERE, listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for guest in guests:
            guest.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_listener_that_was_meant_is_open(transport: str) -> None:
    there = place(transport)
    with Listeners(NONCE, "sub1", [there]) as listeners:
        assert not listeners.failed
        result = tried(Target(there, "sub1"))
    assert result.outcome is Outcome.OPEN
    assert result.round_trip_s is not None
    assert 0 < result.round_trip_s < 10


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_where_nobody_listens_it_is_refused(transport: str) -> None:
    assert tried(Target(place(transport), "sub1")).outcome is Outcome.REFUSED


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_another_member_at_the_place_is_named(transport: str) -> None:
    there = place(transport)
    with Listeners(NONCE, "sub2", [there]):
        result = tried(Target(there, "sub1"))
    assert result.outcome is Outcome.WRONG_HOST
    assert result.evidence == "sub2 answers instead of sub1"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_listener_with_another_nonce_is_a_wrong_host(transport: str) -> None:
    there = place(transport)
    with Listeners(b"other nonce", "sub1", [there]):
        assert tried(Target(there, "sub1")).outcome is Outcome.WRONG_HOST


@pytest.mark.parametrize(
    "greeting",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\xff" * 3000,
        b"\n",
        b"a b\n",
        b'{"who":"sub1","proof":"\xff"}\n',
        b'{"who":"sub1","proof":"00"}\n',
        b"[]\n",
    ],
)
def test_another_service_is_a_wrong_host(greeting: bytes) -> None:
    with service(greeting) as there:
        assert tried(Target(there, "sub1")).outcome is Outcome.WRONG_HOST


def test_a_silent_service_is_undetermined() -> None:
    with service(None) as there:
        result = tried(Target(there, "sub1"), timeout_s=0.3)
    assert result.outcome is Outcome.UNDETERMINED
    assert "accepted, then silent" in result.evidence


def test_a_silent_datagram_socket_looks_like_a_filter() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HERE, 0))
        there = Place(HERE, silent.getsockname()[1], "udp")
        assert tried(Target(there, "sub1"), timeout_s=0.3).outcome is Outcome.FILTERED


def test_a_source_that_is_not_ours_is_said_so() -> None:
    result = tried(Target(place(), "sub1", source="192.0.2.1"))
    assert result.outcome is Outcome.UNDETERMINED
    assert "192.0.2.1 is no address of this machine" in result.evidence


def test_the_source_is_the_one_that_was_asked_for() -> None:
    with socket.socket() as listener:
        listener.bind((HERE, 0))
        listener.listen()
        tried(Target(Place(HERE, listener.getsockname()[1]), "sub1", source="127.0.0.12"), timeout_s=0.2)
        _, (source, _) = listener.accept()
    assert source == "127.0.0.12"


def test_results_come_in_the_order_of_their_targets_also_in_turns() -> None:
    places = [place() for _ in range(20)]
    with Listeners(NONCE, "sub1", places[::2]):
        results = probe([Target(there, "sub1") for there in places], NONCE, parallel=3)
    assert [result.target.place for result in results] == places
    assert [result.outcome for result in results] == [Outcome.OPEN, Outcome.REFUSED] * 10


def test_nothing_to_try_is_nothing_found() -> None:
    assert probe([], NONCE) == []


def test_ipv6_is_tried_alike() -> None:
    there = Place("::1", free_port("127.0.0.1"))
    with Listeners(NONCE, "sub1", [there]) as listeners:
        if listeners.failed:
            pytest.skip("this machine has no IPv6")
        assert tried(Target(there, "sub1")).outcome is Outcome.OPEN


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_taken_port_is_said_so_and_the_others_answer(transport: str) -> None:
    taken, free = place(transport), place(transport)
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind((taken.address, taken.port))
        if transport == "tcp":
            holder.listen()
        with Listeners(NONCE, "sub1", [taken, free]) as listeners:
            assert listeners.failed == {taken: "taken: another process listens there"}
            assert tried(Target(free, "sub1")).outcome is Outcome.OPEN


def test_ports_are_free_again_when_the_listeners_are_closed() -> None:
    there = place()
    for _ in range(3):
        with Listeners(NONCE, "sub1", [there]) as listeners:
            assert not listeners.failed
            tried(Target(there, "sub1"))


def test_a_small_question_gets_no_answer_that_could_flood_a_third_party() -> None:
    there, other = place("udp"), place("udp")
    with Listeners(NONCE, "sub1", [there]), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
        forger.settimeout(10)
        forger.connect((there.address, there.port))
        challenge = os.urandom(16).hex()
        question = json.dumps({"probe": 2, "challenge": challenge}).encode() + b"\n"
        forger.send(question)
        forger.send(question.ljust(256, b"\0"))
        assert len(forger.recv(2000)) == 256
        forger.setblocking(False)
        with pytest.raises(BlockingIOError):
            forger.recv(2000)
    assert other != there


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_some_free_port_of_a_range_is_found(transport: str) -> None:
    span = Span(HERE, 20_000, 20_999, transport)
    with Listeners(NONCE, "sub1", [span]) as listeners:
        there = listeners.at[span]
        assert 20_000 <= there.port <= 20_999
        assert tried(Target(there, "sub1")).outcome is Outcome.OPEN


def test_full_size_packets_come_back() -> None:
    there = place()
    with Listeners(NONCE, "sub1", [there]):
        assert tried(Target(there, "sub1", full=True)).outcome is Outcome.OPEN


def test_whoever_echoes_without_a_proof_is_a_wrong_host() -> None:
    with service(b'{"pad":"xxxx"}\n') as there:
        assert tried(Target(there, "sub1", full=True)).outcome is Outcome.WRONG_HOST


def test_a_probe_leaves_no_port_in_time_wait() -> None:
    there = place()
    with Listeners(NONCE, "sub1", [there]):
        assert tried(Target(there, "sub1", full=True)).outcome is Outcome.OPEN
    with socket.socket() as next_holder:
        # Without SO_REUSEADDR, as many a framework: one connection in TIME-WAIT would be in its way.
        next_holder.bind((there.address, there.port))


def test_what_travels_is_written_in_python_3_8() -> None:
    """The modules are looked at in test_travels_alone.py; this is what reads them at the other end."""
    for text in (BOOTSTRAP, program()):
        ast.parse(text, feature_version=(3, 8))


@pytest.mark.parametrize("python", [pytest.param(Path(sys.executable), id=sys.executable), *old_pythons()])
def test_it_travels_as_text_and_does_what_it_is_told(python: Path) -> None:
    there = place()
    with subprocess.Popen(
        [python, "-I", "-S", "-c", BOOTSTRAP], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(parcel())

        def told(order: dict[str, object]) -> dict[str, Any]:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write(json.dumps(order).encode() + b"\n")
            other.stdin.flush()
            answer: dict[str, Any] = json.loads(other.stdout.readline())
            return answer

        other.stdin.flush()
        assert json.loads(other.stdout.readline())["quorate_probe"] == 2
        listen = {"nonce": NONCE.hex(), "who": "far", "listen": [{"address": there.address, "port": there.port}]}
        assert told(listen) == {"ports": [there.port], "failed": [""]}
        assert tried(Target(there, "far")).outcome is Outcome.OPEN
        (found,) = told({"probe": [{"place": {"address": there.address, "port": there.port}, "who": "near"}]})["probes"]
        assert found["outcome"] == "wrong host"
        assert found["evidence"] == "far answers instead of near"
        assert told({"look": ["127.0.0.1"]})["devices"] == {"127.0.0.1": "lo"}
        other.stdin.close()
        assert other.wait(20) == 0
