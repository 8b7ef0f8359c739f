"""Agents' links, as an agent sees them."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from quorate.model.messages import (
    OLDEST_PROTOCOL,
    PROTOCOL,
    Desired,
    ExitStatus,
    Heartbeat,
    HeartbeatAck,
    MemberStatus,
    Refuse,
    Report,
    ReportAck,
    Welcome,
)
from quorate.model.state import MemberState

from .serving import MasterProcess, hear, hello, say, until

CONTROL, LOGS, STREAMS = "/agent/v1/control", "/agent/v1/logs", "/agent/v1/streams"


def told(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await story()

    asyncio.run(bounded())


def test_an_agent_is_welcomed_and_told_what_to_have(master: MasterProcess) -> None:
    key = master.join("a1")

    async def story() -> None:
        async with master.link(CONTROL, key) as link:
            await say(link, hello("a1"))
            welcome = await hear(link)
            assert isinstance(welcome, Welcome)
            assert welcome.cluster == master.ready["cluster"]
            desired = await hear(link)
            assert isinstance(desired, Desired)
            assert desired.members == ()
            await say(link, Heartbeat(1, 12.5))
            assert await hear(link) == HeartbeatAck(1, 12.5)

    told(story)


def test_a_job_reaches_its_agent_and_its_end_comes_back(own_master: MasterProcess) -> None:
    key = own_master.join("a")

    async def story() -> None:
        async with own_master.link(CONTROL, key) as link:
            await say(link, hello("a"))
            await hear(link), await hear(link)
            with own_master.client() as client:
                job = client.post("/api/v1/jobs", json={"spec": {"entrypoint": "true"}}).json()["id"]
            desired = await hear(link)
            assert isinstance(desired, Desired)
            [member] = desired.members
            [allocation] = desired.allocations
            assert (member, allocation.entrypoint) == (f"{job}-1.0.1", ("sh", "-c", "true"))
            await say(link, Report(1, (MemberStatus(member, "running"),)))
            while not isinstance(message := await hear(link), ReportAck):
                pass
            assert message.sequence == 1
            with own_master.client() as client:
                assert client.get(f"/api/v1/jobs/{job}").json()["state"] == "running"

    told(story)


def test_a_key_that_is_not_known_opens_nothing(master: MasterProcess) -> None:
    async def story() -> None:
        for path in (CONTROL, "/agent/v1/logs"):
            with pytest.raises(InvalidStatus) as refused:
                async with master.link(path, "qa1.nobody"):
                    pass
            assert refused.value.response.status_code == 401
            assert b"AGENT-KEY" in refused.value.response.body

    told(story)


def test_a_users_token_opens_no_link_and_a_key_no_api(master: MasterProcess) -> None:
    key = master.join("a3")

    async def story() -> None:
        with pytest.raises(InvalidStatus):
            async with master.link(CONTROL, master.token):
                pass

    told(story)
    with master.client(key) as client:
        assert client.get("/api/v1/jobs").status_code == 401


def test_nobody_speaks_for_another_agent(master: MasterProcess) -> None:
    master.join("a4")
    key = master.join("b4")

    async def story() -> None:
        async with master.link(CONTROL, key) as link:
            await say(link, hello("a4"))
            refuse = await hear(link)
            assert isinstance(refuse, Refuse)
            assert (refuse.code, refuse.final) == ("AGENT-NAME", True)

    told(story)


@pytest.mark.parametrize(
    ("protocol", "who"), [(PROTOCOL + 1, "upgrade the master"), (OLDEST_PROTOCOL - 1, "upgrade the agent")]
)
def test_another_protocol_is_refused_with_what_to_upgrade(master: MasterProcess, protocol: int, who: str) -> None:
    key = master.join("a5")

    async def story() -> None:
        async with master.link(CONTROL, key) as link:
            await say(link, hello("a5", protocol=protocol))
            refuse = await hear(link)
            assert isinstance(refuse, Refuse)
            assert who in refuse.sentence
            with pytest.raises(ConnectionClosed):
                await hear(link)

    told(story)


def test_a_protocol_of_which_nothing_is_understood_is_refused_as_one(master: MasterProcess) -> None:
    key = master.join("future")
    future = {"t": "hello", "protocol": PROTOCOL + 5, "version": "9.0", "agent": {"name": "future"}, "slots": "eight"}

    async def story() -> None:
        async with master.link(CONTROL, key) as link:
            await link.send(msgspec.msgpack.encode(future))
            refuse = await hear(link)
            assert isinstance(refuse, Refuse)
            assert "Quorate 9.0" in refuse.sentence
            assert "upgrade the master" in refuse.sentence

    told(story)


def test_rubbish_ends_the_link_and_nothing_else(master: MasterProcess) -> None:
    key = master.join("a6")

    async def story() -> None:
        for rubbish in (b"\xc1", b"", "text", b"\x81\xa1t\xa5hello"):
            async with master.link(CONTROL, key) as link:
                await link.send(rubbish)
                refuse = await hear(link)
                assert isinstance(refuse, Refuse)
                assert refuse.code == "NO-HELLO"
        async with master.link(CONTROL, key) as link:
            await say(link, hello("a6"))
            assert isinstance(await hear(link), Welcome)

    told(story)


def test_a_revoked_agent_loses_its_link_at_once(own_master: MasterProcess) -> None:
    key = own_master.join("a")

    async def story() -> None:
        async with own_master.link(CONTROL, key) as link:
            await say(link, hello("a"))
            await hear(link), await hear(link)
            with own_master.client() as client:
                assert client.post("/api/v1/agents/a/revoke").json()["state"] == "revoked"
            with pytest.raises(ConnectionClosed):
                while True:
                    await hear(link)
        for path in (LOGS, STREAMS):
            with pytest.raises(InvalidStatus):
                async with own_master.link(path, key):
                    pass

    told(story)


def test_an_agent_that_was_away_when_it_was_revoked_is_told_so(own_master: MasterProcess) -> None:
    """Its members are to end, which it does for no answer but this one; also after a restart of the master."""
    key = own_master.join("a")
    with own_master.client() as client:
        assert client.post("/api/v1/agents/a/revoke").json()["state"] == "revoked"
    own_master.stop()
    own_master.start()

    async def story() -> None:
        async with own_master.link(CONTROL, key) as link:
            await say(link, hello("a"))
            refuse = await hear(link)
            assert isinstance(refuse, Refuse)
            assert (refuse.code, refuse.final) == ("AGENT-REVOKED", True)
            assert "quorate token create" in refuse.sentence
            with pytest.raises(ConnectionClosed):
                await hear(link)
        with pytest.raises(InvalidStatus) as stranger:
            async with own_master.link(CONTROL, key + "x"):
                pass
        assert b"AGENT-KEY" in (stranger.value.response.body or b"")

    told(story)


def test_a_name_belongs_to_the_first_key_that_joined_under_it(master: MasterProcess) -> None:
    master.join("a7")
    with master.client() as operator:
        token = operator.post("/api/v1/tokens", json={"kind": "join", "uses": 1}).json()["token"]
        body = {"token": token, "name": "a7", "key_hash": "0" * 64}
        taken = operator.post("/agent/v1/join", json=body)
        assert (taken.status_code, taken.json()["code"]) == (409, "AGENT-TAKEN")
        assert operator.post("/agent/v1/join", json=body | {"name": "b7"}).status_code == 200
        # A lost answer is asked for again; another agent needs another use.
        assert operator.post("/agent/v1/join", json=body | {"name": "b7"}).status_code == 200
        used = operator.post("/agent/v1/join", json=body | {"name": "c7"})
        assert (used.status_code, used.json()["code"]) == (401, "TOKEN-INVALID")


def test_secrets_reach_the_agent_of_a_member_and_no_other(own_master: MasterProcess) -> None:
    keys = {name: own_master.join(name) for name in ("a", "b")}

    async def story() -> None:
        async with own_master.link(CONTROL, keys["a"]) as link:
            await say(link, hello("a"))
            await hear(link), await hear(link)
            with own_master.client() as client:
                spec = {"entrypoint": "true", "secrets": {"KEY": "värde"}}
                job = client.post("/api/v1/jobs", json={"spec": spec}).json()
            assert job["secrets"] == ["KEY"]
            assert job["spec"]["secrets"] == {}
            desired = await hear(link)
            assert isinstance(desired, Desired)
            assert desired.allocations[0].secrets == ("KEY",)
            path = f"/agent/v1/allocations/{job['id']}-1/secrets"
            with own_master.client(keys["a"]) as agent:
                assert agent.get(path).json() == {"secrets": {"KEY": "värde"}}
            with own_master.client(keys["b"]) as other:
                assert other.get(path).status_code == 404
            with own_master.client() as operator:
                assert operator.get(path).status_code == 401

    told(story)


def test_a_members_token_sees_its_own_job_while_that_lives_and_nothing_else(own_master: MasterProcess) -> None:
    key = own_master.join("a")

    async def story() -> None:
        async with own_master.link(CONTROL, key) as link:
            await say(link, hello("a"))
            await hear(link), await hear(link)
            with own_master.client() as client:
                plain = client.post(
                    "/api/v1/jobs", json={"spec": {"entrypoint": "true", "resources": {"slots": 0}}}
                ).json()
                spec = {"entrypoint": "true", "token": True, "resources": {"slots": 0}}
                job = client.post("/api/v1/jobs", json={"spec": spec}).json()["id"]
            while not any("quorate-token" in found.secrets for found in (await hear(link)).allocations):
                pass
            with own_master.client(key) as agent:
                token = agent.get(f"/agent/v1/allocations/{job}-1/secrets").json()["secrets"]["quorate-token"]
            assert token.encode() not in b"".join(f.read_bytes() for f in own_master.state.rglob("*.db*"))
            with own_master.client(token) as member:
                assert member.get(f"/api/v1/jobs/{job}").json()["id"] == job
                for path in (f"/api/v1/jobs/{plain['id']}", "/api/v1/jobs", "/api/v1/agents", "/api/v1/tokens"):
                    refused = member.get(path)
                    assert (refused.status_code, refused.json()["code"]) == (403, "MEMBER-TOKEN")
                assert member.post(f"/api/v1/jobs/{job}/cancel").status_code == 403
                assert member.post("/api/v1/jobs", json={"spec": {"entrypoint": "true"}}).status_code == 403
            status = MemberStatus(f"{job}-1.0.1", MemberState.EXITED, ExitStatus(code=0))
            await say(link, Report(1, (status,)))
            with own_master.client() as client:
                assert client.get(f"/api/v1/jobs/{job}/wait", params={"timeout": 20}).json()["state"] == "completed"
                assert {item["kind"] for item in client.get("/api/v1/tokens").json()["items"]} <= {"join", "user"}
            with own_master.client(token) as member:
                assert member.get(f"/api/v1/jobs/{job}").status_code == 401

    told(story)


def test_a_planned_stop_waits_until_the_agents_hold_their_lease(own_master: MasterProcess) -> None:
    from quorate.model.messages import Lease, LeaseHeld

    key = own_master.join("a")

    async def story() -> None:
        async with own_master.link(CONTROL, key) as link:
            await say(link, hello("a"))
            await hear(link), await hear(link)
            with own_master.client() as client:
                stopping = asyncio.create_task(
                    asyncio.to_thread(client.post, "/api/v1/master/stop", json={"for": "2h"})
                )
                lease = await hear(link)
                assert isinstance(lease, Lease)
                assert lease.for_s == 7200
                await say(link, LeaseHeld(lease.sequence))
                assert (await stopping).json() == {"told": ["a"], "untold": []}

    told(story)
    assert own_master.process is not None
    assert own_master.process.wait(20) == 0


def test_agents_come_back_after_the_masters_death(own_master: MasterProcess) -> None:
    key = own_master.join("a")

    async def story() -> None:
        for epoch in (1, 2):
            async with own_master.link(CONTROL, key) as link:
                await say(link, hello("a"))
                welcome = await hear(link)
                assert isinstance(welcome, Welcome)
                assert welcome.epoch == epoch
                if epoch == 1:
                    own_master.kill()
                    own_master.start()

    told(story)


def test_only_one_master_works_on_a_state_directory(own_master: MasterProcess) -> None:
    second = MasterProcess(own_master.state)
    with pytest.raises(AssertionError, match="a master runs on"):
        second.start()
    until(lambda: second.process is not None and second.process.poll() == 2, "the second one's end")
