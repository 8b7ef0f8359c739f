"""Which network a gang gets, and that its VNI and subnet are its own for as long as anything of it may exist."""

from ipaddress import ip_network

import pytest

from quorate.master import effects as fx
from quorate.master import events as ev
from quorate.master.settings import PoolNetwork, Settings
from quorate.master.standing import waits_for
from quorate.model.ids import AgentId
from quorate.model.jobnetwork import Enforcement
from quorate.model.messages import AllocationSpec, Feature, NetworkSpec
from quorate.model.state import JobState, MemberState
from quorate.network.flows import NetworkMode

from .cluster import Agent, Cluster, exited

ABLE = (Feature.SANDBOX, Feature.IMAGES, Feature.ROLES)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def able(cluster: Cluster, number: int, slots: int = 1, **more) -> Agent:
    """An agent with a real address that makes private networks."""
    says = {"features": ABLE, "address": f"10.0.0.{number}", "mtu": 1500, **more}
    return cluster.agent(f"a{number}", slots=slots, **says)


def sent(agent: Agent) -> AllocationSpec:
    return agent.desired.allocations[-1]


def network(agent: Agent) -> NetworkSpec:
    found = sent(agent).network
    assert found is not None
    return found


def in_use(cluster: Cluster) -> tuple[int, int]:
    """How many VNIs and how many addresses are held."""
    return len(cluster.state.networks.vnis), len(cluster.state.networks.subnets)


# --- which network ---------------------------------------------------------------------------------------------------


def test_members_on_one_agent_share_a_bridge_and_have_addresses_by_rank(cluster: Cluster) -> None:
    agent = able(cluster, 1, slots=2)
    cluster.submit(2)
    spec = sent(agent)
    assert network(agent).mode == "bridge" and network(agent).mtu == 1500
    subnet = ip_network(network(agent).subnet)
    assert network(agent).gateway == str(subnet[1])
    assert [(m.address, m.underlay) for m in spec.members] == [(str(subnet[2 + rank]), "10.0.0.1") for rank in (0, 1)]
    assert spec.ssh


def test_members_on_several_agents_are_joined_by_an_overlay_with_the_narrowest_mtu(cluster: Cluster) -> None:
    first, second = able(cluster, 1, mtu=9000), able(cluster, 2, mtu=1400)
    cluster.submit(2)
    assert network(first) == network(second)
    assert (network(first).mode, network(first).mtu) == ("overlay", 1350)


def test_every_gang_has_the_canonical_ports_and_none_of_them_is_leased(cluster: Cluster) -> None:
    agent = able(cluster, 1, slots=4)
    for _ in range(2):
        cluster.submit(2, launcher="torch")
        assert sent(agent).members[0].ports == {"rendezvous": 1734, "watch": 1750, "torch": 29400, "main": 29500}
    assert not any(cluster.state.ports_used.values())


def test_one_agent_that_makes_no_private_networks_keeps_the_gang_on_the_hosts(cluster: Cluster) -> None:
    first, _ = able(cluster, 1), cluster.agent("b")
    job = cluster.submit(2)
    assert sent(first).network is None
    assert [m.address for m in sent(first).members] == ["10.0.0.1", "10.0.0.b"]
    assert cluster.state.allocations[f"{job}-1"].joined == "host: agent b makes no private networks"


def test_members_reach_neither_agents_nor_master_nor_other_allocations(cluster: Cluster) -> None:
    cluster = Cluster(Settings(own_addresses=("192.0.2.1",)))
    agent = able(cluster, 1)
    able(cluster, 200)
    cluster.submit()
    forbidden = [ip_network(text) for text in network(agent).forbidden]
    for address in ("10.0.0.1", "10.0.0.200", "192.0.2.1", "10.64.0.0", "10.71.255.255"):
        assert any(ip_network(address).subnet_of(one) for one in forbidden), address
    assert not any(ip_network("10.0.0.2").subnet_of(one) for one in forbidden)


def test_members_reach_an_agent_by_none_of_its_addresses(cluster: Cluster) -> None:
    agent = able(cluster, 1, address="fd00:1::1", addresses=("10.0.0.1", "fd00:1::1"))
    other = able(cluster, 2, address="fd00:1::2", addresses=("10.9.0.2",))
    cluster.submit()
    assert {"10.0.0.1/32", "10.9.0.2/32"} <= set(network(agent).forbidden)
    other.drop()
    other.connect(addresses=("10.9.0.3",))
    cluster.submit()
    told = network(other).forbidden
    assert "10.9.0.3/32" in told and "10.9.0.2/32" not in told


@pytest.mark.parametrize("odd", [("x",), ("fe80::1%eth0",), ("10.0.0.0/8",), ("10.0.0.1",) * 65])
def test_an_agent_that_tells_no_addresses_as_its_own_is_turned_away(cluster: Cluster, odd: tuple[str, ...]) -> None:
    agent = able(cluster, 1, addresses=odd)
    assert agent.closed is not None and agent.closed.refuse is not None
    assert agent.closed.refuse.code == "AGENT-UNFIT"


def test_members_with_a_token_of_their_job_may_ask_the_masters_api_and_nothing_else_there() -> None:
    cluster = Cluster(Settings(own_addresses=("192.0.2.1", "fd00::5"), api_port=8443))
    agent = able(cluster, 1, slots=2)
    cluster.submit(token=True)
    assert {"10.0.0.1/32", "192.0.2.1/32"} <= set(network(agent).forbidden)
    assert network(agent).api == (("192.0.2.1/32", 8443),)
    cluster.submit()
    assert network(agent).api == ()


def test_members_are_open_among_themselves_unless_a_launcher_says_what_they_do(cluster: Cluster) -> None:
    agent = able(cluster, 1, slots=3)
    cluster.submit()
    assert network(agent).members == "open"
    cluster.submit(launcher="torch")
    assert network(agent).members == "planned"
    cluster.submit(launcher="torch", network={"members": "open"})
    assert network(agent).members == "open"


def test_a_job_may_ask_for_more_enforcement_than_the_operator_but_not_for_less() -> None:
    for operators, wanted, expected in (
        (None, None, "enforce"),
        (None, "off", "off"),
        (Enforcement.OBSERVE, "off", "observe"),
        (Enforcement.OBSERVE, "enforce", "enforce"),
    ):
        cluster = Cluster(Settings(network=PoolNetwork(enforcement=operators), networks={}))
        agent = able(cluster, 1)
        cluster.submit(network={"enforcement": wanted})
        assert network(agent).enforcement == expected


def test_members_of_the_hosts_network_are_told_where_they_may_go_there() -> None:
    cluster = Cluster(
        Settings(
            own_addresses=("192.0.2.1", "fd00::5"), api_port=8443, network=PoolNetwork(enforcement=Enforcement.OBSERVE)
        )
    )
    agent = able(cluster, 1, slots=2, addresses=("10.0.0.1", "10.9.0.1", "fd00:1::1"))
    able(cluster, 2, slots=0)
    cluster.submit(launcher="torch", network={"mode": "host"})
    told = sent(agent).hosts
    assert told is not None and sent(agent).network is None
    assert (told.members, told.enforcement, told.api) == ("planned", "observe", ())
    assert told.addresses == ("10.0.0.1", "10.9.0.1", "fd00:1::1")
    forbidden = {"10.0.0.1/32", "10.0.0.2/32", "10.9.0.1/32", "192.0.2.1/32", "fd00:1::1/128", "fd00::5/128"}
    assert set(told.forbidden) == forbidden
    cluster.submit(token=True, network={"mode": "host"})
    told = sent(agent).hosts
    assert told is not None
    assert (told.members, told.api) == ("open", (("192.0.2.1/32", 8443), ("fd00::5/128", 8443)))


def test_members_of_a_private_network_are_told_nothing_of_the_hosts(cluster: Cluster) -> None:
    agent = able(cluster, 1)
    cluster.submit()
    assert sent(agent).hosts is None


def test_a_pool_with_a_fabric_keeps_gangs_that_span_agents_on_it() -> None:
    cluster = Cluster(Settings(networks={"default": PoolNetwork(fabric="ib")}))
    agents = able(cluster, 1), able(cluster, 2)
    cluster.submit(2)
    assert [sent(agent).network for agent in agents] == [None, None]


# --- what cannot be had ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"image": "python:3.12"}, "no agent of pool default can run images"),
        ({"network": {"mode": "overlay"}}, "no agent of pool default can make private networks"),
        ({"network": {"egress": "none"}}, "no agent of pool default can make private networks"),
        ({"workdir": "/srv"}, "no agent of pool default can heed roles and limits of members"),
    ],
)
def test_what_no_agent_can_do_is_refused_when_it_is_submitted(cluster: Cluster, wish: dict, said: str) -> None:
    cluster.agent("a")
    answer = cluster.ask(**wish)
    assert isinstance(answer, fx.Refused) and answer.detail == said


def test_a_job_waits_for_agents_that_can_do_what_it_asks_for(cluster: Cluster) -> None:
    cluster.agent("b", slots=4)
    able(cluster, 1)
    first, second = cluster.submit(image="python:3.12"), cluster.submit(image="python:3.12")
    assert cluster.members(first)[0].agent == "a1"
    assert cluster.job(second).state is JobState.PENDING
    assert "can run images" in waits_for(cluster.state, cluster.job(second), cluster.now)


def test_a_bridge_brings_all_members_to_one_agent(cluster: Cluster) -> None:
    able(cluster, 1), able(cluster, 2, slots=2)
    job = cluster.submit(2, network={"mode": "bridge"})
    assert {member.agent for member in cluster.members(job)} == {"a2"}


def test_a_mode_that_the_operator_does_not_allow_is_refused() -> None:
    cluster = Cluster(Settings(network=PoolNetwork(modes=frozenset({NetworkMode.OVERLAY}))))
    able(cluster, 1)
    answer = cluster.ask(network={"mode": "host"})
    assert isinstance(answer, fx.Refused) and answer.code == "NETWORK-MODE-REFUSED" and "allows" in answer.detail


@pytest.mark.parametrize(
    ("wish", "code", "said"),
    [
        ({"network": {"window": "40000-40003"}, "launcher": "torch"}, "PORT-BUDGET", "has 4 ports"),
        ({"environment": {"MASTER_PORT": "65535"}}, "PORTS-PAST-THE-END", "would need port 65536"),
    ],
)
def test_ports_that_a_job_cannot_have_are_told_when_it_is_submitted(
    cluster: Cluster, wish: dict, code: str, said: str
) -> None:
    able(cluster, 1, slots=2)
    answer = cluster.ask(2, **wish)
    assert isinstance(answer, fx.Refused) and answer.code == code and said in answer.detail, answer
    assert isinstance(cluster.ask(1, **wish), fx.Submitted), "one member needs no such port"


def test_a_job_whose_way_out_is_limited_never_runs_on_the_hosts_network(cluster: Cluster) -> None:
    able(cluster, 1, address="10.0.0.1"), able(cluster, 2, address="10.0.0.1")
    job = cluster.submit(2, network={"egress": "none"})
    assert cluster.job(job).state is JobState.PENDING
    said = waits_for(cluster.state, cluster.job(job), cluster.now)
    assert said == "network.egress needs a private network, but agents a1 and a2 share the address 10.0.0.1"


def test_gangs_wait_when_all_subnets_are_held_and_run_when_one_is_given_back() -> None:
    narrow = PoolNetwork(overlays=(ip_network("10.200.0.0/28"),))
    cluster = Cluster(Settings(network=narrow))
    able(cluster, 1, slots=2)
    first, second = cluster.submit(), cluster.submit()
    assert cluster.job(second).state is JobState.PENDING
    assert "10.200.0.0/28" in waits_for(cluster.state, cluster.job(second), cluster.now)
    agent, member = cluster.who(first)
    agent.says(exited(member))
    cluster.turn()
    assert cluster.job(second).state is JobState.STARTING


def test_subnets_keep_out_of_the_networks_that_agents_live_in() -> None:
    cluster = Cluster()
    agent = able(cluster, 1, address="10.64.0.7")
    cluster.submit()
    assert not ip_network(network(agent).subnet).overlaps(ip_network("10.64.0.0/16"))


# --- for how long ----------------------------------------------------------------------------------------------------


def test_a_network_is_held_until_the_last_member_is_gone_for_certain(cluster: Cluster) -> None:
    first, second = able(cluster, 1), able(cluster, 2)
    job = cluster.submit(2)
    cluster.run_all(job)
    first.says(exited(f"{job}-1.0.1"))
    assert in_use(cluster) == (1, 16)
    second.says(exited(f"{job}-1.1.1"))
    assert in_use(cluster) == (0, 0)


def test_a_network_outlives_its_job_while_a_silent_agent_may_have_a_member(cluster: Cluster) -> None:
    agent = able(cluster, 1)
    job = cluster.submit()
    cluster.run_all(job)
    agent.drop()
    cluster.wait(70)
    cluster.cancel(job)
    assert cluster.job(job).state is JobState.CANCELLED
    assert cluster.members(job)[0].state is MemberState.LOST
    assert in_use(cluster) == (1, 16)
    agent.connect()
    assert in_use(cluster) == (0, 0)


def test_a_machine_that_is_gone_gives_its_networks_back(cluster: Cluster) -> None:
    able(cluster, 1)
    cluster.submit()
    cluster.apply(ev.AgentRevoked, agent=AgentId("a1"), by="op", gone=True)
    cluster.turn()
    assert in_use(cluster) == (0, 0)


def test_a_restarted_job_has_another_vni(cluster: Cluster) -> None:
    agent = able(cluster, 1)
    job = cluster.submit(restarts=1)
    before = network(agent)
    cluster.run_all(job)
    agent.says(exited(f"{job}-1.0.1", 1))
    assert cluster.job(job).attempt == 2
    assert network(agent).vni != before.vni
    assert in_use(cluster) == (1, 16)


def test_a_new_master_holds_what_the_one_before_it_gave(cluster: Cluster) -> None:
    agent = able(cluster, 1, slots=2)
    cluster.submit()
    given = network(agent)
    cluster.restart()
    assert in_use(cluster) == (1, 16)
    agent.connect()
    assert network(agent) == given
    cluster.submit()
    assert network(agent).vni != given.vni and network(agent).subnet != given.subnet


EARLIER = ip_network("10.128.0.0/12")


@pytest.mark.parametrize(
    "today",
    [(ip_network("10.64.0.0/13"),), (ip_network("10.128.0.0/28"), ip_network("10.64.0.0/13"))],
    ids=["elsewhere", "a part of the range before"],
)
def test_a_master_with_other_ranges_keeps_what_was_given_and_gives_it_to_nobody_else(today: tuple) -> None:
    cluster = Cluster(Settings(network=PoolNetwork(overlays=(EARLIER,))))
    agent = able(cluster, 1, slots=3)
    jobs = [cluster.submit(), cluster.submit()]
    given = {job: cluster.state.allocations[f"{job}-1"].network for job in jobs}
    assert all(one and ip_network(one.subnet).subnet_of(EARLIER) for one in given.values())

    cluster.settings = Settings(network=PoolNetwork(overlays=today))
    cluster.restart()
    agent.connect()
    assert {job: cluster.state.allocations[f"{job}-1"].network for job in jobs} == given
    cluster.run_all(jobs[0]), cluster.run_all(jobs[1])
    latest = cluster.submit()
    fresh = cluster.state.allocations[f"{latest}-1"].network
    assert fresh and ip_network(fresh.subnet).subnet_of(ip_network("10.64.0.0/13"))
    assert fresh.vni not in {one.vni for one in given.values() if one}

    # Neither range of today covers all that was given, and yet the new members reach none of it.
    (spec,) = [spec for spec in agent.desired.allocations if spec.allocation == f"{latest}-1"]
    assert spec.network is not None
    forbidden = [ip_network(text) for text in spec.network.forbidden]
    for one in given.values():
        assert one and any(ip_network(one.subnet).subnet_of(each) for each in forbidden), (one, forbidden)

    for job in jobs:
        agent.says(exited(f"{job}-1.0.1"))
    assert in_use(cluster) == (1, 16)


def test_an_event_that_fails_gives_its_network_back(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    able(cluster, 1)
    monkeypatch.setattr(
        "quorate.master.transitions.placing.forget_attempts", lambda *_: (_ for _ in ()).throw(RuntimeError("planted"))
    )
    with pytest.raises(RuntimeError, match="planted"):
        cluster.submit()
    assert in_use(cluster) == (0, 0)


# --- roles -----------------------------------------------------------------------------------------------------------


def test_members_of_unequal_roles_get_slots_names_and_commands_of_their_own(cluster: Cluster) -> None:
    first, second = able(cluster, 1, slots=4), able(cluster, 2, slots=1)
    job = cluster.submit(
        3, roles={"worker": {"replicas": 2, "slots": 2, "entrypoint": ["work"]}, "main": {"workdir": "/srv"}}
    )
    members = {member.name: member for member in cluster.members(job)}
    assert {name: (m.agent, len(m.slots)) for name, m in members.items()} == {
        "main1": ("a2", 1),
        "worker1": ("a1", 2),
        "worker2": ("a1", 2),
    }
    spec = sent(first)
    assert spec == sent(second)
    assert (spec.roles["main"].entrypoint, spec.roles["worker"].entrypoint) == (("true",), ("work",))
    assert spec.roles["main"].workdir == "/srv"


def test_a_gang_of_unequal_members_waits_whole(cluster: Cluster) -> None:
    able(cluster, 1, slots=4), able(cluster, 2, slots=1)
    cluster.submit(1)
    job = cluster.submit(3, roles={"worker": {"replicas": 2, "slots": 2}, "main": {}})
    assert not cluster.members(job)
    said = waits_for(cluster.state, cluster.job(job), cluster.now)
    assert "needs room for 2 members of 2 slots and 1 of 1" in said
