"""Containers on two hosts enter each other by OpenSSH, and their user enters both from the desk."""

from __future__ import annotations

from typing import Any

import pytest
from tests.lab import dockers
from tests.lab.cluster import LabCluster, running
from tests.lab.hosts import Lab

from quorate.model.state import JobState

pytestmark = [pytest.mark.lab, pytest.mark.docker, pytest.mark.slow]

#: Each enters the other, brings a file, and ends when the other has been here too.
_VISIT = """
case $QUORATE_RANK in 0) other=sub1 ;; *) other=main1 ;; esac
ssh $other 'echo $(hostname) $(id -u) $QUORATE_RANK $(grep CapEff /proc/self/status)'
head -c 100000 /dev/urandom > sent && scp -q sent $other:got && scp -q $other:got back && cmp sent back && echo same
ssh $other touch visited
until [ -e visited ]; do sleep 0.1; done
"""


def visits(cluster: LabCluster, **spec: Any) -> dict[str, list[str]]:
    work = cluster.submit("sh", "-c", _VISIT, **{**dockers.CONTAINER, **spec})
    job = work.ended()
    assert job.state is JobState.COMPLETED, work.told()
    assert {member.agent for member in job.members} == {"h1", "h2"}
    return work.output()


def test_containers_reach_each_other_by_ssh_as_a_user_of_their_own_and_as_root(lab: Lab) -> None:
    allow = {**dockers.ALLOW, "run_as": ["root"]}
    with running(lab, "h1", "h2", network={"modes": ["overlay"]}, docker=True, settings={"allow": allow}) as cluster:
        for uid, spec in ((None, {}), ("0", {"run_as": "root"})):
            said = visits(cluster, **spec)
            for name, other, rank in (("main1", "sub1", "1"), ("sub1", "main1", "0")):
                host, user, seen, _, capabilities = said[name][0].split()
                assert (host, seen, capabilities) == (other, rank, "0000000000000000")
                assert user == uid if uid else int(user) > 1000
                assert said[name][1] == "same"
