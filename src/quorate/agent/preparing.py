"""All that a member needs before its shim is told to start it: folder, user, context, secrets, image, network."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from quorate.agent import begun, hostports, leasefile, memberfolder, temporary
from quorate.agent.command import User
from quorate.agent.events import Event, Progressed
from quorate.agent.networks import NetworkError, Networks, sandbox_files
from quorate.agent.order import Order
from quorate.agent.orders import SYSTEM_FILES, InImage, Machine, Places, compose, needs_image, role_of
from quorate.agent.processes import boottime
from quorate.agent.resolver.forwarder import RESOLV_CONF
from quorate.agent.runtime.body import Granted, Image
from quorate.agent.runtime.containers import Containers
from quorate.agent.runtime.credentials import SECRET
from quorate.agent.runtime.watch import PauseWatch
from quorate.agent.secretsfolder import NoSecrets, SecretsFolder
from quorate.agent.shim.log import ShimLog
from quorate.agent.users import UserPool
from quorate.model.ids import MemberId, split_member
from quorate.model.messages import AllocationSpec, RoleSpec

#: What a shim writes of itself: who it is, what it is told, and how the member ended.
_SHIMS_BYTES = 16 << 10
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


class Preparing:
    """For all members of one agent. May be cancelled at any point; then the member is to be forgotten."""

    def __init__(
        self,
        folder: Path,
        machine: Machine,
        users: UserPool | None,
        supplies: Supplies,
        secrets: SecretsFolder,
        networks: Networks | None,
        containers: Containers | None,
        pauses: PauseWatch,
        tell: Callable[[Event], None],
        grew: Callable[[str, int], int],
        wanted: Callable[[str], bool],
    ) -> None:
        """`folder`: of all members. `wanted`: whether anybody still waits for a member."""
        self._folder = folder
        self._machine = machine
        self._users = users
        self._supplies = supplies
        self._secrets = secrets
        self._networks = networks
        self._containers = containers
        self._pauses = pauses
        self._tell = tell
        self._grew = grew
        self._wanted = wanted

    async def prepare(self, member: str, spec: AllocationSpec) -> Order:
        """What the member's shim is told, with all there that it names.

        Raises PrepareError, ContainerError, NoUserLeft, OrderError or OSError; what is there then is to be forgotten.
        """
        began = boottime()
        _, rank, _ = split_member(MemberId(member))
        role, planned = role_of(spec, member), spec.members[rank]
        folder = self._folder / member
        begun.prepare(folder)
        if role.image:
            # Who is root in a container may leave a program there that makes root of whoever runs it on this machine.
            # Its engine gets in all the same; a process does, in whose user's name alone others do.
            folder.chmod(0o700)
        user = self._users.user(spec.allocation, spec.owner) if self._users else None
        if user is not None:
            (folder / memberfolder.UID).write_text(str(user.uid))
        containers = self._containers_for(role)
        # Before anything is fetched: what is not allowed need not come.
        granted = containers.grant(role, user) if containers else None
        runs_as = granted.user if granted and os.geteuid() == 0 else user
        if spec.network is None and containers and granted:
            containers.host_network(role, granted.user)
        work = folder / memberfolder.WORK
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
            self._make_secrets_place()
        # Of all members, also of those without an image: none of the job's processes may have it.
        registries = secrets.pop(SECRET, "")
        lease = str(self._folder.parent / leasefile.NAME)
        places = Places(str(folder), str(work), str(self._secrets.of(member)), lease)
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
            self._make_secrets_place()
            places = replace(places, ssh=str(self._secrets.ssh_of(member)))
            files = {name: _text(Path(path)) for name, path in SYSTEM_FILES.items()}
            machine = replace(machine, passwd=files["passwd"], ssh_config=files["ssh_config"])
        if spec.network is None and self._networks is not None:
            await self._guard(self._networks, member, spec, runs_as.uid if runs_as else os.geteuid())
        _see_room(folder)
        return compose(member, spec, machine, places, user, secrets, boottime() - began, within)

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
            hostname=planned.name if spec.network is not None else "",
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
            if now >= told + _PROGRESS_S and self._wanted(member):
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
            early = ShimLog(str(self._folder / member / memberfolder.LOG))
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
        (self._folder / member / memberfolder.HOST_UID).write_text(str(uid))
        try:
            await networks.guard(member, spec, uid)
        except NetworkError as error:
            raise PrepareError("SANDBOX-FAILED", f"it could not be kept to its network: {error}") from error

    def _make_secrets_place(self) -> None:
        try:
            self._secrets.make()
        except NoSecrets as error:
            raise PrepareError("SECRETS-NO-MEMORY", str(error)) from error


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
