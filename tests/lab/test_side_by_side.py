"""Ten allocations at once on the same two hosts, all on their framework's own ports: none meets another."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.lab.cluster import running
from tests.lab.hosts import Lab, until

from quorate.model.state import JobState

pytestmark = [pytest.mark.lab, pytest.mark.slow]

JOBS = 10
#: The first member listens on three canonical ports until all jobs do so; the other one asks who answers there.
PROGRAM = """
import os, pathlib, socket, time
folder, job, rank = pathlib.Path(os.environ["FOLDER"]), os.environ["QUORATE_JOB"], int(os.environ["QUORATE_RANK"])
ports = [int(os.environ["MASTER_PORT"]), 29400, 12355]
print("ports", *ports, flush=True)
if rank == 0:
    listeners = [socket.create_server(("", port)) for port in ports]
    (folder / f"{job}.listens").touch()
    for listener in listeners:
        connection, _ = listener.accept()
        connection.sendall(job.encode())
        connection.close()
else:
    while len(list(folder.glob("*.listens"))) < int(os.environ["JOBS"]):
        time.sleep(0.05)
    for port in ports:
        with socket.create_connection((os.environ["MASTER_ADDR"], port), 30) as connection:
            print("met", connection.recv(100).decode(), flush=True)
"""


def test_ten_allocations_at_once_have_the_same_ports_and_do_not_collide(lab: Lab) -> None:
    folder = Path(lab.folder, "shared")
    folder.mkdir()
    folder.chmod(0o777)
    with running(lab, "h1", "h2", network={"modes": ["overlay"]}, settings={"slots": JOBS}) as cluster:
        works = [
            cluster.submit("python", "-c", PROGRAM, environment={"FOLDER": str(folder), "JOBS": str(JOBS)})
            for _ in range(JOBS)
        ]
        for work in works:
            job = work.ended()
            assert job.state is JobState.COMPLETED, work.told()
            assert {member.agent for member in job.members} == {"h1", "h2"}
            said = work.output()
            assert said["main1"] == ["ports 29500 29400 12355"]
            assert said["sub1"] == ["ports 29500 29400 12355", *[f"met {work.id}"] * 3]
        for host in cluster.agents:
            until(lambda host=host: not cluster.left_on(host), f"that nothing is left on {host.name}")
