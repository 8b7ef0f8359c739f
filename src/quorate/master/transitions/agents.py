"""What operators want of agents: no new work, work again, or never again."""

from quorate.master.effects import Answer, Done, Refused
from quorate.master.events import AgentDrainRequested, AgentResumed, AgentRevoked
from quorate.master.records import AgentRecord
from quorate.master.transitions import silence
from quorate.master.transitions.draft import Draft
from quorate.model.messages import Refuse


def _standing(draft: Draft, agent: str) -> AgentRecord | Refused:
    record = draft.state.agents.get(agent)
    if record is None:
        return Refused(404, "AGENT-UNKNOWN", f"there is no agent {agent}", "quorate agent list")
    if record.revoked:
        return Refused(409, "AGENT-REVOKED", f"agent {agent} was revoked", "quorate agent list")
    return record


def drain(draft: Draft, event: AgentDrainRequested) -> Answer:
    """Its members run on; no new one comes."""
    record = _standing(draft, event.agent)
    if isinstance(record, Refused):
        return record
    draft.change(record, drained=True)
    return Done()


def resume(draft: Draft, event: AgentResumed) -> Answer:
    """It takes work again."""
    record = _standing(draft, event.agent)
    if isinstance(record, Refused):
        return record
    draft.change(record, drained=False)
    return Done()


def revoke(draft: Draft, event: AgentRevoked) -> Answer:
    """Its key is void. What runs there is waited for as for a silent agent's, or given up at once if it is `gone`."""
    record = draft.state.agents.get(event.agent)
    if record is None:
        return Refused(404, "AGENT-UNKNOWN", f"there is no agent {event.agent}", "quorate agent list")
    # A machine that runs no more has nothing left to tell; one that is only refused may run on.
    record = draft.change(record, revoked=True, unaccounted=record.unaccounted and not event.gone)
    live = draft.live(record.id)
    if live.link is not None:
        sentence = f"the key of agent {record.id} was revoked by {event.by}; its members end"
        draft.close(record.id, live.link, Refuse("AGENT-REVOKED", sentence, final=True))
        draft.change(live, link=None)
    if event.gone:
        silence.lose(
            draft, list(draft.state.held_by(record.id)), f"agent {record.id} is gone, says {event.by}", gone=True
        )
    else:
        draft.state.watch(record.id, draft.now)
    return Done()
