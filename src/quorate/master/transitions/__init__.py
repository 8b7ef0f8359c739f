"""The transitions: one event on the present state gives changes, effects and an answer, and nothing else happens."""

from collections.abc import Callable
from typing import Any

from quorate.master.effects import Answer
from quorate.master.events import (
    Adopted,
    AgentConnected,
    AgentDisconnected,
    AgentDrainRequested,
    AgentHeartbeat,
    AgentHeldLease,
    AgentJoined,
    AgentRegressed,
    AgentReported,
    AgentResumed,
    AgentRevoked,
    AgentsProbed,
    BackupTaken,
    DeadlineCame,
    Event,
    JobCancelRequested,
    JobSubmitted,
    JobUsed,
    Opened,
    PlannedStop,
    ScheduleDue,
    TokenCreated,
    TokenRevoked,
)
from quorate.master.state import State
from quorate.master.transitions import access, agents, idling, links, maintenance, placing, submitting, timers
from quorate.master.transitions.draft import Draft

_HANDLERS: dict[type[Event], Callable[[Draft, Any], Answer | None]] = {
    JobSubmitted: submitting.submit,
    JobCancelRequested: submitting.cancel,
    JobUsed: idling.used,
    AgentDrainRequested: agents.drain,
    AgentResumed: agents.resume,
    AgentRevoked: agents.revoke,
    TokenCreated: access.create_token,
    TokenRevoked: access.revoke_token,
    AgentJoined: access.join,
    PlannedStop: maintenance.plan_stop,
    Adopted: maintenance.adopt,
    BackupTaken: maintenance.take_backup,
    AgentConnected: links.connect,
    AgentDisconnected: links.disconnect,
    AgentHeartbeat: links.heartbeat,
    AgentReported: links.report,
    AgentRegressed: links.regress,
    AgentHeldLease: maintenance.lease_held,
    Opened: timers.opened,
    DeadlineCame: timers.fire,
    AgentsProbed: placing.probed,
    ScheduleDue: placing.schedule,
}


def apply(state: State, event: Event) -> tuple[Draft, Answer | None]:
    """Takes one event into the state: the draft says what changed and what follows. After an exception nothing has."""
    draft = Draft(state, event)
    try:
        return draft, _HANDLERS[type(event)](draft, event)
    except BaseException:
        draft.undo()
        raise
