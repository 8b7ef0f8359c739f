"""An agent of the previous protocol, recorded: what it sent is replayed byte for byte against this master."""

import asyncio
import json
from pathlib import Path

from quorate.model.messages import OLDEST_PROTOCOL, Desired, HeartbeatAck, MasterMessage, ReportAck, Welcome

from .serving import MasterProcess, hear

RECORDED = Path(__file__).parent / "recorded" / f"protocol-{OLDEST_PROTOCOL}.jsonl"


def test_an_agent_of_the_previous_protocol_works_on(own_master: MasterProcess) -> None:
    key = own_master.join("old")
    sent = [bytes.fromhex(json.loads(line)["sent"]) for line in RECORDED.read_text().splitlines()]
    heard: list[MasterMessage] = []

    async def replay() -> None:
        async with asyncio.timeout(20), own_master.link("/agent/v1/control", key) as link:
            for message in sent:
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
