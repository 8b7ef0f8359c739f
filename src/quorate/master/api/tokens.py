"""Join tokens and users' tokens: shown once, when they are made."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from quorate.master.api import render
from quorate.master.api.bodies import body_of
from quorate.master.api.calls import (
    Cursor,
    Limit,
    Master,
    Operator,
    answer,
    ask,
    decode_cursor,
    encode_cursor,
    moment,
    shows,
)
from quorate.master.api.document import documented
from quorate.master.auth import make_join_token, make_user_token
from quorate.master.effects import Done
from quorate.master.events import TokenCreated, TokenRevoked
from quorate.master.records import TokenKind, TokenRecord
from quorate.master.services import wall
from quorate.model.duration import Duration
from quorate.model.job import Name
from quorate.model.views import TokenCreatedView, TokenPage, TokenView

router = APIRouter(tags=["tokens"])


class TokenRequest(BaseModel):
    """A join token (for a pool) or a user's token (for a user)."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["join", "user"] = "join"
    pool: Name = Field("default", description="Join: the pool that agents come into.")
    user: Name | None = Field(None, description="User: who the token speaks for.")
    operator: bool = Field(False, description="User: with an operator's rights.")
    ttl: Duration | None = Field(None, gt=0, description="How long it is good; an hour for join tokens, else for ever.")
    uses: int | None = Field(None, ge=1, le=1_000_000, description="Join: how many agents may come in by it.")
    description: str = Field("", max_length=256)

    @model_validator(mode="after")
    def _a_users_token_names_its_user(self) -> "TokenRequest":
        if self.kind == "user" and self.user is None:
            raise ValueError("a user's token needs `user`")
        return self


EXAMPLE = {"kind": "join", "pool": "default", "ttl": "1h", "uses": 8}
#: A join token for which no lifetime was named.
JOIN_TTL_S = 3600.0


@router.post("/tokens", status_code=201, **documented(TokenRequest, EXAMPLE), **shows(TokenCreatedView))
async def create(master: Master, _caller: Operator, wanted: Annotated[TokenRequest, body_of(TokenRequest)]) -> Response:
    """Make a token. The answer is the only place where it ever stands."""
    present = wall()
    if wanted.kind == "join":
        made = make_join_token(
            wanted.pool,
            master.fingerprint,
            wall=present,
            expires_wall=present + (wanted.ttl if wanted.ttl is not None else JOIN_TTL_S),
            uses=wanted.uses,
            description=wanted.description,
        )
    else:
        made = make_user_token(
            wanted.user or "",
            operator=wanted.operator,
            wall=present,
            expires_wall=present + wanted.ttl if wanted.ttl is not None else None,
            description=wanted.description,
        )
    await ask(master, TokenCreated(**moment(), token=made.record), Done)
    return answer(TokenCreatedView(**_fields(made.record), token=made.shown), 201)


@router.get("/tokens", **shows(TokenPage))
async def listing(master: Master, _caller: Operator, limit: Limit = 100, cursor: Cursor = "") -> Response:
    """Tokens by id, without their secrets, which nobody knows any more."""
    after = decode_cursor(cursor) if cursor else ""
    # A member's token goes with its allocation; nobody has to care for it.
    kept = (token.id for token in master.state.tokens.values() if token.kind is not TokenKind.MEMBER)
    ids = sorted(token for token in kept if token > after)
    shown = ids[:limit]
    items = tuple(TokenView(**_fields(master.state.tokens[token])) for token in shown)
    return answer(TokenPage(items=items, next=encode_cursor(shown[-1]) if len(ids) > limit else None))


@router.delete("/tokens/{id}", status_code=204, response_class=Response)
async def revoke(master: Master, _caller: Operator, token: Annotated[str, Path(alias="id", max_length=64)]) -> Response:
    """Forget a token. Agents that came in by it keep their own keys."""
    await ask(master, TokenRevoked(**moment(), token=token), Done)
    master.streams.judge_again()
    return Response(status_code=204)


def _fields(record: TokenRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "kind": record.kind.value,
        "pool": record.pool,
        "user": record.user,
        "operator": record.operator,
        "created_at": render.utc(record.created_wall),
        "expires_at": render.utc(record.expires_wall) if record.expires_wall is not None else None,
        "uses_left": record.uses_left,
        "description": record.description,
    }
