"""What a shim is to do for a member, derived from the allocation's spec and this machine; pure."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from quorate.agent import devices, flightrecorder, planning, proxy
from quorate.agent.command import User
from quorate.agent.order import Order
from quorate.agent.proxy import Proxy
from quorate.agent.runtime import body
from quorate.agent.ssh.door import Offer
from quorate.launch import bootstrap, launchers
from quorate.launch import environment as variables
from quorate.launch.config import Configuration, ConfigurationError, Network, Preflight, Purpose, Timeouts, check
from quorate.launch.config import Member as LaunchMember
from quorate.model.ids import MemberId, split_member
from quorate.model.messages import AllocationSpec, PlannedMember, RoleSpec, SlotInfo
from quorate.model.ports import PortRange
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
    #: Its own temporary folders, and whose place they take.
    temporary: Mapping[str, str] = field(default_factory=dict)
    #: A folder in memory for the files of its SSH client.
    ssh: str = ""


@dataclass(frozen=True)
class InImage:
    """What a member with an image has instead of the machine's own: see runtime/body.py."""

    image: body.Image
    granted: body.Granted
    setting: body.Setting


def role_of(spec: AllocationSpec, member: str) -> RoleSpec:
    """What the member runs. An allocation without roles is of equal processes."""
    planned = spec.members[split_member(MemberId(member))[1]]
    role = spec.roles.get(planned.role, RoleSpec(entrypoint=spec.entrypoint))
    return msgspec.structs.replace(role, environment={**spec.environment, **role.environment})


def needs_image(role: RoleSpec) -> str:
    """The first of a role's keys that only a container can have; empty where there is none."""
    kept = {
        "memory": role.memory_bytes, "cpus": role.cpus, "shm": role.shm_bytes, "pids": role.pids,
        "mounts": role.mounts, "devices": role.devices, "capabilities": role.capabilities, "run_as": role.run_as,
    }  # fmt: skip
    return next((key for key, value in kept.items() if value), "")


def compose(
    member: str,
    spec: AllocationSpec,
    machine: Machine,
    places: Places,
    user: User | None,
    secrets: Mapping[str, str],
    spent_s: float = 0.0,
    within: InImage | None = None,
) -> Order:
    """The order for a member's shim, of whose start_timeout `spent_s` seconds are gone. Raises OrderError."""
    machine = _with_proxy(machine, spec)
    role = role_of(spec, member)
    # What an image has set counts as the user's: nothing that is derived overrides it.
    given = {**(within.image.environment if within else {}), **role.environment}
    try:
        configuration = _configuration(member, spec, spec.start_timeout_s - spent_s, machine.platform)
        ports = planning.enforced_master_ports(spec) if within or role.bootstrap else ()
        _refuse_unplanned(given, ports, role)
        launch = _launch(spec, role, configuration, given, within, planned=bool(ports))
    except (ConfigurationError, PortsPastTheEnd, launchers.LauncherError) as error:
        raise OrderError(str(error)) from error
    if "TORCH_FR_BUFFER_SIZE" in launch.environment:
        # The launcher has switched PyTorch's flight recorder on; it knows no folder.
        recorder = flightrecorder.variables(body.WORK if within else places.work)
        launch = replace(launch, environment={**launch.environment, **recorder})
    held = configuration.own.slots
    shown = devices.visible_devices(machine.slots, held)
    offer = _ssh(spec, configuration, machine, places, user, within)
    if within is not None:
        environment = body.environment(
            {**shown, **launch.environment}, machine.environment, machine.inherited, bool(secrets)
        )
        over = {**offer.over, offer.folder: body.SSH} if offer.folder else {}
        gpus = devices.held_gpus(machine.slots, held)
        if gpus and within.setting.podman:
            # It would say nothing, and the container would have none.
            raise OrderError(
                f"it holds {len(gpus)} GPUs, and Podman gives none by its Docker-compatible socket: jobs with an image "
                "and GPUs need Docker Engine there (runtime: {socket: /run/docker.sock} in agent.yaml)"
            )
        setting = replace(within.setting, gpus=gpus, over=over)
        container = body.container(
            member, role, within.image, launch.argv, within.granted, setting, tuple(role.environment)
        )
        reader = within.granted.user.uid, within.granted.user.gid
    else:
        environment = {
            **_of_machine(machine, places, user),
            **shown,
            **({SECRETS_VARIABLE: places.secrets} if secrets else {}),
            **launch.environment,
        }
        container, reader = None, None
    return Order(
        member=member,
        folder=places.folder,
        argv=launch.argv,
        user_environment=dict(role.environment),
        environment=environment,
        work=role.workdir or places.work,
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
        temporary=dict(places.temporary),
        hostname=configuration.own.name if places.netns else "",
        ssh=offer,
        reader=reader,
        container=container,
    )


def _ssh(
    spec: AllocationSpec,
    configuration: Configuration,
    machine: Machine,
    places: Places,
    user: User | None,
    within: InImage | None,
) -> Offer:
    """How the member is reached; in a private network also from the other members, and they from it."""
    work, folder = places.work, places.ssh
    if within is not None:
        # As the member sees them: its image's own files, and ours where its container has them.
        machine = replace(machine, passwd=within.image.passwd, ssh_config=within.image.ssh_config)
        work, folder, user = body.WORK, body.SSH, within.granted.user
    offer = Offer(spec.nonce, configuration.rank, work)
    if within is not None:
        setting = within.setting
        name = body.name_of(configuration.member_id)
        role = role_of(spec, configuration.member_id)
        asked = {"memory": role.memory_bytes, "cpus": role.cpus, "pids": role.pids}
        limits = tuple(limit for limit, value in asked.items() if value)
        offer = replace(offer, container=(setting.engine, setting.api, name), limits=limits)
    if not spec.ssh or not places.netns:
        return offer
    # Imported here: it takes a sixteenth of a second, and most agents' members share their hosts' network.
    from quorate.agent.ssh import keys as sshkeys

    port = catalogue.port("ssh")
    members = [sshkeys.Named(member.name, member.address) for member in configuration.members]
    files = sshkeys.client_files(spec.nonce, members, folder, port)
    # What stands first counts; the machine's own settings are for every other host.
    system = {"ssh_config": f"{files.pop(sshkeys.CONFIG)}\nHost *\n{machine.ssh_config}"}
    if user is not None and f":{user.uid}:" not in machine.passwd:
        # OpenSSH does nothing for somebody who has no name.
        entry = f"quorate:x:{user.uid}:{user.gid}:member of an allocation:{work}:/bin/sh\n"
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


def _refuse_unplanned(given: Mapping[str, str], ports: Sequence[PortRange], role: RoleSpec) -> None:
    """Raises ConfigurationError where an image has chosen a MASTER_PORT that its allocation's plan does not know."""
    chosen = variables.chosen_port(given) if ports else None
    if chosen is not None and not any(chosen in each for each in ports):
        raise ConfigurationError(
            f"the image {role.image} sets MASTER_PORT to {chosen}, and this job's network lets {ports[0].first} pass; "
            f"write in the job's file `environment: {{MASTER_PORT: {chosen}}}`"
        )


def _launch(
    spec: AllocationSpec,
    role: RoleSpec,
    configuration: Configuration,
    given: Mapping[str, str],
    within: InImage | None,
    *,
    planned: bool,
) -> launchers.Launch:
    """`planned`: other ports than those of the plan are refused. Raises ConfigurationError or LauncherError."""
    script = within is not None and within.image.bootstrap
    # What the image runs by itself is left to the engine, unless a script has to come before it.
    command = role.entrypoint or (within.image.command if within is not None and (script or role.bootstrap) else ())
    if command:
        launch = launchers.derive(spec.launcher, configuration, command, given)
    elif within is not None:
        launch = launchers.Launch((), variables.derive(configuration, given, spec.launcher))
        if script or role.bootstrap:
            launch = replace(launch, argv=(body.WAITER,))
    else:
        launch = launchers.Launch(_WAIT, variables.derive(configuration, given, spec.launcher))
    return bootstrap.before(launch, configuration, given, role.bootstrap, script, planned)


def _of_machine(machine: Machine, places: Places, user: User | None) -> dict[str, str]:
    names = INHERITED if user else INHERITED + INHERITED_BY_SELF
    found = {name: machine.inherited[name] for name in names if name in machine.inherited}
    found |= {name: value for name, value in machine.inherited.items() if name.startswith("LC_")}
    if user:
        found |= {"HOME": places.work, "SHELL": "/bin/sh"}
    # Python keeps lines back when it writes to a pipe, and a log is for watching.
    return {"PATH": os.defpath, "PYTHONUNBUFFERED": "1", **found, "PWD": places.work, **machine.environment}


def _ports(member: PlannedMember, spec: AllocationSpec) -> dict[str, int]:
    """What the member listens on; the first of several has MASTER_PORT where everybody expects it, if not by lease."""
    first = member.rank == 0 and len(spec.members) > 1
    usual = {Purpose.MAIN: catalogue.port("master-port")} if first else {}
    return {**usual, **member.ports}


def _configuration(member: str, spec: AllocationSpec, left_s: float, platform: Platform) -> Configuration:
    _, rank, incarnation = split_member(MemberId(member))
    configuration = Configuration(
        allocation=spec.allocation,
        members=tuple(
            LaunchMember(m.rank, m.role, m.index, m.name, m.address, m.agent, m.slots, _ports(m, spec), m.underlay)
            for m in spec.members
        ),
        rank=rank,
        nonce=spec.nonce if len(spec.members) > 1 else "",
        incarnation=incarnation,
        network=Network(spec.network.mode) if spec.network else Network.HOST,
        timeouts=Timeouts(rendezvous_s=max(1.0, _RENDEZVOUS_SHARE * left_s)),
        preflight=Preflight(spec.preflight),
        fabric=spec.fabric,
    )
    if configuration.preflight is not Preflight.OFF and configuration.size > 1:
        flows = planning.probe_flows(spec, planning.plan_of(spec), platform)
        configuration = replace(configuration, flows=flows, carrier=planning.carrier(spec, platform))
    check(configuration)
    return configuration
