"""Each launcher starts the user's entry point as the user meant it."""

import pytest
from launch_vocabulary import gang

from quorate.launch import launchers
from quorate.launch.config import ConfigurationError, Network
from quorate.launch.launchers import LauncherError


def argv(*entrypoint: str, launcher: str = "torch", size: int = 2, rank: int = 1, slots: int = 1) -> tuple[str, ...]:
    return launchers.derive(launcher, gang(size, rank=rank, slots=slots), entrypoint, {}).argv


def test_no_launcher_leaves_the_entry_point_alone() -> None:
    launch = launchers.derive("none", gang(2), ("sh", "-c", "true"), {"NODE_RANK": "7"})
    assert launch.argv == ("sh", "-c", "true")
    assert launch.environment["QUORATE_RANK"] == "0"
    assert "NODE_RANK" not in launch.environment


def test_torch_meets_at_the_first_member() -> None:
    configuration = gang(2, rank=1, slots=3)
    launch = launchers.derive("torch", configuration, ("python", "train.py", "--epochs", "20"), {})
    assert launch.argv[:2] == ("python", "-c")
    assert "from torch.distributed.run import main" in launch.argv[2]
    assert launch.argv[3:] == (
        "--nnodes=2", "--node-rank=1", "--master-addr=127.0.0.11",
        f"--master-port={configuration.first.port('torch')}", "--rdzv-id=qqqq2222-1", "--nproc-per-node=3",
        "train.py", "--epochs", "20",
    )  # fmt: skip


def test_torch_meets_at_a_name_where_names_resolve() -> None:
    launch = launchers.derive("torch", gang(2, network=Network.OVERLAY), ("python", "train.py"), {})
    assert "--master-addr=main1" in launch.argv


def test_a_member_without_slots_still_has_one_process() -> None:
    assert "--nproc-per-node=1" in argv("python", "train.py", slots=0)


@pytest.mark.parametrize(
    ("entrypoint", "start"),
    [
        (("python", "train.py", "-x"), ("python", ("train.py", "-x"))),
        (("python3.11", "-u", "train.py"), ("python3.11", ("train.py",))),
        (("/opt/venv/bin/python", "train.py"), ("/opt/venv/bin/python", ("train.py",))),
        (("python", "-m", "package.train", "-x"), ("python", ("--module", "package.train", "-x"))),
        (("python", "-c", "print(1)"), ("python", ("--no-python", "python", "-c", "print(1)"))),
        (("python", "-X", "dev", "train.py"), ("python", ("--no-python", "python", "-X", "dev", "train.py"))),
        (("sh", "-c", "exec ./train"), ("python3", ("--no-python", "sh", "-c", "exec ./train"))),
        (("./train.py",), ("python3", ("--no-python", "./train.py"))),
    ],
)
def test_torch_starts_what_the_user_wrote(entrypoint: tuple[str, ...], start: tuple[str, tuple[str, ...]]) -> None:
    python, what = start
    command = argv(*entrypoint)
    assert command[0] == python
    assert command[-len(what) :] == what
    assert command[-len(what) - 1].startswith("--nproc-per-node")


@pytest.mark.parametrize(
    "entrypoint",
    [("torchrun", "train.py"), ("/usr/bin/torchrun", "train.py"), ("python", "-m", "torch.distributed.run", "t.py")],
)
def test_torch_refuses_to_launch_a_launcher(entrypoint: tuple[str, ...]) -> None:
    with pytest.raises(LauncherError, match="write the script alone"):
        argv(*entrypoint)


def test_torch_threads_are_one_each_where_processes_share_a_member() -> None:
    entrypoint = ("python", "train.py")
    assert launchers.derive("torch", gang(2, slots=2), entrypoint, {}).environment["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in launchers.derive("torch", gang(2, slots=1), entrypoint, {}).environment
    user = {"OMP_NUM_THREADS": "4"}
    assert "OMP_NUM_THREADS" not in launchers.derive("torch", gang(2, slots=2), entrypoint, user).environment


def test_torch_never_shares_its_store_with_the_attempt_before() -> None:
    entrypoint = ("python", "train.py")
    launch = launchers.derive("torch", gang(2), entrypoint, {})
    assert launch.environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
    user = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "0"}
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE" not in launchers.derive("torch", gang(2), entrypoint, user).environment


def test_torch_stands_alone_where_a_single_member_has_no_port() -> None:
    configuration = gang(1, slots=2)
    configuration.own.ports.pop("torch")  # type: ignore[attr-defined]
    launch = launchers.derive("torch", configuration, ("python", "train.py"), {})
    assert launch.argv[3:6] == ("--standalone", "--nnodes=1", "--nproc-per-node=2")


def test_torch_names_the_port_that_it_lacks() -> None:
    configuration = gang(2)
    configuration.first.ports.pop("torch")  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="main1 has no port for torch"):
        launchers.derive("torch", configuration, ("python", "train.py"), {})


def test_an_unknown_launcher_is_answered_with_those_there_are() -> None:
    with pytest.raises(LauncherError, match="none, torch"):
        argv("true", launcher="slurm")


def test_launchers_are_those_that_a_job_may_name() -> None:
    from quorate.model.job import Launcher

    assert set(launchers.names()) == {launcher.value for launcher in Launcher}
