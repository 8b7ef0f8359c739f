"""From a job file, flags, or both to one JobSpec; every mistake is told with its file and line, or its flag."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorate.cli.errors import CommandError
from quorate.cli.exits import Exit
from quorate.compat.determined import translate
from quorate.model.job import MAX_SECRET_BYTES, JobSpec
from quorate.model.membersettings import MemberSettings
from quorate.model.yamlfile import Document, FileProblem, FileProblems, did_you_mean, parse_yaml, validate


@dataclass(frozen=True)
class LoadedJob:
    """A spec and the folder that goes with it; the spec's own `context` is left out until it is uploaded."""

    spec: JobSpec
    context: Path | None

    @property
    def builds(self) -> bool:
        """Whether an image of it is still to be built."""
        settings: list[MemberSettings] = [self.spec, *self.spec.roles.values()]
        return any(each.image is not None and each.image.build is not None for each in settings)


def load(
    file: Path | None, flags: Mapping[str, Any], *, where: Path | None = None, no_context: bool = False
) -> LoadedJob:
    """Reads `file` and lays `flags` over it: `{"resources": {"nodes": 2}}` beats what the file says.

    Raises CommandError with every mistake. Relative paths in the file are relative to it, those of flags to `where`.
    With `no_context` no folder goes along, whatever the file says.
    """
    here = where or Path.cwd()
    document = _read(file) if file else Document("the command line", {})
    base = file.parent if file else here
    flagged: set[tuple[str, ...]] = set()
    try:
        document = translate(document)
        flagged = _overlay(document, flags)
        _resolve_secrets(document, base)
        _resolve_builds(document, base)
        spec = validate(document, JobSpec)
    except FileProblems as error:
        raise _as_command_error(error, file, flagged) from None
    context = None if no_context else spec.context
    folder = None
    if context is not None:
        folder = ((here if ("context",) in flagged else base) / Path(context).expanduser()).resolve()
        if not folder.is_dir():
            place = document.place(("context",))
            line = f"{document.file}:{place.line}: " if file and ("context",) not in flagged else ""
            raise CommandError(
                f"{line}context: {folder} is no folder",
                hint="name one beside the job file, or send none with --no-context",
                code=Exit.USAGE,
            )
    return LoadedJob(spec.model_copy(update={"context": None}), folder)


def _read(file: Path) -> Document:
    try:
        return parse_yaml(file.read_text(), str(file))
    except FileNotFoundError:
        near = did_you_mean(file.name, _yaml_files(file.parent))
        raise CommandError(f"there is no file {file}", hint=near or "", code=Exit.USAGE) from None
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}", hint=f"ls -ld {file}", code=Exit.USAGE) from None
    except UnicodeDecodeError:
        raise CommandError(f"{file} is no text in UTF-8", hint=f"file {file}", code=Exit.USAGE) from None
    except FileProblems as error:
        raise _as_command_error(error, file) from None


def _yaml_files(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir() if path.suffix in (".yaml", ".yml")]
    except OSError:
        return []


def _overlay(document: Document, flags: Mapping[str, Any]) -> set[tuple[str, ...]]:
    """Lays the flags over the document and returns the paths that they set."""
    if not isinstance(document.data, dict):
        return set()
    flagged: set[tuple[str, ...]] = set()
    for key, value in flags.items():
        if value is None or value == {}:
            continue
        if isinstance(value, Mapping):
            inner = document.data.setdefault(key, {})
            if not isinstance(inner, dict):
                continue
            for name, item in value.items():
                if item is not None:
                    inner[name] = item
                    flagged.add((key, name))
        else:
            document.data[key] = value
            flagged.add((key,))
    return flagged


def _resolve_secrets(document: Document, base: Path) -> None:
    """Replaces `{from_env: X}` and `{file: path}` by what they name; a literal stays."""
    secrets = document.data.get("secrets") if isinstance(document.data, dict) else None
    if not isinstance(secrets, dict):
        return
    problems = []
    for name, value in secrets.items():
        path = ("secrets", name)
        if not isinstance(value, dict):
            continue
        match list(value.items()):
            case [("from_env", str(variable))]:
                found = os.environ.get(variable)
                if found:
                    secrets[name] = found
                else:
                    problems.append(document.problem(path, f"the variable {variable} is not set here"))
            case [("file", str(text))]:
                file = base / Path(text).expanduser()
                try:
                    with file.open() as stream:
                        secrets[name] = stream.read(MAX_SECRET_BYTES + 1).removesuffix("\n")
                except (OSError, UnicodeDecodeError) as error:
                    why = getattr(error, "strerror", None) or "is no text in UTF-8"
                    problems.append(document.problem(path, f"{file}: {why}"))
            case _:
                hint = "write {from_env: VARIABLE}, {file: path} or the value itself"
                problems.append(document.problem(path, "is no way to give a secret", hint))
    if problems:
        raise FileProblems(problems)


def _resolve_builds(document: Document, base: Path) -> None:
    """Folders of images that are to be built, as absolute paths."""
    if not isinstance(document.data, dict):
        return
    roles = document.data.get("roles")
    places: list[tuple[tuple[str, ...], Any]] = [(("image", "build"), document.data.get("image"))]
    if isinstance(roles, dict):
        places += [
            (("roles", name, "image", "build"), role.get("image"))
            for name, role in roles.items()
            if isinstance(role, dict)
        ]
    problems = []
    for path, image in places:
        if not isinstance(image, dict) or not isinstance(image.get("build"), str):
            continue
        folder = (base / Path(image["build"]).expanduser()).resolve()
        if not folder.is_dir():
            problems.append(document.problem(path, f"{folder} is no folder"))
        image["build"] = str(folder)
    if problems:
        raise FileProblems(problems)


#: What is called otherwise on the command line than in a file; the rest bears the name of its key.
_FLAGS = {
    "entrypoint": "the command",
    "environment": "--env",
    "labels": "--label",
    "mounts": "--mount",
    "mode": "--network",
}


def _flag(key: str) -> str:
    """The flag that sets a key: `--nodes` for `resources.nodes`."""
    section, _, rest = key.partition(".")
    name = (rest if section in ("resources", "network") and rest else section).partition(".")[0].partition("[")[0]
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def _as_command_error(
    error: FileProblems, file: Path | None, flagged: Collection[tuple[str, ...]] = ()
) -> CommandError:
    lines = tuple(_line(problem, of_a_flag=file is None or _set_by(flagged, problem)) for problem in error.problems)
    if file is None:
        return CommandError("this is no job", lines=lines, hint="quorate run --help", code=Exit.USAGE)
    count = len(lines)
    whose = (
        f"{file} and the flags have" if any(_set_by(flagged, problem) for problem in error.problems) else f"{file} has"
    )
    return CommandError(
        f"{whose} {'a mistake' if count == 1 else f'{count} mistakes'}; nothing was sent",
        lines=lines,
        hint="docs/reference/job-file.md names the keys" if any("unknown key" in line for line in lines) else "",
        code=Exit.USAGE,
    )


def _set_by(flagged: Collection[tuple[str, ...]], problem: FileProblem) -> bool:
    """Whether it is a flag that is wrong there, whatever the file says."""
    return any(problem.key == ".".join(path) or problem.key.startswith(f"{'.'.join(path)}[") for path in flagged)


def _line(problem: FileProblem, *, of_a_flag: bool) -> str:
    if not of_a_flag:
        return str(problem)
    cause = f"{problem.cause}{f' ({problem.hint})' if problem.hint else ''}"
    return f"{_flag(problem.key)}: {cause}" if problem.key else cause
