"""What is wrong with a cluster before any rule is written: overlaps, unknown ends, no way out, ports in the window."""

from __future__ import annotations

from collections.abc import Iterator

from quorate.model.clusterfile import ClusterFile, Internet, PoolSection, Where
from quorate.model.yamlfile import Path
from quorate.network import catalogue
from quorate.network.findings import Finding
from quorate.network.flows import NetworkMode, PortKind, Role
from quorate.network.overlaps import At, find_overlaps, nowhere
from quorate.network.plan import Party, PlannedFlow
from quorate.network.settings import SERVICES, modes_of, window_of

#: Bits of the prefix of the widest private range, 10.0.0.0/8 (RFC 1918); no cluster's machines are all over more.
WIDEST = 8


def check_cluster(cluster: ClusterFile, flows: tuple[PlannedFlow, ...], at: At = nowhere) -> Iterator[Finding]:
    """Yield what is wrong with the cluster as a whole, by its file's places `at` and the flows of its plan."""
    yield from _unresolved(flows)
    yield from find_overlaps(cluster, at)
    yield from _everywhere(cluster, at)
    for pool in cluster.pools:
        of_master, of_pool = cluster.master.where.vpc, pool.where.vpc
        if of_master and of_pool and of_master != of_pool:
            evidence = f"the master is in {of_master}, pool {pool.name} in {of_pool}"
            yield Finding(
                "NET-SPLIT", f"agent/{pool.name}", evidence, remedy="put both in one network, or peer the two"
            )
        yield from _way_out(cluster, pool)
        yield from _efa(pool)
        yield from _ports(cluster, pool)


def _everywhere(cluster: ClusterFile, at: At) -> Iterator[Finding]:
    """Yield where machines are said to be at more addresses than anybody's are: rules let all of those in."""
    wheres: list[tuple[str, str, Path, Where, str]] = [
        ("master", "master/master", ("master",), cluster.master.where, "agents connect to any of them")
    ]
    for number, pool in enumerate(cluster.pools):
        opened = "rules open VXLAN and all else between agents to any of them"
        wheres.append((f"pool {pool.name}", f"agent/{pool.name}", ("pools", number), pool.where, opened))
    for owner, key, path, where, opened in wheres:
        wide = {number: one for number, one in enumerate(where.addresses) if one.prefixlen < WIDEST}
        if wide:
            place = at((*path, "where", "addresses", min(wide)))
            evidence = f"{owner}.where names {', '.join(map(str, wide.values()))}: {opened}"
            remedy = "name the subnets that the machines are in"
            yield Finding("PLAN-WIDE", key, evidence, remedy=remedy, place=place)


def _unresolved(flows: tuple[PlannedFlow, ...]) -> Iterator[Finding]:
    unknown: dict[str, Party] = {}
    for flow in flows:
        for party in (flow.source, flow.destination):
            if not party.known:
                unknown.setdefault(party.key, party)
    keys = {Role.MASTER: "master.where", Role.USER: "users.where", Role.OPERATOR: "operators.where"}
    for party in unknown.values():
        names = f"; it is known by name: {', '.join(party.hosts)}" if party.hosts else ""
        evidence = f"no address, tag, group or account is known for {party.key}{names}"
        if party.role is Role.AGENT:
            remedy = f"add `where:` to pool {party.name} in master.yaml"
        elif party.role in keys:
            remedy = f"add `{keys[party.role]}` to master.yaml"
        elif party.role is Role.PROXY:
            remedy = "add `network.proxy.addresses` to master.yaml"
        elif party.role in (Role.DNS, Role.NTP):
            remedy = f"add the servers' addresses as `outside.{party.role.value}` to master.yaml"
        else:
            section = SERVICES.get(party.role, party.role.value)
            remedy = (
                f"add addresses under `outside.{section}` to master.yaml (0.0.0.0/0 where it has none of its own and "
                "its port may be open to everywhere), or a `network.proxy`"
            )
        yield Finding("PLAN-UNRESOLVED", party.key, evidence, remedy=remedy)


#: What gives machines of a cloud a way out, as the vendors' documents have it.
_WAYS_OUT: dict[str, str] = {
    "gcp": "give the instances an external IP address, or configure Cloud NAT for the VPC",
    "aws": "give the instances a public IP address and the VPC an Internet gateway, or use a NAT gateway",
    "oci": "keep the subnet private and add a NAT gateway, or a service gateway and images in the region's registry",
}


def _efa(pool: PoolSection) -> Iterator[Finding]:
    """Source: EFA user guide, "Prepare an EFA-enabled security group"."""
    if pool.fabric != "efa":
        return
    evidence = (
        f"pool {pool.name} is on EFA, which passes only where the machines' security group allows all traffic to and "
        "from itself; `quorate net rules` does not write that rule, and `quorate net audit` leaves it"
    )
    group = next(iter(sorted(pool.where.security_groups)), "GROUP")
    pair = f"'IpProtocol=-1,UserIdGroupPairs=[{{GroupId={group}}}]'"
    remedy = "; ".join(
        f"aws ec2 authorize-security-group-{way} --group-id {group} --ip-permissions {pair}"
        for way in ("ingress", "egress")
    )
    yield Finding("CLOUD-NEEDS", f"agent/{pool.name}/efa", evidence, remedy=remedy)


def _way_out(cluster: ClusterFile, pool: PoolSection) -> Iterator[Finding]:
    if cluster.settings(pool).proxy:
        return
    provider = pool.provider.type if pool.provider else ""
    if pool.where.internet is None:
        if provider:
            evidence = (
                f"pool {pool.name} is on {provider}: {_WAYS_OUT[provider]}; keep master and agents in one network"
            )
            remedy = f"set `where.internet` of pool {pool.name}: {', '.join(Internet)}"
            yield Finding("CLOUD-NEEDS", f"agent/{pool.name}", evidence, remedy=remedy)
        return
    remedy = _WAYS_OUT.get(provider, "add NAT or a `network.proxy`, or mirror the images inside")
    if pool.where.internet is Internet.NONE:
        evidence = f"pool {pool.name} has no way out, but images come from outside"
        yield Finding("NO-INTERNET", f"agent/{pool.name}", evidence, remedy=remedy)
    elif pool.where.internet is Internet.SERVICE_GATEWAY and not cluster.outside.registries:
        evidence = f"pool {pool.name} reaches OCI's own services only, but images come from Docker Hub"
        yield Finding("NO-INTERNET", f"agent/{pool.name}", evidence, remedy=remedy)
    elif pool.where.internet is Internet.PUBLIC_IP:
        evidence = f"agents of pool {pool.name} have public addresses: one wrong rule opens them to the world"
        yield Finding("PLAN-WIDE", f"agent/{pool.name}", evidence, remedy="keep agents in a private subnet behind NAT")


def _ports(cluster: ClusterFile, pool: PoolSection) -> Iterator[Finding]:
    settings = cluster.settings(pool)
    window, leases = window_of(settings), settings.lease_range or catalogue.ports("leased")
    if NetworkMode.HOST in modes_of(settings) and window.overlaps(leases):
        evidence = f"the lease range {leases} and the ephemeral range {window} of pool {pool.name} overlap"
        remedy = f"end the lease range before {window.first}"
        yield Finding("PORT-IN-WINDOW", f"agent/{pool.name}", evidence, remedy=remedy)
    for flow in catalogue.FLOWS.values():
        fixed = flow.ports.kind is PortKind.FIXED and flow.source is flow.destination is Role.MEMBER
        if fixed and flow.ports.default.overlaps(window):
            evidence = f"{flow.id} listens on {flow.ports.default}, inside the ephemeral range {window}"
            remedy = f"sysctl -w net.ipv4.ip_local_reserved_ports={flow.ports.default}"
            yield Finding("PORT-IN-WINDOW", flow.id, evidence, remedy=remedy)
