"""Members with an image in private networks: pause containers, names, and what an agent's death changes."""

import subprocess
from collections.abc import Iterator

import pytest
from tests.agent.conftest import until
from tests.agent.runtime.conftest import Cluster, serving
from tests.docker_engine import IMAGE, DockerEngine, busybox
from tests.lab import dockers

from quorate.agent.runtime import pause
from quorate.model.state import JobState

pytestmark = [pytest.mark.docker, pytest.mark.lab]


@pytest.fixture(scope="module")
def cluster(docker: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # A machine has one agent that makes networks, so this one allows what any of these tests asks for.
    allow = {**dockers.ALLOW, "run_as": ["root", "1234"], "capabilities": ["CHOWN"]}
    yield from serving(docker, tmp_path_factory.mktemp("cluster"), sandboxes=True, allow=allow)


#: Where the host's programs are, in the container too.
_PATH = "/usr/sbin:/usr/bin"
PAIR = {"network": {"mode": "bridge"}, "resources": {"nodes": 2}}


def test_members_in_containers_have_names_and_addresses_of_their_own(cluster: Cluster) -> None:
    script = "hostname; cat /etc/hosts; ls /sys/class/net; echo $QUORATE_ADDRESS $MASTER_ADDR"
    job = cluster.submit(script, **PAIR)
    view = cluster.ended(job)
    assert view.state is JobState.COMPLETED, view.reason
    said = cluster.output(job)
    assert {"main1", "sub1", "eth0", "lo"} <= set(said)
    assert any("main1" in line and "127." not in line for line in said)
    until(lambda: not cluster.docker.names())


def test_a_member_reaches_the_other_by_name(cluster: Cluster) -> None:
    script = """
    if [ $QUORATE_RANK = 0 ]; then
        mkdir -p www && echo hello > www/index.html && timeout 20 busybox httpd -f -p 8000 -h www &
        while [ ! -e /quorate/work/done ]; do
            busybox nc -l -p 8001 > done && break
        done
    else
        until wget -q -O - http://main1:8000/index.html; do sleep 0.1; done
        until echo done | busybox nc main1 8001; do sleep 0.1; done
    fi
    """
    job = cluster.submit(script, **PAIR)
    view = cluster.ended(job)
    assert view.state is JobState.COMPLETED, view.reason
    assert "hello" in cluster.output(job)


def test_each_role_runs_its_own_image_with_its_own_command_and_variables(cluster: Cluster) -> None:
    other = "quorate-test/worker:1"
    cluster.docker.image(other, {**busybox(), "of-worker": b""}, ["ENV OF_IMAGE=worker"])
    look = 'echo "$QUORATE_HOST $QUORATE_ROLE of $QUORATE_REPLICAS: $(ls -d /of-* 2>&-) $OF_IMAGE $OF_ROLE $OF_JOB"'
    roles = {
        "main": {"image": IMAGE, "entrypoint": f"echo leads; {look}", "environment": {"OF_ROLE": "first"}},
        "worker": {
            "replicas": 2, "image": other, "entrypoint": f"echo works; {look}", "environment": {"OF_ROLE": "second"},
        },
    }  # fmt: skip
    job = cluster.submit(image=None, roles=roles, environment={"OF_JOB": "all"}, network={"mode": "bridge"})
    view = cluster.ended(job)
    assert view.state is JobState.COMPLETED, view.reason
    replicas = "main:1,worker:2"
    assert sorted(cluster.output(job)) == [
        "leads",
        f"main1 main of {replicas}:   first all",
        f"worker1 worker of {replicas}: /of-worker worker second all",
        f"worker2 worker of {replicas}: /of-worker worker second all",
        "works",
        "works",
    ]


def test_a_private_network_outlives_its_agent(cluster: Cluster) -> None:
    script = """
    if [ $QUORATE_RANK = 0 ]; then
        mkdir -p www && echo hello > www/index.html && exec busybox httpd -f -p 8000 -h www
    else
        i=0; while true; do wget -q -O - http://main1:8000/index.html && echo $i; i=$((i+1)); sleep 0.1; done
    fi
    """
    job = cluster.submit(script, **PAIR)
    cluster.until_running(job)
    until(lambda: "hello" in cluster.output(job))
    pauses = {name for name in cluster.docker.names() if "pause" in name}
    assert len(pauses) == 2
    before = {name: cluster.docker.engine.inspect(name)["State"]["Pid"] for name in pauses}
    cluster.agent.kill()
    cluster.agent.come_back(cluster.master.url)
    count = cluster.output(job).count("hello")
    until(lambda: cluster.output(job).count("hello") > count + 10)
    assert {name: cluster.docker.engine.inspect(name)["State"]["Pid"] for name in pauses} == before
    cluster.client.cancel(job)
    assert cluster.ended(job).state is JobState.CANCELLED
    until(lambda: not cluster.docker.names())


#: What root would do to be rid of its rules and its place in the network.
_ATTEMPTS = (
    "nft flush ruleset", "nft delete table inet quorate", "nft add table inet own",
    "ip link set eth0 down", "ip route add 1.1.1.1 dev lo", "ip addr add 10.9.9.9/32 dev eth0",
)  # fmt: skip


def test_a_member_whose_pause_container_dies_has_failed(cluster: Cluster) -> None:
    job = cluster.submit("echo up; sleep 1000", **PAIR)
    member = cluster.until_running(job)
    cluster.docker.engine.kill(pause.name_of(member), "SIGKILL")
    view = cluster.ended(job)
    assert view.state is JobState.FAILED
    assert "what holds its network namespace has ended" in view.reason
    until(lambda: not cluster.docker.names())


def test_a_pause_container_that_dies_while_its_agent_is_dead_is_missed_by_the_next_one(cluster: Cluster) -> None:
    job = cluster.submit("echo up; sleep 1000", **PAIR)
    member = cluster.until_running(job)
    cluster.agent.kill()
    cluster.docker.engine.kill(pause.name_of(member), "SIGKILL")
    cluster.agent.come_back(cluster.master.url)
    assert "what holds its network namespace has ended" in cluster.ended(job).reason
    until(lambda: not cluster.docker.names())


def test_a_member_that_is_root_in_its_container_cannot_change_its_rules_or_its_network(cluster: Cluster) -> None:
    repository, _, tag = dockers.IMAGE.partition(":")
    cluster.docker.engine.load(dockers.tiny_image(), repository, tag, ())
    attempts = "; ".join(f"{attempt} && echo done: {attempt}" for attempt in _ATTEMPTS)
    job = cluster.submit(
        f"id -u; until [ -e go ]; do sleep 0.1; done; {attempts}; touch tried; sleep 600",
        image={"name": dockers.IMAGE, "pull": "never"}, mounts=dockers.MOUNTS, environment={"PATH": _PATH},
        network={"mode": "bridge"}, run_as="root", capabilities=["CHOWN"],
    )  # fmt: skip
    member = cluster.until_running(job)
    pid = cluster.docker.container(member)["State"]["Pid"]
    before = _network(pid)
    assert "table inet quorate" in before and "eth0" in before
    work = cluster.agent.folder(member) / "work"
    (work / "go").touch()
    until((work / "tried").exists)
    assert _network(pid) == before
    until(lambda: "0" in cluster.output(job))
    assert not [line for line in cluster.output(job) if line.startswith("done")]
    # The very same programs in the very same place do all of it, once they have the machine's rights.
    for attempt in _ATTEMPTS[2:]:
        _within(pid, "--mount", *attempt.split())
    _within(pid, "--mount", *_ATTEMPTS[0].split())
    assert _network(pid) != before
    cluster.client.cancel(job)
    cluster.ended(job)


def _network(pid: int) -> str:
    """The rules, devices and routes that the process has, without what is only counted."""
    return "".join(
        _within(pid, *command.split()) for command in ("nft -s list ruleset", "ip -brief address", "ip route")
    )


def _within(pid: int, *command: str) -> str:
    done = subprocess.run(
        ["nsenter", f"--target={pid}", "--net", *command],
        env={"PATH": _PATH}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_member_in_the_hosts_network_is_kept_from_the_metadata_under_the_user_that_it_names(cluster: Cluster) -> None:
    def chosen() -> str:
        command = ["nft", "list", "set", "inet", "quorate", "chosen"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    job = cluster.submit("sleep 600", run_as="1234")
    cluster.until_running(job)
    assert "elements = { 1234 }" in chosen()
    cluster.client.cancel(job)
    cluster.ended(job)
    until(lambda: "1234" not in chosen())
    refused = cluster.run("true", run_as="root")
    assert refused.state is JobState.FAILED
    assert "allow: host_root" in refused.reason


def test_a_member_that_uses_ssh_finds_its_client_ready_though_its_image_knows_nothing_of_it(cluster: Cluster) -> None:
    job = cluster.submit("head -3 /etc/ssh/ssh_config; ls /quorate/ssh; id -un", **PAIR)
    view = cluster.ended(job)
    assert view.state is JobState.COMPLETED, view.reason
    said = cluster.output(job)
    assert len([line for line in said if line.startswith("Host main1")]) == 2
    # OpenSSH does nothing for somebody without a name.
    assert said.count("quorate") == 2
