"""What a member runs in and with: the keys that a job may set for all its members and a role for its own."""

import re
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from quorate.model.image import Image
from quorate.model.mount import Mount, absolute
from quorate.model.noun import Noun
from quorate.model.size import Size

MAX_ENTRYPOINT_BYTES = 128 * 1024
MAX_ENVIRONMENT_BYTES = 256 * 1024
MAX_BOOTSTRAP_BYTES = 64 * 1024
MAX_MOUNTS = 64
MAX_DEVICES = 64

#: Set by torchrun and its like for each process; at member level they would be wrong, so nobody may set them there.
RESERVED_VARIABLES = frozenset({"RANK", "WORLD_SIZE", "LOCAL_RANK"})
#: With these a member could change its own rules or leave its sandbox, whatever the operator's file says; with
#: DAC_READ_SEARCH by open_by_handle_at(2), which opens any file of a disk of which anything is mounted.
FORBIDDEN_CAPABILITIES = frozenset(
    {"ALL", "BPF", "DAC_READ_SEARCH", "NET_ADMIN", "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO"}
)
#: In the hosts' own network, where nothing but the host's rules stands between a member and the wire: packet sockets
#: pass those by, and whoever takes another UID leaves the rules for members.
FORBIDDEN_ON_HOSTS = frozenset({"NET_RAW", "SETUID"})
#: What a plain process cannot have, for only an engine keeps it.
NEEDS_IMAGE = ("memory", "cpus", "shm", "pids", "mounts", "devices", "capabilities", "run_as")

User = Annotated[
    str, StringConstraints(pattern=r"^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})(:([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}))?$")
]
Device = Annotated[str, StringConstraints(pattern=r"^/dev/[A-Za-z0-9_/-]{1,200}$")]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_CAPABILITY = re.compile(r"[A-Z]+(_[A-Z]+)*")


def text_is_for_the_shell(value: Any) -> Any:
    """An entry point that was written as one text, as the command that it means."""
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("the entry point is empty")
        return ("sh", "-c", value)
    return value


def check_command(value: tuple[str, ...]) -> tuple[str, ...]:
    """The words as they are; raises ValueError for what cannot be executed."""
    if not value or not value[0]:
        raise ValueError("the entry point is empty")
    if any("\0" in word for word in value):
        raise ValueError("the entry point contains a NUL byte")
    if sum(len(word.encode()) for word in value) > MAX_ENTRYPOINT_BYTES:
        raise ValueError(f"the entry point is longer than {MAX_ENTRYPOINT_BYTES} bytes")
    return value


class MemberSettings(Noun):
    """None is "not said": a role's key stands before the job's, and lists and variables of both add up."""

    image: Image | None = Field(None, description="Members run in containers of this image; else as processes.")
    environment: dict[str, str] = Field(default_factory=dict, description="Variables of each member; never overridden.")
    bootstrap: str | None = Field(None, description="Run by `sh -c` before the entry point; it must succeed.")
    workdir: str | None = Field(None, description="Absolute folder in which the entry point starts.")
    run_as: User | None = Field(None, description="USER or USER:GROUP, within what the operator allows.")
    memory: Size | None = Field(None, description="Most memory of a member, such as 16GiB.", ge=1 << 22)
    cpus: float | None = Field(None, description="Most CPUs of a member, such as 2.5.", gt=0, le=4096)
    shm: Size | None = Field(None, description="Size of /dev/shm of a container.", ge=1 << 16)
    pids: int | None = Field(
        None,
        description="Most processes and threads of a member; with fewer than 32 an engine may fail to start it.",
        ge=1,
        le=4_194_304,
    )
    mounts: tuple[Mount, ...] = Field(
        (), description="Folders of the agents' machines, within what operators allow.", max_length=MAX_MOUNTS
    )
    devices: tuple[Device, ...] = Field(
        (), description="Devices besides those of the slots, such as /dev/fuse.", max_length=MAX_DEVICES
    )
    capabilities: tuple[str, ...] = Field((), description="Kernel capabilities to keep, such as SYS_PTRACE; else none.")

    @field_validator("environment", mode="before")
    @classmethod
    def _plain_values_are_text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v for k, v in value.items()}

    @field_validator("environment")
    @classmethod
    def _variables_are_allowed(cls, value: dict[str, str]) -> dict[str, str]:
        for variable, text in value.items():
            if not _VARIABLE.fullmatch(variable):
                raise ValueError(f"{variable!r} is no name for a variable")
            if variable in RESERVED_VARIABLES:
                raise ValueError(f"{variable} is set for each process by the launcher and cannot be set for a member")
            if "\0" in text:
                raise ValueError(f"the value of {variable} contains a NUL byte")
        if sum(len(k) + len(v.encode()) for k, v in value.items()) > MAX_ENVIRONMENT_BYTES:
            raise ValueError(f"the environment is larger than {MAX_ENVIRONMENT_BYTES} bytes")
        return value

    @field_validator("bootstrap")
    @classmethod
    def _bootstrap_is_a_script(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise ValueError("the bootstrap contains a NUL byte")
        if value is not None and len(value.encode()) > MAX_BOOTSTRAP_BYTES:
            raise ValueError(f"the bootstrap is longer than {MAX_BOOTSTRAP_BYTES} bytes")
        return value

    @field_validator("workdir")
    @classmethod
    def _workdir_is_absolute(cls, value: str | None) -> str | None:
        return None if value is None else absolute(value)

    @field_validator("mounts")
    @classmethod
    def _targets_are_distinct(cls, value: tuple[Mount, ...]) -> tuple[Mount, ...]:
        targets = [mount.target for mount in value]
        if twice := {target for target in targets if targets.count(target) > 1}:
            raise ValueError(f"two mounts have the target {min(twice)}")
        return value

    @field_validator("capabilities")
    @classmethod
    def _capabilities_leave_the_sandbox_whole(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.upper().removeprefix("CAP_") for name in value))
        for name in names:
            if not _CAPABILITY.fullmatch(name):
                raise ValueError(f"{name!r} is no capability such as SYS_PTRACE")
            if name in FORBIDDEN_CAPABILITIES:
                raise ValueError(f"with {name} a member could change its own firewall rules or leave its sandbox")
        return names

    @property
    def plain(self) -> bool:
        """Whether it says nothing that an agent without containers and limits would not do anyway."""
        said = (self.image, self.bootstrap, self.workdir, self.run_as, self.memory, self.cpus, self.shm, self.pids)
        return not any(said) and not (self.mounts or self.devices or self.capabilities)
