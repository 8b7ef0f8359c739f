"""The plan of a cluster is what firewalls of machines must let pass, complete and no wider."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from quorate.model.clusterfile import ClusterFile, load_cluster_file
from quorate.model.ports import PortRange
from quorate.model.severity import Severity
from quorate.model.yamlfile import FileProblems
from quorate.network.clusterplan import plan_cluster
from quorate.network.flows import Direction, Role, Transport
from quorate.network.plan import Plan, PlannedFlow

BASE = """
name: acme
master: {where: {addresses: [10.0.0.5], tags: [master]}}
users: {where: {addresses: [192.168.0.0/16]}}
outside:
  registries: [{hosts: [registry.example.org], addresses: [203.0.113.7]}]
  dns: [10.0.0.2]
  ntp: [10.0.0.3]
pools:
- name: gpu
  where: {addresses: [10.0.1.0/24], tags: [agent]}
"""


def plan(text: str) -> Plan:
    return plan_cluster(load_cluster_file(text, "master.yaml"))


def flows(plan: Plan, flow_id: str) -> list[PlannedFlow]:
    return [flow for flow in plan.flows if flow.flow == flow_id]


def test_a_cluster_with_overlays_needs_the_master_the_overlay_and_the_outside_and_nothing_else() -> None:
    shown = [str(flow) for flow in plan(BASE).flows]
    assert shown == [
        "api-tls: user/users -> master/master tcp/8443",
        "apps-tls: user/users -> master/master tcp/8444",
        "agent-link-tls: agent/gpu -> master/master tcp/8443",
        "vxlan: agent/gpu -> agent/gpu udp/4789",
        "registry: agent/gpu -> registry/registry.example.org tcp/443",
        "dns: agent/gpu -> dns/dns udp/53",
        "dns-tcp: agent/gpu -> dns/dns tcp/53",
        "ntp: agent/gpu -> ntp/ntp udp/123",
        "master-dns: master/master -> dns/dns udp/53",
        "master-dns-tcp: master/master -> dns/dns tcp/53",
        "master-ntp: master/master -> ntp/ntp udp/123",
    ]


def test_a_complete_file_has_no_findings() -> None:
    assert plan(BASE).findings == ()


def test_host_mode_brings_the_frameworks_ports_between_the_agents() -> None:
    made = plan(BASE + "  network: {modes: [host], launchers: [torch]}\n")
    assert not flows(made, "vxlan")
    between = {str(flow.ports[0]) for flow in made.flows if flow.source.role is flow.destination.role is Role.AGENT}
    assert between == {"1734", "1750", "12350", "12360", "12365", "29400", "32768-60999", "20000-28999"}


def test_the_window_is_the_hull_of_what_gloo_and_nccl_are_given() -> None:
    made = plan(BASE + "  network: {modes: [host], gloo_port_range: 50000-50499, nccl_port_range: 50500-50999}\n")
    assert flows(made, "gloo")[0].ports == (PortRange(50000, 50999),)


def test_determineds_port_ranges_are_read() -> None:
    text = BASE + "  network: {modes: [host]}\ntask_container_defaults: {gloo_port_range: 50000:50999}\n"
    assert flows(plan(text), "gloo")[0].ports == (PortRange(50000, 50999),)


def test_ranges_that_do_not_touch_are_an_error_with_its_line() -> None:
    text = BASE + "network: {gloo_port_range: 40000-40099, nccl_port_range: 50000-50099}\n"
    with pytest.raises(FileProblems, match=r"master.yaml:12:10: network: .* do not touch"):
        load_cluster_file(text, "master.yaml")


def test_port_65536_is_an_error_in_our_own_file() -> None:
    text = BASE + "task_container_defaults: {gloo_port_range: 1024-65536}\n"
    with pytest.raises(FileProblems, match=r"master.yaml:12:44: .*1024-65536: ports end at 65535"):
        load_cluster_file(text, "master.yaml")


def test_a_pools_own_settings_stand_before_the_clusters() -> None:
    text = BASE + "  network: {modes: [host], window: 50000-50999}\nnetwork: {window: 40000-40999, vxlan_port: 4790}\n"
    cluster = load_cluster_file(text, "master.yaml")
    settings = cluster.settings(cluster.pools[0])
    assert (settings.window_set, settings.vxlan_port) == (PortRange(50000, 50999), 4790)


def test_horovod_opens_all_ports_unless_its_range_is_set() -> None:
    wide = plan(BASE + "  network: {modes: [host], launchers: [horovod]}\n")
    assert flows(wide, "horovod")[0].ports == (PortRange(1024, 65535),)
    assert [finding.code for finding in wide.findings] == ["PLAN-WIDE"]
    narrow = plan(BASE + "  network: {modes: [host], launchers: [horovod], horovod_port_range: 50000-50999}\n")
    assert flows(narrow, "horovod")[0].ports == (PortRange(50000, 50999),)
    assert narrow.findings == ()


def test_a_proxy_takes_the_place_of_everything_outside() -> None:
    made = plan(BASE + "network: {proxy: {url: 'http://10.0.0.9:8888'}}\n")
    assert [str(flow) for flow in flows(made, "proxy")] == ["proxy: agent/gpu -> proxy/10.0.0.9 tcp/8888"]
    assert not flows(made, "registry")
    assert made.findings == ()


@pytest.mark.parametrize(
    ("entry", "direct"),
    [
        ("registry.lab.example", "registry"),
        ("REGISTRY.lab.example:5000", "registry"),
        (".lab.example", "registry store"),
        ("*.lab.example", "registry store"),
        ("lab.example", "registry store"),
        ("10.0.9.6", "store"),
        ("10.0.9.4/31", "registry"),
        ("10.0.9.0/24", "registry store"),
        ("[2001:db8::7]:443", "packages"),
        ("2001:db8::/64", "packages"),
        ("*", "registry packages store"),
        ("try.lab.example", ""),
        ("b.example", ""),
        ("10.0.8.0/24", ""),
    ],
)
def test_what_no_proxy_names_is_reached_directly_and_so_stands_in_the_plan(entry: str, direct: str) -> None:
    made = plan(f"""
master: {{where: {{addresses: [10.0.0.5]}}}}
network: {{proxy: {{url: 'http://10.0.9.9:3128', no_proxy: ['{entry}']}}}}
pools: [{{name: gpu, where: {{addresses: [10.0.1.0/24]}}}}]
outside:
  registries: [{{hosts: [registry.lab.example], addresses: [10.0.9.4], port: 5000}}]
  packages: [{{hosts: [pypi.example.org], addresses: ['2001:db8::7']}}]
  stores: [{{hosts: [minio.lab.example], addresses: [10.0.9.6], port: 9000}}]
""")
    assert flows(made, "proxy")
    assert [flow.flow for flow in made.flows if flow.flow in ("registry", "packages", "store")] == direct.split()


def test_the_master_calls_the_clouds_api_whatever_the_agents_proxy() -> None:
    made = plan(
        "network: {proxy: {url: 'http://10.0.9.9:3128'}}\n"
        "pools: [{name: gpu, where: {addresses: [10.0.1.0/24]}, provider: {type: gcp}}]\n"
    )
    assert flows(made, "master-cloud-api")
    assert not flows(made, "agent-cloud-api")


def test_a_service_with_a_port_of_its_own_is_planned_on_it() -> None:
    made = plan(BASE.replace("[{hosts: [registry.example.org], addresses: [203.0.113.7]}]", "['203.0.113.7:5000']"))
    (flow,) = flows(made, "registry")
    assert (flow.ports, flow.destination.addresses) == ((PortRange.of(5000),), (ip_network("203.0.113.7/32"),))


def test_operators_may_log_in_to_every_machine() -> None:
    made = plan(BASE + "operators: {where: {addresses: [192.0.2.1]}, ssh_port: 2222}\n")
    assert [str(flow) for flow in made.flows if "ssh" in flow.flow] == [
        "admin-ssh-master: operator/operators -> master/master tcp/2222",
        "admin-ssh-agent: operator/operators -> agent/gpu tcp/2222",
    ]


def test_a_provider_brings_its_api_its_resolver_and_its_clock() -> None:
    text = BASE.replace("  dns: [10.0.0.2]\n  ntp: [10.0.0.3]\n", "") + "  provider: {type: aws, region: eu-west-1}\n"
    made = plan(text)
    (api,) = flows(made, "master-cloud-api")
    assert api.destination.hosts == ("ec2.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com")
    assert ip_network("169.254.169.123/32") in flows(made, "ntp")[0].destination.addresses


@pytest.mark.parametrize("cloud", ["aws", "gcp", "oci"])
def test_a_clouds_machines_may_ask_for_their_own_identity(cloud: str) -> None:
    made = plan(BASE + f"  provider: {{type: {cloud}, region: r}}\n")
    for name, source in (("agent-metadata", Role.AGENT), ("master-metadata", Role.MASTER)):
        (flow,) = flows(made, name)
        assert (flow.source.role, flow.transport, flow.ports) == (source, Transport.TCP, (PortRange.of(80),))
        assert ip_network("169.254.169.254/32") in flow.destination.addresses
    assert bool(flows(made, "agent-volumes")) == bool(flows(made, "master-volumes")) == (cloud == "oci")


def test_a_machine_of_no_cloud_asks_nobody_for_its_identity() -> None:
    assert not [flow for flow in plan(BASE).flows if "metadata" in flow.flow or "volumes" in flow.flow]


def test_users_and_strangers_must_not_reach_agents() -> None:
    made = plan(BASE)
    assert {(flow.flow, flow.transport) for flow in made.forbidden} == {
        (name, transport) for name in ("user-to-agent", "anyone-to-agent") for transport in Transport
    }


def test_users_who_share_the_agents_network_are_told_so_and_not_forbidden_to_be_agents() -> None:
    made = plan(BASE.replace("192.168.0.0/16", "10.0.0.0/16"))
    assert [finding.code for finding in made.findings] == ["PLAN-WIDE"]
    users = next(flow.source for flow in made.forbidden if flow.flow == "user-to-agent")
    assert not any(network.overlaps(ip_network("10.0.1.0/24")) for network in users.addresses)
    assert any(ip_network("10.0.2.0/24").subnet_of(network) for network in users.v4)


def test_what_is_not_known_is_a_finding_and_never_everybody() -> None:
    made = plan_cluster(ClusterFile())
    assert {finding.subject for finding in made.findings} >= {"master/master", "agent/default", "user/users"}
    assert not any(str(network) in ("0.0.0.0/0", "::/0") for flow in made.flows for network in flow.source.addresses)
    assert all("master.yaml" in finding.remedy for finding in made.findings)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("[10.0.1.0/24], tags: [agent]", "[10.66.0.0/24]"), "NET-OVERLAP"),
        (("tags: [agent]", "internet: none"), "NO-INTERNET"),
        (("tags: [agent]", "internet: public-ip"), "PLAN-WIDE"),
        (("pools:", "network: {modes: [host], lease_range: 30000-33000}\npools:"), "PORT-IN-WINDOW"),
        (("pools:", "network: {window: 1024-65535}\npools:"), "PORT-IN-WINDOW"),
    ],
)
def test_what_is_wrong_with_a_cluster_is_found(change: tuple[str, str], code: str) -> None:
    found = {finding.code for finding in plan(BASE.replace(*change)).findings}
    assert found == {code}


@pytest.mark.parametrize(
    ("provider", "needs"), [("gcp", "Cloud NAT"), ("aws", "Internet gateway"), ("oci", "service gateway")]
)
def test_what_a_cloud_needs_besides_rules_is_said_and_is_no_failure(provider: str, needs: str) -> None:
    (finding,) = plan(BASE + f"  provider: {{type: {provider}}}\noperators: {{}}\n").findings[-1:]
    assert (finding.code, finding.severity) == ("CLOUD-NEEDS", Severity.INFO)
    assert needs in finding.evidence


def test_master_and_agents_in_two_networks_are_told() -> None:
    text = BASE.replace("tags: [agent]", "vpc: a").replace("tags: [master]", "vpc: b")
    assert [finding.code for finding in plan(text).findings] == ["NET-SPLIT"]


def test_plain_text_on_loopback_uses_the_plain_ports() -> None:
    made = plan(BASE.replace("master: {", "master: {listen: 127.0.0.1, "))
    assert flows(made, "api")[0].ports == (PortRange.of(8080),)
    assert not flows(made, "api-tls")


def test_each_machine_sees_its_own_directions() -> None:
    made = plan(BASE)
    seen = {(direction, flow.flow) for direction, flow in made.seen_by(Role.AGENT)}
    assert (Direction.INGRESS, "vxlan") in seen and (Direction.EGRESS, "vxlan") in seen
    assert {flow for direction, flow in seen if direction is Direction.INGRESS} == {"vxlan"}
    assert (Direction.EGRESS, "agent-link-tls") in seen


def test_a_thousand_agents_are_planned_at_once() -> None:
    listed = ", ".join(f"10.{n // 250}.{n % 250}.7" for n in range(1000))
    made = plan(BASE.replace("10.0.1.0/24", listed).replace("192.168.0.0/16", "10.0.0.0/8"))
    assert len(flows(made, "vxlan")[0].source.addresses) == 1000
