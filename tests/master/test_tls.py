"""Trust: the master's certificate, made or given, and how an agent comes to believe in it."""

import asyncio
import datetime
import hashlib
import http.server
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from websockets.asyncio.client import connect

from quorate.agent import membership
from quorate.client import trust
from quorate.master.auth import hash_of
from quorate.master.config import load
from quorate.master.tls import CertificateError, operators_certificate, own_certificate
from quorate.model.messages import Welcome

from .serving import MasterProcess, hear, hello, running, say

NOW = datetime.datetime.now(datetime.UTC)


def server_certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_join_token_leads_to_the_authority_and_to_a_link_that_can_be_trusted(tmp_path: Path) -> None:
    with running(tmp_path / "state", tls=True) as master:
        with httpx.Client(base_url=master.url, verify=False) as blind:
            pem = blind.get("/ca.pem").text
        trusted = ssl.create_default_context(cadata=pem)
        with httpx.Client(
            base_url=master.url, verify=trusted, headers={"Authorization": f"Bearer {master.token}"}
        ) as client:
            token = client.post("/api/v1/tokens", json={"kind": "join"}).json()["token"]
            assert token.split(".")[3] == hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
            body = {"token": token, "name": "a", "key_hash": hash_of("qa1.x")}
            assert client.post("/agent/v1/join", json=body).json()["pool"] == "default"

        async def welcomed() -> None:
            headers = {"Authorization": "Bearer qa1.x"}
            url = f"wss://127.0.0.1:{master.port}/agent/v1/control"
            async with connect(url, ssl=trusted, additional_headers=headers, proxy=None) as link:
                await say(link, hello("a"))
                assert isinstance(await hear(link), Welcome)

        asyncio.run(welcomed())
        with pytest.raises(httpx.ConnectError), httpx.Client(base_url=master.url) as stranger:
            stranger.get("/healthz")


@contextmanager
def somebody_in_between(folder: Path, says: bytes) -> Iterator[str]:
    """A TLS server with a certificate of its own that answers every request with `says`."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(says)))
            self.end_headers()
            self.wfile.write(says)

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    server.socket = own_certificate(folder, ["127.0.0.1"], NOW).context().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("learn", [trust.fetch_authority, membership.fetch_authority])
def test_no_authority_is_trusted_that_comes_along_with_the_right_one(
    tmp_path: Path, learn: Callable[[str, str], str]
) -> None:
    # Base64 that ends in padding hides from a decoder what follows it: about two certificates of three end so.
    made = (own_certificate(tmp_path / f"ours{n}", ["master"], NOW) for n in range(100))
    ours = next(one for one in made if b"=" in one.authority)
    theirs = own_certificate(tmp_path / "theirs", ["127.0.0.1"], NOW).authority
    with somebody_in_between(tmp_path / "theirs", ours.authority + theirs) as url:
        learned = learn(url, ours.fingerprint)
        assert x509.load_pem_x509_certificates(learned.encode()) == [x509.load_pem_x509_certificate(ours.authority)]
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, verify=ssl.create_default_context(cadata=learned))


def test_plain_http_is_not_spoken_on_a_tls_port(tmp_path: Path) -> None:
    with running(tmp_path / "state", tls=True) as master, pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{master.port}/healthz")


def test_keys_are_private_and_the_authority_stays_the_same(tmp_path: Path) -> None:
    first = own_certificate(tmp_path, ["localhost", "127.0.0.1"], NOW)
    again = own_certificate(tmp_path, ["localhost", "127.0.0.1"], NOW)
    assert first.fingerprint == again.fingerprint
    for key in ("ca.key", "server.key"):
        assert stat.S_IMODE((tmp_path / key).stat().st_mode) == 0o600
    before = server_certificate(first.chain)
    assert before == server_certificate(again.chain)


@pytest.mark.parametrize("why", ["new name", "age", "lost key"])
def test_a_certificate_is_made_anew_where_it_no_longer_serves(tmp_path: Path, why: str) -> None:
    names = ["localhost"]
    first = own_certificate(tmp_path, names, NOW)
    before = server_certificate(first.chain)
    later = NOW
    match why:
        case "new name":
            names = ["localhost", "master.example"]
        case "age":
            later = NOW + datetime.timedelta(days=300)
        case "lost key":
            (tmp_path / "server.key").write_text("")
    again = own_certificate(tmp_path, names, later)
    assert server_certificate(again.chain) != before
    assert again.fingerprint == first.fingerprint
    again.context()


def test_the_operators_own_certificate_is_taken_and_checked(tmp_path: Path) -> None:
    made = own_certificate(tmp_path, ["localhost"], NOW)
    own = operators_certificate(made.chain, made.key, None)
    assert own.fingerprint == "-"
    assert operators_certificate(made.chain, made.key, tmp_path / "ca.pem").fingerprint == made.fingerprint
    with pytest.raises(CertificateError, match="cannot be used"):
        operators_certificate(made.chain, tmp_path / "ca.key", None)


def test_tls_is_spoken_wherever_others_can_reach_the_master() -> None:
    flags = {"state_dir": "/nonexistent"}
    [local] = load(flags | {"listen": "127.0.0.1"}, {}).listeners
    assert (local.tls, local.url) == (False, "http://127.0.0.1:8080")
    wide, beside = load(flags | {"listen": "0.0.0.0"}, {}).listeners
    assert (wide.tls, wide.port) == (True, 8443)
    assert (beside.address, beside.tls, beside.port) == ("127.0.0.1", False, 8080)


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "master.yaml"
    file.write_text("master: {port: 1111, listen: 127.0.0.1}\ntimers: {heartbeat: 5s}\n")
    environment = {"QUORATE_MASTER_PORT": "2222"}
    assert load({}, {}, file).listeners[0].port == 1111
    assert load({}, environment, file).listeners[0].port == 2222
    assert load({"port": 3333}, environment, file).listeners[0].port == 3333
    assert load({}, {"QUORATE_CONFIG": str(file)}).settings.heartbeat_s == 5.0


def test_a_busy_port_is_named_with_what_to_do(master: MasterProcess, tmp_path: Path) -> None:
    second = MasterProcess(tmp_path / "other", port=master.port)
    with pytest.raises(AssertionError, match=f"port {master.port} cannot be listened on: Address already in use"):
        second.start()
