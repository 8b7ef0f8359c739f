"""`master.yaml`: the master, its pools, and where on the network everything is."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from quorate.model.duration import Duration
from quorate.model.jobnetwork import Enforcement
from quorate.model.platformnames import GroupId, LabelKey, LabelValue, Namespace, NetworkTag
from quorate.model.ports import Port, PortRange, PortRangeField
from quorate.model.yamlfile import load_yaml

Launcher = Literal["none", "torch", "deepspeed", "horovod", "tensorflow", "dask", "mpi"]
Mode = Literal["bridge", "overlay", "host"]
Fabric = Literal["tcp", "ib", "roce", "efa"]
ProviderName = Literal["gcp", "aws", "oci"]
Network = IPv4Network | IPv6Network


class Internet(StrEnum):
    """How machines reach what is outside their network."""

    PUBLIC_IP = "public-ip"
    NAT = "nat"
    #: OCI: its own services only, from a private subnet.
    SERVICE_GATEWAY = "service-gateway"
    PROXY = "proxy"
    NONE = "none"


def _network(value: object) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not an address such as 10.0.0.5 or a CIDR such as 10.0.0.0/24")
    try:
        return ip_network(value.strip())
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"{value} has host bits set; did you mean {ip_network(value, strict=False)}?") from None
        raise ValueError(f"{value!r} is not an address such as 10.0.0.5 or a CIDR such as 10.0.0.0/24") from None


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("is not a URL such as http://proxy.example.org")
    if parts.username or parts.password:
        raise ValueError("carries a password; a proxy's credentials belong in the agent's own file")
    return value


NetworkField = Annotated[Network, BeforeValidator(_network), PlainSerializer(str, return_type=str)]
#: 24 bits, and 0 is nobody's (RFC 7348, section 5).
Vni = Annotated[int, Field(ge=1, le=2**24 - 1)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
ServiceCidr = Annotated[str, Field(pattern=r"^(pl-[0-9a-f]{8,32}|(all|oci)-[a-z0-9-]{1,120})$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Where(_Section):
    """Where machines are, in the words of each platform; a rule takes the narrowest that its platform understands."""

    #: Addresses and CIDRs.
    addresses: tuple[NetworkField, ...] = ()
    #: GCP network tags.
    tags: tuple[NetworkTag, ...] = ()
    #: GCP service accounts, by email.
    service_accounts: tuple[str, ...] = ()
    #: AWS security group ids or OCI network security group OCIDs.
    security_groups: tuple[GroupId, ...] = ()
    #: Kubernetes pod labels.
    labels: dict[LabelKey, LabelValue] = {}
    #: The Kubernetes namespace of the pods, where it is not the policy's own.
    namespace: Namespace | None = None
    #: The VPC, VCN or network by its name or id; master and agents belong in one.
    vpc: str | None = None
    #: How machines reach the outside.
    internet: Internet | None = None


class Service(_Section):
    """Something outside that agents connect to; written as `host`, `host:port`, or with addresses."""

    #: Its DNS names.
    hosts: tuple[str, ...] = ()
    #: Its addresses and CIDRs; without them or `service_cidrs` no rule can name it, for firewalls know no names.
    addresses: tuple[NetworkField, ...] = ()
    #: What the cloud calls its addresses: OCI's label behind a service gateway, such as
    #: `all-REGION-services-in-oracle-services-network`, or an AWS prefix list, `pl-…`; that cloud's rules name it so.
    service_cidrs: tuple[ServiceCidr, ...] = ()
    #: Its port, where it is not the one of HTTPS.
    port: Port | None = None

    @model_validator(mode="before")
    @classmethod
    def _written_short(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        host, colon, port = value.rpartition(":")
        return {"hosts": [host], "port": int(port)} if colon and port.isdigit() else {"hosts": [value]}

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if not self.hosts and not self.addresses and not self.service_cidrs:
            raise ValueError("needs `hosts`, `addresses` or `service_cidrs`")
        return self


class Outside(_Section):
    """What workloads and the platform reach outside the cluster."""

    #: Container images; Docker Hub where none is named.
    registries: tuple[Service, ...] = ()
    #: Packages that workloads install.
    packages: tuple[Service, ...] = ()
    #: Object stores with data, checkpoints and artifacts.
    stores: tuple[Service, ...] = ()
    #: The cloud's API, for agents with an identity of their own, and for the master instead of the provider's names.
    cloud_apis: tuple[Service, ...] = ()
    #: Name servers; the cloud's own where a pool has a provider.
    dns: tuple[NetworkField, ...] = ()
    #: Time servers; the cloud's own where a pool has a provider.
    ntp: tuple[NetworkField, ...] = ()


class Proxy(_Section):
    """The HTTP proxy through which agents and members reach the outside."""

    #: Such as `http://proxy.example.org:3128`, without a password.
    url: HttpUrl
    #: Where the proxy is, if its name does not say it.
    addresses: tuple[NetworkField, ...] = ()
    #: Names and addresses besides those of the plan that are reached directly.
    no_proxy: tuple[str, ...] = ()


class NetworkSettings(_Section):
    """The network of allocations; a pool's own settings stand before the cluster's."""

    #: Network modes that jobs may use. `host` brings the frameworks' ports into the hosts' firewalls.
    modes: tuple[Mode, ...] | None = Field(default=None, min_length=1)
    #: Launchers that jobs may use; with `host` their flows are planned between agents.
    launchers: tuple[Launcher, ...] | None = None
    #: Members of the largest job: bounds the flows that have a port for each rank.
    largest_job: int | None = Field(default=None, ge=1, le=10_000)
    #: The UDP port of overlays, the same on all agents of a pool.
    vxlan_port: Port | None = None
    #: Out of these IPv4 networks each allocation gets its subnet; they are nobody else's.
    overlays: tuple[NetworkField, ...] | None = Field(default=None, min_length=1)
    #: First and last of the VNIs that allocations get; no other overlay on the machines' network may use them.
    vnis: tuple[Vni, Vni] | None = None
    #: Ephemeral ports of members, or of the host in `host` mode.
    window: PortRangeField | None = None
    #: Another way to say `window`: the kernel has one range, the hull of this and of `nccl_port_range`.
    gloo_port_range: PortRangeField | None = None
    #: See `gloo_port_range`; ranges that do not touch are an error.
    nccl_port_range: PortRangeField | None = None
    #: Where set, Horovod's ports are planned within it instead of as every port.
    horovod_port_range: PortRangeField | None = None
    #: Ports that the master leases to allocations in `host` mode.
    lease_range: PortRangeField | None = None
    #: What the packet filter of an allocation does with what is not planned.
    enforcement: Enforcement | None = None
    proxy: Proxy | None = None

    @model_validator(mode="after")
    def _ranges_belong_together(self) -> Self:
        gloo, nccl = self.gloo_port_range, self.nccl_port_range
        if gloo and nccl and not gloo.touches(nccl):
            raise ValueError(
                f"gloo_port_range {gloo} and nccl_port_range {nccl} do not touch: the kernel has one range for both, "
                f"and {gloo.hull(nccl)} would open ports that neither names"
            )
        named = gloo.hull(nccl) if gloo and nccl else gloo or nccl
        if self.vnis and self.vnis[0] > self.vnis[1]:
            raise ValueError(f"vnis end with {self.vnis[1]} before they begin with {self.vnis[0]}")
        if named and self.window and named != self.window:
            raise ValueError(f"window {self.window} is not the range that gloo_port_range and nccl_port_range name")
        return self

    @property
    def window_set(self) -> PortRange | None:
        """The window that is asked for: `window`, else the hull of Gloo's and NCCL's ranges, else None."""
        gloo, nccl = self.gloo_port_range, self.nccl_port_range
        return self.window or (gloo.hull(nccl) if gloo and nccl else gloo or nccl)

    def over(self, base: NetworkSettings) -> NetworkSettings:
        """Return these settings with what they leave open taken from `base`."""
        mine = {name: getattr(self, name) for name in self.model_fields_set if getattr(self, name) is not None}
        if self.window_set:
            base = base.model_copy(update={"window": None, "gloo_port_range": None, "nccl_port_range": None})
        return base.model_copy(update=mine)


class TaskContainerDefaults(_Section):
    """Determined's section of that name, as far as it concerns the network."""

    #: As `network.gloo_port_range`.
    gloo_port_range: PortRangeField | None = None
    #: As `network.nccl_port_range`.
    nccl_port_range: PortRangeField | None = None


class MasterSection(_Section):
    """The master's listeners and place."""

    #: The address to listen on.
    listen: str = "0.0.0.0"
    #: The port of the API, the web UI and the agents; by default the one for TLS, or the one without.
    port: Port | None = None
    #: The port of proxied apps, an origin of their own; by default as above.
    apps_port: Port | None = None
    #: Whether the listeners speak TLS; by default wherever they listen beyond loopback.
    tls: bool | None = None
    #: Whether apps (notebooks, TensorBoard) are proxied.
    apps: bool = True
    #: Names and addresses under which the master is reached.
    names: tuple[str, ...] = ()
    #: Where the master keeps its state: the store, the logs, the contexts.
    state_dir: str | None = None
    #: A certificate of the operator's own (PEM, with its chain) and its key; else the cluster makes one.
    certificate: str | None = None
    #: The key of `certificate`; the two come together.
    certificate_key: str | None = None
    #: The authority that vouches for it, where machines do not trust it already.
    certificate_authority: str | None = None
    #: The key of the jobs' secrets (32 bytes as hex), where it is not to lie beside the state.
    secrets_key: str | None = None
    where: Where = Where()

    @property
    def speaks_tls(self) -> bool:
        """Whether the master's listeners speak TLS."""
        return self.tls if self.tls is not None else self.listen not in ("127.0.0.1", "::1", "localhost")

    @model_validator(mode="before")
    @classmethod
    def _state_is_what_state_dir_was_called(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "state" not in data or "state_dir" in data:
            return data
        return {"state_dir" if key == "state" else key: value for key, value in data.items()}

    @model_validator(mode="after")
    def _certificate_and_key_come_together(self) -> Self:
        if bool(self.certificate) != bool(self.certificate_key):
            raise ValueError("certificate and certificate_key come together")
        return self


class LogsSection(_Section):
    """The members' logs on the master's disk."""

    #: Of jobs that have ended, since the last line.
    keep: Duration = 30 * 86_400.0
    #: What logs and uploads leave free on the disk, so that the master's own store never finds it full.
    reserve_mib: int = Field(default=256, ge=0)


class ContextsSection(_Section):
    """The contexts of jobs (the folders that are uploaded with them) on the master's disk."""

    #: What one user's may take in all, but for operators'. Those that no job needs go a day after their last use.
    per_user_mib: int = Field(default=10_240, ge=1)


class JobsSection(_Section):
    """How long jobs that have ended are remembered: until they are too old or too many."""

    #: Since a job has ended.
    keep: Duration = 30 * 86_400.0
    #: Of the jobs that have ended.
    keep_count: int = Field(default=10_000, ge=0, le=1_000_000)


class TimersSection(_Section):
    """When a silent agent is taken for what."""

    #: How often an agent gives a sign of life.
    heartbeat: Annotated[Duration, Field(ge=0.1, le=60)] = 10.0
    #: No new placement on it; its members run on.
    unreachable: Annotated[Duration, Field(ge=1)] = 60.0
    #: Its jobs may be placed again; longer where a job's own timers need it.
    replace_after: Annotated[Duration, Field(ge=1)] = 960.0
    #: Every agent tries a few others so often, so that no gang is placed on two that do not reach each other; 0: never.
    check_agents: Duration = 60.0
    #: A job whose members all show no sign of progress for so long is diagnosed once by itself; 0: never.
    stalled: Duration = 600.0


class UsersSection(_Section):
    """Machines from which people use the command line, the API and the web UI."""

    where: Where = Where()


class OperatorsSection(_Section):
    """Machines from which operators log in to the master's and the agents' machines by SSH."""

    where: Where = Where()
    #: Where sshd listens on the machines, if not on its usual port.
    ssh_port: Port | None = None


class ProviderSection(_Section):
    """The cloud in which a pool's machines are."""

    #: Brings the cloud's API, name servers and clocks into the plan.
    type: ProviderName
    #: The region, which stands in the names of the API.
    region: str | None = None


class PoolSection(_Section):
    """A named set of agents with one scheduling policy."""

    #: Its name; a job asks for it as `resources.pool`.
    name: Name
    where: Where = Where()
    network: NetworkSettings = NetworkSettings()
    provider: ProviderSection | None = None
    #: The first job in line holds agents once it has waited so long.
    reserve_after: Duration = 300.0
    #: What joins its machines for the members' own traffic; `auto` puts no overlay on one that is not `tcp`.
    fabric: Fabric | None = None


class ClusterFile(_Section):
    """All of `master.yaml`."""

    #: What plans and rules are called by.
    name: Name = "cluster"
    master: MasterSection = MasterSection()
    users: UsersSection = UsersSection()
    operators: OperatorsSection | None = None
    pools: tuple[PoolSection, ...] = Field(default=(PoolSection(name="default"),), min_length=1)
    network: NetworkSettings = NetworkSettings()
    outside: Outside = Outside()
    task_container_defaults: TaskContainerDefaults | None = None
    logs: LogsSection = LogsSection()
    contexts: ContextsSection = ContextsSection()
    jobs: JobsSection = JobsSection()
    timers: TimersSection = TimersSection()

    @model_validator(mode="before")
    @classmethod
    def _ranges_of_task_container_defaults(cls, value: Any) -> Any:
        """Read Determined's two port ranges as Quorate's; that section is where its users have them."""
        theirs = value.get("task_container_defaults") if isinstance(value, dict) else None
        network = value.get("network", {}) if isinstance(value, dict) else None
        if not isinstance(theirs, dict) or not isinstance(network, dict):
            return value
        ranges = {
            name: theirs[name]
            for name in ("gloo_port_range", "nccl_port_range")
            if name in theirs and _is_range(theirs[name])
        }
        return {**value, "network": {**ranges, **network}}

    @model_validator(mode="after")
    def _pools_have_names_of_their_own(self) -> Self:
        names = [pool.name for pool in self.pools]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two pools are called {', '.join(sorted(twice))}")
        return self

    def settings(self, pool: PoolSection) -> NetworkSettings:
        """Return a pool's network settings, with the cluster's where it has none of its own."""
        return pool.network.over(self.network)


def _is_range(value: object) -> bool:
    try:
        PortRange.parse(value if isinstance(value, str | int) else "")
    except ValueError:
        return False
    return True


def load_cluster_file(text: str, filename: str) -> ClusterFile:
    """Read `master.yaml`; raise FileProblems with everything that is wrong with it, each with its line."""
    return load_yaml(text, filename, ClusterFile)
