"""Whatever has become of a file of its state, an agent says which and what to do, and gives nothing away."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent.conftest import Agent, eventually
from tests.agent.peer import JOB, Peer, master, spec

from quorate.agent import processes
from quorate.agent.damaged import StateDamaged
from quorate.agent.runtime.references import Reference
from quorate.agent.runtime.secretimages import SecretImages

pytestmark = pytest.mark.anyio

M = f"{JOB}-1.0.1"
#: What may become of a file.
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "binary": lambda _: bytes(range(256)) * 8,
    "of other types": lambda _: b'{"agent": 5, "pid": "x", "closed": 7, "ran": null}',
    "a list": lambda _: b"[1, [2], {}]",
}


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


class Told:
    """What an agent says on its standard error, in all its lives."""

    def __init__(self, agent: Agent) -> None:
        self._path = agent.state / "told"
        self._seen = 0
        self._agent = agent
        agent.within = ("sh", "-c", f'exec "$@" 2>>{self._path}', "sh")

    def news(self) -> str:
        text = self._path.read_text() if self._path.exists() else ""
        fresh, self._seen = text[self._seen :], len(text)
        return fresh

    async def start(self, peer: Peer) -> str:
        """Its next life, until it is connected or has ended; what it said."""
        hellos = len(peer.hellos)
        self.news()
        self._agent.come_back(f"http://127.0.0.1:{peer.port}")
        process = self._agent.process
        assert process is not None
        await eventually(lambda: len(peer.hellos) > hellos or process.poll() is not None)
        said = self.news()
        assert "Traceback" not in said, said
        return said


def ended(agent: Agent) -> bool:
    return agent.process is not None and agent.process.poll() == 1


# --- which images are somebody's own ---------------------------------------------------------------------------------

OPEN = Reference.parse("registry.example.org/open:1")


def image(number: int) -> dict[str, object]:
    return {"Id": f"sha256:{number}", "RepoTags": [f"registry.example.org/open:{number}"]}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_list_of_images_with_secrets_opens_none_of_them(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "secret-images.json"
    SecretImages(file).came(Reference.parse("registry.example.org/closed:2"), "sha256:2", "theirs")
    broken = damage(file.read_bytes())
    file.write_bytes(broken)

    images = SecretImages(file)
    assert images.closed(image(2), "") and images.closed(image(1), "")
    (finding,) = images.findings
    aside = tmp_path / "secret-images.json.damaged"
    assert finding.code == "STATE-DAMAGED" and str(file) in finding.evidence and str(aside) in finding.evidence
    assert f"rm {file}" in finding.remedy and str(file) in caplog.text
    assert aside.read_bytes() == broken

    again = SecretImages(file)
    assert not again.findings
    assert again.closed(image(1), "") and again.closed(image(2), "")
    again.public(OPEN, "sha256:1")
    for later in (again, SecretImages(file)):
        assert not later.closed(image(1), ""), "its registry has given it to anybody"
        assert later.closed(image(2), "") and later.closed(image(3), "")


def test_a_list_of_images_that_cannot_be_put_aside_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret-images.json"
    file.mkdir()
    with pytest.raises(StateDamaged, match=f"see ls -ld {file}"):
        SecretImages(file)


# --- an agent that starts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_an_agent_without_a_readable_key_says_how_it_comes_back(
    agent: Agent, damage: Callable[[bytes], bytes]
) -> None:
    told, path = Told(agent), agent.state / "membership.json"
    async with master() as peer:
        agent.start(peer.port)
        await peer.until(lambda: peer.hellos)
        assert agent.terminate() == 0
        path.write_bytes(damage(path.read_bytes()))
        said = await told.start(peer)
    assert ended(agent)
    assert f"{path} is damaged" in said and f"mv {path} {path}.damaged" in said and "quorate token create" in said


@pytest.mark.parametrize(
    "file",
    ["lease", "agent.lock", "members/{member}/uid", "members/{member}/acked", "members/{member}/shim.json",
     "members/{member}/host-uid", "members/{member}/exit.json"],
)  # fmt: skip
async def test_other_damaged_files_keep_no_agent_from_its_members(agent: Agent, file: str) -> None:
    told, path = Told(agent), agent.state / file.format(member=M)
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(shell("echo hello; exec sleep 1000")))
        await peer.state(M, "running")
        for damage in DAMAGES.values():
            agent.kill()
            path.write_bytes(damage(path.read_bytes() if path.exists() else b"0123456789"))
            await told.start(peer)
            assert not ended(agent)
            assert [(s.member, s.state) for s in peer.hellos[-1].members] == [(M, "running")]
        await peer.whole_log(M)
    assert peer.output(M) == b"hello\n"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_member_whose_end_cannot_be_read_has_failed(agent: Agent, damage: Callable[[bytes], bytes]) -> None:
    told, path = Told(agent), agent.folder(M) / "exit.json"
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(shell("while [ ! -e go ]; do sleep 0.02; done; exit 4")))
        await peer.state(M, "running")
        agent.kill()
        (agent.folder(M) / "work" / "go").touch()
        await eventually(path.exists)
        path.write_bytes(damage(path.read_bytes().rstrip(b"\0")))
        said = await told.start(peer)
        assert f"{path} is damaged" in said
        status = await peer.state(M, "failed")
    assert status.code == "MEMBER-LOST"


# --- the journal -----------------------------------------------------------------------------------------------------


async def test_an_agent_does_not_go_on_without_its_journal_and_without_it_ends_what_it_does_not_know(
    agent: Agent,
) -> None:
    told, path = Told(agent), agent.state / "journal"
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(shell("exec sleep 1000")))
        await peer.state(M, "running")
        agent.kill()
        for damage in ("binary", "of other types", "a list"):
            path.write_bytes(DAMAGES[damage](b""))
            said = await told.start(peer)
            assert ended(agent)
            assert f"{path} is damaged at byte 0" in said and f"mv {path} {path}.damaged" in said
            assert processes.marked(M), "members run on meanwhile"

        # What it said to do. Its master hears then that the agent no longer knows the member, and wants it no more.
        peer._members = ()
        path.rename(path.with_name("journal.damaged"))
        said = await told.start(peer)
        assert not ended(agent)
        await eventually(lambda: not processes.marked(M) and not agent.folder(M).exists())
        assert not peer.hellos[-1].members
        assert f"does not know member {M}" in said + told.news()


# --- users -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has members with users of their own")
async def test_the_user_of_a_living_member_is_given_to_nobody_else_though_its_file_is_damaged(agent: Agent) -> None:
    first = 1_899_980_000
    agent.settings = {"members_as": "users", "users": {"first": first, "last": first + 3}}
    told, other = Told(agent), f"{JOB}2-1.0.1"
    async with master() as peer:
        agent.start(peer.port)
        await peer.run(M, spec(shell("exec sleep 1000")))
        await peer.state(M, "running")
        agent.kill()
        (agent.folder(M) / "uid").write_bytes(b"\0" * 8)
        said = await told.start(peer)
        assert f"{agent.folder(M) / 'uid'} is damaged" in said
        await peer.run(other, spec(shell("exec sleep 1000"), f"{JOB}2-1"))
        await peer.state(other, "running")
        owners = [(agent.folder(member) / "work").stat().st_uid for member in (M, other)]
    assert owners == [first, first + 1]
