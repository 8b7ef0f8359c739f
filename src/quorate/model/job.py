"""What a user submits: the job's spec, one model for the YAML file, the flags and the API."""

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator

from quorate.model.duration import Duration

#: Every limit on a spec that comes from outside stands here.
MAX_NODES = 4096
MAX_SLOTS = 64
MAX_ENTRYPOINT_BYTES = 128 * 1024
MAX_ENVIRONMENT_BYTES = 256 * 1024
MAX_SECRET_BYTES = 64 * 1024
MAX_SECRETS = 64
#: The file among the secrets in which a member finds its token; a user's secret cannot take the name.
TOKEN_SECRET = "quorate-token"  # noqa: S105, the file's name

#: Set by torchrun and its like for each process; at member level they would be wrong, so nobody may set them there.
RESERVED_VARIABLES = frozenset({"RANK", "WORLD_SIZE", "LOCAL_RANK"})

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
LabelText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$")]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


class JobKind(StrEnum):
    """What a job is for. `notebook`, `shell`, `tensorboard` and `cluster` are words of the design not yet accepted."""

    TRAIN = "train"
    COMMAND = "command"


class Launcher(StrEnum):
    """Who starts the processes of a member: the entry point itself, or a framework's launcher around it."""

    NONE = "none"
    TORCH = "torch"


class Placement(StrEnum):
    """How members of one job lie on agents; among agents that serve equally, the fullest that fits is taken."""

    SPREAD = "spread"
    PACK = "pack"
    SINGLE = "single"


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Resources(_Noun):
    """What the job needs. `nodes` counts members, `slots` are per member."""

    nodes: int = Field(1, ge=1, le=MAX_NODES, description="Members of the job.")
    min_nodes: int | None = Field(None, ge=1, le=MAX_NODES, description="Elastic: the fewest members to start with.")
    slots: int = Field(1, ge=0, le=MAX_SLOTS, description="Slots of each member; 0 for a member that needs none.")
    pool: Name = Field("default", description="The pool whose agents run it.")
    labels: dict[LabelText, LabelText] = Field(default_factory=dict, description="Labels that each agent must have.")

    @model_validator(mode="after")
    def _elastic_is_a_range(self) -> "Resources":
        if self.min_nodes is not None and self.min_nodes > self.nodes:
            raise ValueError(f"min_nodes is {self.min_nodes} but nodes is only {self.nodes}")
        return self


class JobSpec(_Noun):
    """A job as submitted. Durations are seconds inside and `15m` outside."""

    name: Name = Field("job", description="For people; not unique.")
    kind: JobKind = Field(JobKind.COMMAND, description="train or command.")
    entrypoint: tuple[str, ...] = Field(description="The command of each member; a text is run by `sh -c`.")
    launcher: Launcher = Field(Launcher.NONE, description="torch wraps the entry point in torch.distributed.run.")
    resources: Resources = Field(default_factory=Resources, description="What it needs, and where.")
    placement: Placement = Field(
        Placement.SPREAD, description="Members over many agents, on few, or all on a single one."
    )
    colocate: bool = Field(False, description="Lets GPU members of this job share an agent.")
    environment: dict[str, str] = Field(default_factory=dict, description="Variables of each member; never overridden.")
    secrets: dict[str, SecretStr] = Field(
        default_factory=dict, description="Name to value; encrypted at rest, files in memory for the members."
    )
    token: bool = Field(
        False, description="Gives members a token that reaches this job alone, in $QUORATE_SECRETS/quorate-token."
    )
    context: str | None = Field(None, description="Folder uploaded with the job; in the API its sha256 digest.")
    priority: int = Field(50, ge=0, le=100, description="Higher first.")
    restarts: int = Field(0, ge=0, le=1000, description="How often a failed job is placed again.")
    max_runtime: Duration | None = Field(None, description="An attempt is ended after this; exit code 124.")
    start_timeout: Duration = Field(600.0, description="All members must run within this after placement.")
    stop_after: Duration = Field(900.0, description="A cut-off agent stops the members after this; only with restarts.")
    grace: Duration = Field(30.0, description="Between SIGTERM and SIGKILL.")

    @field_validator("entrypoint", mode="before")
    @classmethod
    def _text_is_for_the_shell(cls, value: Any) -> Any:
        if isinstance(value, str):
            if not value.strip():
                raise ValueError("the entry point is empty")
            return ("sh", "-c", value)
        return value

    @field_validator("entrypoint")
    @classmethod
    def _entrypoint_is_a_command(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not value[0]:
            raise ValueError("the entry point is empty")
        if any("\0" in word for word in value):
            raise ValueError("the entry point contains a NUL byte")
        if sum(len(word.encode()) for word in value) > MAX_ENTRYPOINT_BYTES:
            raise ValueError(f"the entry point is longer than {MAX_ENTRYPOINT_BYTES} bytes")
        return value

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

    @property
    def may_restart(self) -> bool:
        """Whether the platform may start the job a second time; if not, a cut-off agent never stops it."""
        return self.restarts > 0
