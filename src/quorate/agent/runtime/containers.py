"""The containers of one agent: its engine, images, pause containers, and what nobody wants any more.

Blocking calls go to threads. Everything of ours carries labels, and the engine's state is looked at, never remembered.
"""

import asyncio
import json
import logging
import os
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

from quorate.agent.command import User
from quorate.agent.config import AgentConfig
from quorate.agent.processes import Process, process
from quorate.agent.runtime import body, credentials, engineproxy, mounts, pause, policy, pull, waiter
from quorate.agent.runtime.engine import Engine, EngineError, EngineUnreachable, Json, find
from quorate.agent.runtime.references import Reference
from quorate.agent.runtime.secretimages import SecretImages
from quorate.model.image import Pull
from quorate.model.messages import Finding, RoleSpec

log = logging.getLogger(__name__)

#: Hello.features: this agent runs members in containers.
IMAGES: Final = "images"
#: In the agent's state folder: which engine its containers are in, for whoever clears up after it.
ENGINE_FILE: Final = "engine"
_WAITER, _PAUSE_FILE, _SECRET_IMAGES = "wait", "pause.json", "secret-images.json"
#: The engine takes three layers of each at once; more images would only come one slower than the other.
_PULLS_AT_ONCE = 8
#: Of so many images, what was found in them is kept, and the longest unused one goes.
_IMAGES_KNOWN = 32
#: An engine that is away when something has to be removed is asked again after this.
_AGAIN_S = 5.0
#: One that is away when a member comes is waited for: it is restarted in seconds, and a job whose members failed there
#: at once would have used up all its attempts by then.
_PATIENCE_S, _ASK_AGAIN_S = 60.0, 0.5


class ContainerError(Exception):
    """A member's container cannot be had; code of the finding and a sentence."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass
class Containers:
    """Made once the engine is known; see `seek`."""

    engine: Engine
    folder: Path
    labels: Mapping[str, str]
    policy: policy.Policy
    #: Docker's configuration file, with credentials for registries.
    config: Path | None
    #: Whether the engine has an init for containers.
    init: bool = True
    #: The operator's HTTP proxy, which the engine should use too; empty for none.
    proxy: str = ""
    #: Seconds between two looks at what belongs to nobody.
    look_s: float = 30.0
    _pulling: dict[str, "_Pull"] = field(default_factory=dict)
    #: Pause containers that were asked for, by their members.
    _pausing: dict[str, "asyncio.Task[pause.Pause]"] = field(default_factory=dict)
    #: By an image's id, what is found in it.
    _look: Callable[[str], dict[str, str | None]] = field(init=False)
    #: Of pulls alone: a registry that trickles must not keep what removes containers waiting.
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_PULLS_AT_ONCE, thread_name_prefix="pull")
    )
    _secret_images: SecretImages = field(init=False)

    def __post_init__(self) -> None:
        self._secret_images = SecretImages(self.folder / _SECRET_IMAGES)
        look = partial(self.engine.files, paths=body.LOOKED_AT, labels=self.labels)
        self._look = lru_cache(_IMAGES_KNOWN)(look)

    @property
    def stage(self) -> str:
        """Where mounts are prepared for this agent's members, and for no other one's."""
        return mounts.stage_of(str(self.folder))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with what the agent keeps of its engine."""
        return self._secret_images.findings

    # --- images ------------------------------------------------------------------------------------------------

    async def image(self, role: RoleSpec, secret: str, tell: Callable[[str], None]) -> body.Image:
        """The role's image, pulled where it has to be; `tell` hears sentences meanwhile. Raises ContainerError."""
        reference = self.allowed(role)
        try:
            found = await self._patiently(partial(pull.present, self.engine, reference), tell)
            closed = found is not None and self._secret_images.closed(found, secret)
            if role.pull == Pull.NEVER and (found is None or closed):
                raise _not_to_be_asked_for(reference, closed)
            if found is None or closed or role.pull == Pull.ALWAYS:
                await self._pull(reference, secret, tell)
                found = await asyncio.to_thread(pull.present, self.engine, reference)
            if found is None:
                raise ContainerError(
                    "IMAGE-NOT-FOUND", f"the engine has pulled {reference}, and has nothing of that name"
                )
            return body.Image.read(found, await asyncio.to_thread(self._look, found["Id"]))
        except (pull.PullError, EngineError) as error:
            detour = await asyncio.to_thread(self.detour) if error.code == pull.FAILED else None
            raise ContainerError(error.code, f"{error}; {detour}" if detour else str(error)) from error
        except credentials.CredentialsError as error:
            raise ContainerError("IMAGE-PULL-DENIED", f"{reference} could not be asked for: {error}") from error

    async def _patiently(self, ask: Callable[[], Json | None], tell: Callable[[str], None]) -> Json | None:
        """The engine's answer, for which it may be waited until it is back. Raises EngineError."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE_S
        told = False
        while True:
            try:
                return await asyncio.to_thread(ask)
            except EngineUnreachable as error:
                if loop.time() >= until:
                    raise
                if not told:
                    tell(f"waits for its engine: {error}")
                told = True
            await asyncio.sleep(_ASK_AGAIN_S)

    def allowed(self, role: RoleSpec) -> Reference:
        """The role's image. Raises ContainerError where the operator's file does not let it in."""
        try:
            return self.policy.image(role.image)
        except policy.Forbidden as error:
            raise ContainerError("POLICY-FORBIDS", str(error)) from error

    def grant(self, role: RoleSpec, user: User | None) -> body.Granted:
        """What of the role's wishes the operator's file allows. Raises ContainerError for the first it does not."""
        try:
            return body.Granted(
                self.policy.user(role.run_as, user),
                self.policy.mounts(role.mounts),
                self.policy.devices(role.devices),
                self.policy.capabilities(role.capabilities),
            )
        except policy.Forbidden as error:
            raise ContainerError("POLICY-FORBIDS", str(error)) from error

    def detour(self) -> engineproxy.Detour | None:
        """What is wrong with the engine's proxy; None where nothing is known to be. Blocks."""
        try:
            return detour(self.engine, self.proxy)
        except EngineError:
            return None

    async def _pull(self, reference: Reference, secret: str, tell: Callable[[str], None]) -> None:
        # Members of one allocation come together and need one pull; another job's secret must not open this one's.
        key = f"{reference} {secret}"
        running = self._pulling.get(key)
        if running is None:
            running = self._pulling[key] = _Pull(reference)
            running.task = asyncio.create_task(self._run_pull(running, secret))
        running.listeners.append(tell)
        try:
            tell(running.sentence)
            await asyncio.shield(running.task)
        finally:
            running.listeners.remove(tell)
            if not running.listeners:
                # Nobody can join it any more: whoever comes now begins anew.
                del self._pulling[key]
                running.end()

    async def _run_pull(self, running: "_Pull", secret: str) -> None:
        loop = asyncio.get_running_loop()

        def tell(percent: int) -> None:
            loop.call_soon_threadsafe(running.progressed, percent)

        await loop.run_in_executor(self._threads, self._fetch, running.reference, secret, tell, running.line)

    def _fetch(self, reference: Reference, secret: str, tell: Callable[[int], None], line: pull.Line) -> None:
        theirs = credentials.credentials(reference, None, secret)
        known = theirs or credentials.credentials(reference, self.config)
        before = pull.present(self.engine, reference)
        open_before = before["Id"] if before is not None and not self._secret_images.closed(before, "") else ""
        # What others may have fetched with a secret, or fetch right now, this job must get from the registry itself.
        ask_first = ":" in reference.tag and not open_before
        if theirs:
            self._secret_images.coming(reference)
        try:
            pull.pull(self.engine, reference, known, tell, line, ask_first=ask_first)
            found = pull.present(self.engine, reference)
        except (pull.PullError, EngineError):
            if theirs:
                self._secret_images.failed(reference)
            raise
        if found is None:
            return
        if not theirs:
            self._secret_images.public(reference, found["Id"])
        elif found["Id"] == open_before:
            self._secret_images.failed(reference)
        else:
            self._secret_images.came(reference, found["Id"], secret)

    # --- pause containers --------------------------------------------------------------------------------------

    async def pause(self, member: str, hostname: str, folder: Path) -> pause.Pause:
        """The member's, which runs. Raises ContainerError."""
        # First a sign that there may be one: whoever is interrupted from here on leaves something to be cleared away.
        (folder / _PAUSE_FILE).touch()
        making = asyncio.to_thread(pause.ensure, self.engine, member, hostname, self.labels, self.waiter())
        made_there = asyncio.create_task(making)
        self._pausing[member] = made_there
        try:
            # A thread cannot be cancelled, so neither is its task: `forget` waits for it.
            made = await asyncio.shield(made_there)
        except EngineError as error:
            raise ContainerError(error.code, f"its network could not be held: {error}") from error
        if (identity := process(made.pid)) is not None:
            (folder / _PAUSE_FILE).write_text(json.dumps(asdict(identity)))
        return made

    # --- what is left ------------------------------------------------------------------------------------------

    async def ended(self, member: str) -> None:
        """Nothing of the member's own container is left when this returns; an engine that is away is waited for."""

        def work() -> None:
            self.engine.remove(body.name_of(member))
            # A shim that was killed has left there what it was about to mount.
            self._unstage(lambda name: name != body.name_of(member))

        await self._surely(work, member)

    async def forget(self, member: str) -> None:
        """The same of its pause container."""
        if (pausing := self._pausing.pop(member, None)) is not None:
            await asyncio.wait([pausing])

        def work() -> None:
            self.engine.remove(body.name_of(member))
            pause.remove(self.engine, member)

        await self._surely(work, member)

    async def sweep(self, wanted: Collection[str]) -> None:
        """Removes all of ours that belongs to no member of `wanted`; nothing else is touched."""

        def work() -> None:
            for name in sweep(self.engine, self._ours, wanted):
                log.warning("container %s belonged to no member and is removed", name)
            self._unstage(lambda name: name.removeprefix(body.NAME) in wanted)

        try:
            await asyncio.to_thread(work)
        except EngineError as error:
            log.warning("containers could not be looked at: %s", error)

    async def keep_swept(self, wanted: Callable[[], Collection[str]]) -> None:
        """Removes again and again what has come to belong to no member, until it is cancelled.

        An engine that was away, or slow, may have what whoever asked for it has not lived to remove.
        """

        def work() -> None:
            found = [one for one in self.engine.containers(self._ours) if body.LABEL_MEMBER in one["Labels"]]
            # In this order: of who came after the look nothing was seen by it.
            for name in remove(self.engine, found, wanted()):
                log.warning("container %s belonged to no member and is removed", name)

        while True:
            await asyncio.sleep(self.look_s)
            with suppress(EngineError):
                await asyncio.to_thread(work)

    @property
    def _ours(self) -> dict[str, str]:
        return {body.LABEL_FOLDER: str(self.folder)}

    def _unstage(self, wanted: Callable[[str], bool]) -> None:
        """Removes what is staged for containers that are not wanted, by their names."""
        try:
            if os.geteuid() == 0:
                mounts.forget(self.engine.path, self.stage, wanted)
        except mounts.MountError as error:
            log.warning("mounts may be left: %s", error)

    async def _surely(self, work: Callable[[], None], member: str) -> None:
        said = False
        while True:
            try:
                await asyncio.to_thread(work)
                return
            except EngineError as error:
                if not said:
                    log.warning(
                        "a container of member %s could not be removed, and it is tried again: %s", member, error
                    )
                    said = True
                await asyncio.sleep(_AGAIN_S)

    # --- what an order needs --------------------------------------------------------------------------------------

    def host_network(self, role: RoleSpec, user: User) -> None:
        """Raises ContainerError where a member with an image may not be in this machine's network as it is."""
        try:
            self.policy.host_network(role, user)
        except policy.Forbidden as error:
            raise ContainerError("POLICY-FORBIDS", str(error)) from error

    def setting(
        self,
        member: str,
        *,
        work: str,
        network: str,
        hostname: str,
        secrets: str,
        hosts_file: str,
        resolv_file: str,
        context: bool,
    ) -> body.Setting:
        """Raises ContainerError."""
        return body.Setting(
            engine=self.engine.path,
            api=self.engine.api,
            podman=self.engine.is_podman,
            labels={**self.labels, body.LABEL_MEMBER: member},
            work=work,
            waiter=self.waiter(),
            stage=self.stage,
            network=network,
            # With Docker, who joins a container's network has its name, and may say no other.
            hostname=hostname if self.engine.is_podman else "",
            secrets=secrets,
            hosts_file=hosts_file,
            resolv_file=resolv_file,
            init=self.init,
            context=context,
        )

    def waiter(self) -> str:
        """The file of the program that waits: for pause containers, and an image with nothing to run.

        Raises ContainerError.
        """
        path = self.folder / _WAITER
        try:
            content = waiter.program(platform.machine())
        except waiter.NoWaiter as error:
            raise ContainerError("ENGINE-FAILED", str(error)) from error
        if not path.exists() or path.read_bytes() != content:
            new = path.with_suffix(".new")
            new.write_bytes(content)
            new.chmod(0o755)
            new.rename(path)
        return str(path)


@dataclass
class _Pull:
    reference: Reference
    task: "asyncio.Task[None]" = field(init=False)
    line: pull.Line = field(default_factory=pull.Line)
    listeners: list[Callable[[str], None]] = field(default_factory=list)
    percent: int = 0

    @property
    def sentence(self) -> str:
        return f"pulling {self.reference}: {self.percent} %"

    def end(self) -> None:
        """Stops it where it is still under way, or has not begun."""
        self.line.hang_up()
        self.task.cancel()

    def progressed(self, percent: int) -> None:
        self.percent = percent
        for tell in self.listeners:
            tell(self.sentence)


def _not_to_be_asked_for(reference: Reference, closed: bool) -> ContainerError:
    why = "may have come to this machine with another job's secret" if closed else "is not on this machine"
    return ContainerError("IMAGE-NOT-FOUND", f"{reference} {why}, and pull: never forbids to ask for it")


def seek(config: AgentConfig, agent: str) -> Containers | None:
    """The engine of this machine; None, with a line in the log, where there is none. Blocks; raises policy.Unsafe."""
    folder, wanted = config.state_dir.resolve(), config.runtime.socket
    try:
        engine = find(wanted)
        said = engine.info()
    except EngineError as error:
        log.log(logging.WARNING if wanted else logging.INFO, "members can have no image: %s", error)
        return None
    log.info("members with an image run in containers of %s at %s", engine.name, engine.path)
    (folder / ENGINE_FILE).write_text(engine.path)
    labels = {body.LABEL_CLUSTER: config.master, body.LABEL_AGENT: agent, body.LABEL_FOLDER: str(folder)}
    home = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    allowed = policy.Policy(config.allow)
    credentials_file, proxy = config.runtime.docker_config or home, config.proxy.url if config.proxy else ""
    init = engine.is_podman or _has_init(said)
    found = Containers(engine, folder, labels, allowed, credentials_file, init, proxy, config.drift_check_s)
    if wrong := found.detour():
        log.warning("%s", wrong)
    return found


def detour(engine: Engine, proxy: str) -> engineproxy.Detour | None:
    """Why the engine does not pull by this proxy; None where it does, or there is none. Blocks; raises EngineError."""
    if not proxy:
        return None
    service = "podman" if engine.is_podman else "docker"
    return engineproxy.otherwise(proxy, engine.info(), service)


def _has_init(said: Json) -> bool:
    # Docker names its init whether it is there or not, and only the commit tells. Podman never tells (container.py).
    return bool(said.get("InitBinary")) and (said.get("InitCommit") or {}).get("ID") != "N/A"


def sweep(engine: Engine, ours: Mapping[str, str], wanted: Collection[str]) -> tuple[str, ...]:
    """Removes whatever carries the labels `ours` and belongs to no member of `wanted`; returns the names of those.

    Blocks. Raises EngineError.
    """
    return remove(engine, engine.containers(ours), wanted)


def remove(engine: Engine, found: Sequence[Json], wanted: Collection[str]) -> tuple[str, ...]:
    """The same, of these containers."""
    # A member's container before the pause container whose namespace it is in.
    found = sorted(found, key=lambda one: one["Labels"].get(body.LABEL_KIND) == pause.KIND)
    gone = [one for one in found if one["Labels"].get(body.LABEL_MEMBER) not in wanted]
    for one in gone:
        engine.remove(one["Id"])
    return tuple(one["Names"][0].lstrip("/") for one in gone if one.get("Names"))


def sweep_folder(folder: Path) -> None:
    """Removes all containers of an agent that is gone for good. Blocks; what cannot be removed is told in the log."""
    file = folder / ENGINE_FILE
    try:
        engine, ours = Engine.at(file.read_text()), str(folder.resolve())
        sweep(engine, {body.LABEL_FOLDER: ours}, ())
        if os.geteuid() == 0:
            mounts.remove(engine.path, mounts.stage_of(ours))
    except FileNotFoundError:
        return
    except (EngineError, mounts.MountError, OSError, ValueError) as error:
        log.warning("containers may be left (%s has the path of their engine): %s", file, error)


def is_held(folder: Path) -> bool:
    """Whether the member of this folder has, or had, a pause container."""
    return (folder / _PAUSE_FILE).exists()


def pause_pid(folder: Path) -> int | None:
    """The process that holds the network of the member of this folder; None where there is none (any more)."""
    kept = Process.kept(folder / _PAUSE_FILE)
    return kept.pid if kept is not None and kept.alive else None
