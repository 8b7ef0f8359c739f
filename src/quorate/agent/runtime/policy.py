"""What a job may ask of this machine: `allow` in the operator's agent.yaml, which no master can override."""

import os
import stat
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from quorate.agent.command import User
from quorate.agent.runtime import mounts
from quorate.agent.runtime.references import Reference
from quorate.model.membersettings import FORBIDDEN_CAPABILITIES, FORBIDDEN_ON_HOSTS
from quorate.model.messages import Mount, RoleSpec


class Forbidden(Exception):
    """The operator's file does not allow it; the text names the file and the key."""


class Unsafe(Exception):
    """An entry of the operator's file that others could make mean something else; the text says how, and what to do."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AllowedMount(_Section):
    """A folder of this machine that jobs may mount, with all that is in it."""

    path: Path = Field(description="Absolute; what links in it lead to is allowed only if it is allowed itself.")
    read_only: bool = Field(True, description="Whether jobs may only read it.")

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, value: Path) -> Path:
        if not value.is_absolute() or ".." in value.parts:
            raise ValueError(f"{value} is not an absolute path")
        return value


class Allow(_Section):
    """Without a word from the operator: any image, the host's network where the job asks for it, and nothing more."""

    images: tuple[str, ...] = Field(
        ("*",),
        description="Patterns of whole names, such as registry.example.org/team/* or docker.io/library/python:*.",
    )
    mounts: tuple[AllowedMount, ...] = Field((), description="Folders of this machine that jobs may mount.")
    devices: tuple[str, ...] = Field((), description="Patterns of devices, such as /dev/infiniband/*.")
    host_network: bool = Field(True, description="Whether members with an image may share this machine's network.")
    host_root: bool = Field(
        False, description="Whether they may be root there, whom no rule can keep from the cloud's metadata."
    )
    run_as: tuple[str, ...] = Field(
        (), description="Users that jobs may name: root, a UID, a range of UIDs such as 1000-1999."
    )
    capabilities: tuple[str, ...] = Field((), description="Kernel capabilities that jobs may keep, such as SYS_PTRACE.")

    @field_validator("run_as", mode="before")
    @classmethod
    def _numbers_are_text(cls, value: Any) -> Any:
        return [str(item) for item in value] if isinstance(value, list | tuple) else value

    @field_validator("run_as")
    @classmethod
    def _users_are_ranges(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            _range(text)
        return value

    @field_validator("capabilities")
    @classmethod
    def _sandboxes_stay_whole(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(name.upper().removeprefix("CAP_") for name in value)
        for name in names:
            if name in FORBIDDEN_CAPABILITIES:
                raise ValueError(f"with {name} a member could change its own firewall rules or leave its sandbox")
        return names


def _range(text: str) -> range:
    if text == "root":
        return range(1)
    first, _, last = text.partition("-")
    if not first.isdecimal() or (last and not last.isdecimal()) or (last and int(last) < int(first)):
        raise ValueError(f"{text!r} is no user: write root, a UID such as 1000, or a range such as 1000-1999")
    return range(int(first), int(last or first) + 1)


class Policy:
    """Answers for one machine, where the entries for mounts lead as they did when this was made.

    Everything raises Forbidden; making it raises Unsafe.
    """

    def __init__(self, allow: Allow, file: str = "agent.yaml") -> None:
        self._allow = allow
        self._file = file
        self._roots = [(self._settled(entry, number), entry) for number, entry in enumerate(allow.mounts)]

    def image(self, text: str) -> Reference:
        """The image, if its whole name is allowed; digests are allowed with the name that they stand at."""
        reference = Reference.parse(text)
        names = (str(reference), reference.name)
        if not any(fnmatchcase(name, pattern) for pattern in self._allow.images for name in names):
            raise self._forbidden("images", f"image {reference}")
        return reference

    def host_network(self, role: RoleSpec, user: User) -> None:
        """What a job of a private network may have is not all that one in this machine's own may."""
        if not self._allow.host_network:
            raise self._forbidden("host_network", "a member with an image in this machine's own network")
        for name in role.capabilities:
            if name in FORBIDDEN_ON_HOSTS:
                raise Forbidden(
                    f"with {name} a member in this machine's own network could pass by its rules; the job may have it "
                    "in a private one, with network: {mode: bridge} or {mode: overlay}"
                )
        # Without a word of the job, root is whom the operator has members run as.
        if user.uid == 0 and role.run_as and not self._allow.host_root:
            raise self._forbidden("host_root", "root in its own network, where no rule keeps it from cloud metadata,")

    def capabilities(self, wanted: Sequence[str]) -> list[str]:
        for name in wanted:
            if name not in self._allow.capabilities or name in FORBIDDEN_CAPABILITIES:
                raise self._forbidden("capabilities", f"capability {name}")
        return list(wanted)

    def devices(self, wanted: Sequence[str]) -> list[str]:
        """Devices that exist, by their real paths."""
        found = []
        for path in wanted:
            real = os.path.realpath(path)
            if not any(fnmatchcase(real, pattern) for pattern in self._allow.devices):
                raise self._forbidden("devices", f"device {path}" + (f" ({real})" if real != path else ""))
            try:
                mode = os.stat(real).st_mode  # noqa: PTH116
            except OSError as error:
                raise Forbidden(f"device {path} cannot be had: {error.strerror}") from error
            if not stat.S_ISCHR(mode) and not stat.S_ISBLK(mode):
                raise Forbidden(f"{path} is no device")
            found.append(real)
        return found

    def mounts(self, wanted: Sequence[Mount]) -> list[dict[str, Any]]:
        """What `mounts.opened` takes: where each source really is, beneath which allowed folder."""
        found = []
        for mount in wanted:
            real = Path(os.path.realpath(mount.source))
            fitting = [(root, entry) for root, entry in self._roots if real == root or root in real.parents]
            if not fitting:
                shown = f"{mount.source} (which is {real})" if str(real) != mount.source else mount.source
                raise self._forbidden("mounts", f"mount of {shown}")
            # The innermost entry speaks for what is in it: a writable folder may lie in one that is not.
            root, entry = max(fitting, key=lambda pair: len(pair[0].parts))
            if entry.read_only and not mount.read_only:
                raise Forbidden(
                    f"{self._file} allows jobs to mount {entry.path} for reading alone; write read_only: true in the "
                    f"mount of {mount.source}"
                )
            if not real.exists():
                raise Forbidden(f"{mount.source} is not on this machine, so it cannot be mounted")
            below = "" if real == root else str(real.relative_to(root))
            found.append({"root": str(root), "below": below, "target": mount.target, "read_only": mount.read_only})
        return found

    def user(self, wanted: str, own: User | None) -> User:
        """Whom a container's command runs as. `own` is the allocation's user; None where members run as the agent."""
        base = own or User(os.geteuid(), os.getegid())
        if not wanted:
            return base
        name, _, group = wanted.partition(":")
        uid, gid = self._number(name), self._number(group) if group else None
        # Its own group needs no leave as a group; as a UID the same number is somebody else.
        if uid != base.uid:
            self._listed(uid, wanted)
        if gid is None:
            return User(uid, base.gid if uid == base.uid else uid)
        if gid != base.gid:
            self._listed(gid, wanted)
        return User(uid, gid)

    def _listed(self, number: int, wanted: str) -> None:
        if not any(number in _range(text) for text in self._allow.run_as):
            raise self._forbidden("run_as", f"run_as: {wanted}")

    def _number(self, name: str) -> int:
        if name == "root":
            return 0
        if name.isdecimal():
            return int(name)
        raise Forbidden(
            f"run_as: {name} is a name, and an image may give any name any UID; write root or a number such as 1000"
        )

    def _settled(self, entry: AllowedMount, number: int) -> Path:
        try:
            return Path(mounts.settled(str(entry.path)))
        except mounts.MountError as error:
            raise Unsafe(
                f"{self._file}, allow.mounts[{number}].path: jobs cannot be let into {entry.path}: {error}; let root "
                "alone own and change every folder above what is allowed, or mount it at a place where that is so"
            ) from error

    def check(self, role: RoleSpec) -> None:
        """All that can be asked before anything is fetched."""
        self.image(role.image)
        self.capabilities(role.capabilities)
        self.devices(role.devices)
        self.mounts(role.mounts)

    def _forbidden(self, key: str, what: str) -> Forbidden:
        return Forbidden(f"{self._file} does not allow {what} on this machine; its operator can, with allow: {key}")


def trusted(path: Path) -> str:
    """Why a file must not be believed about what jobs may do; empty where only its reader, or root, can write to it."""
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to UID {status.st_uid}; chown it to root"
    if status.st_mode & 0o022:
        return f"others than its owner may write to {path}; chmod go-w it"
    return ""
