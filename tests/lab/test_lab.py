"""The lab itself: hosts are machines of their own, faults do what their names say, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.lab import faults, sshd
from tests.lab.hosts import REPOSITORY, Host, Lab, until
from tests.sandbox.hosts import Inside

pytestmark = pytest.mark.lab

PORT = 29500


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host]:
    lab.open("h1", "h2")
    return lab["h1"], lab["h2"]


def network(host: Host) -> Inside:
    return Inside(host.network)


def test_a_host_has_its_own_name_network_processes_etc_and_boot_id(pair: tuple[Host, Host]) -> None:
    one, other = pair
    assert one.run("hostname") == "h1\n"
    assert "10.77.0.11/24" in one.run("ip", "address", "show", "eth0")
    assert one.run("ls", "/sys/class/net").split() == ["eth0", "lo"]
    assert len(one.run("ls", "/proc").split("sys")[0].split()) < 40
    one.file("/etc/of-h1").write_text("x")
    assert not other.file("/etc/of-h1").exists()
    assert not Path("/etc/of-h1").exists()
    boots = {host.run("cat", "/proc/sys/kernel/random/boot_id") for host in pair}
    assert len(boots | {Path("/proc/sys/kernel/random/boot_id").read_text()}) == 3


def test_a_user_without_rights_runs_python_and_the_checkout_on_a_host(pair: tuple[Host, Host]) -> None:
    as_nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    assert pair[0].run(*as_nobody, sys.executable, "-c", "import quorate; print(6 * 7)") == "42\n"


def test_hosts_reach_each_other_until_a_firewall_says_no(pair: tuple[Host, Host]) -> None:
    one, other = pair
    with network(other).serves("h2", f"tcp/0.0.0.0/{PORT}"):
        assert network(one).tries(other.address, PORT) == "open h2 sees 10.77.0.11"
        other.firewall("table inet f {\nchain i {\ntype filter hook input priority 0; policy drop;\n}\n}\n")
        assert network(one).tries(other.address, PORT) == "silent"


def test_what_was_on_the_disk_is_there_after_a_power_cut_and_nothing_else(lab: Lab, pair: tuple[Host, Host]) -> None:
    host = pair[0]
    sleeper = host.start("sleep", "1000")
    host.run("sh", "-c", "echo kept > /var/lib/quorate/kept; touch /run/gone")
    boot = host.run("cat", "/proc/sys/kernel/random/boot_id")
    host.power_off()
    assert not psutil.pid_exists(sleeper.pid)
    lab.boot(host)
    assert host.run("cat", "/var/lib/quorate/kept") == "kept\n"
    assert not host.file("/run/gone").exists()
    assert host.run("cat", "/proc/sys/kernel/random/boot_id") != boot


def test_nothing_is_left_of_a_lab(lab: Lab, pair: tuple[Host, Host]) -> None:
    started = [host.start("sh", "-c", "setsid sleep 1000 & setsid sleep 1000") for host in pair]
    firsts = [host.pid for host in pair]
    lab.close()
    assert not [pid for pid in (*firsts, *(process.pid for process in started)) if psutil.pid_exists(pid)]
    assert not lab.folder.exists()
    # Others' labs and agents come and go meanwhile, so only what names this one counts.
    assert lab.folder.name not in Path("/proc/self/mountinfo").read_text()


def test_a_lab_goes_with_the_process_that_made_it(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    program = f"""
import os
from pathlib import Path
from tests.lab.hosts import Lab
lab = Lab(Path({str(tmp_path / "lab")!r}))
lab.open("h1")
print(lab["h1"].pid, flush=True)
os.kill(os.getpid(), 9)
"""
    died = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert died.returncode == -9, died.stderr
    first = int(died.stdout)
    until(lambda: not psutil.pid_exists(first), "the end of a host without a lab")


# --- faults ----------------------------------------------------------------------------------------------------


def test_a_cut_link_carries_nothing_until_it_is_mended(lab: Lab, pair: tuple[Host, Host]) -> None:
    one, other = pair
    with network(other).serves("h2", f"tcp/0.0.0.0/{PORT}"):
        with faults.link_cut(lab, other):
            assert network(one).tries(other.address, PORT) in ("silent", "EHOSTUNREACH")
            assert "NO-CARRIER" in other.run("ip", "link", "show", "eth0")
        assert network(one).tries(other.address, PORT, timeout_s=10) == "open h2 sees 10.77.0.11"


def test_a_dropped_port_is_silent_and_its_neighbour_is_not(lab: Lab, pair: tuple[Host, Host]) -> None:
    one, other = pair
    with network(other).serves("h2", f"tcp/0.0.0.0/{PORT}", "tcp/0.0.0.0/29501", f"udp/0.0.0.0/{PORT}"):
        with faults.port_dropped(lab, PORT, destination=other):
            assert network(one).tries(other.address, PORT) == "silent"
            assert network(one).tries(other.address, 29501) == "open h2 sees 10.77.0.11"
            assert network(one).tries(other.address, PORT, "udp") == "open h2 sees 10.77.0.11"
        assert network(one).tries(other.address, PORT) == "open h2 sees 10.77.0.11"


def test_one_way_means_that_nothing_comes_back(lab: Lab, pair: tuple[Host, Host]) -> None:
    one, other = pair
    with network(other).serves("h2", f"udp/0.0.0.0/{PORT}") as heard, faults.one_way(lab, one, other):
        assert network(one).tries(other.address, PORT, "udp") == "silent"
        assert heard == [b"?"]


def test_two_hosts_apart_still_hear_a_third(lab: Lab, pair: tuple[Host, Host]) -> None:
    one, other = pair
    with network(other).serves("h2", f"tcp/0.0.0.0/{PORT}"), faults.apart(lab, one, other):
        assert network(one).tries(other.address, PORT) == "silent"
        assert network(lab["desk"]).tries(other.address, PORT) == "open h2 sees 10.77.0.3"


def test_in_a_black_hole_large_packets_vanish_without_a_word(lab: Lab, pair: tuple[Host, Host]) -> None:
    one, other = pair
    with network(other).serves("h2", f"udp/0.0.0.0/{PORT}"), faults.black_hole(lab, 1400):
        assert network(one).sends_whole(1400, other.address, PORT) == "open h2 sees 10.77.0.11"
        assert network(one).sends_whole(1401, other.address, PORT) == "silent"
        # A second packet would be refused at once, had anybody said that the first was too large.
        assert network(one).sends_whole(1401, other.address, PORT) == "silent"


def test_some_packets_are_lost_and_some_are_not(lab: Lab, pair: tuple[Host, Host]) -> None:
    one, other = pair
    with network(other).serves("h2", f"udp/0.0.0.0/{PORT}") as heard:
        with faults.packets_lost(lab, 30, destination=other):
            for number in range(200):
                network(one).sends(str(number).encode(), other.address, PORT)
        network(one).sends(b"last", other.address, PORT)
        until(lambda: b"last" in heard, "the last packet")
    assert 50 < len(heard) < 195


def test_a_name_that_resolves_to_loopback_does_so_on_that_host_alone(pair: tuple[Host, Host]) -> None:
    one, other = pair
    with faults.resolves_to_loopback(one):
        assert one.run("getent", "ahostsv4", "h1").split()[0] == "127.0.1.1"
        assert other.run("getent", "ahostsv4", "h1").split()[0] == "10.77.0.11"
    assert one.run("getent", "ahostsv4", "h1").split()[0] == "10.77.0.11"


def test_a_clock_ahead_tells_another_time_and_waits_no_longer(pair: tuple[Host, Host]) -> None:
    program = """
import subprocess, sys, threading, time
began = time.monotonic()
time.sleep(0.01)
threading.Event().wait(0.01)
subprocess.run(["sleep", "0.01"], timeout=60)
print(sys.prefix, time.time(), time.monotonic() - began)
"""
    host = pair[0]
    with faults.clock_ahead(host, 90):
        prefix, wall, took = host.run(sys.executable, "-c", program).split()
        assert prefix == sys.prefix
        assert 80 < float(wall) - time.time() < 100
        assert float(took) < 30
        assert abs(float(pair[1].run(sys.executable, "-c", program).split()[1]) - time.time()) < 30
    assert abs(float(host.run(sys.executable, "-c", program).split()[1]) - time.time()) < 30


def test_a_rule_is_missing_only_as_long_as_it_is_said(pair: tuple[Host, Host]) -> None:
    one, other = pair
    rules = "\n".join((
        "table inet f", "delete table inet f", "table inet f {", "chain i {",
        "type filter hook input priority 0; policy drop;", f"tcp dport {PORT} accept", "}", "}", "",
    ))  # fmt: skip
    other.firewall(rules)
    with network(other).serves("h2", f"tcp/0.0.0.0/{PORT}"):
        with faults.without_rule(other, rules, f"tcp dport {PORT} accept"):
            assert network(one).tries(other.address, PORT) == "silent"
        assert network(one).tries(other.address, PORT) == "open h2 sees 10.77.0.11"


def test_an_operator_at_the_desk_logs_in_to_hosts_by_ssh(lab: Lab, pair: tuple[Host, Host]) -> None:
    if missing := sshd.missing():
        pytest.skip(f"needs {', '.join(missing)}: apt install --no-install-recommends openssh-client openssh-server")
    with sshd.servers(lab, *pair):
        for host in pair:
            assert lab["desk"].run("ssh", host.name, "hostname") == f"{host.name}\n"
