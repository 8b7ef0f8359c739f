"""The private networks of this agent's allocations: there before a member starts, gone when the last one is forgotten.

What is wanted is the set of members that are held, so nothing needs to be undone: whoever fails or dies on the way is
not in the set next time. The helper does the work; this says what and when, in the agent's event loop.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from quorate.agent import planning
from quorate.agent.answers import CannotAnswer, asked
from quorate.agent.helper.client import Helper, HelperAway, HelperError
from quorate.agent.helper.protocol import MAX_NETWORKS_BYTES, size_of
from quorate.agent.onhost import OnHost, host_members
from quorate.agent.resolver.client import Resolvers
from quorate.agent.sandbox import wanted
from quorate.agent.sandbox.place import Place
from quorate.agent.sandbox.planned import Rules
from quorate.agent.sandbox.spec import Desired, HubSpec, Mode, SandboxSpec, SpecError
from quorate.model.asks import Counters, OfAllocation
from quorate.model.messages import AllocationSpec, Finding
from quorate.network import catalogue

log = logging.getLogger(__name__)

#: A helper that dies is started again, by its agent at once and by systemd within a second: it is asked for so long.
_AWAY_S, _AGAIN_S = 10.0, 0.1
#: What could not be made, or removed, is tried again after this.
_REPAIR_S = 5.0
#: An agent that ends waits for its helper no longer than this; the next one clears away what was left.
_LAST_S = 10.0
_HOST = "host"
#: Of this machine's network namespace, and for both families (ip-sysctl.rst).
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class NetworkError(Exception):
    """A member's private network could not be made; the text says why."""


@dataclass(frozen=True)
class _Allocation:
    """What the members of an allocation have in common here."""

    spec: AllocationSpec
    hub: HubSpec
    rules: Rules
    #: Of the hub in a message to the helper, in bytes.
    size: int


@dataclass(frozen=True)
class _Held:
    allocation: _Allocation
    sandbox: SandboxSpec
    #: Of the sandbox in a message to the helper, in bytes.
    size: int


@dataclass
class Networks:
    """All private networks of one agent. `found` takes the findings about them as they now stand."""

    helper: Helper
    place: Place
    #: The agent's own address, between which and those of others the overlays lie.
    address: str
    found: Callable[[tuple[Finding, ...]], None]
    #: Whom members' questions for names go to, instead of the machine's own servers.
    servers: tuple[str, ...] = ()
    #: First and last UID of allocations; each has one of its own. See `guard`.
    users: tuple[int, int] | None = None
    #: Seconds between two looks at what others have changed.
    look_s: float = 30.0
    #: What all of them may take in a message to the helper.
    max_bytes: int = MAX_NETWORKS_BYTES
    _held: dict[str, _Held] = field(default_factory=dict)
    _on_host: OnHost = field(init=False)
    _allocations: dict[str, _Allocation] = field(default_factory=dict)
    _planning: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: dict[str, "asyncio.Future[None]"] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _distrust: tuple[str, ...] = ()
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)
    _resolvers: Resolvers = field(init=False)
    #: Findings by what they are about: what could not be made, what others changed, what stands in the way.
    _findings: dict[str, tuple[Finding, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._resolvers = Resolvers(self.helper, self.servers)
        self._on_host = OnHost(self.users)

    # --- what is wanted ----------------------------------------------------------------------------------------

    async def recover(
        self, living: Mapping[str, AllocationSpec], containers: Mapping[str, int], uids: Mapping[str, int]
    ) -> None:
        """Begins the work: those who live already keep their networks and rules, and everything else goes.

        `containers`: of members with an image, the process that holds their namespace. `uids`: of members in the
        host's network.
        """
        for member, spec in living.items():
            try:
                if spec.network is not None:
                    await self.hold(member, spec, containers.get(member))
                elif member in uids:
                    await self._hold_on_host(member, spec, uids[member])
            except NetworkError as error:
                log.error("member %s: %s", member, error)
        self._changed.set()
        self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._watch())]

    async def close(self, living: Collection[str]) -> None:
        """Ends the work, and leaves the networks of these members alone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._resolvers.close()
        self._held = {member: held for member, held in self._held.items() if member in living}
        self._on_host.only(living)
        self.users = self.users if living else None
        with suppress(HelperError):
            last = replace(self.helper, timeout_s=_LAST_S)
            await asyncio.to_thread(last.converge, self._desired()[0])

    async def hold(self, member: str, spec: AllocationSpec, container: int | None = None) -> Path:
        """The member has a sandbox from now on; returns the path of its namespace. Raises NetworkError."""
        try:
            allocation = await self._allocation(spec)
            held = await asyncio.to_thread(_sandboxed, allocation, member, container)
            self._refuse_what_is_too_large({**self._held, member: held})
        except (SpecError, ValueError) as error:
            self._forget(spec.allocation)
            raise NetworkError(str(error)) from error
        self._held[member] = held
        self._changed.set()
        return self.place.sandbox(member)

    async def _allocation(self, spec: AllocationSpec) -> _Allocation:
        """Made once by whoever comes first, and in a thread: of a large allocation it takes a tenth of a second.

        Raises ValueError.
        """
        async with self._planning:
            if spec.allocation not in self._allocations:
                self._allocations[spec.allocation] = await asyncio.to_thread(_planned, spec, self.address)
            return self._allocations[spec.allocation]

    def _refuse_what_is_too_large(self, held: Mapping[str, _Held]) -> None:
        """What the helper would not read would keep all the others from being made, and from being removed."""
        hubs = {each.allocation.hub.allocation: each.allocation.size for each in held.values()}
        size = sum(each.size for each in held.values()) + sum(hubs.values()) + self._on_host.size
        if size > self.max_bytes:
            raise SpecError(
                f"the private networks of this agent's {len(held)} members, of {len(hubs)} allocations, would take "
                f"{size} bytes to describe, and {self.max_bytes} are possible; give the agent fewer slots"
            )

    async def make(self, member: str, spec: AllocationSpec, container: int | None = None) -> Path:
        """Makes the member's sandbox, and its hub before it; those asked for meanwhile are made together.

        Returns the path of its namespace once packets pass. Raises NetworkError, and then the member is not held.
        """
        try:
            path = await self.hold(member, spec, container)
            await self._done(member)
        except BaseException:
            self.release(member)
            # Also where it was planned, and nobody waits any more for the member to be held.
            self._forget(spec.allocation)
            raise
        return path

    async def guard(self, member: str, spec: AllocationSpec, uid: int) -> None:
        """Has rules for a member in the host's network before it starts: it is kept from the cloud's metadata under
        whatever UID, and its allocation to its own flows and ports, as far as its UID is nobody else's.

        But for root, whom no rule can tell from the machine's own programs. Raises NetworkError.
        """
        try:
            await self._hold_on_host(member, spec, uid)
            await self._done(member)
        except BaseException:
            self.release(member)
            raise

    async def _hold_on_host(self, member: str, spec: AllocationSpec, uid: int) -> None:
        try:
            async with self._planning:
                members = self._on_host.known(spec.allocation)
                if members is None:
                    agent = spec.members[wanted.rank_of(spec, member)].agent
                    members = await asyncio.to_thread(host_members, spec, agent, _ephemeral())
            ports = spec.members[wanted.rank_of(spec, member)].ports.values()
            self._on_host.hold(member, uid, members, told=spec.hosts is not None, ports=ports)
            self._refuse_what_is_too_large(self._held)
        except ValueError as error:
            self._on_host.release(member)
            raise NetworkError(str(error)) from error
        self._changed.set()

    async def _done(self, member: str) -> None:
        """Once what is wanted of the member is there. Raises NetworkError."""
        done = self._waiting[member] = asyncio.get_running_loop().create_future()
        try:
            await done
        finally:
            self._waiting.pop(member, None)

    def release(self, member: str) -> None:
        """Nobody needs the member's sandbox any more; with the last one its hub goes."""
        held, on_host = self._held.pop(member, None), self._on_host.release(member)
        if held is not None:
            self._forget(held.allocation.hub.allocation)
        if held is not None or on_host:
            self._changed.set()

    def _forget(self, allocation: str) -> None:
        """What members of the allocation had in common, unless one is left."""
        if not self._holds(allocation):
            self._allocations.pop(allocation, None)

    def _holds(self, allocation: str) -> bool:
        return any(held.allocation.hub.allocation == allocation for held in self._held.values())

    # --- what is there -----------------------------------------------------------------------------------------

    async def answer(self, body: Any) -> Any:
        """To the question NETWORK: what passed between the allocation's members here, and what was refused."""
        allocation = asked(OfAllocation, body).allocation
        on_host = self._on_host.known(allocation)
        if on_host is not None and on_host.mode is Mode.OFF:
            raise CannotAnswer("its members share this machine's network, and network.enforcement is off")
        if on_host is None and not self._holds(allocation):
            return Counters()
        try:
            counted = await asyncio.to_thread(self.helper.counters, allocation)
        except HelperError as error:
            raise CannotAnswer(str(error)) from error
        return counted if on_host is None else self._on_host.attributed(allocation, counted, self.address)

    # --- the work ----------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            waiting = dict(self._waiting)
            try:
                failures = await self._converge()
            except HelperError as error:
                failures = {_HOST: str(error)}
            except Exception as error:
                # A mistake of ours. Who ended on it would leave all that come later waiting for ever.
                log.exception("private networks could not be looked at")
                failures = {_HOST: f"a mistake in the agent itself, which its log shows: {error!r}"}
            for member, done in waiting.items():
                if done.done():
                    continue
                allocation = self._held[member].allocation.hub.allocation if member in self._held else ""
                why = failures.get(member) or failures.get(allocation) or failures.get(_HOST)
                if why is None:
                    done.set_result(None)
                else:
                    done.set_exception(NetworkError(why))
            self._tell("unfiltered", self._on_host.unfiltered())
            self._tell("failed", tuple(_failed(whose, why) for whose, why in failures.items() if whose not in waiting))
            if failures:
                asyncio.get_running_loop().call_later(_REPAIR_S, self._changed.set)

    async def _converge(self) -> dict[str, str]:
        """Everything as it is wanted now; why not, by member, allocation or `host`. Raises HelperError."""
        desired, refused = self._desired()
        distrust, self._distrust = self._distrust, ()
        self._resolvers.only({hub.allocation for hub in desired.hubs})
        deadline = time.monotonic() + _AWAY_S
        while True:
            try:
                done = await asyncio.to_thread(self.helper.converge, desired, distrust)
                break
            except HelperAway:
                if time.monotonic() > deadline:
                    self._distrust = distrust
                    raise
                await asyncio.sleep(_AGAIN_S)
        for step in done.steps:
            log.info("network: %s", step)
        failures = {**refused, **done.failures}
        made = {step.split()[1] for step in done.steps if step.startswith("make-hub ")}
        specs = {held.allocation.hub.allocation: held.allocation.spec for held in self._held.values()}
        hubs = {hub.allocation: hub for hub in desired.hubs if hub.allocation not in failures}
        failures |= await self._resolvers.keep(
            {allocation: (hub, specs[allocation]) for allocation, hub in hubs.items() if allocation in specs}, made
        )
        return failures

    def _desired(self) -> tuple[Desired, dict[str, str]]:
        desired, refused = wanted.together(
            {member: (held.allocation.hub, held.sandbox) for member, held in self._held.items()}
        )
        chosen, on_host = self._on_host.chosen, self._on_host.members()
        return msgspec.structs.replace(desired, users=self.users, chosen=chosen, on_host=on_host), refused

    # --- what others do ----------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.look_s)
            try:
                await self.look()
            except HelperError:
                # The next attempt to make anything says so.
                continue
            except Exception:
                log.exception("what others have changed could not be looked at")

    async def look(self) -> None:
        """Says which rules somebody has changed and whose stand in the way; has made anew whatever is changed or gone.

        Raises HelperError.
        """
        drifted = await asyncio.to_thread(self.helper.drift)
        self._tell("drift", tuple(map(_drifted, drifted)))
        if drifted:
            self._distrust = tuple(dict.fromkeys((*self._distrust, *drifted)))
        self._changed.set()
        # Who has no hub sends nothing through them.
        obstacles = await asyncio.to_thread(self.helper.obstacles) if self._held else ()
        self._tell(
            "obstacles",
            tuple(
                Finding(
                    "NET-OBSTACLE", "warning", "Another program's rules keep members from the outside",
                    f"{obstacle} lets through only what it names", obstacle.remedy,
                )
                for obstacle in obstacles
            ),
        )  # fmt: skip

    def _tell(self, about: str, findings: tuple[Finding, ...]) -> None:
        if findings != self._findings.get(about, ()):
            for found in findings:
                log.warning("%s: %s: %s", found.code, found.title, found.evidence)
            self._findings[about] = findings
            self.found(tuple(found for kind in self._findings.values() for found in kind))


def _planned(spec: AllocationSpec, underlay: str) -> _Allocation:
    """Raises ValueError."""
    hub = wanted.hub_of(spec, underlay)
    return _Allocation(spec, hub, Rules.of(planning.plan_of(spec)), size_of(hub))


def _sandboxed(allocation: _Allocation, member: str, container: int | None) -> _Held:
    """Raises ValueError."""
    spec = allocation.spec
    rules = allocation.rules.at(spec.members[wanted.rank_of(spec, member)].address)
    sandbox = wanted.sandbox_of(spec, member, rules, container)
    return _Held(allocation, sandbox, size_of(sandbox))


def _ephemeral() -> tuple[int, int]:
    try:
        first, last = map(int, _EPHEMERAL.read_text().split())
    except (OSError, ValueError):
        return catalogue.EPHEMERAL.first, catalogue.EPHEMERAL.last
    return first, last


def _failed(whose: str, why: str) -> Finding:
    return Finding(
        "SANDBOX-FAILED", "error", "A private network is not as it should be", f"{whose}: {why}",
        "quorate doctor agent  # there, says what this machine lacks",
    )  # fmt: skip


def _drifted(name: str) -> Finding:
    where = {"host": "this machine's table inet quorate"}.get(name, name)
    return Finding(
        "NET-DRIFT", "warning", "Somebody changed the rules", f"{where} was not as it was loaded",
        "nothing: it was loaded again; find out who changes it: nft monitor",
    )  # fmt: skip


def sandbox_files(spec: AllocationSpec, folder: Path, of_host: str) -> tuple[Path, Path]:
    """Writes what the member sees as /etc/hosts and /etc/resolv.conf. Raises OSError."""
    hosts, resolv = folder / "hosts", folder / "resolv.conf"
    for path, text in ((hosts, wanted.hosts_file(spec)), (resolv, wanted.resolv_file(spec, of_host))):
        path.write_text(text)
        path.chmod(0o644)
    return hosts, resolv


#: What an agent without networks says of its members, all of whom share this machine's.
NO_RULES = Finding(
    "NET-UNFILTERED",
    "warning",
    "Members are not filtered here",
    "this agent makes no rules, so members share this machine's network, with the cloud's metadata; its log says why",
    "an agent that is root, with a user for each allocation, and nftables  # quorate doctor agent says what it lacks",
)


async def no_counters(_: Any) -> Any:
    """The answer to NETWORK of an agent without private networks."""
    raise CannotAnswer("members share this machine's network, where nothing of theirs is counted; its log says why")
