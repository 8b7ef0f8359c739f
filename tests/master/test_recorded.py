"""An agent of the previous protocol, recorded: what it sent is replayed byte for byte against this master."""

import asyncio
import json
from pathlib import Path

from quorate.model.messages import OLDEST_PROTOCOL, Desired, HeartbeatAck, MasterMessage, ReportAck, Welcome

from .serving import MasterProcess, hear

RECORDED = Path(__file__).parent / "recorded"
#: The job of the recorded agent's member; ids are random, so a replay puts another one of the same length there.
RECORDED_JOB = b"jobidjob"


def recorded(name: str) -> list[bytes]:
    """What the agent sent, message by message."""
    lines = (RECORDED / f"protocol-{OLDEST_PROTOCOL}{name}.jsonl").read_text().splitlines()
    return [bytes.fromhex(json.loads(line)["sent"]) for line in lines]


def test_an_agent_of_the_previous_protocol_works_on(own_master: MasterProcess) -> None:
    key = own_master.join("old")
    heard: list[MasterMessage] = []

    async def replay() -> None:
        async with asyncio.timeout(20), own_master.link("/agent/v1/control", key) as link:
            for message in recorded(""):
                await link.send(message)
            while len(heard) < 6:
                heard.append(await hear(link))

    asyncio.run(replay())
    welcome, desired, *answers = heard
    assert isinstance(welcome, Welcome)
    assert welcome.protocol == OLDEST_PROTOCOL
    assert isinstance(desired, Desired)
    assert answers == [HeartbeatAck(1, 1034.25), ReportAck(1), ReportAck(2), HeartbeatAck(2, 1044.25)]
    with own_master.client() as client:
        agent = client.get("/api/v1/agents/old").json()
    assert (agent["version"], agent["address"], len(agent["slots"])) == ("0.0.9", "10.0.0.9", 2)


def test_an_agent_of_the_previous_protocol_runs_a_job_to_its_end(own_master: MasterProcess) -> None:
    key = own_master.join("old")
    hello, runs, ended = recorded("-job")

    async def replay(job: str) -> None:
        async with asyncio.timeout(20), own_master.link("/agent/v1/control", key) as link:
            await link.send(hello)
            while not (isinstance(message := await hear(link), Desired) and message.members):
                pass
            assert message.members == (f"{job}-1.0.1",)
            for number, report in enumerate((runs, ended), 1):
                await link.send(report.replace(RECORDED_JOB, job.encode()))
                while not isinstance(answer := await hear(link), ReportAck):
                    pass
                assert answer.sequence == number

    with own_master.client() as client:
        job = client.post("/api/v1/jobs", json={"spec": {"entrypoint": "true"}}).json()["id"]
        asyncio.run(replay(job))
        view = client.get(f"/api/v1/jobs/{job}").json()
    assert (view["state"], view["exit_code"]) == ("completed", 0)
