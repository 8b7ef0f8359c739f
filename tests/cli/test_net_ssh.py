"""Hosts that are reached by SSH try each other: nothing is installed there, and whatever is in the way is named."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.lab

CLIENT, HOSTS = "10.75.0.1", {"gpu1": "10.75.0.11", "gpu2": "10.75.0.12", "gpu3": "10.75.0.13"}
WINDOW = "32768-60999"
ESTABLISHED = (
    "ct state established,related accept",
    'iifname "lo" accept',
    "meta l4proto icmp accept",
    "tcp dport 22 accept",
)


def run(*command: str, text: str | None = None) -> None:
    done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr


@dataclass
class Answer:
    """What the command said."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.out)
        return data

    @property
    def codes(self) -> list[tuple[str, str | None, str | None]]:
        return [(found["code"], found["source"], found["destination"]) for found in self.data["findings"]]


class Net:
    """A client and three hosts with an sshd each, on one wire, all in namespaces."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path) -> None:
        self.folder = folder
        self.stack = stack
        self.client = f"qs{os.getpid()}-client"
        self.namespaces = {name: f"qs{os.getpid()}-{name}" for name in HOSTS}
        for namespace in (self.client, *self.namespaces.values()):
            run("ip", "netns", "add", namespace)
            stack.callback(run, "ip", "netns", "delete", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", self.client, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.client, "address", "add", f"{CLIENT}/24", "dev", "br0")
        run("ip", "-n", self.client, "link", "set", "br0", "up")
        for key in ("user", "host"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
        Path("/run/sshd").mkdir(exist_ok=True)
        for name, address in HOSTS.items():
            self._host(name, address)
        public = (folder / "host.pub").read_text()
        (folder / "known_hosts").write_text("".join(f"{address} {public}" for address in HOSTS.values()))
        (folder / "config").write_text(
            "".join(f"Host {name}\n  HostName {address}\n" for name, address in HOSTS.items())
            + f"Host *\n  User root\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {folder}/known_hosts\n  StrictHostKeyChecking yes\n"
        )

    def _host(self, name: str, address: str) -> None:
        namespace, link = self.namespaces[name], f"to-{name}"
        run("ip", "link", "add", "eth0", "netns", namespace, "type", "veth", "peer", link, "netns", self.client)
        run("ip", "-n", self.client, "link", "set", link, "master", "br0", "up")
        run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
        own = Path("/etc/netns", namespace)
        own.mkdir(parents=True)
        self.stack.callback(shutil.rmtree, own)
        (own / "hosts").write_text(f"127.0.0.1 localhost\n{address} {socket.gethostname()}\n")
        config = self.folder / f"sshd-{name}"
        config.write_text(
            f"ListenAddress {address}:22\nHostKey {self.folder}/host\nAuthorizedKeysFile {self.folder}/user.pub\n"
            "UsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nPidFile none\n"
        )
        server = subprocess.Popen(
            ["ip", "netns", "exec", namespace, "/usr/sbin/sshd", "-D", "-e", "-f", str(config)],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stack.callback(server.communicate)
        self.stack.callback(server.kill)
        assert server.stderr is not None
        # It says so once it listens.
        assert "listening" in server.stderr.readline()

    def firewall(self, name: str, *accepted: str) -> None:
        """Drops what comes to the host, but for SSH and these rules."""
        lines = "\n".join(["type filter hook input priority 0; policy drop;", *ESTABLISHED, *accepted])
        text = f"flush ruleset\ntable inet t {{\nchain c {{\n{lines}\n}}\n}}\n"
        run("ip", "netns", "exec", self.namespaces[name], "nft", "-f", "-", text=text)

    def check(
        self, *words: str, hosts: tuple[str, ...] = ("gpu1", "gpu2", "gpu3"), as_json: bool = True, by: str = ""
    ) -> Answer:
        """`by`: a command that runs SSH."""
        command = [sys.executable, "-m", "quorate", "net", "check", "--ssh", *hosts, *words]
        command += ["--ssh-command", f"{by} ssh -F {self.folder}/config", *(["--json"] if as_json else [])]
        done = subprocess.run(
            ["ip", "netns", "exec", self.client, *command], capture_output=True, text=True, timeout=120
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("nft", "ip", "ssh-keygen"))):
        pytest.skip("needs root, nftables, iproute2 and OpenSSH")
    with contextlib.ExitStack() as stack:
        yield Net(stack, tmp_path_factory.mktemp("ssh"))


@pytest.fixture(autouse=True)
def no_firewalls(net: Net) -> None:
    for namespace in net.namespaces.values():
        run("ip", "netns", "exec", namespace, "nft", "flush", "ruleset")


def test_hosts_without_firewalls_reach_each_other(net: Net) -> None:
    answer = net.check()
    assert answer.code == 0, answer.out + answer.err
    assert answer.data["findings"] == []
    assert answer.data["verdict"].startswith("all 6 ways between 3 hosts are open for torch, the slowest in ")
    assert {end["address"] for end in answer.data["ends"]} == set(HOSTS.values())
    flows = {attempt["flow"] for attempt in answer.data["attempts"]}
    assert flows == {"torch-rendezvous", "gloo", "gloo, torch-store"}
    assert all(attempt["round_trip_ms"] > 0 for attempt in answer.data["attempts"])


def test_what_people_see_is_a_matrix_a_finding_and_a_verdict(net: Net) -> None:
    net.firewall("gpu2", "tcp dport 29400 accept")
    answer = net.check(hosts=("gpu1", "gpu2"), as_json=False)
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert lines[0].split() == ["FROM", "\\", "TO", "gpu1", "gpu2"]
    assert lines[1].split()[:3] == ["gpu1", "—", "filtered"]
    assert "error NET-FILTERED gloo: gpu1 -> gpu2: a firewall drops the flow" in answer.out
    assert f"nft insert rule inet filter input ip saddr 10.75.0.11 tcp dport {WINDOW} accept" in answer.out
    assert lines[-1].startswith("✗ 1 of 2 ways between 2 hosts is not open for torch: ")
    # Progress is on the side.
    assert answer.err.splitlines()[0] == "connecting to 2 hosts"


def test_the_one_rule_that_is_missing_is_named_and_its_remedy_mends_it(net: Net) -> None:
    net.firewall("gpu1", f"tcp dport {WINDOW} accept")
    answer = net.check(hosts=("gpu1", "gpu2"))
    assert answer.code == 1
    assert answer.codes == [("NET-FILTERED", "gpu2", "gpu1")]
    (finding,) = answer.data["findings"]
    assert finding["subject"].startswith("torch-rendezvous")
    net.firewall("gpu1", f"tcp dport {WINDOW} accept", "ip saddr 10.75.0.12 tcp dport 29400 accept")
    assert net.check(hosts=("gpu1", "gpu2")).code == 0


def test_a_host_that_nobody_reaches_is_one_finding(net: Net) -> None:
    net.firewall("gpu3")
    answer = net.check()
    assert answer.codes == [("NET-FILTERED", "gpu1, gpu2", "gpu3")]
    assert len(answer.data["findings"][0]["remedy"].splitlines()) == 2


def test_any_port_can_be_tried(net: Net) -> None:
    net.firewall("gpu2", "tcp dport 8000 accept")
    assert net.check("--port", "8000", hosts=("gpu1", "gpu2")).code == 0
    answer = net.check("--port", "8000", "--port", "9000-9100", hosts=("gpu1", "gpu2"))
    assert answer.code == 1
    (finding,) = answer.data["findings"]
    assert "9000-9100" in finding["remedy"]


def test_what_quorate_needs_besides_can_be_tried_too(net: Net) -> None:
    attempts = net.check("--quorate", hosts=("gpu1", "gpu2")).data["attempts"]
    assert {1734, 1750} <= {attempt["port"] for attempt in attempts}


def test_large_packets_that_vanish_are_named(net: Net) -> None:
    rule = "tcp dport 22 accept\ntcp sport 22 accept\nmeta length > 1400 drop"
    text = f"table inet t {{\nchain p {{\ntype filter hook prerouting priority -300;\n{rule}\n}}\n}}\n"
    for name in ("gpu1", "gpu2"):
        run("ip", "netns", "exec", net.namespaces[name], "nft", "-f", "-", text=text)
    answer = net.check(hosts=("gpu1", "gpu2"))
    assert answer.codes == [("NET-MTU", "gpu1", "gpu2")], answer.out
    assert "packets of 1500 bytes" in answer.data["findings"][0]["evidence"]


def test_a_taken_port_is_named_by_its_host(net: Net) -> None:
    holder = subprocess.Popen(
        ["ip", "netns", "exec", net.namespaces["gpu1"], sys.executable, "-c",
         "import socket\ns = socket.socket()\ns.bind(('0.0.0.0', 29400))\ns.listen()\nprint(flush=True)\ns.accept()"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        answer = net.check(hosts=("gpu1", "gpu2"))
    finally:
        holder.kill()
        holder.communicate()
    assert answer.codes == [("PORT-TAKEN", "gpu1", None)]
    assert answer.code == 1


def test_a_host_that_cannot_be_reached_leaves_the_others_to_go_on(net: Net) -> None:
    answer = net.check(hosts=("gpu1", "gpu2", "nobody@gpu3"))
    assert answer.codes == [("HOST-UNREACHED", "nobody@gpu3", None)]
    assert "Permission denied" in answer.data["findings"][0]["evidence"]
    assert answer.data["verdict"].startswith("all 2 ways")
    assert answer.code == 1


#: Runs SSH; to the host that is named the connection is cut when it is given its order of that number.
CUT = """
import subprocess, sys
host, number, *command = sys.argv[1:]
if host not in command:
    import os
    os.execvp(command[0], command)
ssh = subprocess.Popen(command, stdin=subprocess.PIPE)
size = sys.stdin.buffer.readline()
ssh.stdin.write(size + sys.stdin.buffer.read(int(size)))
for _ in range(int(number) - 1):
    ssh.stdin.flush()
    ssh.stdin.write(sys.stdin.buffer.readline())
ssh.stdin.flush()
sys.stdin.buffer.readline()
ssh.kill()
ssh.wait()
sys.exit("Connection to the host was lost")
"""


@pytest.mark.parametrize(
    ("when", "number", "ways"), [("listening", 1, 2), ("trying", 2, 2), ("clock", 3, 6), ("name", 4, 6)]
)
def test_a_host_that_is_lost_on_the_way_is_a_finding_and_the_others_go_on(
    net: Net, when: str, number: int, ways: int
) -> None:
    cut = net.folder / "cut.py"
    cut.write_text(CUT)
    net.firewall("gpu2", "tcp dport 29400 accept")
    answer = net.check(by=f"{sys.executable} {cut} gpu3 {number}")
    assert answer.code == 1, answer.err
    assert "mistake in Quorate" not in answer.err
    found = {code: (source, destination) for code, source, destination in answer.codes}
    assert found.pop("HOST-UNREACHED") == ("gpu3", None)
    # What is true of the others is told as ever.
    assert found == {"NET-FILTERED": ("gpu1" if ways == 2 else "gpu1, gpu3", "gpu2")}, when
    assert len({(each["source"], each["destination"]) for each in answer.data["attempts"]}) == ways
    assert all("lost" in each["evidence"] for each in answer.data["findings"] if each["code"] == "HOST-UNREACHED")


def test_a_host_without_a_python_says_so(net: Net) -> None:
    answer = net.check("--python", "python9", hosts=("gpu1", "gpu2"))
    assert [code for code, _, _ in answer.codes] == ["HOST-UNREACHED", "HOST-UNREACHED"]
    assert "it has no python9" in answer.data["findings"][0]["evidence"]


@contextlib.contextmanager
def own_name_on_loopback(net: Net, host: str) -> Iterator[None]:
    """Only a login after the change sees it: `ip netns exec` mounts the file when sshd starts."""
    hosts = Path("/etc/netns", net.namespaces[host], "hosts")
    before = hosts.read_text()
    hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 {socket.gethostname()}\n")
    try:
        yield
    finally:
        hosts.write_text(before)


def rename_device(net: Net, host: str, before: str, after: str) -> None:
    for words in (("down",), ("name", after), ("up",)):
        run("ip", "-n", net.namespaces[host], "link", "set", before if words != ("up",) else after, *words)


def test_the_name_of_a_device_there_is_no_word_of_the_command_to_paste_here(net: Net) -> None:
    rename_device(net, "gpu2", "eth0", "e;$(id)")
    try:
        with own_name_on_loopback(net, "gpu2"):
            answer = net.check(hosts=("gpu1", "gpu2"))
    finally:
        rename_device(net, "gpu2", "e;$(id)", "eth0")
    remedy = answer.data["findings"][0]["remedy"]
    pasted = f"{remedy}; printenv GLOO_SOCKET_IFNAME NCCL_SOCKET_IFNAME"
    assert subprocess.check_output(["sh", "-c", pasted], text=True) == "e;$(id)\n=e;$(id)\n"


def test_an_own_name_that_is_loopback_is_mentioned_with_the_device_to_name(net: Net) -> None:
    with own_name_on_loopback(net, "gpu2"):
        answer = net.check(hosts=("gpu1", "gpu2"))
    assert answer.codes == [("NAME-OWN-LOOPBACK", "gpu2", None)]
    assert "GLOO_SOCKET_IFNAME=eth0" in answer.data["findings"][0]["remedy"]
    assert answer.code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gpu1"], "between two hosts at least"),
        (["gpu1", "gpu1"], "twice"),
        (["gpu1", "gpu2=there"], "'there' is no address"),
        (["gpu1", "gpu2", "--nodes", "3"], "--nodes 3 with 2 hosts"),
        (["gpu1", "gpu2", "--launcher", "torhc"], "torch"),
        (["gpu1", "gpu2", "--port", "70000"], "ports end at 65535"),
        (["--", "-oProxyCommand=true", "gpu2"], "is no host"),
    ],
)
def test_what_cannot_be_meant_is_refused(net: Net, words: list[str], said: str) -> None:
    answer = net.check(*([] if "--" in words else words), hosts=tuple(words) if "--" in words else (), as_json=False)
    assert answer.code == 2, answer.out + answer.err
    assert said in answer.err


def test_it_leaves_nothing_behind(net: Net) -> None:
    net.check(hosts=("gpu1", "gpu2"))
    deadline = time.monotonic() + 20.0
    while _processes(net, "gpu1"):
        assert time.monotonic() < deadline, "the prober runs on"
        time.sleep(0.05)


def _processes(net: Net, name: str) -> list[str]:
    pids = subprocess.run(["ip", "netns", "pids", net.namespaces[name]], capture_output=True, text=True).stdout.split()
    lines = []
    for pid in pids:
        with contextlib.suppress(OSError):
            lines.append(Path("/proc", pid, "cmdline").read_bytes().decode().replace("\0", " "))
    return [line for line in lines if "python" in line]
