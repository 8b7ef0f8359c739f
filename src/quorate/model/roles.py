"""Roles: groups of equal members of one job, their order, and what one of them runs."""

import re
from typing import Any

from pydantic import Field, field_validator

from quorate.model.membersettings import MemberSettings, check_command, text_is_for_the_shell

#: With more, nobody could say what they are.
MAX_ROLES = 64
MAIN, SUB = "main", "sub"
#: Names that members resolve to something else, or that commands use for something else.
RESERVED_ROLES = frozenset({"agent", "all", "gateway", "host", "hub", "localhost", "master", "metadata", "quorate"})
#: A member is called role and index, so a role ends in a letter: `w1` with index 1 would be `w` with index 11.
_ROLE = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z])?")


class Role(MemberSettings):
    """Members that are alike. What it leaves open, the job says."""

    replicas: int = Field(1, ge=1, le=4096, description="Members of this role.")
    slots: int | None = Field(None, ge=0, le=64, description="Slots of each of its members; else resources.slots.")
    entrypoint: tuple[str, ...] | None = Field(None, description="Its command; else the job's, else the image's own.")

    @field_validator("entrypoint", mode="before")
    @classmethod
    def _text_is_for_the_shell(cls, value: Any) -> Any:
        return text_is_for_the_shell(value)

    @field_validator("entrypoint")
    @classmethod
    def _entrypoint_is_a_command(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if value is None else check_command(value)


def check_roles(roles: dict[str, Role]) -> dict[str, Role]:
    """The roles in rank order: main first, then the others as they were written. Raises ValueError for a bad name."""
    if len(roles) > MAX_ROLES:
        raise ValueError(f"{len(roles)} roles; at most {MAX_ROLES} are possible")
    for name in roles:
        if name in RESERVED_ROLES:
            raise ValueError(f"{name!r} is a reserved name and cannot be a role")
        if not _ROLE.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot be a role: members are called by role and number, so it is made of lower-case "
                "letters, digits and hyphens, begins and ends with a letter, and has at most 32 characters"
            )
    if MAIN in roles and roles[MAIN].replicas != 1:
        raise ValueError("main is one member; give the others a role of their own, such as sub")
    return {name: roles[name] for name in sorted(roles, key=lambda name: name != MAIN)}


def members_of(roles: dict[str, Role], members: int) -> tuple[tuple[str, int], ...]:
    """Role and index (from 1) of each rank: of the roles in their order, else `main` 1 and `sub` 1, 2, …"""
    if not roles:
        return tuple((MAIN, 1) if rank == 0 else (SUB, rank) for rank in range(members))
    return tuple((name, index) for name, role in roles.items() for index in range(1, role.replicas + 1))
