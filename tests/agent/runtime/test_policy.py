"""What a job may have is what the operator's file allows; every no names the file and the key."""

import os
import re
from pathlib import Path

import pytest

from quorate.agent.command import User
from quorate.agent.config import AgentConfig
from quorate.agent.runtime.policy import Allow, AllowedMount, Forbidden, Policy
from quorate.model.messages import Mount, RoleSpec
from quorate.model.yamlfile import FileProblems, load_yaml

OWN = User(1_900_000_000, 1_900_000_000)


def policy(**allow: object) -> Policy:
    return Policy(Allow(**allow), "agent.yaml")  # type: ignore[arg-type]


def refused(key: str) -> "re.Pattern[str]":
    return re.compile(rf"agent\.yaml does not allow .* allow: {key}")


def test_without_a_word_any_image_may_come_and_nothing_else() -> None:
    nothing = policy()
    assert str(nothing.image("python:3.12")) == "docker.io/library/python:3.12"
    with pytest.raises(Forbidden, match=refused("mounts")):
        nothing.mounts([Mount("/", "/host")])
    with pytest.raises(Forbidden, match=refused("devices")):
        nothing.devices(["/dev/null"])
    with pytest.raises(Forbidden, match=refused("capabilities")):
        nothing.capabilities(["SYS_PTRACE"])
    with pytest.raises(Forbidden, match=refused("run_as")):
        nothing.user("root", OWN)


@pytest.mark.parametrize(
    ("pattern", "image", "allowed"),
    [
        ("docker.io/library/*", "python:3.12", True),
        ("docker.io/library/*", "docker.io/library/python", True),
        ("docker.io/library/*", "evil/python", False),
        ("registry.example.org/team/*", "registry.example.org/team/train:1", True),
        ("registry.example.org/team/*", "registry.example.org.evil.org/team/train:1", False),
        ("registry.example.org/team/train", "registry.example.org/team/train@sha256:" + 64 * "0", True),
        ("python:*", "python:3.12", False),
    ],
)
def test_images_are_judged_by_their_whole_names(pattern: str, image: str, allowed: bool) -> None:
    if allowed:
        policy(images=[pattern]).image(image)
    else:
        with pytest.raises(Forbidden, match=refused("images")):
            policy(images=[pattern]).image(image)


def test_a_mount_is_judged_by_where_it_really_is(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    (data / "set").mkdir(parents=True)
    other.mkdir()
    (data / "away").symlink_to(other)
    (data / "near").symlink_to(data / "set")
    allowed = policy(mounts=[AllowedMount(path=data, read_only=False)])
    assert allowed.mounts([Mount(str(data / "near"), "/in")])[0]["below"] == "set"
    for source in (data / "away", data / ".." / "other", tmp_path, Path(f"{data}x")):
        with pytest.raises(Forbidden, match=refused("mounts")):
            allowed.mounts([Mount(str(source), "/in")])


def test_a_folder_for_reading_is_not_lent_for_writing(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    allowed = policy(mounts=[AllowedMount(path=tmp_path), AllowedMount(path=tmp_path / "scratch", read_only=False)])
    with pytest.raises(Forbidden, match="for reading alone"):
        allowed.mounts([Mount(str(tmp_path), "/in")])
    assert allowed.mounts([Mount(str(tmp_path), "/in", read_only=True)])
    assert allowed.mounts([Mount(str(tmp_path / "scratch"), "/in")])[0]["root"] == str(tmp_path / "scratch")


def test_a_device_is_judged_by_what_it_really_is(tmp_path: Path) -> None:
    link = tmp_path / "device"
    link.symlink_to("/dev/zero")
    assert policy(devices=["/dev/zero"]).devices([str(link)]) == ["/dev/zero"]
    with pytest.raises(Forbidden, match=r"allow device .*/device \(/dev/zero\)"):
        policy(devices=[f"{tmp_path}/*"]).devices([str(link)])
    plain = tmp_path / "plain"
    plain.touch()
    with pytest.raises(Forbidden, match="is no device"):
        policy(devices=[f"{tmp_path}/*"]).devices([str(plain)])


def test_a_job_is_its_own_user_or_one_that_is_listed() -> None:
    assert policy().user("", OWN) == OWN
    assert policy().user(str(OWN.uid), OWN) == OWN
    listed = policy(run_as=["root", "1000-1999"])
    assert listed.user("root", OWN) == User(0, 0)
    assert listed.user("1500:1000", OWN) == User(1500, 1000)
    for wanted in ("2000", "1500:0x", "1500:2000", "alice"):
        with pytest.raises(Forbidden):
            listed.user(wanted, OWN)
    # Not even its own user gives it another one's group.
    with pytest.raises(Forbidden, match=refused("run_as")):
        policy().user(f"{OWN.uid}:0", OWN)


def test_the_number_of_a_jobs_own_group_makes_it_no_other_user() -> None:
    """A site where everybody is in group 1000, which is also alice's UID."""
    own = User(1_900_000_000, 1000)
    assert policy().user(f"{own.uid}:1000", own) == own
    assert policy(run_as=["1500"]).user("1500:1000", own) == User(1500, 1000)
    for wanted in ("1000", "1000:1000"):
        with pytest.raises(Forbidden, match=refused("run_as")):
            policy().user(wanted, own)


ROOT = User(0, 0)


def test_in_the_hosts_network_root_needs_a_word_of_its_own() -> None:
    role = RoleSpec(image="x", run_as="root")
    with pytest.raises(Forbidden, match=refused("host_root")):
        policy(run_as=["root"]).host_network(role, ROOT)
    policy(run_as=["root"], host_root=True).host_network(role, ROOT)
    policy(run_as=["1234"]).host_network(RoleSpec(image="x", run_as="1234"), User(1234, 1234))
    with pytest.raises(Forbidden, match=refused("host_network")):
        policy(host_network=False).host_network(RoleSpec(image="x"), OWN)


@pytest.mark.parametrize("capability", ["NET_RAW", "SETUID"])
def test_what_would_pass_by_the_hosts_rules_is_for_private_networks_alone(capability: str) -> None:
    allowed = policy(capabilities=[capability, "CHOWN"])
    assert allowed.capabilities([capability]) == [capability]
    with pytest.raises(Forbidden, match=f"with {capability} a member in this machine's own network"):
        allowed.host_network(RoleSpec(image="x", capabilities=(capability,)), OWN)
    allowed.host_network(RoleSpec(image="x", capabilities=("CHOWN",)), OWN)


def test_where_members_run_as_the_agent_so_do_containers() -> None:
    assert policy().user("", None) == User(os.geteuid(), os.getegid())


@pytest.mark.parametrize("capability", ["NET_ADMIN", "DAC_READ_SEARCH"])
def test_no_operator_can_allow_what_would_open_a_sandbox(capability: str) -> None:
    with pytest.raises(FileProblems, match=f"with {capability} a member could"):
        load_yaml(f"master: https://m:1\nallow:\n  capabilities: [{capability}]\n", "agent.yaml", AgentConfig)


def test_a_user_that_is_none_is_told_with_its_line() -> None:
    with pytest.raises(FileProblems, match=r"agent\.yaml:3.*'everybody' is no user"):
        load_yaml("master: https://m:1\nallow:\n  run_as: [everybody]\n", "agent.yaml", AgentConfig)
