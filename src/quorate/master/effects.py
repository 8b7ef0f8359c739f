"""What the edges do once a batch is committed, and what they answer. All effects may be repeated without harm."""

import msgspec

from quorate.model.ids import AgentId, AllocationId, JobId
from quorate.model.messages import MasterMessage, Refuse


class Effect(msgspec.Struct, frozen=True):
    """Base of all effects."""


class SendTo(Effect, frozen=True):
    """Send this on the link, in this order; a link that is gone swallows it."""

    link: int
    agent: AgentId
    message: MasterMessage


class CloseLink(Effect, frozen=True):
    """Say why (if there is a reason) and close the link; AgentDisconnected for it is harmless."""

    link: int
    agent: AgentId
    refuse: Refuse | None = None


class JobChanged(Effect, frozen=True):
    """Something that the job's view shows has changed: tell subscribers. Once a batch for each job."""

    job: JobId


class JobForgotten(Effect, frozen=True):
    """Retention dropped the job: its logs may go."""

    job: JobId
    allocations: tuple[AllocationId, ...]


class StopReady(Effect, frozen=True):
    """The planned stop may happen. `missing` are agents that did not confirm: they bear only the usual silence."""

    held: tuple[AgentId, ...]
    missing: tuple[AgentId, ...]


class Answer(msgspec.Struct, frozen=True):
    """Base of what `Core.apply` returns; to be given out only when its batch is committed."""


class Done(Answer, frozen=True):
    """It is so (now, or it was already)."""


class Submitted(Answer, frozen=True):
    """The job is accepted. `repeated`: this Idempotency-Key had submitted it before."""

    job: JobId
    repeated: bool = False


class Joined(Answer, frozen=True):
    """The agent's key is known."""

    agent: AgentId
    pool: str


class StopStarted(Answer, frozen=True):
    """The lease is on its way to so many agents; StopReady follows."""

    agents: int


class Refused(Answer, frozen=True):
    """It was not done. `status` is the HTTP status that says so, the rest goes into a Problem."""

    status: int
    code: str
    detail: str
    hint: str = ""
