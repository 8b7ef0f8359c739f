"""What a cluster is like where its `master.yaml` leaves something open."""

from __future__ import annotations

from quorate.model.clusterfile import NetworkSettings, ProviderName, Service
from quorate.model.ports import PortRange
from quorate.network import catalogue
from quorate.network.flows import NetworkMode, Role

#: Modes and launchers of a pool that says nothing: so the frameworks' ports stay inside the allocations' networks.
DEFAULT_MODES = ("bridge", "overlay")
#: Features for which nothing listens on the machines' own addresses: no port of theirs is in the plan of a live
#: cluster. Members' SSH is served in private networks alone.
UNSERVED = frozenset({"apps", "ssh", "sdk"})
DEFAULT_LAUNCHERS = ("torch",)
DEFAULT_LARGEST_JOB = 64
#: Out of which allocations get their subnets, unless `network.overlays` says otherwise. No usual default of a cloud,
#: a container engine or Kubernetes lies in here (decision 7).
DEFAULT_OVERLAYS = ("10.64.0.0/13",)
#: Where images come from unless the file says otherwise: Docker Hub, its tokens and its layers.
DEFAULT_REGISTRIES = (Service(hosts=("registry-1.docker.io", "auth.docker.io", "production.cloudflare.docker.com")),)

#: The clouds' own resolvers and clocks, which answer at link-local addresses.
#: Documented as: AWS "Amazon DNS server" and "Amazon Time Sync Service", GCP "Metadata server", OCI "VCN resolver".
CLOUD_DNS: dict[ProviderName, tuple[str, ...]] = {
    "aws": ("169.254.169.253/32", "fd00:ec2::253/128"),
    "gcp": ("169.254.169.254/32",),
    "oci": ("169.254.169.254/32",),
}
CLOUD_NTP: dict[ProviderName, tuple[str, ...]] = {
    "aws": ("169.254.169.123/32", "fd00:ec2::123/128"),
    "gcp": ("169.254.169.254/32",),
    "oci": ("169.254.169.254/32",),
}
#: Where machines ask for their own identity, and where OCI's attach their disks by iSCSI. No security group, VPC
#: firewall or security list filters these addresses, but rules on the machine do.
CLOUD_METADATA: dict[ProviderName, tuple[str, ...]] = {
    "aws": ("169.254.169.254/32", "fd00:ec2::254/128"),
    "gcp": ("169.254.169.254/32", "fd20:ce::254/128"),
    "oci": ("169.254.169.254/32",),
}
CLOUD_VOLUMES: dict[ProviderName, tuple[str, ...]] = {"oci": ("169.254.0.0/16",)}

#: Which key of `outside:` lists the parties of a role.
SERVICES = {Role.REGISTRY: "registries", Role.PACKAGES: "packages", Role.STORE: "stores", Role.CLOUD_API: "cloud_apis"}


#: What the master's provisioner calls; AWS's and OCI's names hold the region.
CLOUD_APIS: dict[ProviderName, tuple[str, ...]] = {
    "gcp": ("compute.googleapis.com", "oauth2.googleapis.com"),
    "aws": ("ec2.REGION.amazonaws.com", "sts.REGION.amazonaws.com"),
    "oci": ("iaas.REGION.oraclecloud.com", "auth.REGION.oraclecloud.com"),
}


def window_of(settings: NetworkSettings) -> PortRange:
    """Return the ephemeral ports of members under these settings."""
    return settings.window_set or catalogue.EPHEMERAL


def modes_of(settings: NetworkSettings) -> frozenset[NetworkMode]:
    """Return the network modes that jobs may use under these settings."""
    return frozenset(map(NetworkMode, settings.modes or DEFAULT_MODES))
