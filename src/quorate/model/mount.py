"""A folder or file of the agents' machines in a member, as far as their operator's file allows it."""

from posixpath import normpath

from pydantic import Field, field_validator

from quorate.model.noun import Noun

#: What members find there is the platform's or the kernel's, and must stay so.
_TAKEN = ("/proc", "/sys", "/dev", "/etc/hosts", "/etc/resolv.conf")


def absolute(path: str) -> str:
    """The path without anything that would lead elsewhere; raises ValueError where it is not absolute."""
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"{path!r} is not an absolute path")
    if ".." in path.split("/"):
        raise ValueError(f"{path!r} goes up with ..")
    return "/" + normpath(path).lstrip("/")


class Mount(Noun):
    """One folder or file."""

    source: str = Field(description="Absolute path on the agents' machines.", max_length=4096)
    target: str = Field(description="Absolute path in the member.", max_length=4096)
    read_only: bool = Field(False, description="Whether the member may only read it.")

    @field_validator("source", "target")
    @classmethod
    def _is_absolute(cls, value: str) -> str:
        return absolute(value)

    @field_validator("target")
    @classmethod
    def _covers_nothing_of_the_platform(cls, value: str) -> str:
        taken = next((path for path in _TAKEN if value == path or value.startswith(f"{path}/")), None)
        if value == "/" or taken:
            raise ValueError(f"{taken or 'the root'} of a member is not to be covered")
        return value
