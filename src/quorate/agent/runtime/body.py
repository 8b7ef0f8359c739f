"""A member's container in the engine's words; pure: all that had to be asked is a parameter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from quorate.agent.command import User
from quorate.agent.runtime.mounts import bind
from quorate.launch.bootstrap import IMAGE_SCRIPT
from quorate.model.messages import RoleSpec

#: Where a container finds what is Quorate's own; an image needs none of it.
WORK: Final = "/quorate/work"
SECRETS: Final = "/quorate/secrets"
WAITER: Final = "/quorate/wait"
#: What its SSH client reads.
SSH: Final = "/quorate/ssh"
NAME: Final = "quorate-"
#: Files of an image that are looked at before it runs.
PASSWD: Final = "/etc/passwd"  # noqa: S105 (a path)
SSH_CONFIG: Final = "/etc/ssh/ssh_config"
LOOKED_AT: Final = (IMAGE_SCRIPT, PASSWD, SSH_CONFIG)
#: On every container of ours, with the state folder of its agent: two clusters may share a machine and its engine.
LABEL_CLUSTER, LABEL_AGENT, LABEL_MEMBER = "quorate.cluster", "quorate.agent", "quorate.member"
LABEL_FOLDER, LABEL_KIND = "quorate.folder", "quorate.kind"

#: 100 ms, the kernel's own default period; the engine takes CPUs in billionths.
_BILLION: Final = 1_000_000_000
#: Docker puts its init into /sbin, which what a job mounts there covers.
_HIDE_INIT: Final = ("/usr", "/sbin", "/usr/sbin")


@dataclass(frozen=True)
class Image:
    """What its configuration says, as far as it matters here."""

    id: str
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    stop_signal: str = "SIGTERM"
    #: Whether it brings a bootstrap script of its own (launch/bootstrap.py).
    bootstrap: bool = False
    #: Its own /etc/passwd and /etc/ssh/ssh_config; empty for none.
    passwd: str = ""
    ssh_config: str = ""

    @classmethod
    def read(cls, said: Mapping[str, Any], files: Mapping[str, str | None]) -> "Image":
        """From the engine's answer, and its files that matter by their paths; None for one that it lacks."""
        config = said.get("Config") or {}
        pairs = (text.partition("=") for text in config.get("Env") or ())
        return cls(
            id=said["Id"],
            command=(*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())),
            environment={name: value for name, _, value in pairs},
            workdir=config.get("WorkingDir") or "",
            stop_signal=config.get("StopSignal") or "SIGTERM",
            bootstrap=files.get(IMAGE_SCRIPT) is not None,
            passwd=files.get(PASSWD) or "",
            ssh_config=files.get(SSH_CONFIG) or "",
        )


@dataclass(frozen=True)
class Granted:
    """What the operator's file has let through (policy.py)."""

    user: User
    mounts: Sequence[Mapping[str, Any]] = ()
    devices: Sequence[str] = ()
    capabilities: Sequence[str] = ()


@dataclass(frozen=True)
class Setting:
    """Where the container is: its engine, its network, the folders that it gets."""

    engine: str
    api: str
    labels: Mapping[str, str]
    work: str
    #: The waiter's file on this machine, for an image with nothing to run.
    waiter: str
    #: Where the agent prepares mounts.
    stage: str
    #: `host`, `none`, or `container:<id of the pause container>`.
    network: str = "host"
    #: Empty for that of the container whose network it joins.
    hostname: str = ""
    secrets: str = ""
    hosts_file: str = ""
    resolv_file: str = ""
    #: Whether the engine has an init of its own.
    init: bool = True
    #: UUIDs of the GPUs that the member holds.
    gpus: Sequence[str] = ()
    #: The member's working folder holds what the user has sent along.
    context: bool = False
    #: Whether the engine is Podman, which does some things otherwise.
    podman: bool = False
    #: Files and folders of this machine by what they lie over in the container, for reading.
    over: Mapping[str, str] = field(default_factory=dict)


def name_of(member: str) -> str:
    """The name of a member's container: another one of that name is an earlier, torn start of the same."""
    return f"{NAME}{member}"


def container(
    member: str,
    role: RoleSpec,
    image: Image,
    argv: Sequence[str],
    granted: Granted,
    setting: Setting,
    users_variables: Sequence[str],
) -> dict[str, Any]:
    """What the shim needs to run the member: `Order.container`. `argv` is empty where the image's own command runs."""
    own = argv or image.command
    entrypoint = list(argv) if argv else None if own else [WAITER]
    body: dict[str, Any] = {
        "Image": image.id,
        "Labels": dict(setting.labels),
        "User": f"{granted.user.uid}:{granted.user.gid}",
        "WorkingDir": role.workdir or (WORK if setting.context else image.workdir or WORK),
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": _host_config(role, granted, setting, bool(argv), waits=not own or WAITER in argv),
    }
    if entrypoint is not None:
        # An entry point of ours takes the image's command from it too.
        body |= {"Entrypoint": entrypoint, "Cmd": []}
    if setting.hostname:
        body["Hostname"] = setting.hostname
    return {
        "engine": setting.engine,
        "api": setting.api,
        "podman": setting.podman,
        "stage": setting.stage,
        "name": name_of(member),
        "image": role.image,
        "body": body,
        "mounts": list(granted.mounts),
        "memory": role.memory_bytes,
        "stop_signal": image.stop_signal,
        # What the image has set stands above what is derived, and only the user's own above that.
        "kept": sorted(image.environment.keys() - set(users_variables)),
    }


def _host_config(role: RoleSpec, granted: Granted, setting: Setting, ours: bool, waits: bool) -> dict[str, Any]:
    mounts = [bind(setting.work, WORK, read_only=False)]
    fixed = (
        (setting.secrets, SECRETS),
        (setting.hosts_file, "/etc/hosts"),
        (setting.resolv_file, "/etc/resolv.conf"),
        (setting.waiter if waits else "", WAITER),
        *setting.over.items(),
    )
    mounts += [bind(source, target, read_only=True) for source, target in fixed if source]
    config: dict[str, Any] = {
        "NetworkMode": setting.network,
        "Mounts": mounts,
        "CapDrop": ["ALL"],
        "CapAdd": list(granted.capabilities),
        "SecurityOpt": ["no-new-privileges"],
        "RestartPolicy": {"Name": "no"},
        # The shim has the output; a second copy would only fill the disk.
        "LogConfig": {"Type": "none"},
        "Devices": [
            {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rw"} for path in granted.devices
        ],
        # An image's own command was made to be the first process; a job's was not, and would hear no SIGTERM as such.
        "Init": ours and setting.init and not any(mount["target"] in _HIDE_INIT for mount in granted.mounts),
    }
    if role.memory_bytes:
        # The same for both: no swap on top, which would only make a training crawl.
        config |= {"Memory": role.memory_bytes, "MemorySwap": role.memory_bytes}
    if role.cpus:
        config["NanoCpus"] = round(role.cpus * _BILLION)
    if role.shm_bytes:
        config["ShmSize"] = role.shm_bytes
    if role.pids:
        config["PidsLimit"] = role.pids
    if setting.gpus:
        config["DeviceRequests"] = [{"DeviceIDs": list(setting.gpus), "Capabilities": [["gpu"]]}]
    return config


def environment(
    derived: Mapping[str, str], operators: Mapping[str, str], inherited: Mapping[str, str], secrets: bool
) -> dict[str, str]:
    """Of the machine's variables, only what says how to get out; the rest is the image's own affair."""
    proxies = {name: value for name, value in inherited.items() if name.lower() in _PROXIES}
    folder = {"QUORATE_SECRETS": SECRETS} if secrets else {}
    return {"HOME": WORK, "PYTHONUNBUFFERED": "1", **proxies, **operators, **folder, **derived}


_PROXIES = frozenset({"http_proxy", "https_proxy", "no_proxy", "all_proxy"})
