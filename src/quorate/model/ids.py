"""Identifiers and names: how they look, and what can be derived from them."""

import re
from typing import NewType

JobId = NewType("JobId", str)
AllocationId = NewType("AllocationId", str)
AgentId = NewType("AgentId", str)
#: `<allocation>.<rank>.<incarnation>`, the deterministic name of everything an agent makes for a member.
MemberId = NewType("MemberId", str)

#: No vowels (no words), no look-alikes.
ALPHABET = "23456789bcdfghjkmnpqrstvwxz"
JOB_ID = re.compile(r"^[a-z0-9]{4,16}\Z")
ALLOCATION_ID = re.compile(r"^[a-z0-9]{4,16}-[0-9]{1,6}\Z")
MEMBER_ID = re.compile(r"^[a-z0-9]{4,16}-[0-9]{1,6}\.[0-9]{1,5}\.[0-9]{1,5}\Z")


def short_id(entropy: bytes, length: int = 8) -> str:
    """A readable id from random bytes (one byte a character, so `length` bytes are needed)."""
    if len(entropy) < length:
        raise ValueError(f"{length} random bytes are needed, {len(entropy)} were given")
    return "".join(ALPHABET[byte % len(ALPHABET)] for byte in entropy[:length])


def allocation_id(job: JobId, attempt: int) -> AllocationId:
    """The id of a job's attempt (from 1): chosen by nobody, so the same however often it is derived."""
    return AllocationId(f"{job}-{attempt}")


def member_id(allocation: AllocationId, rank: int, incarnation: int = 1) -> MemberId:
    """The id of one start of one member."""
    return MemberId(f"{allocation}.{rank}.{incarnation}")


def split_member(member: MemberId) -> tuple[AllocationId, int, int]:
    """Returns (allocation, rank, incarnation); raises ValueError for anything that is no member id."""
    if not MEMBER_ID.match(member):
        raise ValueError(f"{member!r} is no member id")
    allocation, rank, incarnation = member.rsplit(".", 2)
    return AllocationId(allocation), int(rank), int(incarnation)
