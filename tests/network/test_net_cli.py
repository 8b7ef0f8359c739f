"""`quorate net` as people and pipelines use it, in a process of its own, with no master running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = """\
name: acme
master: {where: {addresses: [10.0.0.5]}}
users: {where: {addresses: [192.168.0.0/16]}}
outside:
  registries: [{hosts: [registry.example.org], addresses: [203.0.113.7]}]
  dns: [10.0.0.2]
  ntp: [10.0.0.3]
pools:
- name: gpu
  where: {addresses: [10.0.1.0/24]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "master.yaml"
    path.write_text(FILE)
    return path


def net(*words: str | Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QUORATE_")}
    command = [sys.executable, "-m", "quorate", "net", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, input=stdin, env={**kept, **environment}, timeout=60, check=False
    )


def parsed(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_with_no_file_the_ports_of_a_default_cluster_are_shown() -> None:
    done = net("plan")
    assert (done.returncode, done.stderr) == (0, "")
    assert "tcp/8443" in done.stdout and "udp/4789" in done.stdout and "must fail" in done.stdout
    held = next(line for line in done.stdout.splitlines() if line.startswith("held by the agents' own rules: "))
    assert {"member-to-agent", "member-to-metadata"} <= set(held.partition(": ")[2].split(", "))


def test_a_complete_cluster_has_no_findings(file: Path) -> None:
    done = net("plan", "--config", file, "--json")
    assert done.returncode == 0
    assert parsed(done)["findings"] == []
    assert {flow["flow"] for flow in parsed(done)["flows"]} >= {"api-tls", "agent-link-tls", "vxlan", "registry"}


def test_a_machine_of_one_role_sees_its_own_flows_alone(file: Path) -> None:
    of_master = parsed(net("plan", "-c", file, "--role", "master", "--json"))
    assert {flow["flow"] for flow in of_master["flows"]} == {
        "api-tls", "apps-tls", "agent-link-tls", "master-dns", "master-dns-tcp", "master-ntp",
    }  # fmt: skip
    assert of_master["forbidden"] == []
    shown = net("plan", "-c", file, "--role", "agent").stdout
    assert "agent: in, 1 flow\n" in shown and "agent: out, 6 flows\n" in shown


def test_a_role_without_rules_is_refused(file: Path) -> None:
    assert net("plan", "-c", file, "--role", "member").returncode == 2


def test_the_file_is_found_through_the_environment(file: Path) -> None:
    assert parsed(net("plan", "--json", QUORATE_CONFIG=str(file)))["plan"] == "acme"


def test_findings_end_with_1_and_say_what_mends_them(file: Path) -> None:
    file.write_text(FILE.replace("[10.0.1.0/24]", "[10.66.0.0/24]"))
    done = net("plan", "-c", file)
    assert done.returncode == 1
    assert "NET-OVERLAP" in done.stdout and "mend: set network.overlays" in done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "pools:\n- name: gpu\n  wher: {}\n",
            "master.yaml:3:3: pools[0].wher: unknown key 'wher' (did you",
        ),
        ("pools: []\n", "master.yaml:1:8: pools:"),
        ("users: {where: {addresses: [10.0.0.1/24]}}\n", "did you mean 10.0.0.0/24?"),
        ("network: {window: 1-99999}\n", "master.yaml:1:19: network.window: 1-99999: ports end at 65535"),
        ("network: {proxy: {url: 'http://me:secret@proxy'}}\n", "carries a password"),
        ("name: [\n", "not YAML"),
        ("", "master.yaml:1:1: the file is empty"),
        ("# nothing yet\n", "the file is empty"),
    ],
)
def test_a_bad_file_ends_with_2_and_its_line(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    for arguments in (("plan", "-c", file), ("diff", file, file)):
        done = net(*arguments)
        assert "Traceback" not in done.stderr
        assert done.returncode == 2
        assert message in done.stderr
        assert "secret" not in done.stderr + done.stdout


def test_a_file_that_is_not_there_is_named_with_the_nearest(file: Path) -> None:
    done = net("plan", "-c", file.with_name("mastr.yaml"))
    assert done.returncode == 2
    assert "did you mean 'master.yaml'?" in done.stderr


def test_rules_go_to_stdout_and_nothing_else_does(file: Path) -> None:
    done = net("rules", "--for", "nftables", "--role", "agent", "-c", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert "udp dport 4789 accept" in done.stdout


def test_rules_are_the_same_every_time(file: Path) -> None:
    words = ("rules", "--for", "gcp", "-c", file)
    assert net(*words).stdout == net(*words).stdout != ""


def test_an_unknown_format_is_refused_with_the_nearest(file: Path) -> None:
    done = net("rules", "--for", "nftable", "-c", file)
    assert done.returncode == 2
    assert "did you mean 'nftables'?" in done.stderr


def test_a_machines_rules_need_its_role(file: Path) -> None:
    done = net("rules", "--for", "nftables", "-c", file)
    assert done.returncode == 2
    assert "--role" in done.stderr


@pytest.mark.parametrize("form", ["nftables", "iptables"])
def test_an_audit_of_a_machines_rules_needs_its_role_too(file: Path, form: str) -> None:
    done = net("audit", "--from", form, "-c", file, "-", stdin="")
    assert done.returncode == 2
    assert f"quorate net audit --from {form} --role agent" in done.stderr


def test_pods_without_labels_are_told_once(file: Path) -> None:
    done = net("rules", "--for", "kubernetes", "--role", "agent", "-c", file)
    assert done.returncode == 1
    assert done.stderr.count("no pod labels") == done.stderr.count("PLAN-UNRESOLVED") == 1


def test_what_rules_are_made_of_a_plan_passes_its_audit(file: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.v4"
    rules.write_text(net("rules", "--for", "iptables", "--role", "agent", "-c", file).stdout)
    done = net("audit", "--from", "iptables", "--role", "agent", "-c", file, rules, "--json")
    report = parsed(done)
    assert {verdict["verdict"] for verdict in report["flows"] if "agent" in verdict["flow"]} <= {"open"}
    assert report["forbidden"] == []


def test_an_audit_reads_stdin_and_ends_with_1_on_findings(file: Path) -> None:
    nothing = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\nCOMMIT\n"
    done = net("audit", "--from", "iptables", "--role", "agent", "-c", file, "-", stdin=nothing)
    assert done.returncode == 1
    assert "NET-BLOCKED" in done.stdout


def test_what_cannot_be_told_of_a_forbidden_flow_is_counted_and_ends_with_1(file: Path, tmp_path: Path) -> None:
    rules = net("rules", "--for", "iptables", "--role", "agent", "-c", file).stdout
    wide = rules.replace("-j QUORATE-IN\n", "-j QUORATE-IN\n-A INPUT -i eth0 -j ACCEPT\n")
    done = net("audit", "--from", "iptables", "--role", "agent", "-c", file, "-", stdin=wide)
    assert done.returncode == 1
    assert "0 forbidden flows possible, 2 undetermined" in done.stdout
    assert "NET-UNDETERMINED anyone-to-agent:anyone:gpu" in done.stdout


def test_an_audit_of_something_else_ends_with_2(file: Path) -> None:
    done = net("audit", "--from", "iptables", "--role", "agent", "-c", file, "-", stdin="hello\n")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("word", "lines"),
    [
        ("29400", ["torch-rendezvous: member -> member, tcp 29400", "PyTorch docs"]),
        ("29503", ["tf-config's port of rank 3"]),
        ("tcp/8443", ["agent-link-tls: ", "tcp 8443"]),
        ("8443/tcp", ["agent-link-tls: ", "tcp 8443"]),
        ("udp/4789", ["vxlan: ", "udp 4789"]),
        ("tcp/4789", ["no flow of the catalogue uses it"]),
        ("udp/1024-65536", ["65536 is not a port; read as 1024-65535"]),
        ("12345", ["tensorflow:", "Oracle ADS Horovod"]),
        ("1024-65536", ["65536 is not a port; read as 1024-65535"]),
        ("user-to-agent", ["must fail", "otherwise"]),
        ("net-filtered", ["NET-FILTERED (error)"]),
    ],
)
def test_explain_says_who_uses_it_and_who_says_so(word: str, lines: list[str]) -> None:
    done = net("explain", word)
    assert done.returncode == 0
    assert [line for line in lines if line not in done.stdout] == []


@pytest.mark.parametrize(
    "word", ["rendezvouz", "0", "70000", "5-3", "tcp/", "tcp/0", "icmp/8", "tcp/80/udp", "tcp 8443 udp"]
)
def test_explain_refuses_what_is_nothing(word: str) -> None:
    done = net("explain", word)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_diff_is_0_for_equal_plans_and_1_for_others(file: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(net("plan", "-c", file, "--json").stdout)
    assert net("diff", file, plan).returncode == 0
    file.write_text(FILE.replace("10.0.1.0/24", "10.0.2.0/24"))
    done = net("diff", plan, file)
    assert done.returncode == 1
    assert "~ agent/gpu  (-10.0.1.0/24 +10.0.2.0/24)" in done.stdout


def test_ports_refuses_a_window_by_the_number_it_needs() -> None:
    done = net("ports", "--window", "50000-50009", "--nodes", "2", "--ranks", "8", "--json")
    assert done.returncode == 1
    report = parsed(done)
    assert report["needed"] == 75
    assert report["findings"][0]["remedy"] == "window: 50000-50074"


def test_ports_of_an_unknown_launcher_are_refused() -> None:
    done = net("ports", "--launcher", "toch")
    assert done.returncode == 2
    assert "did you mean 'torch'?" in done.stderr


def test_the_plan_of_a_job_has_the_window_of_its_pool_and_says_when_it_is_too_small(file: Path, tmp_path: Path) -> None:
    file.write_text(FILE + "  network: {window: 50000-50005}\n")
    job = tmp_path / "job.yaml"
    job.write_text("launcher: torch\nentrypoint: [python, x.py]\nresources: {nodes: 2, pool: gpu}\n")
    done = net("plan", "-c", file, "--job", job, "--json")
    assert done.returncode == 1
    gloo = next(flow for flow in parsed(done)["flows"] if flow["flow"] == "gloo")
    assert gloo["ports"] == ["50000-50005"]
    assert [finding["code"] for finding in parsed(done)["findings"]] == ["PORT-BUDGET"]


def test_the_plan_of_a_job_names_its_members(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(
        "name: digits\nkind: train\nlauncher: torch\nentrypoint: [python, train.py]\nresources: {nodes: 2}\n"
    )
    done = net("plan", "--job", job, "--json")
    assert done.returncode == 0
    flows = {flow["flow"]: flow["destination"] for flow in parsed(done)["flows"]}
    assert flows["torch-rendezvous"] == "member/main1"
    assert flows["rendezvous"] == "member/members"


def test_the_plan_of_a_job_follows_the_master_port_of_its_roles(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(
        "kind: train\nentrypoint: [python, train.py]\nenvironment: {MASTER_PORT: '31000'}\n"
        "roles: {main: {environment: {MASTER_PORT: '30000'}}, sub: {environment: {MASTER_PORT: '30000'}}}\n"
    )
    flows = {flow["flow"]: flow["ports"] for flow in parsed(net("plan", "--job", job, "--json"))["flows"]}
    assert flows["master-port"] == ["30000"]


def test_where_an_ipv6_network_ends_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "master.yaml"
    file.write_text("users: {where: {addresses: ['fd00:50::/32', 'fd00:51::1', 10.50.0.1]}}\n")
    places = net("plan", "-c", file).stdout.partition("\nwhere\n")[2]
    assert "10.50.0.1, fd00:50::/32, fd00:51::1\n" in "\n".join(line.rstrip() for line in places.splitlines()) + "\n"


def test_a_job_whose_ranks_run_past_the_last_port_is_refused_with_its_file(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("name: x\nentrypoint: ['true']\nresources: {nodes: 2}\nenvironment: {MASTER_PORT: '65535'}\n")
    done = net("plan", "--job", job)
    assert done.returncode == 2
    assert f"{job}: tf-config needs a port for each rank from 65535 on" in done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        "environment: {MASTER_PORT: '99999999'}",
        "environment: {BACKENDAI_DIST_MASTER_PORT: '0'}",
        "roles: {main: {environment: {MASTER_PORT: '30000'}}, sub: {environment: {MASTER_PORT: auto}}}",
    ],
)
def test_a_job_whose_master_port_is_no_port_is_refused_with_its_file(tmp_path: Path, environment: str) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(f"name: x\nentrypoint: ['true']\nresources: {{nodes: 2}}\n{environment}\n")
    done = net("plan", "--job", job)
    assert done.returncode == 2
    assert f"{job}: " in done.stderr and "MASTER_PORT: " in done.stderr
    assert "is no port; ports are 1 to 65535" in done.stderr


def test_the_plan_of_a_job_knows_its_pools_window_and_what_stands_around_it(tmp_path: Path) -> None:
    file, job = tmp_path / "master.yaml", tmp_path / "job.yaml"
    file.write_text(
        "master: {where: {addresses: [10.0.0.2]}}\n"
        "pools: [{name: gpu, where: {addresses: [10.0.1.0/24]}, network: {window: 40000-44999}}]\n"
    )
    job.write_text("kind: train\nlauncher: torch\nresources: {nodes: 2, pool: gpu}\nentrypoint: [python, t.py]\n")
    shown = net("plan", "-c", file, "--job", job).stdout
    assert "tcp/40000-44999" in shown
    assert all(flow in shown for flow in ("member-to-agent", "member-to-master", "member-to-stranger"))
    job.write_text("kind: train\nlauncher: torch\nresources: {nodes: 2}\nentrypoint: [python, t.py]\n")
    refused = net("plan", "-c", file, "--job", job)
    assert refused.returncode == 2 and "there is no pool 'default'" in refused.stderr
