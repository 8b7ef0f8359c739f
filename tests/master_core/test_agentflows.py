"""What is planned between two agents, and so tried: by their pool's modes, and by what they can do."""

import pytest

from quorate.master.agentflows import between
from quorate.master.settings import PoolNetwork, Settings
from quorate.network.flows import NetworkMode

from .cluster import Cluster

HOST, OVERLAY, BRIDGE = NetworkMode.HOST, NetworkMode.OVERLAY, NetworkMode.BRIDGE
DEFAULT = frozenset({BRIDGE, OVERLAY})
ALL = frozenset(NetworkMode)


@pytest.mark.parametrize(
    ("features", "modes", "opened", "planned"),
    [
        # Nothing can be joined but by the hosts' network.
        ((), ALL, DEFAULT, {"leased": {"auto", "host"}}),
        # As with no master.yaml at all: the rules open VXLAN alone, although a job may ask for its hosts' network.
        (("sandbox",), ALL, DEFAULT, {"vxlan": {"auto", "overlay"}}),
        (("sandbox",), ALL, ALL, {"vxlan": {"auto", "overlay"}, "leased": {"host"}}),
        (("sandbox",), DEFAULT, DEFAULT, {"vxlan": {"auto", "overlay"}}),
        (("sandbox",), frozenset({HOST}), frozenset({HOST}), {"leased": {"auto", "host"}}),
        ((), DEFAULT, DEFAULT, {}),
    ],
)
def test_what_is_tried_is_what_the_rules_open_and_jobs_need(
    features: tuple[str, ...], modes: frozenset, opened: frozenset, planned: dict
) -> None:
    cluster = Cluster(Settings(network=PoolNetwork(modes=modes, opened=opened)))
    for name, address in (("a", "10.0.0.11"), ("b", "10.0.0.12")):
        cluster.agent(name, features=features, address=address)
    assert between(cluster.state, "a", "b") == planned


def test_nothing_is_planned_between_two_pools() -> None:
    cluster = Cluster()
    cluster.agent("a")
    cluster.agent("b", pool="other")
    assert not between(cluster.state, "a", "b")
