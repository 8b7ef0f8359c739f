"""Disks that are full, and stores that have gone back: said clearly, and nothing that was acknowledged is lost."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.chaos.cluster import Work, is_root, running, until

from quorate.master.backup import restore
from quorate.model.state import JobState

pytestmark = pytest.mark.slow

needs_root = pytest.mark.skipif(not is_root(), reason="only root may mount a small disk")

#: Some ten megabytes in a hundred thousand numbered lines.
FLOOD = """
echo "$QUORATE_MEMBER" >> "$CHAOS/starts"
awk 'BEGIN { for (i = 0; i < 100000; i++) printf "line %d %0100d\\n", i, 0; print "last 100000" }'
"""


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    path.mkdir(mode=0o711, parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=711", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def grow(path: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(path)], check=True)


def all_is_there(work: Work) -> None:
    end = work.ended()
    assert (end.state, end.exit_code, end.attempt) == (JobState.COMPLETED, 0, 1), end.reason

    def whole() -> list[str] | None:
        (said,) = work.output().values()
        return said if said[-1] == "last 100000" else None

    said = until(whole, "the whole log")
    assert [line.rpartition(" ")[0] for line in said[:-1]] == [f"line {i}" for i in range(100_000)]


@needs_root
def test_a_full_disk_under_an_agent_holds_its_member_back_until_there_is_room() -> None:
    with running("a") as cluster:
        members = cluster.agents["a"].state / "members"
        with small_disk(members, "2m"):
            work = cluster.submit(FLOOD, nodes=1)
            finding = until(lambda: cluster.client.agent("a").findings, "the finding")[0]
            assert (finding.code, str(members) in finding.evidence) == ("DISK-FULL", True)
            assert "free space" in finding.remedy
            assert work.view().state is JobState.RUNNING
            shown = sum(len(said) for said in work.output().values())
            assert shown < 100_000
            grow(members, "64m")
            all_is_there(work)
            until(lambda: not cluster.client.agent("a").findings, "that the finding goes")


@needs_root
def test_a_full_disk_under_the_masters_logs_leaves_them_on_the_agents_until_there_is_room(tmp_path: Path) -> None:
    settings = tmp_path / "master.yaml"
    settings.write_text("logs: {reserve_mib: 0}\n")
    with running("a", file=settings) as cluster:
        logs = cluster.master.state / "logs"
        with small_disk(logs, "2m"):
            work = cluster.submit(FLOOD, nodes=1)
            findings = until(lambda: cluster.client.master().findings, "the finding")
            assert [finding.code for finding in findings] == ["DISK-FULL"]
            until(lambda: work.view().state is JobState.COMPLETED, "the job's end: its output waits on the agent")
            # But for the last, of which a part may have come.
            acknowledged = next(iter(work.output().values()), [])[:-1]
            # The agent that comes back has what the master never acknowledged.
            agent = cluster.agents["a"]
            cluster.kill_agent(agent)
            cluster.start_agent(agent)
            grow(logs, "64m")
            all_is_there(work)
            assert next(iter(work.output().values()))[: len(acknowledged)] == acknowledged
            until(lambda: not cluster.client.master().findings, "that the finding goes")


def test_agents_change_nothing_for_a_store_that_has_gone_back_until_it_is_adopted(tmp_path: Path) -> None:
    with running("a", "b") as cluster:
        before = cluster.submit()
        before.until_counting()
        backup = tmp_path / "backup.tar"
        backup.write_bytes(b"".join(cluster.client.backup()))
        after = cluster.submit()
        after.until_counting()
        assert cluster.master.stop() == 0
        restore(backup, cluster.master.state, force=True)
        cluster.start_master()

        until(lambda: all(a.state == "regressed" for a in cluster.client.agents()), "that the agents see it")
        assert [finding.code for finding in cluster.client.master().findings] == ["STORE-REGRESSED"]
        waiting = cluster.submit(nodes=1)
        assert "quorate master adopt" in waiting.view().reason
        assert len(after.left()) >= 2, "what the store does not know runs on"

        cluster.client.adopt()
        cluster.until_ready()
        assert not cluster.client.master().findings
        until(lambda: not after.left(), "the end of what the adopted store does not know")
        for work in (before, waiting):
            work.until_counting(20, work.until_state(JobState.RUNNING).attempt)
            work.open_gate()
            end = work.ended()
            assert (end.state, end.exit_code) == (JobState.COMPLETED, 0), end.reason
            work.counted_well(end.attempt)
