"""What a shim is to do for a member, derived from the allocation's spec and this machine; pure."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quorate.agent import devices, planning, proxy
from quorate.agent.command import User
from quorate.agent.door import Offer
from quorate.agent.proxy import Proxy
from quorate.agent.shim import Order
from quorate.launch import bootstrap, launchers
from quorate.launch.config import Configuration, ConfigurationError, Network, Preflight, Timeouts, check
from quorate.launch.config import Member as LaunchMember
from quorate.model.ids import MemberId, split_member
from quorate.model.messages import AllocationSpec, RoleSpec, SlotInfo
from quorate.network import catalogue
from quorate.network.jobplan import PortsPastTheEnd
from quorate.network.remedies import Platform

#: Of the agent's own environment, only these reach a member: where programs, libraries and the way out are.
INHERITED = (
    "PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "CUDA_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip
#: And these where members run as the agent itself, at home.
INHERITED_BY_SELF = ("HOME", "USER", "LOGNAME", "SHELL", "XDG_CACHE_HOME", "TMPDIR")
#: The folder with the member's secrets, a file each.
SECRETS_VARIABLE = "QUORATE_SECRETS"
#: Of what is left of the time that all members have to run, the part after which the barrier says who is missing.
_RENDEZVOUS_SHARE = 0.9
#: What a member runs that has nothing to run.
_WAIT = ("sleep", "infinity")
#: What the files of a member's SSH client lie over.
SYSTEM_FILES = {"ssh_config": "/etc/ssh/ssh_config", "passwd": "/etc/passwd"}


class OrderError(Exception):
    """The allocation cannot be started as it was described; the text says why."""


@dataclass(frozen=True)
class Machine:
    """What orders need to know of this machine."""

    slots: tuple[SlotInfo, ...] = ()
    #: The operator's variables for every member.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: None where members reach the outside, or nothing, by themselves.
    proxy: Proxy | None = None
    #: The agent's own environment.
    inherited: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    #: Whose commands mend the firewall here.
    platform: Platform = Platform.NFTABLES
    #: Its users, and its settings of the SSH client.
    passwd: str = ""
    ssh_config: str = ""


@dataclass(frozen=True)
class Places:
    """Where a member's things lie: its own folder, its working folder, and its secrets, which are in memory."""

    folder: str
    work: str
    secrets: str
    #: The file with the agent's lease.
    lease: str = ""
    #: Of a member with a sandbox: its network namespace, and what it sees as /etc/hosts and /etc/resolv.conf.
    netns: str = ""
    hosts: str = ""
    resolv: str = ""
    #: A folder in memory for the files of its SSH client.
    ssh: str = ""


def compose(
    member: str,
    spec: AllocationSpec,
    machine: Machine,
    places: Places,
    user: User | None,
    secrets: Mapping[str, str],
    spent_s: float = 0.0,
) -> Order:
    """The order for a member's shim, of whose start_timeout `spent_s` seconds are gone. Raises OrderError."""
    machine = _with_proxy(machine, spec)
    try:
        configuration = _configuration(member, spec, spec.start_timeout_s - spent_s, machine.platform)
        role = spec.roles.get(configuration.own.role, RoleSpec())
        environment = {**spec.environment, **role.environment}
        entrypoint = role.entrypoint or spec.entrypoint or _WAIT
        launch = launchers.derive(spec.launcher, configuration, entrypoint, environment)
        launch = bootstrap.before(launch, configuration, environment, role.bootstrap)
    except (ConfigurationError, PortsPastTheEnd, launchers.LauncherError) as error:
        raise OrderError(str(error)) from error
    held = configuration.own.slots
    return Order(
        member=member,
        folder=places.folder,
        argv=launch.argv,
        user_environment=environment,
        environment={
            **_of_machine(machine, places, user),
            **devices.visible_devices(machine.slots, held),
            **({SECRETS_VARIABLE: places.secrets} if secrets else {}),
            **launch.environment,
        },
        work=places.work,
        grace_s=spec.grace_s,
        uid=user.uid if user else None,
        gid=user.gid if user else None,
        secrets=dict(secrets),
        secrets_folder=places.secrets,
        lease=places.lease,
        stop_after_s=spec.stop_after_s,
        companion=configuration.to_json() if configuration.size > 1 else "",
        netns=places.netns,
        hosts_file=places.hosts,
        resolv_file=places.resolv,
        hostname=configuration.own.name if places.netns else "",
        ssh=_ssh(spec, configuration, machine, places, user),
    )


def _ssh(
    spec: AllocationSpec, configuration: Configuration, machine: Machine, places: Places, user: User | None
) -> Offer:
    """How the member is reached; in a private network also from the other members, and they from it."""
    offer = Offer(spec.nonce, configuration.rank, places.work)
    if not spec.ssh or not places.netns:
        return offer
    # Imported here: it takes a sixteenth of a second, and most agents' members share their hosts' network.
    from quorate.agent import sshkeys

    port = catalogue.port("ssh")
    members = [sshkeys.Named(member.name, member.address) for member in configuration.members]
    files = sshkeys.client_files(spec.nonce, members, places.ssh, port)
    # What stands first counts; the machine's own settings are for every other host.
    system = {"ssh_config": f"{files.pop(sshkeys.CONFIG)}\nHost *\n{machine.ssh_config}"}
    if user is not None and f":{user.uid}:" not in machine.passwd:
        # OpenSSH does nothing for somebody who has no name.
        entry = f"quorate:x:{user.uid}:{user.gid}:member of an allocation:{places.work}:/bin/sh\n"
        system["passwd"] = f"{machine.passwd.rstrip()}\n{entry}"
    return replace(
        offer,
        address=configuration.own.address,
        port=port,
        netns=places.netns,
        folder=places.ssh,
        files={**files, **system},
        over={f"{places.ssh}/{name}": SYSTEM_FILES[name] for name in system},
    )


def _with_proxy(machine: Machine, spec: AllocationSpec) -> Machine:
    if machine.proxy is None:
        return machine
    try:
        given = proxy.variables(machine.proxy, spec)
    except PortsPastTheEnd as error:
        raise OrderError(str(error)) from error
    return replace(machine, environment={**given, **machine.environment})


def _of_machine(machine: Machine, places: Places, user: User | None) -> dict[str, str]:
    names = INHERITED if user else INHERITED + INHERITED_BY_SELF
    found = {name: machine.inherited[name] for name in names if name in machine.inherited}
    found |= {name: value for name, value in machine.inherited.items() if name.startswith("LC_")}
    if user:
        found |= {"HOME": places.work, "SHELL": "/bin/sh"}
    # Python keeps lines back when it writes to a pipe, and a log is for watching.
    return {"PATH": os.defpath, "PYTHONUNBUFFERED": "1", **found, "PWD": places.work, **machine.environment}


def _configuration(member: str, spec: AllocationSpec, left_s: float, platform: Platform) -> Configuration:
    _, rank, incarnation = split_member(MemberId(member))
    configuration = Configuration(
        allocation=spec.allocation,
        members=tuple(
            LaunchMember(m.rank, m.role, m.index, m.name, m.address, m.agent, m.slots, dict(m.ports), m.underlay)
            for m in spec.members
        ),
        rank=rank,
        nonce=spec.nonce if len(spec.members) > 1 else "",
        incarnation=incarnation,
        network=Network(spec.network.mode) if spec.network else Network.HOST,
        timeouts=Timeouts(rendezvous_s=max(1.0, _RENDEZVOUS_SHARE * left_s)),
        preflight=Preflight(spec.preflight),
        mtu=spec.network.mtu if spec.network else 0,
    )
    if configuration.preflight is not Preflight.OFF and configuration.size > 1:
        flows = planning.probe_flows(spec, planning.plan_of(spec), platform)
        configuration = replace(configuration, flows=flows, carrier=planning.carrier(spec, platform))
    check(configuration)
    return configuration
