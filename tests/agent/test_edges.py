"""The agent's small edges, one by one: contexts, memberships, settings, orders, users, ports, devices."""

import io
import json
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from tests.agent.peer import JOB, spec

from quorate.agent import daemon, hostports
from quorate.agent.command import User
from quorate.agent.config import AgentConfig
from quorate.agent.contexts import ContextError, unpack
from quorate.agent.devices import find_slots, visible_devices
from quorate.agent.membership import JoinError, JoinToken, MasterAway, establish
from quorate.agent.orders import InImage, Machine, OrderError, Places, compose
from quorate.agent.runtime.body import Granted, Image, Setting
from quorate.agent.users import NoUserLeft, UserPool
from quorate.model.messages import NetworkSpec, PlannedMember, RoleSpec, SlotInfo
from quorate.model.yamlfile import FileProblems, load_yaml
from quorate.network import catalogue

M = f"{JOB}-1.0.1"


def archive(folder: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = folder / "context.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for entry, data in entries:
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644, pax: dict[str, str] | None = None
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.pax_headers = kind, link, mode, pax or {}
    return info


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("untouched")
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "bad",
    [
        [(entry("../outside"), b"x")],
        [(entry("/etc/quorate-test"), b"x")],
        [(entry("link", tarfile.SYMTYPE, "../outside"), b"")],
        [(entry("link", tarfile.SYMTYPE, "/etc/passwd"), b"")],
        [(entry("hard", tarfile.LNKTYPE, "../outside"), b"")],
        [(entry("dir", tarfile.SYMTYPE, ".."), b""), (entry("dir/outside"), b"x")],
        [(entry("real/a"), b""), (entry("dir", tarfile.SYMTYPE, "real"), b""), (entry("dir/b"), b"x")],
        [(entry("file"), b""), (entry("file", tarfile.SYMTYPE, "other"), b"")],
        [(entry("null", tarfile.CHRTYPE), b"")],
        [(entry("pipe", tarfile.FIFOTYPE), b"")],
        [(entry("x" * 2000), b"x")],
        [(entry("a", pax={"path": "a\0b"}), b"x")],
        [(entry("a", tarfile.SYMTYPE, "b", pax={"linkpath": "b\0c"}), b"")],
    ],
)
def test_a_context_cannot_write_outside_its_place(into: Path, bad: list) -> None:
    with pytest.raises(ContextError):
        unpack(archive(into.parent, *bad), into)
    assert (into.parent / "outside").read_text() == "untouched"
    assert not Path("/etc/quorate-test").exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:40] + b"\xff" * len(data[40:])])
def test_a_damaged_context_is_refused(into: Path, damage: Callable[[bytes], bytes]) -> None:
    path = archive(into.parent, (entry("a"), os.urandom(100_000)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ContextError, match="cannot be unpacked"):
        unpack(path, into)


def test_a_context_keeps_modes_and_inner_links_but_no_set_uid_bits(into: Path) -> None:
    path = archive(
        into.parent,
        (entry("bin/run", mode=0o4755), b"#!/bin/sh\n"),
        (entry("run", tarfile.SYMTYPE, "bin/run"), b""),
    )
    unpack(path, into)
    assert (into / "run").read_bytes() == b"#!/bin/sh\n"
    assert (into / "bin" / "run").stat().st_mode & 0o7777 == 0o755


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_context_belongs_to_the_members_user(into: Path) -> None:
    unpack(archive(into.parent, (entry("a/b/c"), b"x")), into, User(4321, 4321))
    assert {path.lstat().st_uid for path in into.rglob("*")} == {4321}


# --- membership ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "qj1.a.b", "qu1.a.b.-", "qj1..b.-", "hello"])
def test_what_is_no_join_token_is_refused_with_the_command_that_makes_one(text: str) -> None:
    with pytest.raises(JoinError, match="quorate token create"):
        JoinToken.parse(text)


def test_a_token_carries_the_authoritys_fingerprint_or_none() -> None:
    assert JoinToken.parse("qj1.id.secret.AB12\n").fingerprint == "ab12"
    assert JoinToken.parse("qj1.id.secret.-").fingerprint is None


def test_an_agent_without_token_and_membership_is_told_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(JoinError, match="give it a token"):
        establish(AgentConfig(name="a", master="http://127.0.0.1:1", state_dir=tmp_path))


def test_a_key_is_made_once_and_kept_private_even_if_the_master_is_away(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        config = AgentConfig(name="a", master=url, token="qj1.id.secret.-", state_dir=tmp_path)
        keys = set()
        for _ in range(2):
            with pytest.raises(MasterAway):
                establish(config)
            keys.add((tmp_path / "membership.json").read_text())
    assert len(keys) == 1
    assert (tmp_path / "membership.json").stat().st_mode & 0o777 == 0o600


def test_what_speaks_no_http_in_the_masters_place_is_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            with other.accept()[0] as connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                connection.recv(65536)

        thread = threading.Thread(target=greet)
        thread.start()
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(MasterAway, match=r"speaks no HTTP.*SSH-2\.0"):
            establish(AgentConfig(name="a", master=url, token="qj1.id.secret.-", state_dir=tmp_path))
        thread.join()


# --- settings --------------------------------------------------------------------------------------------------


def test_a_mistake_in_agent_yaml_is_named_with_its_line_and_what_was_meant() -> None:
    with pytest.raises(FileProblems) as caught:
        load_yaml("master: https://10.0.0.2:8443\nslotz: 3\nusers: {first: 5}\n", "agent.yaml", AgentConfig)
    text = str(caught.value)
    assert "agent.yaml:2" in text
    assert "slots" in text
    assert "agent.yaml:3" in text


@pytest.mark.parametrize("url", ["10.0.0.2:8443", "ftp://x", "https://", "https://h/path"])
def test_a_master_is_a_url_without_a_path(url: str) -> None:
    with pytest.raises(ValueError, match="write https://HOST:PORT"):
        AgentConfig(name="a", master=url)


def test_leasable_ports_are_the_catalogues_unless_the_operator_says_so() -> None:
    default = AgentConfig(name="a", master="http://h:1")
    assert default.leasable == (catalogue.ports("leased").first, catalogue.ports("leased").last)
    assert AgentConfig(name="a", master="http://h:1", lease_ports=(30000, 30010)).leasable == (30000, 30010)


# --- slots -----------------------------------------------------------------------------------------------------


def test_slots_are_what_the_operator_says() -> None:
    assert [slot.kind for slot in find_slots(slots=2)] == ["cpu", "cpu"]
    assert [slot.kind for slot in find_slots(fake_slots=3)] == ["fake"] * 3
    assert find_slots(slots=0) == ()


def test_a_gpu_that_does_not_answer_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three GPUs as NVML tells of them: one that fell off the bus, and one without memory of its own."""

    def device(index: int) -> int:
        if index == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return index

    def memory(device: int) -> Any:
        if device == 2:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(total=80 * 2**30)

    told = {
        "Init": lambda: None, "Shutdown": lambda: None, "DeviceGetCount": lambda: 3, "DeviceGetHandleByIndex": device,
        "DeviceGetMemoryInfo": memory, "DeviceGetUUID": "GPU-{}".format, "DeviceGetName": lambda _: "H200",
    }  # fmt: skip
    for name, answer in told.items():
        monkeypatch.setattr(pynvml, f"nvml{name}", answer)
    assert find_slots() == (SlotInfo(0, "gpu", "GPU-0", "H200", 80 * 2**30), SlotInfo(2, "gpu", "GPU-2", "H200", 0))


def test_a_member_sees_its_own_gpus_by_their_uuid_and_no_others() -> None:
    slots = tuple(SlotInfo(i, "gpu", f"GPU-{i}") for i in range(4))
    assert visible_devices(slots, (1, 3)) == {"CUDA_VISIBLE_DEVICES": "GPU-1,GPU-3"}
    assert visible_devices(slots, ()) == {"CUDA_VISIBLE_DEVICES": ""}
    assert visible_devices((SlotInfo(0),), (0,)) == {}


# --- orders ----------------------------------------------------------------------------------------------------


PLACES = Places("/state/m", "/state/m/work", "/dev/shm/q/m")


def test_a_member_that_is_alone_pays_for_no_companion() -> None:
    assert compose(M, spec(("true",)), Machine(), PLACES, None, {}).companion == ""
    ports = {"rendezvous": 30000, "watch": 30001}
    members = tuple(
        PlannedMember(rank, "main", rank + 1, f"main{rank + 1}", "alpha", "127.0.0.1", (), ports) for rank in range(2)
    )
    pair = spec(("true",), members=members)
    order = compose(M, pair, Machine(), PLACES, None, {})
    assert '"rendezvous_s":54' in order.companion
    assert pair.nonce not in str(order.environment)
    assert pair.nonce not in repr(order)


def test_the_rendezvous_ends_before_the_masters_deadline_however_long_the_preparation_took() -> None:
    members = tuple(
        PlannedMember(
            rank, "main", rank + 1, f"main{rank + 1}", "alpha", "127.0.0.1", (), {"rendezvous": 1, "watch": 2}
        )
        for rank in range(2)
    )
    pair = spec(("true",), members=members, start_timeout_s=100.0)
    for spent in (0.0, 60.0, 95.0):
        order = compose(M, pair, Machine(), PLACES, None, {}, spent)
        deadline = json.loads(order.companion)["timeouts"]["rendezvous_s"]
        assert 0.5 < deadline / (100.0 - spent) < 1.0


def test_an_order_does_not_show_its_secrets() -> None:
    order = compose(M, spec(("true",)), Machine(), PLACES, None, {"key": "hunter2"})
    assert "hunter2" not in repr(order)
    assert order.environment["QUORATE_SECRETS"] == "/dev/shm/q/m"


def test_a_member_under_a_user_of_its_own_has_its_folder_as_home() -> None:
    machine = Machine(inherited={"HOME": "/root", "PATH": "/bin", "AWS_SECRET": "x", "LC_ALL": "C.UTF-8"})
    order = compose(M, spec(("true",)), machine, PLACES, User(5, 5), {})
    assert order.environment["HOME"] == "/state/m/work"
    assert order.environment["LC_ALL"] == "C.UTF-8"
    assert "AWS_SECRET" not in order.environment
    assert compose(M, spec(("true",)), machine, PLACES, None, {}).environment["HOME"] == "/root"


def test_a_launcher_that_does_not_exist_is_a_sentence() -> None:
    import msgspec

    odd = msgspec.structs.replace(spec(("true",)), launcher="horovod2")
    with pytest.raises(OrderError, match="no launcher 'horovod2'"):
        compose(M, odd, Machine(), PLACES, None, {})


@pytest.mark.parametrize(
    ("network", "roles", "refused"),
    [
        ({}, {}, True),
        # What the job's file says is what the plan is made of.
        ({}, {"MASTER_PORT": "30000"}, False),
        ({"members": "open"}, {}, False),
        ({"enforcement": "observe"}, {}, False),
    ],
)
def test_a_master_port_that_an_image_sets_and_the_network_would_refuse_is_named(
    network: dict[str, str], roles: dict[str, str], refused: bool
) -> None:
    role = RoleSpec("train:1", entrypoint=("true",), environment=roles)
    told = NetworkSpec("overlay", 7, "10.128.0.0/24", "10.128.0.1", **{"members": "planned", **network})
    ports = {"rendezvous": 1734, "watch": 1750}
    members = tuple(
        PlannedMember(rank, "main", rank + 1, f"main{rank + 1}", "alpha", f"10.128.0.{2 + rank}", (), ports)
        for rank in range(2)
    )
    pair = spec((), members=members, network=told, roles={"main": role}, preflight="off")
    image = Image("sha256:1", environment={"MASTER_PORT": "30000"})
    within = InImage(image, Granted(User(5, 5)), Setting("docker", "1.40", {}, "/work", "/waiter", "/stage"))
    with pytest.raises(OrderError, match="MASTER_PORT: 30000") if refused else nullcontext():
        compose(M, pair, Machine(), PLACES, None, {}, within=within)


def test_a_member_with_gpus_does_not_run_without_them_where_the_engine_would_leave_them_out() -> None:
    alone = spec((), roles={"main": RoleSpec("train:1", entrypoint=("true",))}, preflight="off")
    setting = Setting("podman", "1.41", {}, "/work", "/waiter", "/stage", podman=True)
    within = InImage(Image("sha256:1"), Granted(User(5, 5)), setting)
    machine = Machine(slots=(SlotInfo(0, "gpu", "GPU-1"),))
    with pytest.raises(OrderError, match="it holds 1 GPUs, and Podman gives none"):
        compose(M, alone, machine, PLACES, None, {}, within=within)
    compose(M, alone, Machine(slots=()), PLACES, None, {}, within=within)


# --- users -----------------------------------------------------------------------------------------------------


def test_each_allocation_has_a_user_of_its_own_until_it_is_released() -> None:
    users = UserPool(100_000, 100_001, {"ann": User(1001, 1002)})
    assert users.user("job1-1", "ann") == User(1001, 1002)
    first, second = users.user("job2-1", "bob"), users.user("job3-1", "bob")
    assert first != second
    assert users.user("job2-1", "bob") == first
    with pytest.raises(NoUserLeft, match="100000 to 100001"):
        users.user("job4-1", "bob")
    assert users.retire("job2-1") == first.uid
    with pytest.raises(NoUserLeft):
        users.user("job4-1", "bob")
    users.free(first.uid)
    assert users.user("job4-1", "bob") == first


def test_the_user_that_nobody_has_had_for_longest_comes_next() -> None:
    users = UserPool(100_000, 100_002, {})
    for number in range(6):
        uid = users.user(f"job{number}-1", "bob").uid
        assert uid == 100_000 + number % 3
        users.retire(f"job{number}-1")
        users.free(uid)


def test_a_restored_user_is_not_given_to_another_allocation() -> None:
    users = UserPool(100_000, 100_005, {})
    users.restore("job1-1", 100_000)
    assert users.user("job2-1", "bob").uid == 100_001


# --- ports -----------------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.5", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_that_is_taken_on_one_address_is_taken(listener: int) -> None:
    assert hostports.taken({"main": listener}) is not None
    assert f"pid {os.getpid()}" in hostports.holder(listener)


# --- starting --------------------------------------------------------------------------------------------------


def test_a_state_folder_that_members_cannot_reach_is_refused_with_the_folder_in_the_way(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    state = closed / "agent"
    state.mkdir(mode=0o711)
    with pytest.raises(daemon.CannotStart, match=f"{closed} lets none of them through"):
        daemon._check_passable(state)
