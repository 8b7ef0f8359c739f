"""A job file and flags are one model, and every mistake is told where it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quorate.cli.errors import CommandError
from quorate.cli.jobfile import LoadedJob, load


def job_file(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def read(folder: Path, text: str, **flags: Any) -> LoadedJob:
    return load(job_file(folder, text), flags, where=folder)


def mistakes(folder: Path, text: str, **flags: Any) -> list[str]:
    with pytest.raises(CommandError) as caught:
        read(folder, text, **flags)
    assert int(caught.value.code) == 2
    return [line.removeprefix(f"{folder}/") for line in caught.value.lines]


WHOLE = """\
name: digits
kind: train
entrypoint: [python, train.py, --epochs, "20"]
launcher: torch
resources: {nodes: 2, slots: 1, pool: default}
placement: spread
environment: {OMP_NUM_THREADS: "1"}
context: .
restarts: 2
"""


def test_the_file_of_the_documentation_is_read_as_it_stands(tmp_path: Path) -> None:
    loaded = read(tmp_path, WHOLE)
    assert loaded.spec.entrypoint == ("python", "train.py", "--epochs", "20")
    assert (loaded.spec.resources.nodes, loaded.spec.restarts, loaded.spec.launcher) == (2, 2, "torch")
    assert loaded.context == tmp_path


def test_flags_beat_the_file_key_by_key(tmp_path: Path) -> None:
    loaded = read(tmp_path, WHOLE, restarts=0, resources={"nodes": 4, "slots": None}, environment={"B": "2"})
    assert loaded.spec.resources.nodes == 4
    assert loaded.spec.resources.slots == 1
    assert loaded.spec.restarts == 0
    assert loaded.spec.environment == {"OMP_NUM_THREADS": "1", "B": "2"}


def test_flags_alone_are_a_job(tmp_path: Path) -> None:
    loaded = load(None, {"entrypoint": ["true"], "resources": {"nodes": 2}}, where=tmp_path)
    assert (loaded.spec.entrypoint, loaded.spec.resources.nodes, loaded.context) == (("true",), 2, None)


def test_every_mistake_is_told_with_line_and_what_was_meant(tmp_path: Path) -> None:
    text = 'entrypiont: [a]\nresources:\n  nodes: 0\n  slot: 1\nlauncher: troch\nenvironment: {RANK: "0"}\n'
    assert mistakes(tmp_path, text) == [
        "job.yaml:1:1: the key 'entrypoint' is missing",
        "job.yaml:1:1: entrypiont: unknown key 'entrypiont' (did you mean 'entrypoint'?)",
        "job.yaml:3:10: resources.nodes: should be greater than or equal to 1, not 0",
        "job.yaml:4:3: resources.slot: unknown key 'slot' (did you mean 'slots'?)",
        "job.yaml:5:11: launcher: 'troch' is not one of none, torch (did you mean 'torch'?)",
        "job.yaml:6:14: environment: RANK is set for each process by the launcher and cannot be set for a member",
    ]


def test_a_wrong_flag_is_told_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as caught:
        load(None, {"entrypoint": ["a"], "resources": {"nodes": 0}}, where=tmp_path)
    assert caught.value.lines == ("--nodes: should be greater than or equal to 1, not 0",)


def test_a_wrong_flag_beside_a_file_is_told_as_the_flag_and_not_as_a_line_of_the_file(tmp_path: Path) -> None:
    found = mistakes(tmp_path, "entrypoint: [a]\nrestarts: -1\n", resources={"nodes": 0}, name="a b")
    assert sorted(found, reverse=True) == [
        "job.yaml:2:11: restarts: should be greater than or equal to 0, not -1",
        "--nodes: should be greater than or equal to 1, not 0",
        "--name: 'a b' is not 1 to 63 letters, digits, '.', '_' and '-', the first a letter or a digit",
    ]


def test_a_file_that_is_not_there_is_told_with_the_one_that_is(tmp_path: Path) -> None:
    job_file(tmp_path, "")
    with pytest.raises(CommandError, match="there is no file") as caught:
        load(tmp_path / "jop.yaml", {})
    assert "job.yaml" in caught.value.hint


def test_secrets_come_from_variables_files_and_the_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "from the variable")
    (tmp_path / "key").write_text("from the file\n")
    text = "entrypoint: [a]\nsecrets:\n  A: {from_env: HF_TOKEN}\n  B: {file: key}\n  C: literal\n"
    secrets = read(tmp_path, text).spec.secrets
    assert {name: value.get_secret_value() for name, value in secrets.items()} == {
        "A": "from the variable", "B": "from the file", "C": "literal",
    }  # fmt: skip


def test_a_secret_that_cannot_be_had_is_told_without_showing_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GONE", raising=False)
    text = "entrypoint: [a]\nsecrets:\n  A: {from_env: GONE}\n  B: {file: gone}\n  C: {form_env: X}\n  D: hunter2\n"
    found = mistakes(tmp_path, text)
    assert [line.split(": ", 1)[0] for line in found] == ["job.yaml:3:6", "job.yaml:4:6", "job.yaml:5:6"]
    assert "the variable GONE is not set here" in found[0]
    assert "hunter2" not in "".join(found)


def test_a_folder_in_the_file_is_relative_to_the_file_and_one_in_a_flag_to_where_you_are(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there / "code", here / "code"):
        folder.mkdir(parents=True)
    file = job_file(there, "entrypoint: [a]\ncontext: code\n")
    assert load(file, {}, where=here).context == there / "code"
    assert load(file, {"context": "code"}, where=here).context == here / "code"


def test_a_folder_that_is_not_there_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"job\.yaml:2: context: .*nowhere is no folder"):
        read(tmp_path, "entrypoint: [a]\ncontext: nowhere\n")


def test_a_text_as_entry_point_is_for_the_shell(tmp_path: Path) -> None:
    assert read(tmp_path, "entrypoint: echo $HOME\n").spec.entrypoint == ("sh", "-c", "echo $HOME")
