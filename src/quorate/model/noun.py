"""The base of everything that a user writes: frozen values in which an unknown key is a mistake."""

from pydantic import BaseModel, ConfigDict


class Noun(BaseModel):
    """Built when it is first used: a command that never reads a job does not wait for its model."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
