"""The states of jobs, allocations, members and agents, each with what it means and what it waits on."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is. COMPLETED, FAILED and CANCELLED are final."""

    #: Waits in the queue of its pool; `explain` says for what.
    PENDING = "pending"
    #: Placed; waits for all members to run. Deadline: start_timeout.
    STARTING = "starting"
    #: All members run, or have ended well while others still run.
    RUNNING = "running"
    #: Some member failed, or somebody cancelled; waits for the members to be gone. Deadline: grace and margin.
    STOPPING = "stopping"
    #: Every member ended with 0.
    COMPLETED = "completed"
    #: A member failed, or the platform did, and no restart was left.
    FAILED = "failed"
    #: Somebody cancelled it.
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the job can never change again."""
        return self in _FINAL_JOB


_FINAL_JOB = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})


class MemberState(StrEnum):
    """Where a member is. EXITED, FAILED and LOST are final."""

    #: The master wants it; its agent has not said that it knows.
    ASSIGNED = "assigned"
    #: The agent has made its intent durable and prepares: context, secrets, ports, rendezvous.
    STARTING = "starting"
    #: The member's command runs.
    RUNNING = "running"
    #: SIGTERM was sent; SIGKILL follows after the grace.
    STOPPING = "stopping"
    #: The command ended by itself or by our signal; exit code or signal are known.
    EXITED = "exited"
    #: It never ran, or its outcome is unknown (an intent without an outcome, a supervisor that died).
    FAILED = "failed"
    #: The master gave its agent up: silent beyond replace_after, another boot, or revoked.
    LOST = "lost"

    @property
    def final(self) -> bool:
        """Whether the member can never change again."""
        return self in _FINAL_MEMBER


_FINAL_MEMBER = frozenset({MemberState.EXITED, MemberState.FAILED, MemberState.LOST})


class AgentState(StrEnum):
    """What the master knows of an agent."""

    #: Connected and heard from; takes work.
    READY = "ready"
    #: Connected; takes no new work by an operator's wish.
    DRAINING = "draining"
    #: Silent for longer than the unreachable timer; its members run on.
    UNREACHABLE = "unreachable"
    #: Two live links claim this id; neither gets work.
    DUPLICATE = "duplicate"
    #: It has seen a later state of this cluster than the store holds; it changes nothing.
    REGRESSED = "regressed"
    #: Its key was revoked; it cannot come back under this name.
    REVOKED = "revoked"
