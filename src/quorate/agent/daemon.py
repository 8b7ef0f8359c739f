"""Starts, and ends, an agent.

SIGTERM and SIGINT end the agent alone: its members run on, and the next one finds them. SIGUSR2 (`end`) ends its
members first. Two agents never share a state folder.
"""

import logging
import os
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from quorate import __version__
from quorate.agent import lockfile, memberfolder
from quorate.agent.config import AgentConfig
from quorate.agent.lockfile import Lock
from quorate.agent.processes import Process, boot_id
from quorate.agent.zygote import Zygote

if TYPE_CHECKING:
    from quorate.agent.membership import Membership
    from quorate.agent.privilege import Privilege
    from quorate.agent.users import UserPool

log = logging.getLogger(__name__)

_LOCK = "agent.lock"
#: The previous agent is gone before its zygote is; longer than that takes.
_LOCK_WAIT_S, _LOCK_LOOK_S = 5.0, 0.02
_OPEN_FILES = 65536
_JOIN_PAUSE_S, _JOIN_LONGEST_PAUSE_S = 0.2, 10.0


class CannotStart(Exception):
    """The agent cannot start here; the text says why and what to do."""


def run(config: AgentConfig) -> int:
    """Runs an agent until it is told to end; returns the exit code. Errors for people go to the log, without traces."""
    from quorate.agent.damaged import StateDamaged
    from quorate.agent.journal import JournalFull
    from quorate.agent.membership import JoinError
    from quorate.agent.runtime.policy import Unsafe

    try:
        config.state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        if config.own_users:
            _check_passable(config.state_dir)
        _raise_file_limit()
        if config.advertise_address:
            config = config.model_copy(update={"advertise_address": _advertised(config.advertise_address)})
        lock = _lock(config.state_dir)
    except (CannotStart, OSError) as error:
        log.error("%s", error)
        return 1
    zygotes = _Zygotes(lock.fd)
    try:
        return _serve(config, zygotes.get)
    except (CannotStart, JoinError, JournalFull, StateDamaged, Unsafe) as error:
        log.error("%s", error)
        return 1
    finally:
        zygotes.close()
        lock.close()


def end(state_dir: Path, timeout_s: float = 60.0) -> bool:
    """Ends the agent of a state folder and all its members, whether the agent lives or not; False if some are left."""
    if not state_dir.is_dir():
        return True
    held = _lock_or_holder(state_dir)
    if isinstance(held, Process):
        return _end_by_itself(held, timeout_s)
    if held is None:
        log.error("%s is held by somebody who has not said so: fuser %s", state_dir / _LOCK, state_dir / _LOCK)
        return False
    try:
        _end_what_is_left(state_dir)
    finally:
        held.close()
    return True


def _end_by_itself(agent: Process, timeout_s: float) -> bool:
    """Has an agent that lives end its members, and waits for its own end; whether that came."""
    from quorate.agent.service import END_ALL_SIGNAL

    agent.kill(END_ALL_SIGNAL)
    handle = _pidfd(agent.pid)
    if handle is not None:
        import select

        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            poll.poll(timeout_s * 1000)
        finally:
            os.close(handle)
    return not agent.alive


def _end_what_is_left(state_dir: Path) -> None:
    """Of an agent that is gone, whose lock is held, so that no other one starts meanwhile."""
    from quorate.agent.leftovers import kill_all

    members = state_dir / memberfolder.ALL
    for folder in members.iterdir() if members.is_dir() else ():
        if (folder / memberfolder.EXIT).exists():
            continue
        shim = Process.kept(folder / memberfolder.IDENTITY)
        if shim is not None:
            shim.kill(signal.SIGKILL)
        kill_all(folder.name)
    _sweep_containers(state_dir)
    _sweep_networks(state_dir)


def _sweep_containers(state_dir: Path) -> None:
    from quorate.agent.runtime.containers import sweep_folder

    sweep_folder(state_dir)


def _sweep_networks(state_dir: Path) -> None:
    """Removes what an agent that is gone has left of private networks."""
    if os.geteuid() != 0:
        return
    from quorate.agent import standing
    from quorate.agent.helper.process import Taken, claim
    from quorate.agent.sandbox.network import Network
    from quorate.agent.sandbox.place import Place

    standing.sweep(state_dir)
    folder = state_dir / "network"
    if not any(folder.glob("*/*")):
        return
    try:
        lock = claim()
    except Taken as error:
        log.warning("%s is left as it is: %s", folder, error)
        return
    try:
        Network(Place(folder)).sweep()
    finally:
        lock.remove()


def _serve(config: AgentConfig, zygote: Callable[[], Zygote]) -> int:
    # The zygote is starting beside us by now.
    zygote()
    from quorate.agent.privilege import able, seek

    privilege = seek(config)
    try:
        membership = _join(config)
        usable = privilege if privilege is not None and able(privilege) else None
        return _run(config, membership, zygote, usable)
    finally:
        if privilege is not None:
            privilege.close()


def _run(
    config: AgentConfig, membership: "Membership", zygote: Callable[[], Zygote], privilege: "Privilege | None"
) -> int:
    import asyncio

    from quorate.agent.devices import find_slots, mtu_of, own_addresses
    from quorate.agent.identity import Identity
    from quorate.agent.link import Endpoint
    from quorate.agent.privilege import SANDBOX
    from quorate.agent.runtime.containers import IMAGES, seek
    from quorate.agent.service import Service, host_id
    from quorate.agent.supplies import HttpSupplies

    with _usable(config.state_dir):
        containers = seek(config, membership.agent)
    boot = boot_id()
    address = config.advertise_address or _address_towards(config.master)
    identity = Identity(
        agent=membership.agent,
        version=__version__,
        boot=boot,
        host=host_id(boot),
        address=address,
        slots=find_slots(config.slots, config.fake_slots),
        instance=secrets.token_hex(8),
        labels=dict(config.labels),
        lease_ports=config.leasable,
        features=(*((SANDBOX,) if privilege is not None else ()), *((IMAGES,) if containers is not None else ())),
        mtu=mtu_of(address),
        addresses=own_addresses(),
    )
    endpoint = Endpoint(membership.master, membership.key, membership.context())
    users = _users(config)

    async def main() -> int:
        with _usable(config.state_dir):
            supplies = HttpSupplies(endpoint, config.state_dir / "contexts")
            service = Service(config, identity, endpoint, supplies, zygote, users, privilege, containers)
        return await service.run()

    return asyncio.run(main())


@contextmanager
def _usable(state_dir: Path) -> Iterator[None]:
    """Says where it is that files cannot be read or made. Raises CannotStart."""
    try:
        yield
    except OSError as error:
        raise CannotStart(f"the state folder {state_dir} cannot be used: {error}; see ls -la {state_dir}") from error


def _users(config: AgentConfig) -> "UserPool | None":
    from quorate.agent.command import User
    from quorate.agent.users import UserPool

    if not config.own_users:
        log.warning(
            "members run as user %d, like this agent, in this machine's network: whoever may submit a job may do here "
            "what this user may",
            os.geteuid(),
        )
        return None
    owners = {owner: User(ids.uid, ids.gid) for owner, ids in config.users.owners.items()}
    return UserPool(config.users.first, config.users.last, owners)


def _join(config: AgentConfig) -> "Membership":
    """The membership; waits for a master that cannot be reached yet."""
    from quorate.agent.membership import MasterAway, establish

    pause, said = _JOIN_PAUSE_S, False
    while True:
        try:
            return establish(config)
        except MasterAway as error:
            if not said:
                log.warning("%s; trying again", error)
                said = True
            time.sleep(pause)
            pause = min(2 * pause, _JOIN_LONGEST_PAUSE_S)


def _check_passable(state_dir: Path) -> None:
    """Members under users of their own have to reach their folders. Raises CannotStart."""
    for folder in (state_dir, *state_dir.resolve().parents):
        if not folder.stat().st_mode & 0o001:
            raise CannotStart(
                f"members run as users of their own, and {folder} lets none of them through on the way to {state_dir}: "
                f"choose another state folder, chmod o+x {folder}, or let members run as this agent (--members-as self)"
            )


def _raise_file_limit() -> None:
    """Each member costs a few descriptors, and the usual limit of 1024 is for programs that use select."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _advertised(text: str) -> str:
    """The address that an operator's address or name stands for; raises CannotStart."""
    what = f"advertise_address {text!r}"
    try:
        found = str(socket.getaddrinfo(text, None, type=socket.SOCK_DGRAM)[0][4][0])
    except OSError as error:
        raise CannotStart(f"{what} cannot be looked up: {error.strerror or error}") from None
    address = ip_address(found.partition("%")[0])
    if address.is_unspecified:
        raise CannotStart(f"{what} is every address of a machine; name the one at which others reach this one")
    if address.version == 6 and address.is_link_local:
        raise CannotStart(f"{what} is an address of one link; name one at which others reach this machine")
    if address.is_loopback and text != found:
        # As Debian has a machine's own name in /etc/hosts: its peers would connect to themselves.
        raise CannotStart(f"{what} is {found} here, where no other machine reaches it; name the address itself")
    return found


def _address_towards(master: str) -> str:
    """Our address on the way to the master: a sensible default where the operator did not say."""
    parts = urlsplit(master)
    with suppress(OSError):
        family, _, _, _, address = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Sends nothing: it only asks the kernel for the route.
            probe.connect(address)
            return str(probe.getsockname()[0])
    return "127.0.0.1"


# --- one agent for a folder ------------------------------------------------------------------------------------


def _lock(state_dir: Path) -> Lock:
    """The lock on the folder, which says that it is ours. Raises CannotStart, or OSError."""
    held = _lock_or_holder(state_dir)
    if not isinstance(held, Lock):
        raise CannotStart(f"another agent {f'with pid {held.pid} ' if held else ''}uses {state_dir}")
    held.sign()
    return held


def _lock_or_holder(state_dir: Path) -> Lock | Process | None:
    """The lock on the folder, or the agent that lives and has it. None where that cannot be told for long.

    The previous agent's zygote holds it too, until all that it has forked can be found; and an agent that has taken it
    says so a moment later. So what is in the file alone never tells that nobody lives.
    """
    path = state_dir / _LOCK
    deadline = time.monotonic() + _LOCK_WAIT_S
    while (lock := lockfile.take(path)) is None:
        holder = lockfile.holder(path)
        if holder is not None and holder.alive:
            return holder
        if time.monotonic() > deadline:
            return None
        time.sleep(_LOCK_LOOK_S)
    return lock


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


class _Zygotes:
    """The zygote of the moment; one that died is replaced, and shims do not mind."""

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._zygote: Zygote | None = None

    def get(self) -> Zygote:
        if self._zygote is None or not self._zygote.alive:
            if self._zygote is not None:
                log.warning("the zygote is gone; starting another")
            self._zygote = Zygote(self._lock)
        return self._zygote

    def close(self) -> None:
        if self._zygote is not None:
            self._zygote.close()


def log_to_stderr() -> None:
    """For an agent in the foreground or under systemd, which adds the time itself."""
    format_ = (
        "%(levelname)s %(message)s" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s %(levelname)s %(message)s"
    )
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=format_)
