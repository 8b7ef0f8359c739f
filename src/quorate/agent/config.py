"""An agent's settings: flag before environment before file before default. `agent.yaml` is read by this model."""

import os
import re
import socket
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator

from quorate.agent.runtime.policy import Allow
from quorate.agent.sandbox.place import SOCKET
from quorate.model.job import MAX_SLOTS, LabelText, Name
from quorate.model.ports import PortRange
from quorate.network import catalogue

AgentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]

#: 1879048192 to 2147352575 is claimed by nobody (systemd, UIDS-GIDS); one user for each allocation out of these.
DEFAULT_USERS = (1_900_000_000, 1_900_065_535)


class MembersAs(StrEnum):
    """Under which users members run."""

    #: `users` where the agent is root, else `self`.
    AUTO = "auto"
    #: Each allocation under a user of its own, or under the one that the operator mapped its owner to.
    USERS = "users"
    #: As the agent itself: one trust domain, for a machine of one's own.
    SELF = "self"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UserIds(_Section):
    """A user on this machine."""

    uid: int = Field(ge=1, le=2**32 - 2)
    gid: int = Field(ge=1, le=2**32 - 2)


class Users(_Section):
    """Whom members run as where the agent is root."""

    first: int = Field(DEFAULT_USERS[0], ge=1000, le=2**32 - 2, description="First UID and GID of those for members.")
    last: int = Field(DEFAULT_USERS[1], ge=1000, le=2**32 - 2, description="The last one.")
    owners: dict[str, UserIds] = Field(default_factory=dict, description="Job owners who have a user of their own.")

    @model_validator(mode="after")
    def _range_is_one(self) -> "Users":
        if self.last < self.first:
            raise ValueError(f"last is {self.last} but first is {self.first}")
        return self


def default_state_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """/var/lib/quorate/agent as root, else below the user's state folder (XDG)."""
    if os.geteuid() == 0:
        return Path("/var/lib/quorate/agent")
    base = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "quorate" / "agent"


class ProxySettings(_Section):
    """The way outside where there is no other."""

    url: str = Field(description="Such as http://proxy.example.org, with its port.")
    no_proxy: tuple[str, ...] = Field(
        (), description="Names, suffixes and networks reached without it, besides the cluster's own."
    )

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        if not re.match(r"^https?://[^/?#\s]+/?$", value):
            raise ValueError(f"{value!r} is no URL of a proxy; write http://HOST:PORT")
        return value


class RuntimeSettings(_Section):
    """What runs members with an image."""

    socket: str = Field("", description="Of Docker Engine or Podman; by default the first usual place that answers.")
    docker_config: Path | None = Field(
        None, description="Docker's config.json with credentials for registries; by default the agent's own user's."
    )


class AgentConfig(_Section):
    """All of `agent.yaml`; every key is a flag or a variable `QUORATE_…` as well."""

    name: AgentName = Field(
        default_factory=lambda: re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63],
        description="The agent's name in the cluster; by default the host's.",
    )
    master: str = Field(description="URL of the master, such as https://10.0.0.2:8443.")
    token: SecretStr | None = Field(None, description="Join token; needed once.")
    ca_file: Path | None = Field(None, description="PEM of the authority that signed the master's certificate.")
    state_dir: Path = Field(
        default_factory=default_state_dir,
        description="Its key and its members' files; /var/lib/quorate/agent as root, else below the XDG state folder.",
    )
    pool: Name | None = Field(None, description="The pool that the join token must be for; by default any.")
    advertise_address: str | None = Field(
        None, description="Address or name at which other agents' members reach this one's; looked up at the start."
    )
    labels: dict[LabelText, LabelText] = Field(default_factory=dict, description="Jobs may ask for them.")
    slots: int | None = Field(None, ge=0, le=MAX_SLOTS, description="CPU slots instead of what is found.")
    fake_slots: int | None = Field(
        None, ge=0, le=MAX_SLOTS, description="Slots that stand for accelerators, for tests."
    )
    lease_ports: tuple[int, int] | None = Field(None, description="First and last port that members may lease here.")
    members_as: MembersAs = Field(
        MembersAs.AUTO, description="Each allocation under a user of its own, or as the agent; auto: the first as root."
    )
    users: Users = Field(Users(), description="Whom members run as where each allocation has a user of its own.")
    environment: dict[str, str] = Field(default_factory=dict, description="Variables of every member on this machine.")
    sandboxes: bool = Field(
        True, description="Whether members may have private networks here; that needs root, nftables and VXLAN."
    )
    helper: Path = Field(Path(SOCKET), description="Socket of the root helper; without one, a root agent has its own.")
    drift_check_s: float = Field(
        30.0, gt=0, description="How often rules, and what an engine has of members, are looked at, in seconds."
    )
    dns: tuple[str, ...] = Field((), description="DNS servers for private networks; by default the machine's own.")
    runtime: RuntimeSettings = Field(RuntimeSettings(), description="The engine for members with an image.")
    allow: Allow = Field(Allow(), description="What jobs may ask of this machine; the master cannot override it.")
    proxy: ProxySettings | None = Field(
        None, description="HTTP proxy of members; `quorate service install engine-proxy` tells the engine, which pulls."
    )

    @field_validator("master")
    @classmethod
    def _master_is_a_url(cls, value: str) -> str:
        if not re.match(r"^https?://[^/?#\s]+/?$", value):
            raise ValueError(f"{value!r} is no URL of a master; write https://HOST:PORT")
        return value.rstrip("/")

    @field_validator("lease_ports")
    @classmethod
    def _ports_are_a_range(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None:
            PortRange(*value)
        return value

    @model_validator(mode="after")
    def _one_kind_of_slots(self) -> "AgentConfig":
        if self.slots is not None and self.fake_slots is not None:
            raise ValueError("slots and fake_slots exclude each other")
        return self

    @property
    def leasable(self) -> tuple[int, int]:
        """First and last port that members may lease on this host."""
        if self.lease_ports is not None:
            return self.lease_ports
        ports = catalogue.ports("leased")
        return ports.first, ports.last

    @property
    def own_users(self) -> bool:
        """Whether members run under other users than the agent's."""
        if self.members_as is MembersAs.AUTO:
            return os.geteuid() == 0
        return self.members_as is MembersAs.USERS
