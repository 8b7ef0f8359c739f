"""Every flow that the platform or a framework uses, and every one that must fail: here alone a port is decided."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from types import MappingProxyType

from quorate.model.ports import PortRange
from quorate.network.flows import (
    Elsewhere,
    Encryption,
    Flow,
    ForbiddenFlow,
    Listener,
    NetworkMode,
    PortKind,
    Ports,
    Role,
    Transport,
    When,
    between,
    declared,
    every_port,
    fixed,
    leased,
    window,
)

# The documents that state the flows, as the docs cite them.
QUORATE = "Quorate"
DETERMINED_FIREWALL = "Determined docs, firewall-rules page"
DETERMINED_NETWORK = "Determined docs, network requirements"
DETERMINED_GCP = "Determined docs, dynamic agents on GCP"
DETERMINED_CODE = "Determined source, master/pkg/tasks/task.go"
BACKENDAI = "Backend.AI docs, cluster networking"
ADS = "Oracle ADS docs, distributed training configuration"
ADS_SAMPLES = "Oracle's distributed-training artifacts, ray v1"
TORCH = "PyTorch docs, torchrun"
DEEPSPEED = "DeepSpeed source, deepspeed/constants.py"
NCCL_DOCS = "NCCL user guide, networking troubleshooting"
HOROVOD = "Horovod source, runner/common/util/network.py"
VXLAN_RFC = "RFC 7348"
RAY = "Ray docs, configuring Ray"
BACKENDAI_CODE = "Backend.AI source, sample configurations"
SWARM = "Docker docs, swarm mode"
NCCL_SOURCE = "NCCL source, src/ras/ras_internal.h"
CLOUD_GUIDES = "AWS, GCP and OCI docs, instance metadata"
OCI_GUIDE = "OCI docs, attaching block volumes by iSCSI"
ROCE = "InfiniBand architecture, annex A17"


#: The kernel's default for ports that connections are opened from (net.ipv4.ip_local_port_range, ip-sysctl.rst).
EPHEMERAL = PortRange(32768, 60999)
#: The same of people's machines: Linux, or macOS and Windows with the dynamic ports of RFC 6335 (49152-65535).
EPHEMERAL_OF_PEOPLE = PortRange(32768, 65535)
#: A machine's own DHCP client, in no plan: IP version, its port and the servers' (RFC 2131, 4.1; RFC 8415, 7.2).
DHCP = ((4, 68, 67), (6, 546, 547))


class UnknownFlow(LookupError):
    """There is no flow of that name; the message names the nearest."""

    def __init__(self, name: str) -> None:
        near = difflib.get_close_matches(name, [*FLOWS, *FORBIDDEN], n=1)
        super().__init__(f"no flow is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def _when(**conditions: str) -> When:
    """Read conditions written as words: `_when(launchers="torch deepspeed")`."""
    split = {name: frozenset(words.split()) for name, words in conditions.items()}
    modes = frozenset(NetworkMode(word) for word in split.pop("modes", frozenset()))
    return When(modes=modes, **split)


def _between_members(
    name: str,
    ports: Ports,
    purpose: str,
    stated_by: str,
    *,
    when: When,
    encryption: Encryption = Encryption.NONE,
    listener: Listener = Listener.EVERY,
) -> Flow:
    ends = (Role.MEMBER, Role.MEMBER)
    return Flow(name, *ends, Transport.TCP, ports, purpose, stated_by, when, encryption, listener)


def _to_outside(role: Role, name: str, port: int, purpose: str, stated_by: str, *, when: When) -> Flow:
    return Flow(name, Role.AGENT, role, Transport.TCP, fixed(port), purpose, stated_by, when, Encryption.TLS)


_SEVERAL = _when(features="several-members")
_TRAINING_SDK = _when(features="sdk several-members")

_TO_MASTER = (
    Flow("api", Role.USER, Role.MASTER, Transport.TCP, fixed(8080, setting="master.port"),
         "API and web UI", DETERMINED_FIREWALL, _when(features="plain")),
    Flow("api-tls", Role.USER, Role.MASTER, Transport.TCP, fixed(8443, setting="master.port"),
         "API and web UI", DETERMINED_FIREWALL, _when(features="tls"), Encryption.TLS),
    Flow("apps", Role.USER, Role.MASTER, Transport.TCP, fixed(8081, setting="master.apps_port"),
         "notebooks, TensorBoard and other proxied apps", QUORATE, _when(features="plain apps")),
    Flow("apps-tls", Role.USER, Role.MASTER, Transport.TCP, fixed(8444, setting="master.apps_port"),
         "notebooks, TensorBoard and other proxied apps", QUORATE,
         _when(features="tls apps"), Encryption.TLS),
    Flow("agent-link", Role.AGENT, Role.MASTER, Transport.TCP, fixed(8080, setting="master.port"),
         "agents' control, log and stream connections", DETERMINED_FIREWALL, _when(features="plain")),
    Flow("agent-link-tls", Role.AGENT, Role.MASTER, Transport.TCP, fixed(8443, setting="master.port"),
         "agents' control, log and stream connections", DETERMINED_FIREWALL, _when(features="tls"),
         Encryption.TLS),
)  # fmt: skip

_PLATFORM = (
    _between_members("rendezvous", fixed(1734), "rendezvous and preflight of an allocation", DETERMINED_FIREWALL,
                     when=_SEVERAL),
    _between_members("watch", fixed(1750), "members tell each other that one has failed", DETERMINED_FIREWALL,
                     when=_SEVERAL),
    _between_members("ssh", fixed(12350), "SSH between members", DETERMINED_FIREWALL,
                     when=_when(features="ssh several-members"), encryption=Encryption.SSH),
    _between_members("gloo-rendezvous", fixed(12355), "Gloo rendezvous of launchers that have no port of their own",
                     DETERMINED_FIREWALL, when=_when(launchers="horovod mpi", features="several-members"),
                     listener=Listener.FIRST),
    _between_members("control-1", fixed(12360), "control messages of the training SDK: the chief publishes",
                     DETERMINED_CODE, when=_TRAINING_SDK, listener=Listener.FIRST),
    _between_members("control-2", fixed(12365), "control messages of the training SDK: the chief collects",
                     DETERMINED_CODE, when=_TRAINING_SDK, listener=Listener.FIRST),
    _between_members("open", every_port(), "anything between the members of one allocation", BACKENDAI,
                     when=_when(features="open several-members"), encryption=Encryption.OPTIONAL),
    Flow("open-udp", Role.MEMBER, Role.MEMBER, Transport.UDP, every_port(),
         "anything between the members of one allocation", BACKENDAI, _when(features="open several-members"),
         Encryption.OPTIONAL),
    _between_members("declared", declared(), "ports that the job declares itself", QUORATE,
                     when=_when(features="declared several-members"), encryption=Encryption.OPTIONAL),
    Flow("vxlan", Role.AGENT, Role.AGENT, Transport.UDP, fixed(4789, setting="network.vxlan_port"),
         "overlay networks of allocations that span agents", VXLAN_RFC, _when(modes="overlay")),
    _between_members("leased", leased(20000, 28999, setting="network.lease_range"),
                     "ports leased to allocations in the host's network, where the canonical one is taken", QUORATE,
                     when=_when(modes="host")),
)  # fmt: skip

_FRAMEWORKS = (
    _between_members("torch-rendezvous", fixed(29400), "torchrun's rendezvous", TORCH,
                     when=_when(launchers="torch", features="several-members"), listener=Listener.FIRST),
    _between_members("deepspeed-rendezvous", fixed(29500), "DeepSpeed's rendezvous", DEEPSPEED,
                     when=_when(launchers="deepspeed", features="several-members"), listener=Listener.FIRST),
    _between_members("master-port", fixed(29500), "MASTER_PORT as every member sees it", BACKENDAI,
                     when=_when(kinds="cluster train command", launchers="none", features="several-members"),
                     listener=Listener.FIRST),
    _between_members("tf-config", fixed(29500, per_rank=True), "a TensorFlow server for each rank, as TF_CONFIG says",
                     BACKENDAI, when=_when(kinds="cluster train command", launchers="none",
                                           features="several-members")),
    _between_members("tensorflow", fixed(12345), "TensorFlow workers", ADS,
                     when=_when(launchers="tensorflow", features="several-members")),
    _between_members("gloo", window(EPHEMERAL, setting="network.gloo_port_range"),
                     "Gloo between ranks, on ports that the kernel picks", DETERMINED_GCP,
                     when=_when(launchers="torch deepspeed", features="several-members"),
                     encryption=Encryption.OPTIONAL),
    _between_members("nccl", window(EPHEMERAL, setting="network.nccl_port_range"),
                     "NCCL between GPUs, on ports that the kernel picks", NCCL_DOCS,
                     when=_when(launchers="torch deepspeed", features="several-members gpu")),
    _between_members("torch-store", window(EPHEMERAL, setting="network.window"),
                     "torchrun's second store, on a port that the kernel picks", TORCH,
                     when=_when(launchers="torch deepspeed", features="several-members"), listener=Listener.FIRST),
    _between_members("horovod", every_port(), "Horovod's driver, tasks and Gloo, which bind random ports", HOROVOD,
                     when=_when(launchers="horovod", features="several-members")),
    _between_members("mpi", window(EPHEMERAL, setting="network.window"),
                     "Open MPI between ranks and daemons, on ports that the kernel picks", HOROVOD,
                     when=_when(launchers="mpi", features="several-members")),
    _between_members("dask-scheduler", fixed(8786), "Dask workers and clients to their scheduler", ADS,
                     when=_when(launchers="dask", features="several-members"), encryption=Encryption.OPTIONAL,
                     listener=Listener.FIRST),
    _between_members("dask-dashboard", fixed(8787), "Dask's dashboard", ADS,
                     when=_when(launchers="dask"), listener=Listener.FIRST),
    _between_members("dask-worker", between(8700, 8800), "Dask workers to each other", ADS,
                     when=_when(launchers="dask", features="several-members"), encryption=Encryption.OPTIONAL),
    _between_members("dask-nanny", between(3000, 3100), "the scheduler to the nannies of Dask's workers", ADS,
                     when=_when(launchers="dask", features="several-members"), encryption=Encryption.OPTIONAL),
)  # fmt: skip

_APPS = (
    Flow("tensorboard", Role.AGENT, Role.MEMBER, Transport.TCP, between(2600, 2899),
         "the companion to a TensorBoard, inside its sandbox", DETERMINED_FIREWALL, _when(kinds="tensorboard")),
    Flow("notebook", Role.AGENT, Role.MEMBER, Transport.TCP, between(2900, 3199),
         "the companion to a notebook, inside its sandbox", DETERMINED_FIREWALL, _when(kinds="notebook")),
    Flow("shell", Role.AGENT, Role.MEMBER, Transport.TCP, between(3200, 3599),
         "the companion to a shell, inside its sandbox", DETERMINED_FIREWALL, _when(kinds="shell"), Encryption.SSH),
)  # fmt: skip

_OUTSIDE = (
    _to_outside(Role.REGISTRY, "registry", 443, "container images", DETERMINED_NETWORK,
                when=_when(features="registries")),
    _to_outside(Role.PACKAGES, "packages", 443, "packages that workloads install", DETERMINED_NETWORK,
                when=_when(features="packages")),
    _to_outside(Role.STORE, "store", 443, "data and checkpoints in object stores", DETERMINED_NETWORK,
                when=_when(features="stores")),
    _to_outside(Role.CLOUD_API, "agent-cloud-api", 443, "the cloud's API with the agent's own identity", DETERMINED_GCP,
                when=_when(features="agent-cloud-api")),
    Flow("master-cloud-api", Role.MASTER, Role.CLOUD_API, Transport.TCP, fixed(443),
         "the master starts and stops machines", DETERMINED_GCP, _when(providers="gcp aws oci"),
         Encryption.TLS),
    Flow("agent-metadata", Role.AGENT, Role.METADATA, Transport.TCP, fixed(80),
         "the machine's own identity: images, buckets, the cloud's API", CLOUD_GUIDES, _when(providers="gcp aws oci")),
    Flow("master-metadata", Role.MASTER, Role.METADATA, Transport.TCP, fixed(80),
         "the machine's own identity, with which the master starts and stops machines", CLOUD_GUIDES,
         _when(providers="gcp aws oci")),
    Flow("agent-volumes", Role.AGENT, Role.VOLUMES, Transport.TCP, fixed(3260),
         "the machine's disks, by iSCSI", OCI_GUIDE, _when(providers="oci")),
    Flow("master-volumes", Role.MASTER, Role.VOLUMES, Transport.TCP, fixed(3260),
         "the machine's disks, by iSCSI", OCI_GUIDE, _when(providers="oci")),
    Flow("proxy", Role.AGENT, Role.PROXY, Transport.TCP, fixed(3128, setting="network.proxy.url"),
         "everything outside, through the HTTP proxy", DETERMINED_NETWORK, _when(features="proxy"),
         Encryption.OPTIONAL),
    Flow("dns", Role.AGENT, Role.DNS, Transport.UDP, fixed(53), "names", QUORATE),
    Flow("dns-tcp", Role.AGENT, Role.DNS, Transport.TCP, fixed(53), "names whose answers are long", QUORATE),
    Flow("ntp", Role.AGENT, Role.NTP, Transport.UDP, fixed(123), "time", QUORATE),
    Flow("master-dns", Role.MASTER, Role.DNS, Transport.UDP, fixed(53), "names", QUORATE),
    Flow("master-dns-tcp", Role.MASTER, Role.DNS, Transport.TCP, fixed(53), "names whose answers are long", QUORATE),
    Flow("master-ntp", Role.MASTER, Role.NTP, Transport.UDP, fixed(123), "time", QUORATE),
    Flow("admin-ssh-master", Role.OPERATOR, Role.MASTER, Transport.TCP, fixed(22, setting="operators.ssh_port"),
         "operators' SSH to the master's machine", DETERMINED_GCP, _when(features="operators"), Encryption.SSH),
    Flow("admin-ssh-agent", Role.OPERATOR, Role.AGENT, Transport.TCP, fixed(22, setting="operators.ssh_port"),
         "operators' SSH to the agents' machines", QUORATE, _when(features="operators"), Encryption.SSH),
)  # fmt: skip

_FORBIDDEN = (
    ForbiddenFlow("user-to-agent", Role.USER, Role.AGENT,
                  "an agent's machine can be attacked by everybody who may use the cluster", BACKENDAI, "NET-EXPOSED"),
    ForbiddenFlow("user-to-member", Role.USER, Role.MEMBER,
                  "notebooks and shells are reached without the master's authentication", BACKENDAI, "NET-EXPOSED"),
    ForbiddenFlow("anyone-to-agent", Role.ANYONE, Role.AGENT,
                  "who has no part in the cluster can attack an agent's machine", BACKENDAI, "AGENT-PUBLIC"),
    ForbiddenFlow("anyone-to-member", Role.ANYONE, Role.MEMBER,
                  "a dashboard that a job opens runs anybody's code", BACKENDAI, "AGENT-PUBLIC"),
    ForbiddenFlow("member-to-agent", Role.MEMBER, Role.AGENT,
                  "a job can attack the machine that it runs on, and others", QUORATE, "NET-EXPOSED",
                  when=_when(modes="bridge overlay")),
    ForbiddenFlow("member-to-master", Role.MEMBER, Role.MASTER,
                  "a job can attack the master's machine, by more than the port of its API", QUORATE, "NET-EXPOSED",
                  when=_when(modes="bridge overlay")),
    ForbiddenFlow("member-to-stranger", Role.MEMBER, Role.STRANGER,
                  "a job can read and disturb another job", QUORATE, "NET-EXPOSED", when=_when(modes="bridge overlay")),
    ForbiddenFlow("member-to-metadata", Role.MEMBER, Role.METADATA,
                  "a job gets the cloud credentials of the agent's machine", QUORATE, "NET-EXPOSED"),
)  # fmt: skip

#: What other systems' defaults take, for collisions and for `quorate net explain`.
ELSEWHERE = (
    Elsewhere("Oracle ADS Horovod", "sshd of its workers", Transport.TCP, PortRange.of(12345), ADS_SAMPLES),
    Elsewhere("Oracle ADS Ray", "the head of a cluster", Transport.TCP, PortRange.of(3000), ADS_SAMPLES),
    Elsewhere("Ray", "its global control store", Transport.TCP, PortRange.of(6379), RAY),
    Elsewhere("Ray", "its dashboard", Transport.TCP, PortRange.of(8265), RAY),
    Elsewhere("Ray", "its workers", Transport.TCP, PortRange(10002, 19999), RAY),
    Elsewhere("Backend.AI", "sshd in containers", Transport.TCP, PortRange.of(2200), BACKENDAI_CODE),
    Elsewhere("Backend.AI", "terminals in containers", Transport.TCP, PortRange.of(7681), BACKENDAI_CODE),
    Elsewhere("Backend.AI", "containers' ports on their hosts", Transport.TCP, PortRange(30000, 31000), BACKENDAI_CODE),
    Elsewhere("Docker Swarm", "its managers", Transport.TCP, PortRange.of(2377), SWARM),
    Elsewhere("Docker Swarm", "gossip", Transport.TCP, PortRange.of(7946), SWARM),
    Elsewhere("Docker Swarm", "gossip", Transport.UDP, PortRange.of(7946), SWARM),
    Elsewhere("Docker Swarm", "its overlay, on the port that Quorate's uses", Transport.UDP, PortRange.of(4789), SWARM),
    Elsewhere("NCCL", "RAS, for its client on the same machine", Transport.TCP, PortRange.of(28028), NCCL_SOURCE),
    Elsewhere("RoCE v2", "RDMA, which no host firewall sees", Transport.UDP, PortRange.of(4791), ROCE),
)  # fmt: skip

#: Every flow by its id, in the order of the docs.
FLOWS = MappingProxyType({flow.id: flow for flow in (*_TO_MASTER, *_PLATFORM, *_FRAMEWORKS, *_APPS, *_OUTSIDE)})
#: Every forbidden flow by its id.
FORBIDDEN = MappingProxyType({flow.id: flow for flow in _FORBIDDEN})

#: Addresses at which clouds answer with an instance's identity: all of them by IPv4; AWS's container and pod
#: credentials; and by IPv6 AWS, its pod credentials, GCP and OCI.
METADATA_ADDRESSES = (
    *("169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32"),
    *("fd00:ec2::254/128", "fd00:ec2::23/128", "fd20:ce::254/128", "fd00:c1::a9fe:a9fe/128"),
)
#: The name under which GCP's libraries ask for it; the other clouds' use the address.
METADATA_NAMES = ("metadata.google.internal",)


def flow(name: str) -> Flow:
    """Return the flow of that id; raise UnknownFlow."""
    if name not in FLOWS:
        raise UnknownFlow(name)
    return FLOWS[name]


def port(name: str) -> int:
    """Return the fixed port of a flow; raise UnknownFlow, or ValueError where the flow has more than one."""
    found = flow(name).ports
    if found.kind is not PortKind.FIXED:
        raise ValueError(f"{name} has no single port but {found}")
    return found.default.first


def ports(name: str) -> PortRange:
    """Return the port range of a flow, or its default where it is a setting; raise UnknownFlow."""
    return flow(name).ports.default


def select(wanted: Callable[[Flow], bool]) -> tuple[Flow, ...]:
    """Return the flows for which `wanted` holds, in the catalogue's order."""
    return tuple(found for found in FLOWS.values() if wanted(found))


def uses(number: int) -> tuple[Flow, ...]:
    """Return the flows that may use a port: fixed ports and ranges first, then windows and leases that hold it."""
    exact = select(lambda found: found.ports.kind in (PortKind.FIXED, PortKind.RANGE) and number in found.ports.default)
    wide = select(
        lambda found: found.ports.kind in (PortKind.WINDOW, PortKind.LEASED) and number in found.ports.default
    )
    return exact + wide
