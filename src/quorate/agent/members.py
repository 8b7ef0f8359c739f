"""The members on this machine: prepares, starts, stops, finds again, clears away, and tells the core what happens."""

import asyncio
import logging
import os
import shutil
import signal
import socket
import stat
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from quorate.agent import begun, hostports, leasefile, leftovers, shim, temporary
from quorate.agent.command import User
from quorate.agent.events import Ended, Event, Failed, Progressed, Recovered, Running, SupervisorLost, Swept
from quorate.agent.networks import NetworkError, Networks, sandbox_files
from quorate.agent.orders import SYSTEM_FILES, InImage, Machine, OrderError, Places, compose, needs_image, role_of
from quorate.agent.outcome import Outcome, read_outcome
from quorate.agent.processes import Process
from quorate.agent.reconcile import allocation_of
from quorate.agent.resolver import RESOLV_CONF
from quorate.agent.runtime import containers as found_containers
from quorate.agent.runtime.body import Granted, Image
from quorate.agent.runtime.containers import ContainerError, Containers
from quorate.agent.runtime.credentials import SECRET
from quorate.agent.runtime.watch import PauseWatch
from quorate.agent.shimlink import Object, ShimLink
from quorate.agent.shimlog import FULL, ShimLog
from quorate.agent.users import NoUserLeft, UserPool
from quorate.agent.zygote import Zygote
from quorate.model.ids import MemberId, split_member
from quorate.model.messages import AllocationSpec, ExitStatus, Finding, RoleSpec

log = logging.getLogger(__name__)

#: How long a shim that took the connection may take to say who it is.
_HELLO_S = 5.0
#: What a shim writes of itself: who it is, what it is told, and how the member ended.
_SHIMS_BYTES = 16 << 10
#: A spare shim is forked when no member has been started for so long: not while others are on their way.
_SPARE_AFTER_S = 0.05
#: In a member's folder, for the agent's next life: the UID of its allocation; and in the host's network its own.
_UID, _HOST_UID = "uid", "host-uid"
#: In a member's folder: the working folder of its command, whose owner is the user that this runs as.
_WORK = "work"
#: How long a companion may take to go after its member, and how often that is looked at, before its user is given out.
_LAST_PROCESS_S, _LAST_LOOK_S = 30.0, 0.5
#: How far an image is is told at this pace.
_PROGRESS_S = 1.0


class PrepareError(Exception):
    """A member cannot be started: code of the finding and a sentence."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Supplies(Protocol):
    """Where contexts and secrets come from. Both raise PrepareError."""

    async def context(self, sha256: str, into: Path, user: User | None) -> None:
        """Fills the working folder of a member."""
        ...

    async def secrets(self, allocation: str) -> dict[str, str]:
        """The values of an allocation's secrets."""
        ...


@dataclass
class _Member:
    """What runs, or is on its way to."""

    preparing: "asyncio.Task[None] | None" = None
    #: What the shim is to hear as soon as it listens.
    stop: Object | None = None
    link: ShimLink | None = None
    #: Until the shim has spoken: what it is to do.
    order: shim.Order | None = None
    #: The shim has said that it is over, so that its end is no loss.
    over: bool = False
    #: Why the log cannot be written, from the shim.
    blocked: str = ""
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)


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
        self._machine = machine
        self._users = users
        self._supplies = supplies
        self._tell = tell
        self._grew = grew
        self._findings_changed = findings_changed
        self._members: dict[str, _Member] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._spare_timer: asyncio.TimerHandle | None = None
        self._pauses = PauseWatch(tell)
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._secrets = _secrets_folder()
        # At once: whoever comes later finds the name taken, and cannot keep secrets from members.
        try:
            self._make_secrets_folder()
        except (PrepareError, OSError) as error:
            log.error("members can have no secrets: %s", error)

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
            order = await self._prepare(member, spec)
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

    async def _fork(self, member: str, held: _Member, order: shim.Order) -> None:
        held.link = await self._attach(member, held, self._zygote().fork())
        self.keep_spare()
        held.link.write(order.to_json() + b"\n")
        if held.stop is not None:
            held.link.send(held.stop)

    async def _fork_again(self, member: str, held: _Member, order: shim.Order) -> None:
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

    async def _prepare(self, member: str, spec: AllocationSpec) -> shim.Order:
        began = shim.boottime()
        folder = self.folder(member)
        folder.mkdir(mode=0o711)
        begun.prepare(folder)
        role, planned = role_of(spec, member), spec.members[split_member(MemberId(member))[1]]
        user = self._users.user(spec.allocation, spec.owner) if self._users else None
        if user is not None:
            (folder / _UID).write_text(str(user.uid))
        containers = self._containers_for(role)
        # Before anything is fetched: what is not allowed need not come.
        granted = containers.grant(role, user) if containers else None
        runs_as = granted.user if granted and os.geteuid() == 0 else user
        if spec.network is None and containers and granted:
            containers.host_network(role, granted.user)
        work = folder / _WORK
        work.mkdir(mode=0o700)
        if spec.network is None and planned.ports and (sentence := hostports.taken(planned.ports)):
            raise PrepareError("PORT-TAKEN", sentence)
        if spec.context:
            await self._supplies.context(spec.context, work, runs_as)
        if runs_as is not None:
            # Only now: until here nobody else could get in, and lead root by a link to another place.
            os.chown(work, runs_as.uid, runs_as.gid)
        secrets: dict[str, str] = {}
        if spec.secrets:
            secrets = await self._supplies.secrets(spec.allocation)
            self._make_secrets_folder()
        # Of all members, also of those without an image: none of the job's processes may have it.
        registries = secrets.pop(SECRET, "")
        lease = str(self._folder.parent / leasefile.NAME)
        places = Places(str(folder), str(work), str(self._secrets / member), lease)
        within = None
        if containers is not None and granted is not None:
            places, within = await self._make_container(
                member, spec, role, containers, granted, places, registries, bool(secrets)
            )
        elif spec.network is not None:
            places = await self._make_sandbox(member, spec, places)
            variables = (*role.environment.values(), *self._machine.environment.values())
            own = temporary.make(folder, (role.workdir, *role.entrypoint, *variables))
            places = replace(places, temporary=own)
        machine = self._machine
        if spec.network is not None and spec.ssh:
            self._make_secrets_folder()
            places = replace(places, ssh=str(self._secrets / f"{member}.ssh"))
            files = {name: _text(Path(path)) for name, path in SYSTEM_FILES.items()}
            machine = replace(machine, passwd=files["passwd"], ssh_config=files["ssh_config"])
        if spec.network is None and self._networks is not None:
            await self._guard(self._networks, member, spec, runs_as.uid if runs_as else os.geteuid())
        _see_room(folder)
        return compose(member, spec, machine, places, user, secrets, shim.boottime() - began, within)

    def _containers_for(self, role: RoleSpec) -> Containers | None:
        """None for a process. What only a container can have it must not go without in silence."""
        if not role.image:
            if lacking := needs_image(role):
                raise PrepareError("START-FAILED", f"{lacking} needs an image: a plain process cannot have it")
            return None
        if self._containers is None:
            raise PrepareError("ENGINE-UNREACHABLE", "this agent has found no engine for images; its log says where")
        self._containers.allowed(role)
        return self._containers

    async def _make_container(
        self,
        member: str,
        spec: AllocationSpec,
        role: RoleSpec,
        containers: Containers,
        granted: Granted,
        places: Places,
        registries: str,
        secrets: bool,
    ) -> tuple[Places, InImage]:
        """All that the container needs: its image, and the namespace in which it will be.

        `registries`: the job's own credentials. `secrets`: whether the member has any other.
        """
        image = await self._image(member, role, registries, containers)
        network, planned = "host", spec.members[split_member(MemberId(member))[1]]
        if spec.network is not None:
            held = await containers.pause(member, planned.name, Path(places.folder))
            self._pauses.watch(member, held.pid)
            places = await self._make_sandbox(member, spec, places, held.pid)
            network = f"container:{held.container}"
        setting = containers.setting(
            member,
            work=places.work,
            network=network,
            secrets=places.secrets if secrets else "",
            hosts_file=places.hosts,
            resolv_file=places.resolv,
            context=bool(spec.context),
        )
        return places, InImage(image, granted, setting)

    async def _image(self, member: str, role: RoleSpec, secret: str, containers: Containers) -> Image:
        """Tells the master, and the member's log, how far it is; not each percent, for each costs a commit."""
        began = time.monotonic()
        told = 0.0

        def tell(sentence: str) -> None:
            nonlocal told
            now = time.monotonic()
            if now >= told + _PROGRESS_S and member in self._members:
                told = now
                self._say(member, sentence)
                self._tell(Progressed(member, sentence))

        image = await containers.image(role, secret, tell)
        if told:
            self._say(member, f"pulled {role.image} in {time.monotonic() - began:.1f} s")
        return image

    def _say(self, member: str, sentence: str) -> None:
        """Into the member's log, which nobody else writes to before there is a shim."""
        with suppress(OSError):
            early = ShimLog(str(self.folder(member) / shim.LOG))
            early.say(sentence)
            early.close()
            self._grew(member, early.size)

    async def _make_sandbox(
        self, member: str, spec: AllocationSpec, places: Places, container: int | None = None
    ) -> Places:
        """With its namespace, and the files with what it sees of names."""
        if self._networks is None:
            raise PrepareError("SANDBOX-FAILED", "this agent can make no private network; its log says why")
        try:
            hosts, resolv = sandbox_files(spec, Path(places.folder), _text(RESOLV_CONF))
            netns = await self._networks.make(member, spec, container)
        except NetworkError as error:
            raise PrepareError("SANDBOX-FAILED", f"its private network could not be made: {error}") from error
        return replace(places, netns=str(netns), hosts=str(hosts), resolv=str(resolv))

    async def _guard(self, networks: Networks, member: str, spec: AllocationSpec, uid: int) -> None:
        """For a member in the host's network, which rules hold then for as long as it is held."""
        (self.folder(member) / _HOST_UID).write_text(str(uid))
        try:
            await networks.guard(member, spec, uid)
        except NetworkError as error:
            raise PrepareError("SANDBOX-FAILED", f"it could not be kept to its network: {error}") from error

    def _make_secrets_folder(self) -> None:
        if not self._secrets.parent.is_dir():
            raise PrepareError("SECRETS-NO-MEMORY", "there is no /dev/shm, and secrets are not put on a disk")
        with suppress(FileExistsError):
            self._secrets.mkdir(mode=0o711)
        found = self._secrets.lstat()
        if found.st_uid != os.geteuid():
            raise PrepareError(
                "SECRETS-NO-MEMORY",
                f"user {found.st_uid} has put something at {self._secrets}, where this agent keeps secrets: "
                f"see what it is, then rm -r {self._secrets}",
            )
        if not stat.S_ISDIR(found.st_mode):
            raise PrepareError("SECRETS-NO-MEMORY", f"{self._secrets} is no folder: rm {self._secrets}")

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
        if "running" in message:
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
        outcome = read_outcome(str(self.folder(member) / shim.EXIT))
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
                    evidence=f"{self.folder(member) / shim.LOG}: {held.blocked}",
                    remedy=f"free space on the disk of {self._folder}; the member goes on by itself",
                    member=member,
                )
                for member, held in self._members.items()
                if held.blocked
            )
        )

    # --- stopping ----------------------------------------------------------------------------------------------

    def stop(self, member: str, reason: str, echo: bool, grace_s: float) -> None:
        """SIGTERM, the grace, SIGKILL; Ended or Failed follows."""
        held = self._members.get(member)
        if held is None:
            return
        if held.preparing is not None:
            held.preparing.cancel()
            self._fail(member, reason or "it was stopped before it began", "", echo)
            return
        held.stop = {"stop": {"reason": reason, "echo": echo, "grace_s": grace_s}}
        if held.link is not None:
            held.link.send(held.stop)

    def sweep(self, member: str) -> None:
        """Kills what a lost shim left; Swept follows once nothing is left."""
        self._spawn(self._sweep(member))

    async def _sweep(self, member: str) -> None:
        await asyncio.to_thread(leftovers.kill_all, member)
        if self._containers is not None:
            await self._containers.ended(member)
        self._members.pop(member, None)
        self._remove_secrets(member)
        own = self.folder(member)
        self._tell(Swept(member, self._grew(member, _size(own / shim.LOG)), begun.never(own)))

    def _remove_secrets(self, member: str) -> None:
        for folder in (self._secrets / member, self._secrets / f"{member}.ssh"):
            shutil.rmtree(folder, ignore_errors=True)

    def forget(self, member: str) -> None:
        """Removes the member's folder and sandbox, and with its allocation's last one what its user has left."""
        self._members.pop(member, None)
        self._pauses.forget(member)
        if self._networks is not None:
            self._networks.release(member)
        self._spawn(self._forget(member))

    async def _forget(self, member: str) -> None:
        if self._containers is not None and found_containers.is_held(self.folder(member)):
            await self._containers.forget(member)
        await self._clear_away(member)

    async def _clear_away(self, member: str) -> None:
        """The user is given to nobody else before everything of it is gone: the next one may read all of that."""
        await asyncio.to_thread(leftovers.remove_tree, self._folder / member)
        allocation, _, _ = member.rpartition(".")[0].rpartition(".")
        if self._users is None or any(found.name.startswith(f"{allocation}.") for found in self._folder.iterdir()):
            return
        if (uid := self._users.retire(allocation)) is None:
            return
        until = time.monotonic() + _LAST_PROCESS_S
        while await asyncio.to_thread(leftovers.has_processes, uid):
            if time.monotonic() > until:
                log.warning("user %d of allocation %s still has processes: nobody else gets this user", uid, allocation)
                return
            await asyncio.sleep(_LAST_LOOK_S)
        await asyncio.to_thread(leftovers.remove_files, uid)
        self._users.free(uid)

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
        found = {member: _uid_in(self.folder(member) / _HOST_UID) for member in live}
        return {member: uid for member, uid in found.items() if uid is not None}

    async def recover(self, live: Sequence[str], ended: Iterable[str]) -> Recovered:
        """Looks for members whose end the journal does not know; removes the folders of those that it does not know."""
        known = {*live, *ended}
        found = [folder.name for folder in self._folder.iterdir()]
        for member in found:
            with suppress(ValueError):
                if self._users is not None and (uid := _uid_in(self.folder(member) / _UID)) is not None:
                    self._users.restore(allocation_of(member), uid)
        if self._containers is not None:
            await self._containers.sweep(known)
        for member in found:
            if member not in known:
                self._spawn(self._end_unknown(member))
        observed = await asyncio.gather(*(self._look(member) for member in live))
        return Recovered(
            tuple(o for o in observed if isinstance(o, Running | Ended | Failed)),
            tuple(member for member, o in zip(live, observed, strict=True) if o == "starting"),
        )

    async def _end_unknown(self, member: str) -> None:
        """Whatever is left of a member that the journal does not know: processes only where a journal was lost."""
        folder = self._folder / member
        if (folder / shim.IDENTITY).exists() and read_outcome(str(folder / shim.EXIT)) is None:
            log.warning("the journal does not know member %s: what is left of it is ended", member)
            if (left := Process.kept(folder / shim.IDENTITY)) is not None:
                left.kill(signal.SIGKILL)
            await asyncio.to_thread(leftovers.kill_all, member)
            self._remove_secrets(member)
        await self._clear_away(member)

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
        outcome = read_outcome(str(folder / shim.EXIT))
        if outcome is not None:
            return as_event(member, outcome)
        if (folder / shim.EXIT).exists():
            log.error("%s is damaged: how member %s ended is not known, so it has failed", folder / shim.EXIT, member)
        connection = _connect(folder)
        if connection is None:
            # It may have ended between the two looks.
            outcome = read_outcome(str(folder / shim.EXIT))
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
            held.link.send({"read": self._grew(member, said["log"])})
            return Running(member, said["since"]) if said["since"] is not None else "starting"
        self._members.pop(member, None)
        outcome = Outcome(**said["over"]) if ended else read_outcome(str(folder / shim.EXIT))
        return as_event(member, outcome) if outcome is not None else None


def as_event(member: str, outcome: Outcome) -> Ended | Failed:
    """What a shim's outcome means to the core."""
    if not outcome.ran:
        return Failed(member, outcome.reason, outcome.finding, outcome.echo, outcome.log_bytes)
    status = ExitStatus(outcome.code, outcome.signal, outcome.tail)
    return Ended(member, status, outcome.reason, outcome.finding, outcome.echo, outcome.log_bytes, outcome.ran_s)


def _connect(folder: Path) -> socket.socket | None:
    """A connection to the shim that serves this folder; None if there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # By way of a descriptor: a socket's address holds 107 bytes, and a folder's path may be longer.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{descriptor}/{shim.SOCKET}")
        finally:
            os.close(descriptor)
    except OSError:
        connection.close()
        return None
    return connection


def _uid_in(path: Path) -> int | None:
    """The UID that a file of a member's folder holds; None where there is none."""
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        # Not to know it would give the user of a living member to somebody else, or open the cloud's metadata to it.
        work = path.with_name(_WORK)
        with suppress(OSError):
            uid = work.stat().st_uid
            log.warning("%s is damaged: %s; user %d, who owns %s, is taken for it", path, error, uid, work)
            return uid
        return None


def _secrets_folder() -> Path:
    return Path("/dev/shm") / f"quorate-{os.geteuid()}"


def _see_room(folder: Path) -> None:
    """Raises OSError where the shim could not even write down who it is and how its member ended."""
    path = folder / ".room"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _SHIMS_BYTES)
    finally:
        os.close(descriptor)
        path.unlink()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
