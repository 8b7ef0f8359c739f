"""No command starts before every planned flow was seen to work, and whoever is in the way is named."""

from __future__ import annotations

import dataclasses
import itertools
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from beside import Beside, companions
from hypothesis import given, settings
from hypothesis import strategies as st
from launch_vocabulary import WINDOW, gang, seen_by, with_preflight

from quorate.launch import preflight, preflightjudge
from quorate.launch.config import Configuration, Network, Preflight, ProbeFlow
from quorate.launch.names import Finding
from quorate.launch.preflightjudge import CODES, Failed, Report, judge
from quorate.launch.preflightplan import Attempt, Pattern
from quorate.launch.reactor import READ, Reactor
from quorate.network import findings


def holds(configuration: Configuration, rank: int, purpose: str) -> socket.socket:
    """A service of somebody else, where that member is to listen."""
    member = configuration.members[rank]
    holder = socket.socket()
    holder.bind((member.address, member.ports[purpose]))
    holder.listen()
    return holder


def all_of(configuration: Configuration) -> list[Configuration]:
    return [seen_by(configuration, rank) for rank in range(configuration.size)]


@pytest.mark.parametrize("size", [2, 5, 8])
def test_members_whose_flows_all_work_start(size: int) -> None:
    with companions(*all_of(with_preflight(gang(size)))) as members:
        for member in members:
            member.goes()


def test_the_ports_are_free_for_the_commands() -> None:
    configuration = with_preflight(gang(2))
    with companions(*all_of(configuration)) as members:
        for member in members:
            member.goes()
        with socket.socket() as torchrun:
            # Without SO_REUSEADDR: not even a connection in TIME-WAIT is left.
            torchrun.bind((configuration.first.address, configuration.first.ports["torch"]))


def test_a_port_that_somebody_holds_is_the_end_for_all() -> None:
    configuration = with_preflight(gang(2))
    with holds(configuration, 0, "torch"), companions(*all_of(configuration)) as members:
        for member in members:
            code, sentence = member.fails()
            assert code == "PORT-TAKEN"
            assert str(configuration.first.ports["torch"]) in sentence
            assert "torch-rendezvous" in sentence


def test_a_window_in_which_a_port_is_taken_has_others() -> None:
    configuration = with_preflight(gang(2))
    with socket.socket() as holder:
        holder.bind((configuration.first.address, WINDOW[0]))
        holder.listen()
        with companions(*all_of(configuration)) as members:
            for member in members:
                member.goes()


def test_warn_says_so_and_starts() -> None:
    configuration = with_preflight(gang(2), preflight=Preflight.WARN)
    with holds(configuration, 0, "torch"), companions(*all_of(configuration)) as (first, other):
        assert first.says()["notice"]["code"] == "PORT-TAKEN"
        first.goes()
        other.goes()


def test_off_tries_nothing() -> None:
    configuration = with_preflight(gang(2), preflight=Preflight.OFF)
    with holds(configuration, 0, "torch"), companions(*all_of(configuration)) as members:
        for member in members:
            member.goes()


# Nothing here answers for the members' names, which are part of the network that an overlay promises.
@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Preflight.OFF, {"go"}),
        (Preflight.WARN, {"notice", "go"}),
        (Preflight.REQUIRE, {"failed"}),
    ],
)
def test_a_name_that_does_not_resolve_stops_only_those_who_require_it_and_off_does_not_look(
    wanted: Preflight, said: set[str]
) -> None:
    configuration = with_preflight(gang(2, network=Network.OVERLAY), preflight=wanted)
    with companions(*all_of(configuration)) as members:
        for member in members:
            messages = list(until_decided(member))
            assert {kind for message in messages for kind in message} == said, messages
            told = [message.get("failed") or message.get("notice") for message in messages]
            assert {each["code"] for each in told if each} == ({"NAME-UNRESOLVED"} if said != {"go"} else set())


def until_decided(member: Beside) -> Iterator[dict[str, Any]]:
    """What the companion says until it lets the command start, or forbids it."""
    while True:
        message = member.says()
        yield message
        if message.keys() & {"go", "failed"}:
            return


def test_one_member_alone_tries_nothing() -> None:
    # A configuration of one has no nonce, so that whatever tried anything would fail.
    configuration = dataclasses.replace(with_preflight(gang(1)), nonce="")
    with companions(configuration) as (member,):
        member.goes()


def test_a_member_that_comes_late_is_waited_for() -> None:
    configuration = with_preflight(gang(3))
    early = [seen_by(configuration, rank) for rank in (0, 2)]
    with companions(*early) as waiting:
        late = Beside(seen_by(configuration, 1))
        try:
            for member in (*waiting, late):
                member.goes()
        finally:
            late.close()


@pytest.mark.lab
def test_a_clock_that_is_far_ahead_is_worth_a_line_and_stops_nobody() -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("needs libfaketime")
    configuration = with_preflight(gang(2))
    ahead = ("env", f"LD_PRELOAD={library}", "FAKETIME=+90s", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1")
    with companions(configuration) as (first,):
        other = Beside(seen_by(configuration, 1), inside=ahead)
        try:
            notice = first.says()["notice"]
            assert notice["code"] == "CLOCK-SKEW"
            assert notice["sentence"].startswith(
                "the clock of sub1 (agent agent-1, 127.0.0.12) is 90 s ahead of that of"
            )
            first.goes()
            other.goes()
        finally:
            other.close()


def test_what_the_kernel_allows_is_compared_with_the_size_of_the_job() -> None:
    large = gang(1, slots=600_000)
    assert {finding.code for finding in preflight.limits(large)} == {"LIMIT-FILES", "LIMIT-CONNECTIONS"}
    assert preflight.limits(gang(2)) == []


# --- who tries what


def mesh(size: int, agents: int | None = None, flows: tuple[ProbeFlow, ...] | None = None) -> Configuration:
    members = tuple(
        dataclasses.replace(member, agent=f"agent-{member.rank % (agents or size)}", ports={"rendezvous": 1734})
        for member in small(size).members
    )
    torch = (
        ProbeFlow("rendezvous", (1734, 1734)),
        ProbeFlow("watch", (1750, 1750)),
        ProbeFlow("torch-rendezvous", (29400, 29400), destinations=(0,)),
        ProbeFlow("gloo", (32768, 60999)),
        ProbeFlow("torch-store", (32768, 60999), destinations=(0,)),
        ProbeFlow("tf-config", (29500, 29500), per_rank=True),
    )
    return dataclasses.replace(small(size), members=members, flows=flows or torch)


def small(size: int, *, known: dict[int, Configuration] = {}) -> Configuration:  # noqa: B006 (a cache)
    if size not in known:
        known[size] = gang(size)
    return known[size]


@dataclasses.dataclass
class Tried:
    """All that the members of an allocation try."""

    configuration: Configuration

    def __post_init__(self) -> None:
        self.pattern = Pattern(self.configuration)
        ranks = range(self.configuration.size)
        self.all = [(rank, attempt) for rank in ranks for attempt in self.pattern.attempts(rank)]

    def flows(self, source: int, attempt: Attempt) -> set[str]:
        return {flow.flow for flow in self.pattern.flows(self.pattern.doors(attempt.rank)[attempt.door], source)}


def test_few_members_try_everything_with_everybody_once() -> None:
    tried = Tried(mesh(5))
    every = Counter(
        (source, attempt.rank, flow) for source, attempt in tried.all for flow in tried.flows(source, attempt)
    )
    planned = {
        (source, destination, flow.flow)
        for source, destination in itertools.permutations(range(5), 2)
        for flow in tried.configuration.flows
        if not flow.destinations or destination in flow.destinations
    }
    assert set(every) == planned
    assert set(every.values()) == {1}


def test_full_size_packets_are_tried_once_between_any_two() -> None:
    full = Counter(frozenset((source, attempt.rank)) for source, attempt in Tried(mesh(5)).all if attempt.full)
    assert set(full.values()) == {1}
    assert len(full) == 10


def test_members_of_one_machine_share_its_processors_so_that_many_of_them_try_less() -> None:
    full, shared = Tried(mesh(64)), Tried(mesh(64, agents=2))
    assert len(full.all) > 64 * 63 * 3
    assert len(shared.all) < len(full.all) / 20
    # Eight members of 64 on each machine are few.
    assert len(Tried(mesh(64, agents=8)).all) == len(full.all)


@settings(max_examples=10, deadline=None)
@given(st.integers(65, 120), st.integers(1, 120))
def test_many_members_cover_every_pair_of_agents_and_what_the_first_one_serves(size: int, agents: int) -> None:
    tried = Tried(mesh(size, min(agents, size)))
    members = tried.configuration.members
    pairs = {(members[source].agent, members[attempt.rank].agent) for source, attempt in tried.all}
    names = {member.agent for member in members}
    assert {(a, b) for a, b in pairs if a != b} == set(itertools.permutations(names, 2))
    to_first = {source for source, attempt in tried.all if "torch-rendezvous" in tried.flows(source, attempt)}
    assert to_first == set(range(1, size))
    # No member has much more to do than the others: one attempt for each pair of agents, and those to the first.
    most = max(Counter(source for source, _ in tried.all).values())
    assert most <= -(-len(names) * len(names) // size) + len(names) // 2 + 4 or most <= len(names) + 2


def test_of_256_members_on_as_many_agents_each_serves_every_flow_to_somebody() -> None:
    tried = Tried(mesh(256))
    served: dict[int, set[str]] = {}
    for source, attempt in tried.all:
        served.setdefault(attempt.rank, set()).update(tried.flows(source, attempt))
    assert all(flows >= {"rendezvous", "watch", "gloo", "tf-config"} for flows in served.values())
    assert len(tried.all) <= 256 * 255 + 2 * 256


# --- the limit


class Clock(Reactor):
    """A real reactor whose time passes only when the test says so."""

    at = 0.0

    def now(self) -> float:
        return self.at

    def passes(self, seconds: float) -> None:
        """That much later, all that is due has happened."""
        self.at += seconds
        self.after(0, self.stop)
        self.run()
        self._stopped = False


@dataclasses.dataclass
class Limited:
    """The first member's trial of an allocation of which it is the only process."""

    configuration: Configuration

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.part = preflight.Part(self.clock, self.configuration)
        self.told: list[dict[str, Any]] = []
        self.verdicts: list[list[Finding]] = []
        self.trial = preflight.Trial(
            self.clock, self.configuration, self.part, lambda _, said: self.told.append(said), self.verdicts.append
        )

    def becomes_ready(self, *ranks: int) -> None:
        for rank in ranks:
            doors = len(Pattern(self.configuration).doors(rank))
            self.trial.hear(rank, {"ready": {"ports": [1] * doors}})
        self.trial.begin_if_ready()


@pytest.fixture
def limited() -> Iterator[Limited]:
    it = Limited(with_preflight(gang(3)))
    yield it
    it.part.close()
    it.clock.close()


def test_the_limit_runs_from_the_moment_at_which_all_have_come_though_one_is_never_ready(limited: Limited) -> None:
    limited.becomes_ready(1)
    limited.clock.passes(preflight.LIMIT_S - 0.001)
    assert not limited.verdicts
    limited.clock.passes(0.002)
    (findings,) = limited.verdicts
    assert {(finding.code, finding.fatal) for finding in findings} == {("NET-UNDETERMINED", False)}
    limited.becomes_ready(2)
    assert limited.told == []


def test_who_is_ready_late_has_what_is_left_and_a_member_that_never_reports_is_named_once(limited: Limited) -> None:
    limited.becomes_ready(1)
    limited.clock.passes(3.0)
    limited.becomes_ready(2)
    (order,) = limited.told
    assert order["probe"]["within_s"] == pytest.approx(preflight.LIMIT_S - 3.5)
    limited.clock.passes(preflight.LIMIT_S - 3.0)
    (findings,) = limited.verdicts
    (silent,) = [finding.sentence for finding in findings if "nothing was heard" in finding.sentence]
    assert "sub1" in silent
    assert "sub2" in silent


def test_attempts_without_time_are_a_notice_and_leave_no_socket_open(limited: Limited) -> None:
    reports: list[Report | None] = []
    ports = [[1] * len(Pattern(limited.configuration).doors(rank)) for rank in range(3)]
    open_before = len(limited.clock._watched)
    limited.part.try_all(ports, 0.0, lambda: reports.append(limited.part.report))
    limited.clock.passes(0.001)
    (report,) = reports
    assert report is not None
    assert report.failed == ()
    assert report.untried == len(Pattern(limited.configuration).attempts(0))
    assert len(limited.clock._watched) == open_before
    (notice,) = preflightjudge.left_open(limited.configuration, {0: report, 1: Report(), 2: Report()}, 5.0)
    assert (notice.code, notice.fatal) == ("NET-UNDETERMINED", False)
    assert f"{report.untried} attempts" in notice.sentence


def test_a_limit_comes_before_whatever_there_is_to_read() -> None:
    clock = Clock()
    happened: list[str] = []
    pairs = [socket.socketpair() for _ in range(3)]

    def slowly(_: int) -> None:
        happened.append("read")
        clock.at += 1.0

    for here, there in pairs:
        clock.watch(here, READ, slowly)
        there.send(b"x")
    clock.after(0.5, lambda: happened.append("timer"))
    clock.at_latest(0.5, lambda: happened.append("limit"))
    clock.passes(0.0)
    assert happened == ["read", "limit", "read", "read"]
    for pair in pairs:
        for end in pair:
            end.close()
    clock.close()


def test_a_command_that_may_start_is_not_beside_attempts_that_go_on(limited: Limited) -> None:
    reports: list[Report | None] = []
    ports = [[1] * len(Pattern(limited.configuration).doors(rank)) for rank in range(3)]
    limited.part.try_all(ports, 4.0, lambda: reports.append(limited.part.report))
    limited.part.close()
    limited.clock.passes(5.0)
    assert reports == []
    assert limited.clock._watched == {}


# --- what is made of it


def failed(configuration: Configuration, source: int, destination: int, flow: str, outcome: str) -> Failed:
    (place,) = (
        place
        for place, door in enumerate(Pattern(configuration).doors(destination))
        if flow in {configuration.flows[position].flow for position in door.flows}
    )
    return Failed(source, destination, place, 1734, outcome, "no answer within 3.5 s")


def judged(configuration: Configuration, *found: Failed, tried: int = 5) -> list[Finding]:
    return judge(configuration, Pattern(configuration), reports(configuration, *found, tried=tried))


def reports(configuration: Configuration, *found: Failed, tried: int = 5) -> list[Report]:
    by_source = {rank: tuple(each for each in found if each.source == rank) for rank in range(configuration.size)}
    return [
        Report(mine, tuple({each.destination: tried for each in mine}.items())) for _, mine in sorted(by_source.items())
    ]


def test_a_flow_that_fails_is_named_with_both_ends_and_its_remedy() -> None:
    configuration = mesh(3, flows=(ProbeFlow("gloo", (1, 9), "Gloo", remedy="open {source} {destination}"),))
    (finding,) = judged(configuration, failed(configuration, 1, 2, "gloo", "filtered"))
    assert (finding.code, finding.fatal) == ("NET-FILTERED", True)
    one, two = configuration.members[1], configuration.members[2]
    assert finding.sentence.startswith("gloo (Gloo) does not pass from sub1 (agent agent-1, ")
    assert finding.sentence.endswith(f"no answer within 3.5 s; mend: open {one.address} {two.address}")


def test_the_same_trouble_of_several_pairs_is_one_finding() -> None:
    configuration = mesh(4)
    several = [failed(configuration, source, 3, "gloo", "refused") for source in range(3)]
    (finding,) = judged(configuration, *several)
    assert finding.code == "NET-REFUSED"
    assert "(nor from sub1 to sub3, sub2 to sub3)" in finding.sentence
    assert "though it listens: a firewall rejects it" in finding.sentence


def test_where_nothing_passes_it_is_what_carries_everything() -> None:
    configuration = mesh(2)
    members = tuple(dataclasses.replace(m, underlay=f"10.0.0.{m.rank}") for m in configuration.members)
    carrier = ProbeFlow("vxlan", (4789, 4789), "overlays", "udp", remedy="open udp {source} {destination}")
    configuration = dataclasses.replace(configuration, members=members, carrier=carrier)
    every = [failed(configuration, 0, 1, flow, "filtered") for flow in ("rendezvous", "watch", "gloo")]
    (finding,) = judged(configuration, *every, tried=3)
    assert "nothing passes from main1" in finding.sentence
    assert "vxlan (overlays) on udp 4789 from 10.0.0.0 to 10.0.0.1" in finding.sentence
    assert finding.sentence.endswith("mend: open udp 10.0.0.0 10.0.0.1")


def test_what_could_not_be_told_stops_nobody() -> None:
    configuration = mesh(2)
    (finding,) = judged(configuration, failed(configuration, 0, 1, "gloo", "undetermined"))
    assert (finding.code, finding.fatal) == ("NET-UNDETERMINED", False)


@pytest.mark.parametrize(("ahead", "uncertain", "found"), [(4.0, 0.1, 0), (-4.0, 0.1, 0), (9.0, 0.1, 1), (9.0, 5.0, 0)])
def test_clocks_are_told_apart_as_far_as_the_measurement_allows(ahead: float, uncertain: float, found: int) -> None:
    members = mesh(2).members
    assert len(preflightjudge.clock(members[1], members[0], ahead, uncertain)) == found


def test_the_judge_has_the_words_of_all_others_about_clocks_although_it_travels_alone() -> None:
    assert preflightjudge.CLOCK_SKEW_S == findings.CLOCK_SKEW_S
    members = mesh(2).members
    (finding,) = preflightjudge.clock(members[1], members[0], 9.0, 0.1)
    assert finding.sentence.endswith(f"; {findings.CLOCK_REMEDY}")


def test_a_report_survives_its_journey() -> None:
    configuration = mesh(3)
    report = reports(configuration, failed(configuration, 1, 2, "gloo", "mtu"))[1]
    assert Report.of(Pattern(configuration), 1, report.to_object()) == report


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        {"failed": [[9, 0, 1, "filtered", "x"]], "tried": [], "findings": [], "untried": 0},
        {"failed": [[0, 99, 1, "filtered", "x"]], "tried": [], "findings": [], "untried": 0},
        {"failed": [[0, 0, 1, "sulking", "x"]], "tried": [], "findings": [], "untried": 0},
        {"failed": [], "tried": [1], "findings": [], "untried": 0},
        {"failed": [], "tried": [], "findings": [{"code": 1}], "untried": 0},
        {"failed": [], "tried": [], "findings": [], "untried": "x"},
    ],
)
def test_what_is_no_report_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match=r"report|sulking"):
        Report.of(Pattern(mesh(2)), 1, said)


def test_every_outcome_but_open_has_a_code() -> None:
    from quorate.launch.probe import Outcome

    assert set(CODES) == {outcome.value for outcome in Outcome} - {"open"}
