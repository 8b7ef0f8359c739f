"""What the core holds of one member."""

from dataclasses import dataclass

from quorate.agent.reconcile import Held
from quorate.model.messages import AllocationSpec, ExitStatus, MemberStatus
from quorate.model.state import MemberState


@dataclass
class Member:
    """One member that this agent has ever been told to start and not yet to forget."""

    member: str
    #: None only for one that was declined before its spec was known.
    spec: AllocationSpec | None
    state: MemberState = MemberState.STARTING
    exit: ExitStatus | None = None
    reason: str = ""
    code: str = ""
    echo: bool = False
    since: float | None = None
    #: Seconds that it ran, once it has ended.
    ran_s: float = 0.0
    log_bytes: int = 0
    shipped: int = 0
    log_refused: bool = False

    def status(self, now: float) -> MemberStatus:
        running = now - self.since if self.since is not None and not self.state.final else self.ran_s
        return MemberStatus(
            member=self.member,
            state=self.state.value,
            exit=self.exit,
            reason=self.reason,
            code=self.code,
            echo=self.echo,
            running_s=round(running, 3),
            log_bytes=self.log_bytes,
        )

    def held(self) -> Held:
        return Held(
            state=self.state,
            stopping=self.state is MemberState.STOPPING,
            shipped=self.log_refused or self.shipped >= self.log_bytes,
        )

    def ended(
        self,
        state: MemberState,
        status: ExitStatus | None,
        reason: str,
        code: str = "",
        echo: bool = False,
        log_bytes: int = 0,
        ran_s: float = 0.0,
    ) -> None:
        """The end, which never changes again."""
        self.state, self.exit, self.reason, self.code, self.echo = state, status, reason, code, echo
        self.log_bytes, self.ran_s = log_bytes, ran_s
