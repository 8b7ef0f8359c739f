"""What a user submits: the job's spec, one model for the YAML file, the flags and the API."""

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from quorate.model.duration import Duration
from quorate.model.jobnetwork import JobNetwork, NetworkWish
from quorate.model.membersettings import (
    FORBIDDEN_ON_HOSTS,
    NEEDS_IMAGE,
    MemberSettings,
    check_command,
    text_is_for_the_shell,
)
from quorate.model.noun import Noun
from quorate.model.roles import Role, check_roles, members_of

#: Every limit on a spec that comes from outside stands here and in the files of its parts.
MAX_NODES = 4096
MAX_SLOTS = 64
MAX_SECRET_BYTES = 64 * 1024
MAX_SECRETS = 64
#: The file among the secrets in which a member finds its token; a user's secret cannot take the name.
TOKEN_SECRET = "quorate-token"  # noqa: S105, the file's name

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
LabelText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$")]


class JobKind(StrEnum):
    """What a job is for. `notebook`, `shell` and `tensorboard` are words of the design not yet accepted."""

    TRAIN = "train"
    COMMAND = "command"
    #: Lives until somebody stops it or it is idle; members without a command wait.
    CLUSTER = "cluster"


class Launcher(StrEnum):
    """Who starts the processes of a member: the entry point itself, or a framework's launcher around it."""

    NONE = "none"
    TORCH = "torch"


class Placement(StrEnum):
    """How members of one job lie on agents; among agents that serve equally, the fullest that fits is taken."""

    SPREAD = "spread"
    PACK = "pack"
    SINGLE = "single"


class Preflight(StrEnum):
    """What becomes of a job whose network fails its check before the first step."""

    OFF = "off"
    WARN = "warn"
    REQUIRE = "require"


class Resources(Noun):
    """What the job needs. `nodes` counts members, `slots` are per member."""

    nodes: int = Field(1, ge=1, le=MAX_NODES, description="Members of the job: main and N-1 sub, or as roles say.")
    min_nodes: int | None = Field(None, ge=1, le=MAX_NODES, description="Elastic: the fewest members to start with.")
    slots: int = Field(1, ge=0, le=MAX_SLOTS, description="Slots of each member; 0 for a member that needs none.")
    pool: Name = Field("default", description="The pool whose agents run it.")
    labels: dict[LabelText, LabelText] = Field(default_factory=dict, description="Labels that each agent must have.")

    @model_validator(mode="after")
    def _elastic_is_a_range(self) -> "Resources":
        if self.min_nodes is not None and self.min_nodes > self.nodes:
            raise ValueError(f"min_nodes is {self.min_nodes} but nodes is only {self.nodes}")
        return self


class JobSpec(MemberSettings):
    """A job as submitted. Durations are seconds inside and `15m` outside.

    Fields that a check of another one looks at come before it: then each mistake is told at its own place.
    """

    name: Name = Field("job", description="For people; not unique.")
    kind: JobKind = Field(JobKind.COMMAND, description="train, command, or cluster: it lives until it is stopped.")
    roles: dict[str, Role] = Field(
        default_factory=dict, description="Groups of equal members by name; without any, main and sub."
    )
    entrypoint: tuple[str, ...] = Field(
        (), description="The command of each member; a text is run by `sh -c`.", validate_default=True
    )
    launcher: Launcher = Field(Launcher.NONE, description="torch wraps the entry point in torch.distributed.run.")
    resources: Resources = Field(default_factory=Resources, description="What it needs, and where.")
    placement: Placement = Field(
        Placement.SPREAD, description="Members over many agents, on few, or all on a single one."
    )
    colocate: bool = Field(False, description="Lets GPU members of this job share an agent.")
    network: JobNetwork = Field(default_factory=JobNetwork, description="How members are joined and where they may go.")
    preflight: Preflight = Field(
        Preflight.REQUIRE, description="What a failed check of the network does: nothing (off), warn, or end the job."
    )
    secrets: dict[str, SecretStr] = Field(
        default_factory=dict, description="Name to value; encrypted at rest, files in memory for the members."
    )
    token: bool = Field(
        False,
        description="Gives members a token of this job alone, in $QUORATE_SECRETS/quorate-token, and a way to use it.",
    )
    context: str | None = Field(None, description="Folder uploaded with the job; in the API its sha256 digest.")
    priority: int = Field(50, ge=0, le=100, description="Higher first.")
    restarts: int = Field(0, ge=0, le=1000, description="How often a failed job is placed again.")
    max_runtime: Duration | None = Field(None, description="An attempt is ended after this; exit code 124.")
    idle_timeout: Duration | None = Field(None, description="A cluster that nobody uses for so long is stopped.", ge=1)
    start_timeout: Duration = Field(600.0, description="All members must run within this after placement.")
    stop_after: Duration = Field(900.0, description="A cut-off agent stops the members after this; only with restarts.")
    grace: Duration = Field(30.0, description="Between SIGTERM and SIGKILL.")

    @model_validator(mode="before")
    @classmethod
    def _roles_count_the_nodes(cls, value: Any) -> Any:
        """Fills in `resources.nodes` where the roles say it, so that there is one place to read it from."""
        roles = value.get("roles") if isinstance(value, dict) else None
        resources = value.get("resources", {}) if isinstance(value, dict) else None
        if not isinstance(roles, dict) or not roles or not isinstance(resources, dict) or "nodes" in resources:
            return value
        replicas = [
            role.get("replicas", 1) if isinstance(role, dict) else getattr(role, "replicas", 1)
            for role in roles.values()
        ]
        if not all(isinstance(count, int) and count > 0 for count in replicas):
            return value  # told where it stands
        return {**value, "resources": {**resources, "nodes": sum(replicas)}}

    @field_validator("roles")
    @classmethod
    def _roles_are_in_rank_order(cls, value: dict[str, Role]) -> dict[str, Role]:
        return check_roles(value)

    @field_validator("entrypoint", mode="before")
    @classmethod
    def _text_is_for_the_shell(cls, value: Any) -> Any:
        return text_is_for_the_shell(value)

    @field_validator("entrypoint")
    @classmethod
    def _every_member_has_something_to_run(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value:
            return check_command(value)
        roles: dict[str, Role] = info.data.get("roles", {})
        if info.data.get("kind") is JobKind.CLUSTER or info.data.get("image") is not None:
            return value
        if not roles or not {"roles", "image"} <= info.data.keys():
            raise PydanticCustomError("missing", "Field required")
        idle = [name for name, role in roles.items() if role.entrypoint is None and role.image is None]
        if idle:
            raise ValueError(f"role {idle[0]} has nothing to run: it needs an entrypoint or an image, or the job does")
        return value

    @field_validator("launcher")
    @classmethod
    def _a_launcher_has_something_to_start(cls, value: Launcher, info: ValidationInfo) -> Launcher:
        if value is Launcher.NONE:
            return value
        if info.data.get("kind") is JobKind.CLUSTER:
            raise ValueError("members of a cluster wait for their user; a job of kind train has a launcher")
        roles: dict[str, Role] = info.data.get("roles", {})
        whole = all(role.entrypoint for role in roles.values()) if roles else False
        if not info.data.get("entrypoint", ("unknown",)) and not whole:
            raise ValueError(f"{value} needs an entrypoint to wrap: it cannot wrap what an image runs by itself")
        return value

    @field_validator("resources")
    @classmethod
    def _roles_and_nodes_agree(cls, value: Resources, info: ValidationInfo) -> Resources:
        roles: dict[str, Role] = info.data.get("roles", {})
        count = sum(role.replicas for role in roles.values())
        if roles and value.min_nodes is not None:
            raise ValueError("min_nodes is for equal members; a job with roles has all of them")
        if roles and value.nodes != count:
            raise ValueError(f"nodes is {value.nodes}, but the roles have {count} members; leave it out")
        return value

    @field_validator("network")
    @classmethod
    def _the_hosts_network_is_not_the_jobs(cls, value: JobNetwork) -> JobNetwork:
        if value.mode is NetworkWish.HOST and value.needs_private:
            raise ValueError(
                f"with mode host members have the hosts' own network, where {value.needs_private} cannot be had"
            )
        return value

    @field_validator("idle_timeout")
    @classmethod
    def _only_a_cluster_idles(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("kind") is not JobKind.CLUSTER:
            raise ValueError("only a job of kind cluster waits for its user; for others there is max_runtime")
        return value

    @field_validator("secrets")
    @classmethod
    def _secrets_are_bounded(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if len(value) > MAX_SECRETS:
            raise ValueError(f"at most {MAX_SECRETS} secrets are taken")
        if TOKEN_SECRET in value:
            raise ValueError(f"{TOKEN_SECRET} is the file of the members' own token; write token: true to have it")
        for secret, text in value.items():
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", secret):
                raise ValueError(f"{secret!r} is no name for a secret: it becomes a file name")
            if not 0 < len(text.get_secret_value().encode()) <= MAX_SECRET_BYTES:
                raise ValueError(f"secret {secret} must have between 1 and {MAX_SECRET_BYTES} bytes")
        return value

    @model_validator(mode="after")
    def _members_can_have_what_they_ask_for(self) -> "JobSpec":
        wrong = [*self._without_image(), *self._through_the_hosts_rules()]
        if wrong:
            raise ValidationError.from_exception_data(type(self).__name__, wrong)
        return self

    def _without_image(self) -> list[InitErrorDetails]:
        """The keys of members that are plain processes, which only a container could keep."""
        bare = {name: role for name, role in self.roles.items() if role.image is None} if self.image is None else {}
        found = [
            _wrong(("roles", name, key), f"{key} needs an image: a plain process cannot have it")
            for name, role in bare.items()
            for key in NEEDS_IMAGE
            if getattr(role, key)
        ]
        if self.image is None and (bare or not self.roles):
            whose = f", and role {next(iter(bare))} has none" if bare else ": a plain process cannot have it"
            found += [_wrong((key,), f"{key} needs an image{whose}") for key in NEEDS_IMAGE if getattr(self, key)]
        return found

    def _through_the_hosts_rules(self) -> list[InitErrorDetails]:
        """With these a member in the hosts' network would pass by the rules that hold there."""
        if self.network.mode is not NetworkWish.HOST:
            return []
        asked: list[tuple[tuple[str, ...], MemberSettings]] = [((), self)]
        asked += [(("roles", name), role) for name, role in self.roles.items()]
        return [
            _wrong((*where, "capabilities"), f"in the hosts' network a member with {name} could pass by their rules")
            for where, settings in asked
            for name in settings.capabilities
            if name in FORBIDDEN_ON_HOSTS
        ]

    @property
    def may_restart(self) -> bool:
        """Whether the platform may start the job a second time; if not, a cut-off agent never stops it."""
        return self.restarts > 0

    @property
    def one_agent(self) -> bool:
        """Whether all members go to one agent, by placement or because a bridge joins only those."""
        return self.placement is Placement.SINGLE or self.network.mode is NetworkWish.BRIDGE

    @property
    def images(self) -> tuple[str, ...]:
        """The images that its members run in, once each."""
        settings: list[MemberSettings] = [self, *self.roles.values()]
        return tuple(dict.fromkeys(str(each.image) for each in settings if each.image is not None))

    @property
    def plain(self) -> bool:
        """Whether all members run the same command as processes, with no wish that an older agent does not know."""
        return not self.roles and super().plain and bool(self.entrypoint)

    def members(self, count: int | None = None) -> tuple[tuple[str, int], ...]:
        """Role and index (from 1) of each rank; `count` is that of an elastic job that has fewer than `nodes`."""
        return members_of(self.roles, self.resources.nodes if count is None else count)

    def slots_of(self, role: str) -> int:
        """Slots of each member of the role."""
        own = self.roles[role].slots if role in self.roles else None
        return self.resources.slots if own is None else own


def _wrong(where: tuple[str, ...], sentence: str) -> InitErrorDetails:
    # The sentence is a parameter: as a template its braces would have a meaning.
    return InitErrorDetails(
        type=PydanticCustomError("value_error", "{said}", {"said": sentence}), loc=where, input=None
    )
