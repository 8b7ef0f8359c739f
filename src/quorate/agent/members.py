"""The members on this machine: has them prepared, starts, stops and finds them again, and tells the core of them."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quorate.agent import begun, memberfolder
from quorate.agent.clearing import Clearing
from quorate.agent.events import Ended, Event, Failed, Recovered, Running, SupervisorLost, Swept
from quorate.agent.networks import Networks
from quorate.agent.order import Order
from quorate.agent.orders import Machine, OrderError
from quorate.agent.outcome import Outcome, read_outcome
from quorate.agent.preparing import PrepareError, Preparing, Supplies
from quorate.agent.reconcile import allocation_of
from quorate.agent.runtime import containers as found_containers
from quorate.agent.runtime.containers import ContainerError, Containers
from quorate.agent.runtime.watch import PauseWatch
from quorate.agent.secretsfolder import SecretsFolder
from quorate.agent.shim.link import Object, ShimLink
from quorate.agent.shim.log import FULL
from quorate.agent.users import NoUserLeft, UserPool
from quorate.agent.zygote import Zygote
from quorate.model.ids import MemberId, split_member
from quorate.model.messages import AllocationSpec, ExitStatus, Finding

log = logging.getLogger(__name__)

#: How long a shim that took the connection may take to say who it is.
_HELLO_S = 5.0
#: A spare shim is forked when no member has been started for so long: not while others are on their way.
_SPARE_AFTER_S = 0.05


@dataclass
class _Member:
    """What runs, or is on its way to."""

    preparing: "asyncio.Task[None] | None" = None
    #: What the shim is to hear as soon as it listens.
    stop: Object | None = None
    link: ShimLink | None = None
    #: Until the shim has spoken: what it is to do.
    order: Order | None = None
    #: The shim has said that it is over, so that its end is no loss.
    over: bool = False
    #: Why the log cannot be written, from the shim.
    blocked: str = ""
    #: Since when its companion, at the first member, has waited for others; by CLOCK_BOOTTIME.
    waits_since: float | None = None


class Members:
    """All members of one agent. `tell` takes events for the core, `grew` the sizes of logs, in the event loop."""

    def __init__(
        self,
        folder: Path,
        zygote: Callable[[], Zygote],
        machine: Machine,
        users: UserPool | None,
        supplies: Supplies,
        tell: Callable[[Event], None],
        grew: Callable[[str, int], int],
        findings_changed: Callable[[tuple[Finding, ...]], None],
        networks: Networks | None = None,
        containers: Containers | None = None,
    ) -> None:
        """`networks`, `containers`: none where this agent can make none."""
        self._containers = containers
        self._networks = networks
        self._folder = folder
        self._zygote = zygote
        self._users = users
        self._tell = tell
        self._grew = grew
        self._findings_changed = findings_changed
        self._members: dict[str, _Member] = {}
        #: What prepares members that were stopped meanwhile: it may take a moment to let go of their folders.
        self._let_go: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._spare_timer: asyncio.TimerHandle | None = None
        self._pauses = PauseWatch(tell)
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        secrets = SecretsFolder()
        self._preparing = Preparing(
            folder, machine, users, supplies, secrets, networks, containers, self._pauses, tell, grew,
            self._members.__contains__,
        )  # fmt: skip
        self._clearing = Clearing(folder, users, secrets, containers)

    def folder(self, member: str) -> Path:
        """The member's own folder."""
        split_member(MemberId(member))
        return self._folder / member

    # --- starting ----------------------------------------------------------------------------------------------

    def start(self, member: str, spec: AllocationSpec) -> None:
        """Begins; Running, Ended or Failed follow."""
        held = self._members[member] = _Member()
        held.preparing = asyncio.create_task(self._start(member, spec, held))

    async def _start(self, member: str, spec: AllocationSpec, held: _Member) -> None:
        try:
            order = await self._preparing.prepare(member, spec)
            held.preparing = None
            held.order = order
            await self._fork(member, held, order)
        except (PrepareError, ContainerError) as error:
            self._fail(member, str(error), error.code)
        except NoUserLeft as error:
            self._fail(member, str(error), "USERS-EXHAUSTED")
        except OrderError as error:
            self._fail(member, str(error), "START-FAILED")
        except OSError as error:
            code = "DISK-FULL" if error.errno in FULL else "START-FAILED"
            self._fail(member, f"it could not be prepared: {error}", code)
        except Exception as error:  # a bug must not leave a member that waits for ever
            log.exception("member %s", member)
            self._fail(member, f"the agent failed: {type(error).__name__}: {error}", "START-FAILED")

    async def _fork(self, member: str, held: _Member, order: Order) -> None:
        held.link = await self._attach(member, held, self._zygote().fork())
        self.keep_spare()
        held.link.write(order.to_json() + b"\n")
        if held.stop is not None:
            held.link.send(held.stop)

    async def _fork_again(self, member: str, held: _Member, order: Order) -> None:
        try:
            await self._fork(member, held, order)
        except OSError as error:
            self._fail(member, f"no shim could be forked: {error}", "START-FAILED")

    def keep_spare(self) -> None:
        """Has a shim ready for the next member, soon."""
        if self._spare_timer is not None:
            self._spare_timer.cancel()
        self._spare_timer = asyncio.get_running_loop().call_later(_SPARE_AFTER_S, self._fork_spare)

    def _fork_spare(self) -> None:
        # Whoever starts a member meets the same error, and can say of which.
        with suppress(OSError):
            self._zygote().spare()

    async def _attach(self, member: str, held: _Member, connection: socket.socket) -> ShimLink:
        return await ShimLink.over(
            connection, lambda message: self._hear(member, held, message), lambda: self._gone(member, held)
        )

    def _fail(self, member: str, sentence: str, code: str, echo: bool = False) -> None:
        self._members.pop(member, None)
        self._tell(Failed(member, sentence, code, echo, self._grew(member, 0)))

    # --- while they run ----------------------------------------------------------------------------------------

    def _hear(self, member: str, held: _Member, message: Object) -> None:
        held.order = None
        if "waits" in message:
            held.waits_since = message["waits"]
        if "running" in message:
            held.waits_since = None
            self._tell(Running(member, message["running"]))
        elif "log" in message and "shim" not in message:
            size = self._grew(member, message["log"])
            if held.link is not None:
                held.link.send({"read": size})
        elif "blocked" in message:
            held.blocked = message["blocked"] or ""
            self._say_blocked()
        elif "over" in message:
            self._over(member, held, Outcome(**message["over"]))

    def _over(self, member: str, held: _Member, outcome: Outcome) -> None:
        if held.over:
            return
        held.over = True
        if held.blocked:
            held.blocked = ""
            self._say_blocked()
        self._members.pop(member, None)
        self._grew(member, outcome.log_bytes)
        self._tell(as_event(member, outcome))

    def _gone(self, member: str, held: _Member) -> None:
        """The shim's connection is at its end; after its last word that means nothing."""
        if held.over:
            return
        if held.order is not None and self._members.get(member) is held:
            # A shim speaks before it starts anything: this one was never forked, or died at once. Ask a living zygote.
            order, held.order = held.order, None
            self._spawn(self._fork_again(member, held, order))
            return
        outcome = read_outcome(str(self.folder(member) / memberfolder.EXIT))
        if outcome is not None:
            self._over(member, held, outcome)
        elif self._members.get(member) is held:
            log.error("the shim of member %s is gone and has left no outcome", member)
            self._tell(SupervisorLost(member))

    def _say_blocked(self) -> None:
        self._findings_changed(
            tuple(
                Finding(
                    "DISK-FULL",
                    "error",
                    "A member waits because its output cannot be kept",
                    evidence=f"{self.folder(member) / memberfolder.LOG}: {held.blocked}",
                    remedy=f"free space on the disk of {self._folder}; the member goes on by itself",
                    member=member,
                )
                for member, held in self._members.items()
                if held.blocked
            )
        )

    def waits_since(self, allocation: str) -> float | None:
        """Since when the first member of the allocation, here, has waited for others; None where it does not."""
        own = (held.waits_since for member, held in self._members.items() if allocation_of(member) == allocation)
        return next((since for since in own if since is not None), None)

    def first_waits(self, allocation: str, seconds: float) -> None:
        """The first member of the allocation, elsewhere, has waited for so long: those here whom that helps know it."""
        for member, held in self._members.items():
            if allocation_of(member) == allocation and held.link is not None:
                held.link.send({"first_waits": seconds})

    # --- stopping ----------------------------------------------------------------------------------------------

    def stop(self, member: str, reason: str, echo: bool, grace_s: float) -> None:
        """SIGTERM, the grace, SIGKILL; Ended or Failed follows."""
        held = self._members.get(member)
        if held is None:
            return
        if held.preparing is not None:
            held.preparing.cancel()
            self._let_go[member] = held.preparing
            self._fail(member, reason or "it was stopped before it began", "", echo)
            return
        held.stop = {"stop": {"reason": reason, "echo": echo, "grace_s": grace_s}}
        if held.link is not None:
            held.link.send(held.stop)

    def sweep(self, member: str) -> None:
        """Kills what a lost shim left; Swept follows once nothing is left."""
        self._spawn(self._sweep(member))

    async def _sweep(self, member: str) -> None:
        await self._clearing.kill(member)
        self._members.pop(member, None)
        own = self.folder(member)
        self._tell(Swept(member, self._grew(member, _size(own / memberfolder.LOG)), begun.never(own)))

    def forget(self, member: str) -> None:
        """Removes the member's folder and sandbox, and with its allocation's last one what its user has left."""
        self._members.pop(member, None)
        self._pauses.forget(member)
        if self._networks is not None:
            self._networks.release(member)
        self._spawn(self._forget(member, self._let_go.pop(member, None)))

    async def _forget(self, member: str, preparing: "asyncio.Task[None] | None") -> None:
        if preparing is not None:
            await asyncio.wait([preparing])
        await self._clearing.forget(member)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- after a restart of the agent --------------------------------------------------------------------------

    def pauses(self, live: Iterable[str]) -> dict[str, int]:
        """Of those members whose namespace is a pause container's: the process that holds it."""
        found = {member: found_containers.pause_pid(self.folder(member)) for member in live}
        return {member: pid for member, pid in found.items() if pid is not None}

    def on_host(self, live: Iterable[str]) -> dict[str, int]:
        """Of those members that are in this machine's network: the UID that each runs as."""
        found = {member: _uid_in(self.folder(member) / memberfolder.HOST_UID) for member in live}
        return {member: uid for member, uid in found.items() if uid is not None}

    async def recover(self, live: Sequence[str], ended: Iterable[str]) -> Recovered:
        """Looks for members whose end the journal does not know; removes the folders of those that it does not know."""
        known = {*live, *ended}
        found = [folder.name for folder in self._folder.iterdir()]
        for member in found:
            with suppress(ValueError):
                if self._users is not None and (uid := _uid_in(self.folder(member) / memberfolder.UID)) is not None:
                    self._users.restore(allocation_of(member), uid)
        if self._containers is not None:
            await self._containers.sweep(known)
        for member in found:
            if member not in known:
                self._spawn(self._clearing.end_unknown(member))
        observed = await asyncio.gather(*(self._look(member) for member in live))
        return Recovered(
            tuple(o for o in observed if isinstance(o, Running | Ended | Failed)),
            tuple(member for member, o in zip(live, observed, strict=True) if o == "starting"),
        )

    async def settle(self, live: Sequence[str] = ()) -> None:
        """What was lost is swept up: from now on only what is true is told, and the networks of `live` are watched."""
        await asyncio.gather(*self._tasks)
        if self._containers is not None:
            # A member has a folder before it has anything of the engine's, and until that is removed.
            self._spawn(self._containers.keep_swept(lambda: {folder.name for folder in self._folder.iterdir()}))
        self._pauses.resume({member: self.folder(member) for member in live})

    async def _look(self, member: str) -> Running | Ended | Failed | str | None:
        """How a member is: its outcome, when it began, `starting`, or None if nothing of it lives."""
        folder = self.folder(member)
        outcome = read_outcome(str(folder / memberfolder.EXIT))
        if outcome is not None:
            return as_event(member, outcome)
        if (folder / memberfolder.EXIT).exists():
            log.error(
                "%s is damaged: how member %s ended is not known, so it has failed", folder / memberfolder.EXIT, member
            )
        connection = memberfolder.connect(folder)
        if connection is None:
            # It may have ended between the two looks.
            outcome = read_outcome(str(folder / memberfolder.EXIT))
            return as_event(member, outcome) if outcome is not None else None
        held = self._members[member] = _Member()
        hello: asyncio.Future[Object] = asyncio.get_running_loop().create_future()
        ended: list[Object] = []

        def hear(message: Object) -> None:
            if "shim" in message and not hello.done():
                hello.set_result(message)
            elif "over" in message and not hello.done():
                ended.append(message)
                hello.set_result(message)
            else:
                self._hear(member, held, message)

        def gone() -> None:
            if not hello.done():
                hello.set_result({})
            elif not ended:
                self._gone(member, held)

        held.link = await ShimLink.over(connection, hear, gone)
        try:
            said = await asyncio.wait_for(hello, _HELLO_S)
        except TimeoutError:
            # It took the connection, so it lives; stopped by somebody, perhaps.
            return "starting"
        if "shim" in said:
            held.waits_since = said.get("waits")
            held.link.send({"read": self._grew(member, said["log"])})
            return Running(member, said["since"]) if said["since"] is not None else "starting"
        self._members.pop(member, None)
        outcome = Outcome(**said["over"]) if ended else read_outcome(str(folder / memberfolder.EXIT))
        return as_event(member, outcome) if outcome is not None else None


def as_event(member: str, outcome: Outcome) -> Ended | Failed:
    """What a shim's outcome means to the core."""
    if not outcome.ran:
        return Failed(member, outcome.reason, outcome.finding, outcome.echo, outcome.log_bytes)
    status = ExitStatus(outcome.code, outcome.signal, outcome.tail)
    return Ended(member, status, outcome.reason, outcome.finding, outcome.echo, outcome.log_bytes, outcome.ran_s)


def _uid_in(path: Path) -> int | None:
    """The UID that a file of a member's folder holds; None where there is none."""
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        # Not to know it would give the user of a living member to somebody else, or open the cloud's metadata to it.
        work = path.with_name(memberfolder.WORK)
        with suppress(OSError):
            uid = work.stat().st_uid
            log.warning("%s is damaged: %s; user %d, who owns %s, is taken for it", path, error, uid, work)
            return uid
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
