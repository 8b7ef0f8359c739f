"""What a policy is asked for: which cloud's principals, for whom, and how strict."""

from __future__ import annotations

from enum import StrEnum


class Cloud(StrEnum):
    """The clouds for which policies are written."""

    OCI = "oci"
    GCP = "gcp"
    AWS = "aws"


class Audience(StrEnum):
    """Whose permissions they are."""

    MASTER = "master"
    AGENT = "agent"
    USER = "user"
    JOB = "job"


class Profile(StrEnum):
    """`strict` is the least that works; `as-documented` is what the vendor's pages ask for, its slips corrected."""

    STRICT = "strict"
    AS_DOCUMENTED = "as-documented"


class Target(StrEnum):
    """OCI: where training runs, on Data Science jobs or on Quorate's own agents on compute instances."""

    DATA_SCIENCE = "data-science"
    INSTANCES = "instances"


def usual_target(audience: Audience) -> Target:
    """Where the audience is to be found: Data Science jobs have neither master nor agent of ours."""
    return Target.INSTANCES if audience in (Audience.MASTER, Audience.AGENT) else Target.DATA_SCIENCE


class Auth(StrEnum):
    """OCI: how the caller proves who it is: a user with an API key, or a resource or instance by what it is."""

    GROUP = "group"
    DYNAMIC_GROUP = "dynamic-group"


class Part(StrEnum):
    """Which part of an answer to write. `native` is what the cloud's own tool takes first."""

    NATIVE = "native"
    STATEMENTS = "statements"
    DYNAMIC_GROUP = "dynamic-group"
    TRUST = "trust"
    ROLES = "roles"
    REASONS = "reasons"
