"""A container image as a job names it: a reference, or a folder to build it from."""

import re
from enum import StrEnum
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from quorate.model.noun import Noun

#: The distribution specification's grammar of a reference, with its limits (OCI distribution-spec, "Pulling").
_HOST = r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::\d{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)
LONGEST = 512


class Pull(StrEnum):
    """When an agent asks the registry for an image."""

    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


def check_reference(text: str) -> str:
    """The reference as it is; raises ValueError for one that no registry could have."""
    if len(text) <= LONGEST and _REFERENCE.fullmatch(text):
        return text
    lower = text.lower()
    hint = f"; did you mean {lower}?" if lower != text and _REFERENCE.fullmatch(lower) else ""
    raise ValueError(f"{text[:80]!r} is not an image such as python:3.12 or registry.example.org/team/train:1{hint}")


class Image(Noun):
    """Written as `python:3.12`, as `{name: REF, pull: always}`, or as `{build: FOLDER, push: REF}`."""

    name: str = Field("", description="The image, such as registry.example.org/team/train:1.")
    build: str | None = Field(
        None, description="Folder with a Dockerfile; the command line builds it before it submits."
    )
    push: str | None = Field(None, description="Where the built image goes, so that agents can pull it.")
    pull: Pull = Field(Pull.MISSING, description="When agents ask the registry: missing, always or never.")

    @model_validator(mode="before")
    @classmethod
    def _text_is_a_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _name_is_a_reference(cls, value: str) -> str:
        return check_reference(value) if value else value

    @field_validator("push")
    @classmethod
    def _push_goes_with_build(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("build") is None:
            raise ValueError("only an image that is built is pushed; write build: FOLDER too")
        return None if value is None else check_reference(value)

    @model_validator(mode="after")
    def _name_or_build(self) -> "Image":
        if bool(self.name) == (self.build is not None):
            raise ValueError("write name: REF for an image that exists, or build: FOLDER for one to be made")
        return self

    def __str__(self) -> str:
        return self.name or f"built from {self.build}"
