"""From what was seen of members to the cause: what is broken before what is slow, and nothing that was not seen."""

from dataclasses import replace

import msgspec
import pytest

from quorate.model.asks import Collective, MemberSeen, ProcessSeen, SocketSeen
from quorate.network.diagnosis import Confines, Diagnosis, Subject, Tried, conclude, operation
from quorate.network.remedies import Platform

C10D = "torch/distributed/distributed_c10d.py"


def rank(number: int, *stack: str, at: str = "train.py:9", **more: object) -> ProcessSeen:
    given = {"pid": 100 + number, "name": "python", "state": "S", "cpu": 0.0, **more}
    return ProcessSeen(rank=number, stack=stack, at=at if stack else "", **given)


def subject(number: int, *processes: ProcessSeen, **more: object) -> Subject:
    name = "main1" if number == 0 else f"sub{number}"
    seen = MemberSeen(member=f"jjjj-1.{number}.1", rank=number, processes=processes, **more)
    return Subject(name, number, "ab"[number % 2], f"10.0.0.{number + 2}", seen)


def all_reduce(number: int, at: str = "train.py:21") -> ProcessSeen:
    return rank(number, f"all_reduce ({C10D}:3252)", "wrapper (torch/distributed/c10d_logger.py:83)", at=at)


def codes(diagnosis: Diagnosis) -> list[str]:
    return [finding.code for finding in diagnosis.findings]


def tried(source: str, destination: str, outcome: str, **more: object) -> Tried:
    return Tried(source, destination, 29400, "torch-rendezvous", outcome, "as it was seen", **more)


def test_what_the_user_called_is_the_outermost_collective() -> None:
    gathered = (f"all_gather ({C10D}:1)", f"all_gather_object ({C10D}:2)", "main (train.py:3)")
    assert operation(gathered) == "all_gather_object"
    assert (
        operation((f"_new_process_group_helper ({C10D}:1)", f"init_process_group ({C10D}:2)")) == "init_process_group"
    )
    assert operation(("wait (threading.py:5)", "main (train.py:3)")) == ""
    assert (
        operation(("_engine_run_backward (torch/autograd/graph.py:1)", "backward (torch/_tensor.py:2)")) == "backward"
    )


def test_a_rank_that_does_not_join_is_named_with_both_places() -> None:
    other = rank(1, "load (data.py:7)", at="data.py:7")
    diagnosis = conclude([subject(0, all_reduce(0)), subject(1, other)], [])
    assert codes(diagnosis) == ["COLLECTIVE-MISSED"]
    assert "rank 0 (main1) waits in all_reduce at train.py:21 for rank 1 (sub1)" in diagnosis.cause
    assert "waits elsewhere, at data.py:7, in load" in diagnosis.cause


def test_ranks_in_different_collectives_are_a_mistake_of_the_program() -> None:
    barrier = rank(1, f"barrier ({C10D}:5000)", at="train.py:40")
    diagnosis = conclude([subject(0, all_reduce(0)), subject(1, barrier)], [])
    assert codes(diagnosis) == ["COLLECTIVE-MIXED"]
    assert "rank 1 (sub1) in barrier at train.py:40" in diagnosis.cause


def test_a_connection_that_is_refused_or_dropped_is_the_cause_of_ranks_that_wait() -> None:
    other = rank(1, "load (data.py:7)", at="data.py:7")
    subjects = [subject(0, all_reduce(0)), subject(1, other)]
    for outcome, code, words in (
        ("refused", "NET-REFUSED", "a firewall rejects it"),
        ("filtered", "NET-FILTERED", "a firewall drops it"),
    ):
        diagnosis = conclude(subjects, [tried("sub1", "main1", outcome)])
        assert codes(diagnosis)[0] == code
        assert words in diagnosis.cause
        assert "sub1 to main1 (10.0.0.2) on tcp 29400 (torch-rendezvous" in diagnosis.cause
        assert "ip saddr 10.0.0.3 tcp dport 29400" in diagnosis.findings[0].remedy


def test_what_a_member_waits_for_comes_before_what_it_does_not_need() -> None:
    subjects = [subject(number, rank(number)) for number in range(3)]
    attempts = [tried("sub2", "main1", "filtered"), tried("sub1", "main1", "filtered", wanted=True)]
    assert conclude(subjects, attempts).cause.startswith("sub1 cannot connect to main1")


def test_a_listener_that_nobody_planned_and_nobody_wants_may_be_closed() -> None:
    unplanned = Tried("sub1", "main1", 8080, "", "refused", "")
    assert not conclude([subject(0, rank(0)), subject(1, rank(1))], [unplanned]).findings


def test_a_port_that_the_plan_does_not_hold_is_rejected_by_our_own_rules_and_no_firewall_is_to_be_opened() -> None:
    subjects = [subject(number, rank(number)) for number in range(2)]
    unplanned = Tried("sub1", "main1", 8080, "", "refused", "", wanted=True)
    (finding,) = conclude(subjects, [unplanned], Confines("jjjj", private=True, planned=True)).findings
    assert "on tcp 8080 (a port that is not in the plan): it is rejected by the job's own rules" in finding.evidence
    assert "firewall" not in finding.evidence
    assert finding.remedy.startswith("network: {members: open}")
    assert "quorate job network jjjj" in finding.remedy
    # Where nothing is planned, it is somebody else who rejects it; on the hosts' network it has a firewall.
    (elsewhere,) = conclude(subjects, [unplanned], Confines("jjjj", private=True)).findings
    assert elsewhere.remedy == "quorate job network jjjj"
    assert "tcp dport 8080" in conclude(subjects, [unplanned]).findings[0].remedy


def test_a_planned_port_inside_a_private_network_is_no_machines_firewalls_affair() -> None:
    subjects = [subject(number, rank(number)) for number in range(2)]
    confines = Confines("jjjj", private=True, planned=True)
    (finding,) = conclude(subjects, [tried("sub1", "main1", "filtered")], confines).findings
    assert finding.remedy == "quorate job network jjjj"


def test_the_remedy_is_for_the_platform_of_the_agent_that_is_closed_unless_another_is_wanted() -> None:
    here, there = (replace(subject(number, rank(number)), platform=Platform.AWS) for number in range(2))
    attempts = [tried("sub1", "main1", "filtered")]
    assert conclude([here, there], attempts).findings[0].remedy.startswith("aws ec2 ")
    assert conclude([here, there], attempts, platform=Platform.GCP).findings[0].remedy.startswith("gcloud ")


def opening_to(address: str, retransmits: int = 2) -> SocketSeen:
    return SocketSeen("tcp", "SYN-SENT", "10.0.0.3", 40000, address, 443, retransmits=retransmits, pid=1)


def test_a_member_that_waits_for_an_address_outside_says_for_which_and_what_egress_is() -> None:
    stuck = subject(1, rank(1), sockets=(opening_to("203.0.113.9"),))
    diagnosis = conclude([subject(0, rank(0)), stuck], [], Confines("jjjj", private=True, egress="named"))
    assert codes(diagnosis) == ["NET-FILTERED"]
    assert diagnosis.cause == "sub1 waits for 203.0.113.9:443 outside, which has not answered; egress is named"
    assert "nc -vzw 3 203.0.113.9 443  # on agent b" in diagnosis.findings[0].remedy
    assert "egress: {hosts: [203.0.113.9]}" in diagnosis.findings[0].remedy
    on_host = conclude([subject(0), replace(stuck, seen=replace_sockets(stuck, "2001:db8::9"))], [])
    assert on_host.cause.startswith("sub1 waits for [2001:db8::9]:443 outside")
    assert on_host.cause.endswith("egress is that of its host")


def test_a_connection_outside_that_is_only_just_being_opened_is_no_cause() -> None:
    fresh = subject(1, rank(1), sockets=(opening_to("203.0.113.9", retransmits=0),))
    assert not conclude([subject(0, rank(0)), fresh], []).findings


def replace_sockets(of: Subject, address: str) -> MemberSeen:
    assert of.seen is not None
    return msgspec.structs.replace(of.seen, sockets=(opening_to(address),))


def test_every_finding_has_a_next_command() -> None:
    lost = SocketSeen(
        "tcp", "ESTABLISHED", "10.0.0.2", 40000, "10.0.0.3", 40001, unsent=4096, retransmits=5, pid=1, peer="sub1"
    )
    elsewhere = rank(1, "load (data.py:7)", at="data.py:7")
    barrier = rank(1, f"barrier ({C10D}:5000)", at="train.py:40")
    ahead, behind, other = (
        Collective(0, "default_pg", 12, "all_reduce", "started"),
        Collective(1, "default_pg", 11, "broadcast", "completed"),
        Collective(1, "default_pg", 12, "broadcast", "started"),
    )
    first = subject(0, all_reduce(0))
    hangs = [
        conclude([subject(0, all_reduce(0), sockets=(lost,)), subject(1, all_reduce(1))], []),
        conclude([first, subject(1, elsewhere)], []),
        conclude([first, subject(1, barrier)], []),
        conclude([first, subject(1)], []),
        conclude([subject(0, collectives=(ahead,)), subject(1, collectives=(behind,))], []),
        conclude([subject(0, collectives=(ahead,)), subject(1, collectives=(other,))], []),
        conclude([first, subject(1, all_reduce(1))], [tried("sub1", "main1", "unroutable")]),
    ]
    for hang in hangs:
        assert hang.findings
        assert all(finding.remedy for finding in hang.findings), hang.findings


def test_an_open_connection_on_which_nothing_is_acknowledged_has_lost_packets() -> None:
    stuck = SocketSeen(
        "tcp", "ESTABLISHED", "10.0.0.2", 40000, "10.0.0.3", 40001, unsent=4096, retransmits=5, pid=1, peer="sub1"
    )
    diagnosis = conclude([subject(0, all_reduce(0), sockets=(stuck,)), subject(1, all_reduce(1))], [])
    assert codes(diagnosis) == ["NET-LOSS"]
    assert "4096 bytes wait, sent again 5 times" in diagnosis.cause


@pytest.mark.parametrize(("state", "doing"), [("SYN-SENT", "to connect to"), ("ESTABLISHED", "for an answer of")])
def test_who_waits_for_a_member_that_has_ended_is_told_that_and_of_no_firewall(state: str, doing: str) -> None:
    waits = SocketSeen("tcp", state, "10.0.0.2", 40000, "10.0.0.3", 12350, unsent=60, retransmits=5, pid=1, peer="sub1")
    ended = Subject("sub1", 1, "b", "10.0.0.3", None, "it does not run any more", ended=True)
    diagnosis = conclude([subject(0, sockets=(waits,)), ended], [tried("main1", "sub1", "filtered", wanted=True)])
    assert codes(diagnosis) == ["MEMBER-ENDED"]
    assert diagnosis.cause == f"main1 waits {doing} sub1 (tcp 12350), which has ended"


def test_the_flight_recorder_tells_who_is_behind() -> None:
    ahead = Collective(0, "default_pg", 12, "all_reduce", "started")
    behind = Collective(1, "default_pg", 11, "broadcast", "completed")
    diagnosis = conclude([subject(0, collectives=(ahead,)), subject(1, collectives=(behind,))], [])
    assert codes(diagnosis) == ["COLLECTIVE-MISSED"]
    assert "rank 1 (sub1) has not joined all_reduce number 12 of group default_pg" in diagnosis.cause
    assert "its last one is broadcast number 11" in diagnosis.cause


def test_who_computes_is_slow_and_not_stuck() -> None:
    busy = rank(0, "step (model.py:5)", at="model.py:5", cpu=0.97)
    diagnosis = conclude([subject(0, busy), subject(1, rank(1, "step (model.py:5)", cpu=0.9))], [])
    assert not diagnosis.findings
    assert diagnosis.cause.startswith("main1 computes (python, 97 % of a core at model.py:5)")


def test_a_process_that_hangs_in_the_kernel_is_named() -> None:
    diagnosis = conclude([subject(0, rank(0, state="D", waits_in="nfs_wait_on_request")), subject(1, rank(1))], [])
    assert "hangs in the kernel in nfs_wait_on_request" in diagnosis.cause


def test_what_nobody_could_see_is_said() -> None:
    away = Subject("sub1", 1, "b", "10.0.0.3", None, "agent b is not connected")
    diagnosis = conclude([Subject("main1", 0, "a", "10.0.0.2", None, "agent a is not connected"), away], [])
    assert diagnosis.cause == "nothing is known of main1: agent a is not connected"
    assert conclude([subject(0), subject(1)], []).cause.startswith("no cause could be seen")


def test_members_of_an_overlay_between_which_nothing_passes_have_agents_that_are_cut_off() -> None:
    def overlaid(number: int) -> Subject:
        return replace(subject(number, all_reduce(number)), underlay=f"192.168.0.{number + 1}")

    both = [tried("sub1", "main1", "filtered"), tried("main1", "sub1", "filtered", wanted=True)]
    diagnosis = conclude([overlaid(0), overlaid(1)], both)
    assert codes(diagnosis) == ["NET-FILTERED"]
    assert "VXLAN (udp 4789) between agents b (192.168.0.2) and a (192.168.0.1) is dropped" in diagnosis.cause
    assert "ip saddr 192.168.0.2 udp dport 4789" in diagnosis.findings[0].remedy
    # Where something passes, it is a rule inside.
    some = [*both, Tried("sub1", "main1", 1750, "watch", "open", ""), Tried("main1", "sub1", 1750, "watch", "open", "")]
    assert "29400" in conclude([overlaid(0), overlaid(1)], some).cause
