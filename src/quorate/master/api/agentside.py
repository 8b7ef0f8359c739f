"""What agents ask over HTTP: to join, and what their members need."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from quorate.master.api.bodies import body_of
from quorate.master.api.calls import Agent, Master, ask, moment, unauthenticated
from quorate.master.api.contexts import Digest
from quorate.master.api.document import documented
from quorate.master.api.problems import ApiProblem
from quorate.master.auth import MAX_TOKEN_CHARACTERS, hash_of, make_member_token
from quorate.master.effects import Done, Joined, Refused
from quorate.master.events import AgentJoined, TokenCreated
from quorate.master.secrets import SecretsError
from quorate.master.services import wall
from quorate.model.ids import AgentId
from quorate.model.job import TOKEN_SECRET, Name

router = APIRouter(tags=["agents' side"])


class JoinRequest(BaseModel):
    """A join token for a key of the agent's own, of which the master only ever stores the hash."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=MAX_TOKEN_CHARACTERS)
    name: Name
    key_hash: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the agent's key, hex.")
    pool: Name | None = Field(None, description="The pool that the agent expects to come into.")


EXAMPLE = {"token": "qj1.9nn3889p.c2VjcmV0.-", "name": "gpu-07", "key_hash": "0" * 64}


class JoinView(BaseModel):
    """The agent is known by its key from now on."""

    agent: str
    pool: str
    cluster: str


@router.post("/join", **documented(JoinRequest, EXAMPLE))
async def join(request: Request, master: Master, wanted: Annotated[JoinRequest, body_of(JoinRequest)]) -> JoinView:
    """Exchange a join token for a place in the cluster. A repeat with the same key is harmless."""
    digest = hash_of(wanted.token)
    token = master.state.tokens.get(master.state.tokens_by_hash.get(digest, ""))
    if token is not None and wanted.pool not in (None, token.pool):
        raise ApiProblem(
            409,
            "POOL-MISMATCH",
            f"the token is for pool {token.pool}, the agent wants pool {wanted.pool}",
            f"quorate token create --pool {wanted.pool}",
        )
    event = AgentJoined(**moment(), agent=AgentId(wanted.name), token_hash=digest, key_hash=wanted.key_hash)
    answer = await master.writer.ask(event)
    if isinstance(answer, Refused) and answer.status == 401:
        refusal = unauthenticated(request, master, "a join token", answer.hint, presented=True)
        raise refusal if refusal.problem.status == 429 else ApiProblem(401, answer.code, answer.detail, answer.hint)
    joined = answer if isinstance(answer, Joined) else await ask(master, event, Joined)
    return JoinView(agent=joined.agent, pool=joined.pool, cluster=master.state.identity.cluster)


@router.get("/contexts/{sha256}", response_class=FileResponse)
async def context(master: Master, agent: Agent, digest: Digest) -> FileResponse:
    """The archive, for an agent that has a member which needs it."""
    needed = {master.state.specs[member.job].spec.context for member in master.state.held_by(agent)}
    if digest not in needed or not master.contexts.has(digest):
        raise ApiProblem(404, "CONTEXT-UNKNOWN", f"no member on agent {agent} needs a context {digest[:12]}…")
    return FileResponse(master.contexts.path(digest), media_type="application/gzip")


@router.get("/allocations/{id}/secrets")
async def secrets(
    master: Master, agent: Agent, allocation: Annotated[str, Path(alias="id", max_length=64)]
) -> Response:
    """Name to value, for an agent that has a member of this allocation which has not ended."""
    state = master.state
    member = next((member for member in state.held_by(agent) if member.allocation == allocation), None)
    if member is None or member.stop or member.state.final:
        raise ApiProblem(404, "ALLOCATION-UNKNOWN", f"agent {agent} runs no member of allocation {allocation[:32]}")
    try:
        values = master.sealer.open(member.job, state.specs[member.job].sealed)
    except SecretsError as error:
        raise ApiProblem(
            409, "SECRETS-SEALED", str(error), "restore the key file of the time of the submission"
        ) from None
    if state.specs[member.job].spec.token:
        made = make_member_token(allocation, state.jobs[member.job].owner, wall=wall())
        await ask(master, TokenCreated(**moment(), token=made.record), Done)
        values = {**values, TOKEN_SECRET: made.shown}
    return Response(SecretValues(secrets=values).model_dump_json(), media_type="application/json", headers=NO_STORE)


class SecretValues(BaseModel):
    """The secrets of an allocation."""

    secrets: dict[str, str]


NO_STORE = {"Cache-Control": "no-store"}
