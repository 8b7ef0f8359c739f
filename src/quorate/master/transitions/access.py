"""Tokens and the agents that come in by them."""

from quorate.master.effects import Answer, Done, Joined, Refused
from quorate.master.events import AgentJoined, TokenCreated, TokenRevoked
from quorate.master.records import AgentRecord, TokenKind, TokenRecord
from quorate.master.transitions.draft import Draft


def create_token(draft: Draft, event: TokenCreated) -> Answer:
    """Keeps the hash."""
    draft.put(event.token)
    return Done()


def revoke_token(draft: Draft, event: TokenRevoked) -> Answer:
    """Forgets the token. Agents that came in by it keep the keys of their own."""
    if event.token not in draft.state.tokens:
        return Refused(404, "TOKEN-UNKNOWN", f"there is no token {event.token}", "quorate token list")
    draft.drop(TokenRecord, event.token)
    return Done()


def usable(token: TokenRecord, wall: float) -> bool:
    """Whether the token still opens anything at this UTC time."""
    return (token.expires_wall is None or wall < token.expires_wall) and token.uses_left != 0


def join(draft: Draft, event: AgentJoined) -> Answer:
    """Exchanges a use of a join token for a place under this name, which nobody else can have from now on."""
    state = draft.state
    known = state.agents.get(event.agent)
    if known is not None and known.key_hash == event.key_hash and not known.revoked:
        return Joined(known.id, known.pool)
    token = state.tokens.get(state.tokens_by_hash.get(event.token_hash, ""))
    if token is None or token.kind is not TokenKind.JOIN or not usable(token, draft.stamp.wall):
        return Refused(
            401,
            "TOKEN-INVALID",
            "the join token is unknown, expired or used up",
            "quorate token create --pool P",
        )
    if known is not None:
        why = "was revoked" if known.revoked else "has joined already, with another key"
        return Refused(
            409,
            "AGENT-TAKEN",
            f"an agent called {event.agent} {why}; choose another name",
            "quorate agent list",
        )
    if token.uses_left is not None:
        draft.change(token, uses_left=token.uses_left - 1)
    draft.put(AgentRecord(id=event.agent, pool=token.pool, key_hash=event.key_hash, joined_wall=draft.stamp.wall))
    return Joined(event.agent, token.pool)
