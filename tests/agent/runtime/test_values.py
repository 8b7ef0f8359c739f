"""What is told to an engine and to registries, and what they say, taken apart: no engine is needed for these."""

import base64
import json
import os
import platform
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.conftest import until

from quorate.agent.command import User
from quorate.agent.runtime import body, waiter
from quorate.agent.runtime.credentials import CredentialsError, credentials
from quorate.agent.runtime.engineproxy import DROP_IN, drop_in, otherwise
from quorate.agent.runtime.pull import Progress
from quorate.agent.runtime.references import Reference
from quorate.agent.runtime.stream import Demultiplexer, StreamError
from quorate.model.logframes import Stream
from quorate.model.messages import RoleSpec

# --- references --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "whole", "key"),
    [
        ("python", "docker.io/library/python:latest", "https://index.docker.io/v1/"),
        ("index.docker.io/python", "docker.io/library/python:latest", "https://index.docker.io/v1/"),
        ("team/train:1", "docker.io/team/train:1", "https://index.docker.io/v1/"),
        ("localhost/train", "localhost/train:latest", "localhost"),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest", "127.0.0.1:5000"),
        ("ghcr.io/a/b:1@sha256:" + 64 * "a", "ghcr.io/a/b@sha256:" + 64 * "a", "ghcr.io"),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(text: str, whole: str, key: str) -> None:
    reference = Reference.parse(text)
    assert (str(reference), reference.credentials_key) == (whole, key)


# --- the engine's proxy ------------------------------------------------------------------------------------------

PROXY = "http://proxy.example.org:3128"


@pytest.mark.parametrize(
    ("plain", "secure", "said"),
    [
        (PROXY, PROXY, ""),
        ("", PROXY, ""),
        ("http://xxxxx:xxxxx@proxy.example.org:3128/", "proxy.example.org:3128", ""),
        ("", "", "but the engine pulls images over HTTPS without one"),
        (PROXY, "", "but the engine pulls images over HTTPS without one"),
        ("", "http://other:8080", "but the engine pulls images by http://other:8080"),
    ],
)
def test_an_engine_that_does_not_know_the_proxy_is_told_of_with_the_remedy(plain: str, secure: str, said: str) -> None:
    told = otherwise(f"{PROXY.replace('//', '//user:secret@')}/", {"HttpProxy": plain, "HttpsProxy": secure}, "docker")
    assert (told is not None and said in told.seen) if said else told is None
    if told is not None:
        assert "secret" not in str(told)
        assert "quorate service install engine-proxy" in told.remedy
        assert f"/etc/systemd/system/docker.service.d/{DROP_IN}" in told.remedy
        assert told.remedy.endswith("systemctl restart docker")


def test_the_engines_service_is_told_of_the_proxy_word_for_word() -> None:
    text = drop_in("http://me:50%25@proxy:3128", ("registry.local", "10.0.0.0/8"))
    assert text.splitlines()[1:] == [
        "[Service]",
        'Environment="HTTP_PROXY=http://me:50%%25@proxy:3128"',
        'Environment="HTTPS_PROXY=http://me:50%%25@proxy:3128"',
        'Environment="NO_PROXY=localhost,127.0.0.0/8,::1,registry.local,10.0.0.0/8"',
    ]


# --- output ------------------------------------------------------------------------------------------------------


def _piece(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@given(st.lists(st.tuples(st.sampled_from((1, 2)), st.binary(max_size=40)), max_size=8), st.lists(st.integers(1, 30)))
def test_output_is_the_same_however_it_is_cut_on_its_way(pieces: list[tuple[int, bytes]], cuts: list[int]) -> None:
    sent = b"".join(_piece(stream, data) for stream, data in pieces)
    demultiplexer = Demultiplexer()
    heard: dict[Stream, bytes] = {Stream.STDOUT: b"", Stream.STDERR: b""}
    for cut in (*cuts, len(sent)):
        for stream, data in demultiplexer.feed(sent[:cut]):
            heard[stream] += data
        sent = sent[cut:]
    for number, stream in ((1, Stream.STDOUT), (2, Stream.STDERR)):
        assert heard[stream] == b"".join(data for kind, data in pieces if kind == number)


def test_what_is_no_output_is_not_taken_for_it() -> None:
    with pytest.raises(StreamError):
        list(Demultiplexer().feed(b"HTTP/1.1 500"))


# --- credentials -------------------------------------------------------------------------------------------------


def _sent(header: str) -> dict[str, str]:
    return json.loads(base64.urlsafe_b64decode(header))


def _config(folder: Path, **content: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(content))
    return path


def _helper(folder: Path, name: str, script: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


PRIVATE = Reference.parse("registry.example.org/team/train:1")


def test_credentials_are_those_of_the_images_own_registry(tmp_path: Path) -> None:
    auth = base64.b64encode(b"ali:a:b").decode()
    config = _config(tmp_path, auths={"https://registry.example.org/v2/": {"auth": auth}, "other.org": {"auth": "x"}})
    assert _sent(credentials(PRIVATE, config)) == {
        "username": "ali", "password": "a:b", "serveraddress": "registry.example.org"
    }  # fmt: skip
    assert credentials(Reference.parse("python"), config) == ""
    assert credentials(PRIVATE, tmp_path / "none.json") == ""


def test_a_helper_is_asked_on_its_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _helper(tmp_path, "own", """read key; echo '{"Username": "<token>", "Secret": "for '$key'"}'""")
    _helper(tmp_path, "none", "echo credentials not found in native keychain; exit 1")
    config = _config(tmp_path, credHelpers={"registry.example.org": "own"}, credsStore="none")
    assert _sent(credentials(PRIVATE, config))["identitytoken"] == "for registry.example.org"
    assert credentials(Reference.parse("python"), config) == ""


def test_a_helper_that_fails_is_named_and_nothing_that_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _helper(tmp_path, "broken", "echo the keychain is locked >&2; exit 3")
    with pytest.raises(CredentialsError, match="docker-credential-broken failed: the keychain is locked"):
        credentials(PRIVATE, _config(tmp_path, credsStore="broken"))
    with pytest.raises(CredentialsError, match="there is no docker-credential-nosuch"):
        credentials(PRIVATE, _config(tmp_path, credsStore="nosuch"))
    with pytest.raises(CredentialsError, match="is no name of a credential helper"):
        credentials(PRIVATE, _config(tmp_path, credsStore="../../bin/sh"))


def test_a_jobs_secret_comes_first_and_chooses_no_program_of_this_machine(tmp_path: Path) -> None:
    secret = json.dumps({"auths": {"registry.example.org": {"username": "job", "password": "p"}}, "credsStore": "own"})
    auth = base64.b64encode(b"agent:p").decode()
    config = _config(tmp_path, auths={"registry.example.org": {"auth": auth}})
    assert _sent(credentials(PRIVATE, config, secret))["username"] == "job"
    assert _sent(credentials(PRIVATE, config, json.dumps({"credsStore": "own"})))["username"] == "agent"
    with pytest.raises(CredentialsError, match="secret docker-config is not JSON"):
        credentials(PRIVATE, config, "hush")


# --- progress ----------------------------------------------------------------------------------------------------


def test_progress_goes_forward_only_and_ends_at_a_hundred() -> None:
    def said(layer: str, status: str, current: int = 0, total: int = 0) -> dict:
        return {"id": layer, "status": status, "progressDetail": {"current": current, "total": total}}

    progress = Progress()
    lines = (
        {"id": "1", "status": "Pulling from library/python"}, said("a", "Pulling fs layer"), said("b", "Waiting"),
        said("a", "Downloading", 50, 100), said("a", "Download complete"), said("b", "Downloading", 1, 900),
        said("b", "Downloading", 900, 900), said("a", "Extracting", 100, 100), said("a", "Pull complete"),
        said("b", "Extracting", 450, 900), said("b", "Pull complete"), {"status": "Status: Downloaded newer image"},
    )  # fmt: skip
    seen = [progress.percent for line in lines if progress.hear(line)]
    assert seen == sorted(set(seen))
    assert seen[-1] == 100


# --- the waiter --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_waiter_waits_and_ends_well_when_it_is_told_to(tmp_path: Path, number: int) -> None:
    path = tmp_path / "wait"
    path.write_bytes(waiter.program(platform.machine()))
    path.chmod(0o755)
    process = subprocess.Popen([path])
    # Once it waits: rt_sigtimedwait(2) has these numbers.
    until(lambda: Path(f"/proc/{process.pid}/syscall").read_text().split()[0] in ("128", "137"))
    # It leaves the reaping of strangers to the kernel.
    assert int(_status(process.pid, "SigIgn"), 16) & 1 << signal.SIGCHLD - 1
    process.send_signal(number)
    assert process.wait(10) == 0


def _status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name))


def test_both_kinds_of_machine_have_a_waiter_and_others_are_told_so() -> None:
    for machine, number in (("x86_64", 62), ("aarch64", 183)):
        program = waiter.program(machine)
        assert program[:4] == b"\x7fELF"
        assert int.from_bytes(program[18:20], "little") == number
    with pytest.raises(waiter.NoWaiter, match="riscv64"):
        waiter.program("riscv64")


# --- a container's description -----------------------------------------------------------------------------------


def _container(role: RoleSpec, argv: tuple[str, ...] = ("true",), **setting: object) -> dict:
    image = body.Image("sha256:x", environment={"PATH": "/opt", "MINE": "image"})
    granted = body.Granted(User(1000, 1000))
    made = body.Setting("/sock", "1.41", {}, "/work", "/wait", "/stage", **setting)  # type: ignore[arg-type]
    return body.container("jjjj-1.0.1", role, image, argv, granted, made, ("MINE",))


def test_gpus_are_given_by_uuid_and_no_others() -> None:
    host = _container(RoleSpec(image="x"), gpus=("GPU-1", "GPU-2"))["body"]["HostConfig"]
    assert host["DeviceRequests"] == [{"DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu"]]}]
    assert "DeviceRequests" not in _container(RoleSpec(image="x"))["body"]["HostConfig"]


def test_every_container_gives_its_rights_up_whatever_a_job_asks_for() -> None:
    role = RoleSpec(image="x", memory_bytes=1, cpus=1, shm_bytes=1, pids=1, run_as="root", capabilities=("SYS_PTRACE",))
    host = _container(role)["body"]["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] == []
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["RestartPolicy"] == {"Name": "no"}
    assert "Privileged" not in host


def test_the_variables_of_an_image_stand_but_for_those_that_the_user_set() -> None:
    assert _container(RoleSpec(image="x"))["kept"] == ["PATH"]


def test_an_image_with_nothing_to_run_waits_with_a_program_of_ours() -> None:
    described = _container(RoleSpec(image="x"), argv=())["body"]
    assert described["Entrypoint"] == [body.WAITER]
    assert ("/wait", body.WAITER) in {(m["Source"], m["Target"]) for m in described["HostConfig"]["Mounts"]}
    # It is an init itself.
    assert described["HostConfig"]["Init"] is False
