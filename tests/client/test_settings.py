"""Where the master's URL and the token come from, and where a token never goes."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from quorate.client.errors import SettingsError
from quorate.client.settings import DEFAULT_MASTER, Settings, forget, load, resolve, save, settings_file


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    # Root looks in /var/lib, where a test has no business.
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for name in ("QUORATE_MASTER", "QUORATE_TOKEN", "QUORATE_CA"):
        monkeypatch.delenv(name, raising=False)


def test_with_nothing_set_it_is_the_master_on_this_machine() -> None:
    assert resolve() == Settings(DEFAULT_MASTER)


def test_flag_beats_environment_beats_file(monkeypatch: pytest.MonkeyPatch) -> None:
    save(Settings("http://file:1", "of-file"))
    assert (resolve().master, resolve().token) == ("http://file:1", "of-file")
    monkeypatch.setenv("QUORATE_MASTER", "http://variable:1")
    monkeypatch.setenv("QUORATE_TOKEN", "of-variable")
    assert (resolve().master, resolve().token) == ("http://variable:1", "of-variable")
    found = resolve("http://flag:1/", "of-flag")
    assert (found.master, found.token, found.source) == ("http://flag:1", "of-flag", "--master")


def test_the_token_of_one_master_is_not_shown_to_another() -> None:
    save(Settings("https://mine:8443", "secret", Path("/ca.pem")))
    assert resolve("https://other:8443").token == ""
    assert resolve("https://other:8443").ca is None
    assert resolve("https://mine:8443").token == "secret"


def test_the_file_is_readable_by_its_owner_alone() -> None:
    path = save(Settings("http://a:1", "secret"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    save(Settings("http://a:1", "other"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_master_on_this_machine_needs_no_login_and_its_token_goes_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "quorate" / "master"
    folder.mkdir(parents=True)
    (folder / "admin.token").write_text("of-the-operator\n")
    urls = ["https://127.0.0.1:8443", "http://127.0.0.1:8080"]
    (folder / "master.ready").write_text(json.dumps({"pid": 1, "urls": urls}))
    assert (resolve().master, resolve().token) == ("http://127.0.0.1:8080", "of-the-operator")
    assert resolve("http://elsewhere:8080").token == ""
    save(Settings("https://mine:8443", "mine"))
    assert (resolve().master, resolve().token) == ("https://mine:8443", "mine")


@pytest.mark.parametrize("text", ["- a\n", "{", "master: 5\n", "master: host:8080\n", "master: http://\n"])
def test_a_file_that_cannot_be_used_is_named(text: str) -> None:
    settings_file().parent.mkdir(parents=True, exist_ok=True)
    settings_file().write_text(text)
    with pytest.raises(SettingsError, match=r"client\.yaml"):
        load()


def test_a_url_without_its_scheme_is_refused_with_one() -> None:
    with pytest.raises(SettingsError) as caught:
        resolve("master.example:8080")
    assert "http://master.example:8080" in caught.value.problem.hint


def test_only_the_master_that_is_named_is_forgotten() -> None:
    save(Settings("http://a:1", "secret"))
    assert not forget("http://b:1")
    assert forget("http://a:1/")
    assert load() is None
