"""Backups, taken while the master runs and put back where none runs."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from quorate.master.backup import BackupError, restore

from .serving import MasterProcess, running
from .test_contexts import archive


def take(master: MasterProcess, file: Path) -> Path:
    with master.client() as client:
        answer = client.post("/api/v1/master/backup")
    assert answer.status_code == 200, answer.text
    file.write_bytes(answer.content)
    return file


def test_a_restored_master_knows_its_jobs_and_waits_to_be_adopted(own_master: MasterProcess, tmp_path: Path) -> None:
    context = archive(("x", b"1"))
    sha = hashlib.sha256(context).hexdigest()
    with own_master.client() as client:
        assert client.put(f"/api/v1/contexts/{sha}", content=context).status_code == 201
        job = client.post("/api/v1/jobs", json={"spec": {"entrypoint": "true", "context": sha}}).json()["id"]
        file = take(own_master, tmp_path / "backup.tar")
        cluster = own_master.ready["cluster"]
        later = client.post("/api/v1/jobs", json={"spec": {"entrypoint": "true"}}).json()["id"]
    own_master.stop()

    elsewhere = tmp_path / "elsewhere"
    notes = restore(file, elsewhere)
    assert any("secrets.key" in note for note in notes)
    with running(elsewhere) as restored, restored.client() as client:
        assert restored.ready["cluster"] == cluster
        assert client.get(f"/api/v1/jobs/{job}").status_code == 200
        assert client.get(f"/api/v1/jobs/{later}").status_code == 404
        assert client.head(f"/api/v1/contexts/{sha}").status_code == 200
        findings = client.get("/api/v1/master").json()["findings"]
        assert [finding["code"] for finding in findings] == ["STORE-REGRESSED"]
        assert client.post("/api/v1/master/adopt").json()["findings"] == []


def test_an_adopted_store_names_the_agents_that_it_waits_for(own_master: MasterProcess, tmp_path: Path) -> None:
    own_master.join("a")
    own_master.join("b")
    file = take(own_master, tmp_path / "backup.tar")
    own_master.stop()
    restore(file, tmp_path / "elsewhere")
    with running(tmp_path / "elsewhere") as restored, restored.client() as client:
        [finding] = client.post("/api/v1/master/adopt").json()["findings"]
        assert (finding["code"], finding["evidence"]) == (
            "AGENT-UNHEARD",
            "not heard since the store was adopted: a, b",
        )
        assert "quorate agent revoke a --gone" in finding["remedy"]
        for agent in "ab":
            assert client.post(f"/api/v1/agents/{agent}/revoke?gone=true").status_code == 200
        assert client.get("/api/v1/master").json()["findings"] == []


def test_a_backup_holds_no_key_and_no_token(own_master: MasterProcess, tmp_path: Path) -> None:
    with own_master.client() as client:
        client.post("/api/v1/jobs", json={"spec": {"entrypoint": "true", "secrets": {"KEY": "hunter2-hunter2"}}})
    data = take(own_master, tmp_path / "backup.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["quorate-backup.json", "master.db"]
    key = (own_master.state / "secrets.key").read_text().strip()
    for secret in (key, own_master.token, "hunter2-hunter2"):
        assert secret.encode() not in data
    assert not list(own_master.state.glob(".backup-*"))


def test_a_store_that_is_there_is_not_overwritten_unasked(own_master: MasterProcess, tmp_path: Path) -> None:
    file = take(own_master, tmp_path / "backup.tar")
    with pytest.raises(BackupError, match="a master runs"):
        restore(file, own_master.state, force=True)
    own_master.stop()
    with pytest.raises(BackupError, match="--force"):
        restore(file, own_master.state)
    restore(file, own_master.state, force=True)
    assert list(own_master.state.glob("master.db.before-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root restores what is to be another user's")
def test_what_root_restores_belongs_to_the_folders_owner(own_master: MasterProcess, tmp_path: Path) -> None:
    file = take(own_master, tmp_path / "backup.tar")
    folder = tmp_path / "service"
    (folder / "contexts").mkdir(parents=True)
    os.chown(folder, 4711, 4712)
    restore(file, folder)
    found = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in folder.rglob("*")}
    assert {"master.db", "contexts"} <= set(found)
    assert set(found.values()) == {(4711, 4712)}


def test_what_is_no_backup_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"nonsense" * 1000, archive(("master.db.evil", b"x")))):
        file = tmp_path / f"bad{number}"
        file.write_bytes(data)
        with pytest.raises(BackupError):
            restore(file, tmp_path / "state")
    assert not (tmp_path / "state" / "master.db").exists()
