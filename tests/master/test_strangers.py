"""Connections of peers that nobody knows: too many lose theirs, and those who are known keep theirs."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from quorate.master.server import WANTED_FILES
from quorate.master.strangers import MOST, SHARE_OF_ONE, Stranger, Strangers

from .serving import PATIENCE_S, MasterProcess, running, until


class Away:
    """Notes who was sent away."""

    def __init__(self) -> None:
        self.who: list[str] = []

    def watch(self, name: str, stranger: Stranger) -> Stranger:
        stranger.hang_up = lambda: self.who.append(name)
        return stranger


def test_one_address_crowds_out_only_itself() -> None:
    strangers, away = Strangers(8 * SHARE_OF_ONE), Away()
    away.watch("other", strangers.come("203.0.113.7"))
    for number in range(10):
        away.watch(f"{number}", strangers.come("198.51.100.1"))
    assert away.who == ["0", "1"]
    assert len(strangers) == 9


def test_of_too_many_in_all_the_oldest_goes() -> None:
    strangers, away = Strangers(4), Away()
    for number in range(6):
        away.watch(f"{number}", strangers.come(f"198.51.100.{number}"))
    assert away.who == ["0", "1"]
    assert len(strangers) == 4


def test_who_is_known_is_no_stranger_and_may_be_known_twice() -> None:
    strangers, away = Strangers(2), Away()
    known = away.watch("known", strangers.come("198.51.100.1"))
    known.leave()
    known.leave()
    for number in range(4):
        away.watch(f"{number}", strangers.come(f"198.51.100.{number}"))
    assert away.who == ["0", "1"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:198.51.100.1", "198.51.100.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_address_is_counted_with_those_that_one_customer_has(one: str, other: str, same: bool) -> None:
    strangers, away = Strangers(SHARE_OF_ONE), Away()
    away.watch("one", strangers.come(one))
    strangers.come(other)
    assert (away.who == ["one"]) is same


def test_what_comes_from_this_machine_may_be_a_proxy_for_all() -> None:
    strangers, away = Strangers(3 * SHARE_OF_ONE), Away()
    for address in ("127.0.0.1", "::1", "127.0.0.11") * SHARE_OF_ONE:
        away.watch(address, strangers.come(address))
    assert away.who == []


@pytest.fixture
def most() -> Iterator[int]:
    """How many strangers a master on this machine has; this process may hold on to as many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(MOST, WANTED_FILES // 2, hard // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "in the middle of TLS"])
def test_a_master_serves_those_it_knows_whoever_else_holds_on_to_connections(
    tls: bool, tmp_path: Path, most: int
) -> None:
    with running(tmp_path / "state", tls=tls) as master, ExitStack() as held:
        known = held.enter_context(_client(master))
        assert known.get("/api/v1/master").status_code == 200
        files = _open_files(master)
        silent = [_connect(master, held) for _ in range(most + 100)]
        until(lambda: all(map(_is_closed, silent[:100])), "the end of the oldest")
        assert not any(map(_is_closed, silent[100:]))
        # On the connection that it has had all the time, and anew.
        assert known.get("/api/v1/master").status_code == 200
        with _client(master) as fresh:
            assert fresh.get("/api/v1/master").status_code == 200
        assert _open_files(master) <= files + most + 50


def test_a_question_makes_nobody_known_whose_token_is_wrong(own_master: MasterProcess, most: int) -> None:
    asks = b"GET /api/v1/master HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n"
    with ExitStack() as held:
        wrong, right = (_connect(own_master, held) for _ in range(2))
        for connection, token in ((wrong, b"qu1.wrong"), (right, own_master.token.encode())):
            connection.sendall(asks % token)
            assert connection.recv(65536).startswith(b"HTTP/1.1 ")
        for _ in range(most):
            _connect(own_master, held)
        until(lambda: _is_closed(wrong), "the end of who has no token")
        assert not _is_closed(right)


def _client(master: MasterProcess) -> httpx.Client:
    headers = {"Authorization": f"Bearer {master.token}"}
    return httpx.Client(base_url=master.url, headers=headers, timeout=PATIENCE_S, verify=False)


def _connect(master: MasterProcess, held: ExitStack) -> socket.socket:
    return held.enter_context(socket.create_connection(("127.0.0.1", master.port), timeout=PATIENCE_S))


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def _open_files(master: MasterProcess) -> int:
    assert master.process is not None
    return len(list(Path(f"/proc/{master.process.pid}/fd").iterdir()))
