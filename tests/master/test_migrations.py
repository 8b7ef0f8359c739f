"""The store's schema is always the newest one, and what an older master wrote is read by a newer one."""

import sqlite3

import pytest
from tests.master_core.cluster import Cluster

from quorate.master import migrations


def test_the_head_that_is_taken_for_granted_is_the_newest_revision() -> None:
    assert migrations.scripts().get_current_head() == migrations.HEAD


def test_a_store_of_the_first_schema_is_brought_up_to_date_with_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    cluster.agent("a")
    job = cluster.submit()
    disk = _as_first_schema_wrote_it(cluster.copy_of_store())
    newer = Cluster()
    newer.restart(disk)
    assert disk.execute("SELECT version_num FROM alembic_version").fetchone() == (migrations.HEAD,)
    assert newer.members(job)[0].agent == "a"
    assert newer.state.allocations[f"{job}-1"].network is None


def _as_first_schema_wrote_it(disk: sqlite3.Connection) -> sqlite3.Connection:
    disk.execute("UPDATE alembic_version SET version_num = '0001'")
    disk.execute("UPDATE allocations SET body = CAST(json_remove(body, '$.joined') AS BLOB)")
    disk.commit()
    return disk
