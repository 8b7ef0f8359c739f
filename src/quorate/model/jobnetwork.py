"""The network that a job asks for: how its members are joined, what they may do, and where they may go."""

import re
from enum import StrEnum
from ipaddress import ip_network
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from quorate.model.noun import Noun
from quorate.model.ports import PortRange, PortRangeField

MAX_HOSTS = 256
_HOST = re.compile(
    r"(?=.{1,253}$)(\*\.(?=.*\.))?[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


class NetworkWish(StrEnum):
    """How members are joined. `auto` is a bridge on one agent, an overlay across agents, or a pool's fabric."""

    AUTO = "auto"
    BRIDGE = "bridge"
    OVERLAY = "overlay"
    HOST = "host"


class Enforcement(StrEnum):
    """What the packet filter of an allocation does with a flow that is not planned."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    OFF = "off"


class Egress(Noun):
    """Where members may go outside their allocation: written `all`, `none`, or with named hosts."""

    to: Literal["all", "none"] = Field("all", description="all or none; with `hosts` those alone.")
    hosts: tuple[str, ...] = Field(
        (), description="What alone may be reached: names, `*.example.org`, addresses.", max_length=MAX_HOSTS
    )
    metadata: bool = Field(False, description="Whether the cloud's metadata addresses may be reached.")

    @model_validator(mode="before")
    @classmethod
    def _written_short(cls, value: Any) -> Any:
        return {"to": value} if isinstance(value, str) else value

    @field_validator("hosts")
    @classmethod
    def _hosts_are_names_or_addresses(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and info.data.get("to") == "none":
            raise ValueError("to: none leaves no host to name")
        for host in value:
            if not _is_network(host) and not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is no name such as pypi.org, and no IPv4 address or network")
        return tuple(host.lower().rstrip(".") for host in value)

    @property
    def word(self) -> str:
        """`all`, `none` or `named`."""
        return "named" if self.hosts else self.to


class JobNetwork(Noun):
    """What is left open is decided by the cluster and by where the members are placed."""

    mode: NetworkWish = Field(NetworkWish.AUTO, description="How members are joined: auto, bridge, overlay or host.")
    members: Literal["open", "planned"] | None = Field(
        None, description="Among members: open for clusters and without a launcher, planned with one."
    )
    enforcement: Enforcement | None = Field(None, description="enforce, observe or off; else as master.yaml says.")
    window: PortRangeField | None = Field(None, description="Ephemeral ports of members, such as 40000-40999.")
    egress: Egress = Field(default_factory=Egress, description="Where members may go: all, none, or {hosts: [...]}.")

    @property
    def needs_private(self) -> str:
        """The first key that only a private network can keep; empty where any will do."""
        said = {
            "egress": self.egress != Egress(),
            "members": self.members == "planned",
            "enforcement": self.enforcement is Enforcement.ENFORCE,
            "window": self.window is not None,
        }
        return next((key for key, is_said in said.items() if is_said), "")

    @field_validator("window")
    @classmethod
    def _window_is_one(cls, value: PortRange | None) -> PortRange | None:
        if value is not None and (value.first < 1024 or len(value) < 2):
            raise ValueError(f"{value} is no window: it has at least two ports, all of them above 1023")
        return value


def _is_network(text: str) -> bool:
    try:
        return ip_network(text).version == 4
    except ValueError:
        return False
