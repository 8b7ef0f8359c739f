"""What a job may say, and where each of its mistakes is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.compat.determined import translate
from quorate.model.job import JobKind, JobSpec
from quorate.model.size import SizeError, format_size, parse_size
from quorate.model.yamlfile import FileProblems, parse_yaml, validate


def spec(text: str) -> JobSpec:
    return validate(translate(parse_yaml(text, "job.yaml")), JobSpec)


def mistakes(text: str) -> list[str]:
    with pytest.raises(FileProblems) as caught:
        spec(text)
    return [str(problem) for problem in caught.value.problems]


WHOLE = """\
name: hadoop
kind: cluster
image: {name: registry.example.org/team/train:1, pull: always}
environment: {A: 1}
memory: 16GiB
shm: 2g
cpus: 2.5
pids: 4096
mounts: [{source: /data, target: /data, read_only: true}]
devices: [/dev/fuse]
capabilities: [cap_sys_ptrace]
run_as: "1000:1000"
workdir: /srv
bootstrap: pip install -e .
preflight: off
idle_timeout: 30m
resources: {slots: 0}
roles:
  worker: {replicas: 3, slots: 2, memory: 32GiB, environment: {B: 2}}
  main: {entrypoint: serve}
network:
  mode: overlay
  members: planned
  enforcement: off
  window: 40000-40999
  egress: {hosts: [pypi.org, 10.1.0.0/16], metadata: true}
"""


def test_a_job_with_every_key_is_read() -> None:
    job = spec(WHOLE)
    assert (job.memory, job.shm, job.cpus) == (16 << 30, 2 << 30, 2.5)
    assert job.roles["main"].entrypoint == ("sh", "-c", "serve")
    assert job.capabilities == ("SYS_PTRACE",)
    assert (job.network.egress.word, job.network.egress.metadata) == ("named", True)
    assert job.preflight == "off"
    assert (job.slots_of("worker"), job.slots_of("main")) == (2, 0)


def test_main_is_first_and_the_other_roles_are_in_the_order_of_the_file() -> None:
    job = spec(WHOLE)
    assert job.members() == (("main", 1), ("worker", 1), ("worker", 2), ("worker", 3))
    assert job.resources.nodes == 4


def test_nodes_are_short_for_one_main_and_the_rest_sub() -> None:
    assert spec("entrypoint: a\nresources: {nodes: 3}\n").members() == (("main", 1), ("sub", 1), ("sub", 2))


def test_what_is_shown_is_read_back_as_the_same_job() -> None:
    for text in (WHOLE, "image: {build: ., push: r.example.org/a:1}\n", "entrypoint: a\nnetwork: {mode: host}\n"):
        job = spec(text)
        assert JobSpec.model_validate(job.model_dump(mode="json")) == job
        assert JobSpec.model_validate(job.model_dump(mode="json", exclude_defaults=True)) == job


def test_an_entry_point_may_be_left_to_an_image_or_a_cluster() -> None:
    assert spec("image: python:3.12\n").entrypoint == ()
    assert spec("kind: cluster\n").kind is JobKind.CLUSTER
    assert spec("roles: {a: {image: busybox}, b: {entrypoint: [x]}}\n").entrypoint == ()
    assert mistakes("name: x\n") == ["job.yaml:1:1: the key 'entrypoint' is missing"]


def test_only_a_job_of_equal_processes_is_plain() -> None:
    assert spec("entrypoint: a\nenvironment: {A: 1}\n").plain
    for more in ("image: a", "image: a\nmemory: 1GiB", "roles: {main: {}}", "bootstrap: b", "workdir: /a"):
        assert not spec(f"entrypoint: a\n{more}\n").plain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("entrypoint: a\nimage: Team/Train\n", "job.yaml:2:8: image: 'Team/Train' is not an image"),
        ("entrypoint: a\nimage: {build: ., name: a}\n", "job.yaml:2:8: image: write name: REF for an image"),
        ("entrypoint: a\nimage: {name: a, push: b}\n", "job.yaml:2:24: image.push: only an image that is built"),
        ("entrypoint: a\nimage: {name: a, pull: allways}\n", "did you mean 'always'?"),
        ("entrypoint: a\nmemory: 16GB\n", "job.yaml:2:9: memory: '16GB': sizes are in binary units; write 16GiB"),
        ("entrypoint: a\nmemory: lots\n", "job.yaml:2:9: memory: 'lots' is not a size"),
        ("entrypoint: a\nmemroy: 1GiB\n", "did you mean 'memory'?"),
        ("entrypoint: a\nroles: {w1: {}}\n", "job.yaml:2:8: roles: 'w1' cannot be a role"),
        ("entrypoint: a\nroles: {localhost: {}}\n", "job.yaml:2:8: roles: 'localhost' is a reserved name"),
        ("entrypoint: a\nroles: {main: {replicas: 2}}\n", "job.yaml:2:8: roles: main is one member"),
        ("entrypoint: a\nroles: {ps: {replicas: 0}}\n", "job.yaml:2:24: roles.ps.replicas: should be greater"),
        ("entrypoint: a\nroles: {ps: {replica: 2}}\n", "unknown key 'replica' (did you mean 'replicas'?)"),
        ("roles: {main: {entrypoint: a}, ps: {}}\n", "role ps has nothing to run"),
        ("entrypoint: a\nroles: {ps: {}}\nresources: {nodes: 2}\n", "job.yaml:3:12: resources: nodes is 2, but"),
        ("entrypoint: a\nroles: {ps: {}}\nresources: {min_nodes: 1}\n", "min_nodes is for equal members"),
        ("kind: cluster\nlauncher: torch\nentrypoint: a\n", "job.yaml:2:11: launcher: members of a cluster wait"),
        ("image: a\nlauncher: torch\n", "job.yaml:2:11: launcher: torch needs an entrypoint to wrap"),
        ("entrypoint: a\nidle_timeout: 5m\n", "job.yaml:2:15: idle_timeout: only a job of kind cluster"),
        ("entrypoint: a\nnetwork: {mode: hots}\n", "job.yaml:2:17: network.mode: 'hots' is not one of"),
        ("entrypoint: a\nnetwork: {mode: host, members: planned}\n", "network: with mode host"),
        ("entrypoint: a\nnetwork: {window: 80-90}\n", "job.yaml:2:19: network.window: 80-90 is no window"),
        ("entrypoint: a\nnetwork: {egress: {to: none, hosts: [a.org]}}\n", "to: none leaves no host to name"),
        ("entrypoint: a\nnetwork: {egress: {hosts: ['*.org']}}\n", "network.egress.hosts: '*.org' is no name"),
        ("entrypoint: a\nnetwork: {egress: some}\n", "network.egress: 'some' is not one of all, none"),
        ("entrypoint: a\nmounts: [{source: data, target: /a}]\n", "job.yaml:2:19: mounts[0].source: 'data' is not"),
        ("entrypoint: a\nmounts: [{source: /a/../b, target: /a}]\n", "goes up with .."),
        ("entrypoint: a\nmounts: [{source: /a, target: /proc/1}]\n", "/proc of a member is not to be covered"),
        ("entrypoint: a\nmounts: [{source: /a, target: /}]\n", "the root of a member is not to be covered"),
        ("entrypoint: a\nmounts: [{source: /a, target: /d}, {source: /b, target: /d/}]\n", "two mounts have"),
        ("entrypoint: a\ncapabilities: [NET_ADMIN]\n", "with NET_ADMIN a member could change its own firewall"),
        ("image: a\ncapabilities: [cap_dac_read_search]\n", "with DAC_READ_SEARCH a member could change its own fire"),
        ("entrypoint: a\nmemory: 1GiB\n", "job.yaml:2:9: memory: memory needs an image: a plain process"),
        ("entrypoint: a\nrun_as: root\n", "job.yaml:2:9: run_as: run_as needs an image"),
        ("entrypoint: a\nmounts: [{source: /a, target: /b}]\n", "job.yaml:2:9: mounts: mounts needs an image"),
        ("entrypoint: a\nroles:\n  ps: {}\n  sub: {cpus: 2}\n", "job.yaml:4:15: roles.sub.cpus: cpus needs an image"),
        ("entrypoint: a\npids: 9\nroles: {ps: {image: b}, c: {}}\n", "pids: pids needs an image, and role c has none"),
        ("image: a\ncapabilities: [NET_RAW]\nnetwork: {mode: host}\n", "job.yaml:2:15: capabilities: in the hosts'"),
        ("image: a\nroles: {ps: {capabilities: [cap_setuid]}}\nnetwork: {mode: host}\n", "job.yaml:2:28: roles.ps"),
        ("entrypoint: a\ndevices: [/etc/passwd]\n", "job.yaml:2:11: devices[0]"),
        ("entrypoint: a\nrun_as: Root!\n", "job.yaml:2:9: run_as"),
        ("entrypoint: a\nworkdir: srv\n", "job.yaml:2:10: workdir: 'srv' is not an absolute path"),
        ("entrypoint: a\npreflight: maybe\n", "job.yaml:2:12: preflight: 'maybe' is not one of off, warn, require"),
        ("entrypoint: a\nbind_mounts: [{host_path: data, container_path: /a}]\n", "job.yaml:2:27: mounts[0].source"),
        ("entrypoint: a\nbind_mounts: [{host_path: /a, propagation: x}]\n", "'propagation' is no key of a mount"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_place(text: str, said: str) -> None:
    assert any(said in problem for problem in mistakes(text)), mistakes(text)


def test_what_a_process_can_have_needs_no_image() -> None:
    assert spec("entrypoint: a\nworkdir: /srv\nbootstrap: b\nenvironment: {A: 1}\nresources: {slots: 4}\n")
    assert spec("entrypoint: a\nroles: {main: {image: i, memory: 1GiB}, ps: {workdir: /srv}}\n")
    assert spec("entrypoint: a\nmemory: 1GiB\nroles: {main: {image: i}, ps: {image: j, cpus: 2}}\n")


def test_packet_sockets_are_for_private_networks() -> None:
    assert spec("image: a\ncapabilities: [NET_RAW]\n").capabilities == ("NET_RAW",)


def test_determineds_mounts_and_limits_are_taken() -> None:
    job = spec(
        "image: a\nbind_mounts: [{host_path: /a, container_path: /b, read_only: true}]\nresources: {shm_size: 4g}\n"
    )
    assert [(m.source, m.target, m.read_only) for m in job.mounts] == [("/a", "/b", True)]
    assert job.shm == 4 << 30


@given(st.integers(0, 1 << 50))
def test_a_size_is_read_back_as_it_was_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("text", ["-1", "1.0000001KiB", "1e3", "9" * 400, "1PiB", True, None, "16 gb"])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(SizeError):
        parse_size(text)


def test_egress_may_name_all_hosts_below_a_domain() -> None:
    egress = JobSpec(entrypoint=("true",), network={"egress": {"hosts": ["*.PythonHosted.org"]}}).network.egress  # type: ignore[arg-type]
    assert (egress.word, egress.hosts) == ("named", ("*.pythonhosted.org",))
