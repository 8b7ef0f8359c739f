"""Who is calling: tokens of users, join tokens and keys of agents, all random, shown once, and stored as hashes.

* user token: `qu1.<id>.<secret>`
* join token: `qj1.<id>.<secret>.<fingerprint of the master's authority, or ->`
* member's token: `qm1.<id>.<secret>`, made when an agent starts members of an allocation, worthless when that has ended
* agent key: `qa1.<secret>`, made by the agent itself, which tells the master its hash when it joins
"""

import hashlib
import hmac
import os
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quorate.master.files import write_private
from quorate.master.records import TokenKind, TokenRecord
from quorate.master.state import State
from quorate.model.ids import AllocationId, short_id

#: Bytes of randomness in every secret: 256 bits, so that a plain hash of it is as good as a slow one.
SECRET_BYTES: Final = 32
#: Longer ones are not even hashed.
MAX_TOKEN_CHARACTERS: Final = 512
ADMIN: Final = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """A user, as the token tells; operators may do everything, others what concerns their own jobs."""

    user: str
    operator: bool
    #: Set for a member's token: the one job that it may look at.
    job: str = ""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token when it is made: the record for the store and the text that is shown once."""

    record: TokenRecord
    shown: str


def hash_of(secret: str) -> str:
    """How a token or key is stored: SHA-256 of all of it, hex."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def make_user_token(
    user: str, *, operator: bool, wall: float, expires_wall: float | None, description: str
) -> NewToken:
    """A token by which somebody calls the API as `user`. `wall`: UTC seconds now."""
    token_id = short_id(os.urandom(8))
    shown = f"qu1.{token_id}.{secrets.token_urlsafe(SECRET_BYTES)}"
    record = TokenRecord(
        id=token_id,
        kind=TokenKind.USER,
        hash=hash_of(shown),
        created_wall=wall,
        user=user,
        operator=operator,
        expires_wall=expires_wall,
        description=description,
    )
    return NewToken(record, shown)


def make_join_token(
    pool: str, fingerprint: str, *, wall: float, expires_wall: float | None, uses: int | None, description: str
) -> NewToken:
    """A token that lets agents into `pool`; it carries the authority's fingerprint, which is no secret."""
    token_id = short_id(os.urandom(8))
    shown = f"qj1.{token_id}.{secrets.token_urlsafe(SECRET_BYTES)}.{fingerprint}"
    record = TokenRecord(
        id=token_id,
        kind=TokenKind.JOIN,
        hash=hash_of(shown),
        created_wall=wall,
        pool=pool,
        expires_wall=expires_wall,
        uses_left=uses,
        description=description,
    )
    return NewToken(record, shown)


def make_member_token(allocation: str, owner: str, *, wall: float) -> NewToken:
    """A token by which members of an allocation see their own job, and nothing else, until the allocation ends."""
    token_id = short_id(os.urandom(8))
    shown = f"qm1.{token_id}.{secrets.token_urlsafe(SECRET_BYTES)}"
    record = TokenRecord(
        id=token_id,
        kind=TokenKind.MEMBER,
        hash=hash_of(shown),
        created_wall=wall,
        user=owner,
        allocation=allocation,
        description=f"members of {allocation}",
    )
    return NewToken(record, shown)


def bearer(header: str | None) -> str | None:
    """The credential of an Authorization header; None where there is none that could be valid."""
    if not header:
        return None
    scheme, _, credential = header.partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not 0 < len(credential) <= MAX_TOKEN_CHARACTERS:
        return None
    return credential


def caller_of(state: State, credential: str | None, wall: float) -> Caller | None:
    """Who a user's or member's token speaks for; None for one that is unknown, of another kind, or expired."""
    if credential is None:
        return None
    digest = hash_of(credential)
    token = state.tokens.get(state.tokens_by_hash.get(digest, ""))
    if token is None or token.kind is TokenKind.JOIN or not hmac.compare_digest(token.hash, digest):
        return None
    if token.kind is TokenKind.MEMBER:
        allocation = state.allocations.get(AllocationId(token.allocation))
        live = allocation is not None and allocation.ended is None
        return Caller(token.user, operator=False, job=allocation.job) if allocation is not None and live else None
    if token.expires_wall is not None and token.expires_wall <= wall:
        return None
    return Caller(token.user, token.operator)


def agent_of(state: State, credential: str | None) -> str | None:
    """The agent whose key this is; None for one that is unknown or revoked."""
    return _holder(state, state.agents_by_key, credential)


def revoked_agent_of(state: State, credential: str | None) -> str | None:
    """The agent whose key this was until it was revoked; nobody learns it who does not have the key."""
    return _holder(state, state.revoked_by_key, credential)


def _holder(state: State, by_key: Mapping[str, str], credential: str | None) -> str | None:
    if credential is None:
        return None
    digest = hash_of(credential)
    agent = state.agents.get(by_key.get(digest, ""))
    return agent.id if agent is not None and hmac.compare_digest(agent.key_hash, digest) else None


def local_admin_token(state: State, file: Path, wall: float) -> NewToken | None:
    """The token for the operator on this machine: None if the one in `file` is good, else a new one to be stored.

    Whoever can read the state directory holds the cluster anyway. Write the file with write_admin_token once the
    record is committed.
    """
    try:
        known = caller_of(state, file.read_text().strip(), wall)
    except (FileNotFoundError, UnicodeDecodeError):
        known = None
    if known is not None and known.operator:
        return None
    return make_user_token(ADMIN, operator=True, wall=wall, expires_wall=None, description="this machine's operator")


def write_admin_token(file: Path, token: NewToken) -> None:
    """Leaves the token for the operator on this machine, readable by the master's user alone."""
    write_private(file, token.shown.encode() + b"\n")


class Failures:
    """Counts failed credentials by address, so that guessing is slow and quiet; good credentials never wait."""

    #: Failures at once, and how many more each second.
    BURST: Final = 20.0
    RATE: Final = 1.0
    #: Addresses remembered; the oldest is forgotten beyond it.
    MAX_ADDRESSES: Final = 10_000

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def failed(self, address: str, now: float) -> float:
        """Counts one; returns 0 if it may be answered as usual, else for how many seconds the address is to wait."""
        left, since = self._left.pop(address, (self.BURST, now))
        left = min(self.BURST, left + (now - since) * self.RATE)
        self._left[address] = (max(0.0, left - 1.0), now)
        if len(self._left) > self.MAX_ADDRESSES:
            self._left.popitem(last=False)
        return 0.0 if left >= 1.0 else (1.0 - left) / self.RATE
