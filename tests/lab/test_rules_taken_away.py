"""With any one rule of the hosts' firewalls taken away, exactly the flow that it was for is named, within 5 s.

On two pairs of hosts, so that two rules can be taken away at a time, each from one pair. In overlays the members of one
pair are in containers, those of the other are processes in sandboxes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from tests.lab import dockers, faults
from tests.lab.cluster import LabCluster, Work, running
from tests.lab.hosts import Host, a_lab

from quorate.model.clusterfile import ClusterFile
from quorate.model.job import JobSpec
from quorate.model.ports import PortRange
from quorate.model.state import JobState
from quorate.model.views import MemberView
from quorate.network import catalogue
from quorate.network.audit import audit
from quorate.network.audit.space import Outcome
from quorate.network.clusterplan import plan_cluster
from quorate.network.flows import Role

pytestmark = [pytest.mark.lab, pytest.mark.docker, pytest.mark.slow]

#: What is promised: whatever is in the way is named so many seconds after the job was placed.
PROMISED_S = 5.0
#: A machine that needs longer than this to start two members has other work: then the companions' own seconds count,
#: from when both had begun or all had come.
STARTED_S = 1.0
PAIRS = {"left": ("h1", "h2"), "right": ("h3", "h4")}
IN_CONTAINERS = "left"
#: Into a machine, and out of it.
DIRECTIONS = ("saddr", "daddr")


class Named(NamedTuple):
    """A flow that does not pass, and between which hosts."""

    flow: str
    source: str
    destination: str


class Pair(NamedTuple):
    """The hosts of a pair, as the two members of a job are on them."""

    first: Host
    other: Host


#: By rule, what is named of a job in its hosts' network: with a `>` to the first member, with a `<` from it. A
#: rendezvous that does not pass keeps everything else from being tried.
ON_HOSTS = {
    "rendezvous": {"rendezvous >"},
    "watch": {"watch <", "watch >"},
    "torch-rendezvous": {"torch-rendezvous >"},
    "gloo": {"gloo <", "gloo >", "nccl <", "nccl >", "torch-store >"},
    "master-port": {"master-port >"},
    # One rule for all ports that are not the canonical ones.
    "leased": {"leased:rendezvous >"},
}
#: Rules that jobs of launcher torch do not need, and those without a launcher do.
WITHOUT_LAUNCHER = {"master-port"}
#: Rules for flows of an overlay below the members.
BELOW = {"vxlan"}
#: Rules without which such a job works: for SSH in sandboxes, and for the training SDK. `quorate net audit` names them.
UNUSED = {"ssh", "control-1", "control-2"}
#: What a torch job's sandboxes let pass in an overlay, each with its ports, and what is named to the first member and
#: from it where that is dropped.
INSIDE = {
    "rendezvous": ("1734", {"rendezvous >"}, {"rendezvous <"}),
    "watch": ("1750", {"watch >"}, {"watch <"}),
    "ssh": ("12350", {"ssh >"}, {"ssh <"}),
    "torch-rendezvous": ("29400", {"torch-rendezvous >"}, set()),
    "gloo": ("32768-60999", {"gloo >", "nccl >", "torch-store >"}, {"gloo <", "nccl <"}),
}


@pytest.fixture(scope="module")
def a_cluster() -> Iterator[LabCluster]:
    labels = {name: {"labels": {"pair": pair}} for pair, names in PAIRS.items() for name in names}
    # Agents that try each other in the background would keep jobs off a pair whose rule is missing.
    with (
        a_lab() as lab,
        running(
            lab,
            *labels,
            own=labels,
            docker=PAIRS[IN_CONTAINERS],
            timers={"check_agents": 0},
            network={"modes": ["host", "overlay"], "launchers": ["none", "torch"]},
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def cluster(a_cluster: LabCluster) -> Iterator[LabCluster]:
    with a_cluster.lab["desk"].entered():
        yield a_cluster


# --- what is said ------------------------------------------------------------------------------------------------

_END = r"(?P<{0}>\w+) \(agent (?P<{0}_agent>\w+), [0-9.]+\)"
_FLOW = re.compile(
    r"(?P<flows>[\w-]+(?: and [\w-]+)*) \([^()]*?(?P<leased>, on a leased port)?\) does not pass from "
    + _END.format("source") + " to " + _END.format("destination")
    + r" on (?P<transport>tcp|udp) (?P<port>\d+)(?: \(nor from (?P<nor>[^()]*)\))?: "
)  # fmt: skip
_CARRIER = re.compile(
    r"nothing passes (?:from|between) [^:]*: [^;]*; what carries it is (?P<flow>[\w-]+) \([^()]*\) on udp 4789 "
    r"from (?P<source>[0-9.]+) to (?P<destination>[0-9.]+)(?P<back> and back)?, "
)


def everything_named(cluster: LabCluster, work: Work) -> set[Named]:
    """All flows that the job's end names; fails where it says anything that is not understood here."""
    view = work.view()
    reason = view.reason
    at = {member.name: member.agent for member in view.members}
    hosts = {host.address: host.name for host in cluster.agents}
    found: set[Named] = set()
    for said in _FLOW.finditer(reason):
        ends = {(said["source"], said["destination"])}
        ends |= {(pair.split(" to ")[0], pair.split(" to ")[1]) for pair in (said["nor"] or "").split(", ") if pair}
        flows = [f"leased:{flow}" if said["leased"] else flow for flow in said["flows"].split(" and ")]
        found |= {Named(flow, at[one], at[two]) for flow in flows for one, two in ends}
    for said in _CARRIER.finditer(reason):
        source, destination = hosts[said["source"]], hosts[said["destination"]]
        found.add(Named(said["flow"], source, destination))
        found |= {Named(said["flow"], destination, source)} if said["back"] else set()
    understood = len(_FLOW.findall(reason)) + len(_CARRIER.findall(reason))
    assert understood == len(re.findall(r"not pass|nothing passes", reason)), reason
    assert re.findall(r"\(([A-Z]+(?:-[A-Z]+)+)\)", reason) == ["NET-FILTERED"], reason
    return found


def between(pair: Pair, words: set[str]) -> set[Named]:
    """`gloo >` as a flow to the pair's first member, `gloo <` as one from it."""
    there, back = (pair.other.name, pair.first.name), (pair.first.name, pair.other.name)
    return {Named(flow, *(there if way == ">" else back)) for flow, way in map(str.split, words)}


def in_time(work: Work) -> str:
    """The reason of a job that the preflight has ended in time, before its command began: by the platform's figures."""
    job = work.ended()
    assert job.state is JobState.FAILED, work.told()
    assert not any(work.output().values()), work.told()
    assert job.starting is not None
    figure = re.search(r", found (\d+\.\d) s after (?:all had come|both had begun)", job.reason)
    assert figure, job.reason
    found_s, placed_s = float(figure[1]), float(job.starting)
    print(f"named after {placed_s:.1f} s, {found_s} s of them the companions': {job.reason[:160]}")
    assert (placed_s if placed_s - found_s <= STARTED_S else found_s) <= PROMISED_S, job.reason
    return job.reason


# --- what is taken away ------------------------------------------------------------------------------------------


def rules(text: str) -> dict[tuple[str, str], str]:
    """The lines that let something pass, by direction and the first flow that each is for."""
    found = {}
    for line in text.splitlines():
        said = re.search(r"ip (saddr|daddr) .* comment \"([a-z0-9-]+): ", line)
        if said:
            found[said[1], said[2]] = line
    return found


def is_for(rule: dict[str, Any], chain: str, flow: str) -> bool:
    """Whether nft's rule is that of the chain for the flow."""
    return rule.get("chain") == chain and str(rule.get("comment", "")).startswith(f"{flow}: ")


def on(pair: str) -> dict[str, object]:
    """A member on each host of the pair."""
    return {"nodes": 2, "labels": {"pair": pair}}


def planned(cluster: LabCluster, pair: str, mode: str) -> tuple[MemberView, ...]:
    """The members that the next job would have."""
    spec = {"entrypoint": ["true"], "resources": on(pair), "launcher": "torch", "network": {"mode": mode}}
    return cluster.client.plan(JobSpec.model_validate({**spec, "placement": "spread"})).members


def submit(cluster: LabCluster, pair: str, mode: str, launcher: str = "torch") -> Work:
    image = dockers.CONTAINER if mode == "overlay" and pair == IN_CONTAINERS else {}
    return cluster.submit("true", launcher=launcher, network={"mode": mode}, resources=on(pair), **image)


def hosts_of(cluster: LabCluster, members: tuple[MemberView, ...]) -> Pair:
    """Where these members are."""
    first, other = (cluster.lab[member.agent] for member in members)
    return Pair(first, other)


class Case(NamedTuple):
    """One rule that is missing on one pair, and what must be said of a job there."""

    pair: str
    mode: str
    launcher: str
    #: The fault, made for as long as the job lives.
    fault: Callable[[], contextlib.AbstractContextManager[None]]
    #: What is to be named where the job's members are.
    names: Callable[[Pair], set[Named]]


def each_ends_as_said(cluster: LabCluster, *cases: Case) -> None:
    """Makes the faults, each on a pair of its own, and has a job there end with exactly what is missing."""
    with contextlib.ExitStack() as stack:
        for case in cases:
            stack.enter_context(case.fault())
        for case, work in [(case, submit(cluster, case.pair, case.mode, case.launcher)) for case in cases]:
            reason = in_time(work)
            assert everything_named(cluster, work) == case.names(hosts_of(cluster, work.view().members)), reason


@contextlib.contextmanager
def without(cluster: LabCluster, names: tuple[str, ...], line: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(faults.without_rule(cluster.lab[name], cluster.agents_rules, line))
        yield


def on_hosts(cluster: LabCluster, flow: str) -> Iterator[Case]:
    """Without the rule that lets the flow in on one pair, and without the one that lets it out on the other."""
    for pair, direction in zip(PAIRS, DIRECTIONS, strict=True):
        line = rules(cluster.agents_rules)[direction, flow]
        fault = functools.partial(without, cluster, PAIRS[pair], line)
        launcher = "none" if flow in WITHOUT_LAUNCHER else "torch"
        yield Case(pair, "host", launcher, fault, lambda at: between(at, ON_HOSTS[flow]))


def have_leased_ports(cluster: LabCluster) -> bool:
    """Whether the next jobs of both pairs would have ports out of the range for leases, and no canonical ones."""
    ports = [port for pair in PAIRS for member in planned(cluster, pair, "host") for port in member.ports.values()]
    leased = [port in catalogue.ports("leased") for port in ports]
    assert all(leased) == any(leased), ports
    return all(leased)


# --- the tests ---------------------------------------------------------------------------------------------------


def test_of_every_rule_between_agents_it_is_said_here_who_names_it(cluster: LabCluster) -> None:
    opened = rules("\n".join(cluster.opened))
    assert set(opened) == {(way, flow) for way in DIRECTIONS for flow in (*ON_HOSTS, *BELOW, *UNUSED)}


@pytest.mark.parametrize("role", [Role.AGENT, Role.MASTER], ids=lambda role: role.value)
def test_each_rule_that_is_missing_is_named_by_the_audit(cluster: LabCluster, role: Role) -> None:
    """Those that no job tries, too: the links to the master, names, clocks, registries, the API."""
    plan = plan_cluster(ClusterFile.model_validate(cluster.file))
    whole, host = cluster.rules(role.value), cluster.lab["outside"]
    host.firewall(whole)
    loaded = json.loads(host.run("nft", "--json", "list", "ruleset"))["nftables"]
    for (way, flow), line in rules(whole).items():
        chain, (ports,) = "inbound" if way == "saddr" else "outbound", re.findall(r"dport (\S+)", line)
        kept = [entry for entry in loaded if not is_for(entry.get("rule", {}), chain, flow)]
        assert len(kept) == len(loaded) - 1, line
        verdicts = audit(plan, "nftables", json.dumps({"nftables": kept}), role).flows
        blocked = {verdict.flow.flow for verdict in verdicts if verdict.outcome is not Outcome.ALLOW}
        first = next(planned for planned in plan.flows if planned.flow == flow)
        assert blocked == {
            planned.flow
            for planned in plan.flows
            if (planned.source, planned.destination, planned.transport)
            == (first.source, first.destination, first.transport)
            and all(port in PortRange.parse(ports) for each in planned.ports for port in (each.first, each.last))
        }


@pytest.mark.parametrize("flow", ["rendezvous", "watch", "torch-rendezvous", "master-port"])
def test_in_the_hosts_network_each_rule_for_a_canonical_port_is_named(cluster: LabCluster, flow: str) -> None:
    if have_leased_ports(cluster):
        # Ports rest when a job gives them back, and the next one has others: a master that starts knows of none.
        cluster.kill_master()
        cluster.start_master()
        cluster.until_ready()
    each_ends_as_said(cluster, *on_hosts(cluster, flow))


def test_in_the_hosts_network_the_rule_for_windows_is_named(cluster: LabCluster) -> None:
    each_ends_as_said(cluster, *on_hosts(cluster, "gloo"))


def test_in_the_hosts_network_the_rule_for_leased_ports_is_named(cluster: LabCluster) -> None:
    if not have_leased_ports(cluster):
        for work in [submit(cluster, pair, "host") for pair in PAIRS]:
            work.until_running()
            cluster.client.cancel(work.id)
            work.ended()
    assert have_leased_ports(cluster)
    each_ends_as_said(cluster, *on_hosts(cluster, "leased"))


def test_rules_that_no_such_job_needs_stop_none(cluster: LabCluster) -> None:
    lines = [line for (_, flow), line in rules(cluster.agents_rules).items() if flow in UNUSED]
    with contextlib.ExitStack() as stack:
        for host in cluster.agents:
            kept = "\n".join(line for line in cluster.agents_rules.splitlines() if line not in lines)
            stack.callback(host.firewall, cluster.agents_rules)
            host.firewall(kept + "\n")
        for work in [submit(cluster, pair, mode) for pair, mode in zip(PAIRS, ("host", "overlay"), strict=True)]:
            work.until_running()
            cluster.client.cancel(work.id)
            work.ended()


@pytest.mark.parametrize("at", ["both", "first", "second"])
def test_without_a_rule_for_vxlan_the_overlay_is_named_in_the_directions_that_are_closed(
    cluster: LabCluster, at: str
) -> None:
    """In the firewalls of both hosts, or of one alone."""
    lines = rules(cluster.agents_rules)

    def case(pair: str, direction: str) -> Case:
        names = {"both": PAIRS[pair], "first": PAIRS[pair][:1], "second": PAIRS[pair][1:]}[at]
        closed = set()
        for name in names:
            (peer,) = set(PAIRS[pair]) - {name}
            closed.add(Named("vxlan", *((peer, name) if direction == "saddr" else (name, peer))))
        line = lines[direction, "vxlan"]
        return Case(pair, "overlay", "torch", lambda: without(cluster, names, line), lambda _: closed)

    each_ends_as_said(cluster, case("left", "saddr"), case("right", "daddr"))


@pytest.mark.parametrize("flow", INSIDE)
def test_in_an_overlay_each_flow_that_does_not_pass_is_named(cluster: LabCluster, flow: str) -> None:
    """No host's firewall sees these: something in between drops them."""
    ports, *named = INSIDE[flow]

    def cases() -> Iterator[Case]:
        for pair, words in zip(PAIRS, named, strict=True):
            if not words:
                continue
            at = hosts_of(cluster, planned(cluster, pair, "overlay"))
            ends = (at.other, at.first) if words is named[0] else (at.first, at.other)
            fault = functools.partial(
                faults.port_dropped_in_overlays, cluster.lab, ports, source=ends[0], destination=ends[1]
            )
            yield Case(pair, "overlay", "torch", fault, lambda at, words=words: between(at, words))

    each_ends_as_said(cluster, *cases())
