"""Writes the pages that are made from the code, such as the commands. `--check` only says what is stale."""

from __future__ import annotations

import argparse
import enum
import inspect
import json
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer._click.core import Context
from typer.core import TyperGroup
from typer.main import get_command

from quorate.agent.config import AgentConfig
from quorate.cli.app import COMMANDS, root
from quorate.cli.exits import Exit
from quorate.client import settings
from quorate.launch.environment import MEANINGS
from quorate.model.clusterfile import ClusterFile
from quorate.model.duration import format_duration
from quorate.model.image import Image
from quorate.model.job import JobSpec, Resources
from quorate.model.jobnetwork import Egress, JobNetwork
from quorate.model.mount import Mount
from quorate.model.roles import Role
from quorate.network import docs as network_docs

REFERENCE = Path(__file__).parent / "reference"
MADE = "<!-- Made by docs/generate.py; do not edit. -->\n"
WIDTH = 100


def commands() -> str:
    """Every command with its help text."""
    page = [MADE, "# Commands\n"]
    parent = Context(get_command(root), info_name="quorate", terminal_width=WIDTH)  # type: ignore[arg-type]
    for name, entry in COMMANDS.items():
        page.append(f"## quorate {name}\n\n{entry.help}\n")
        command = parent.command.get_command(parent, name)  # type: ignore[attr-defined]
        page += _help(command, Context(command, info_name=name, parent=parent, terminal_width=WIDTH))
    return "\n".join(page)


def _help(command: Any, context: Context) -> Iterator[str]:
    yield f"```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            yield f"### {context.command_path} {name}\n"
            yield from _help(inner, Context(inner, info_name=name, parent=context, terminal_width=WIDTH))


def job_file() -> str:
    """Every key of a job file."""
    page = [MADE, "# Job file\n", "Unknown keys are refused, with file, line, and what was probably meant.\n"]
    page += _keys("", JobSpec)
    for title, prefix, model in (
        ("resources", "resources.", Resources),
        ("roles", "roles.NAME.", Role),
        ("image", "image.", Image),
        ("network", "network.", JobNetwork),
        ("network.egress", "network.egress.", Egress),
        ("mounts", "mounts[].", Mount),
    ):
        page += [f"\n## {title}\n", *([f"{_sentences(model)}\n"] if model is not Resources else [])]
        page += _keys(prefix, model)
    return "\n".join(page) + "\n"


def _sentences(model: Any) -> str:
    return inspect.cleandoc(model.__doc__).replace("\n", " ")


def _keys(prefix: str, model: Any) -> list[str]:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    schema = model.model_json_schema()
    # What is the model's own comes before what it shares with others.
    for name, key in sorted(schema["properties"].items(), key=lambda item: item[0] not in model.__annotations__):
        kind = "list of words, or a text for the shell" if name == "entrypoint" else _type(key, schema.get("$defs", {}))
        default = "required" if name in schema.get("required", []) else _default(key)
        rows.append(f"| `{prefix}{name}` | {kind} | {default} | {key.get('description', '')} |")
    return rows


#: What kind of text a key takes, by the example that its model gives.
_EXAMPLES = {"15m": "time", "16GiB": "size", "40000-40999": "ports"}


def _type(key: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in key:
        found = definitions[key["$ref"].rpartition("/")[2]]
        return ", ".join(f"`{word}`" for word in found["enum"]) if "enum" in found else "mapping"
    if "enum" in key:
        return ", ".join(f"`{word}`" for word in key["enum"])
    if "anyOf" in key:
        return " or ".join(_type(one, definitions) for one in key["anyOf"] if one.get("type") != "null")
    if key.get("format") == "password":
        return "secret"
    if "examples" in key:
        return f"{_EXAMPLES[key['examples'][0]]} such as `{key['examples'][0]}`"
    if key.get("type") == "object":
        return "mapping"
    if "prefixItems" in key:
        return f"list of {len(key['prefixItems'])} numbers"
    bounds = [f"{word} {key[name]}" for name, word in (("minimum", "from"), ("maximum", "to")) if name in key]
    if key.get("type") == "array":
        return "list of mappings" if "$ref" in key["items"] else "list"
    names = {"integer": "number", "number": "number", "boolean": "true or false"}
    return " ".join([names.get(key.get("type", ""), "text"), *bounds])


def _default(key: dict[str, Any]) -> str:
    value = key.get("default", {} if key.get("type") == "object" else None)
    if value is None:
        return ""
    if value in ("", []):
        return ""
    if isinstance(value, bool | dict):
        return f"`{json.dumps(value)}`"
    return f"`{format_duration(value) if isinstance(value, float) else value}`"


def master_file() -> str:
    """Every key of master.yaml, section by section."""
    page = [MADE, "# master.yaml\n"]
    page += [
        "The master reads it, and so do `quorate net` and `quorate iam`, with no master running. It is `--config`,"
    ]
    page += ["else `$QUORATE_CONFIG`, else `/etc/quorate/master.yaml`; every key may be left out. Unknown keys are"]
    page += ["refused, with file, line, and what was probably meant.\n"]
    page += [
        "What concerns the master's own process is a flag of `quorate master` and a variable as well, such as",
        "`--state-dir` and `QUORATE_MASTER_STATE_DIR` for `master.state_dir`. Flag beats environment beats file.\n",
    ]
    page += _sections("", ClusterFile, set())
    return "\n".join(page) + "\n"


def _sections(path: str, model: type[BaseModel], written: set[type[BaseModel]]) -> Iterator[str]:
    """A table of the model's keys, then the models inside it, each of them once."""
    written.add(model)
    if path:
        yield f"\n## {path}\n\n{inspect.getdoc(model)}\n"
    yield "| key | values | default | meaning |\n|---|---|---|---|"
    meanings, inner = _comments(model), []
    for name, field in model.model_fields.items():
        models = [found for found in _inside(field.annotation) if issubclass(found, BaseModel)]
        many = typing.get_origin(field.annotation) is tuple
        inner += [(f"{path}.{name}".lstrip(".") + ("[]" if many else ""), found) for found in models]
        default = field.get_default(call_default_factory=True)
        empty = models or default in (None, (), {})
        shown = "required" if field.is_required() else "" if empty else f"`{_written(default)}`"
        meaning = meanings.get(name) or " ".join((inspect.getdoc(one) or "").split("\n")[0] for one in models)
        yield f"| `{name}` | {_values(field, models)} | {shown} | {meaning.replace('|', chr(92) + '|')} |"
    for where, found in inner:
        if found not in written:
            yield from _sections(where, found, written)
        elif path:
            continue
        else:
            yield f"\n## {where}\n\n{inspect.getdoc(found)} Keys as above.\n"


def _inside(annotation: Any) -> Iterator[type]:
    if inspect.isclass(annotation) and not typing.get_args(annotation):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _inside(argument)


def _written(default: Any) -> str:
    if isinstance(default, bool):
        return json.dumps(default)
    return format_duration(default) if isinstance(default, float) else str(default)


def _values(field: FieldInfo, models: list[type]) -> str:
    if models:
        return "see below"
    words = [word for option in _literals(field.annotation) for word in option]
    return ", ".join(f"`{word}`" for word in dict.fromkeys(words))


def _literals(annotation: Any) -> Iterator[list[str]]:
    if typing.get_origin(annotation) is typing.Literal:
        yield [str(word) for word in typing.get_args(annotation)]
    elif inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        yield [str(member.value) for member in annotation]
    else:
        for argument in typing.get_args(annotation):
            yield from _literals(argument)


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """What the `#:` comments above the model's fields say."""
    found: dict[str, str] = {}
    said: list[str] = []
    for line in inspect.getsource(model).splitlines():
        if comment := re.match(r"\s+#: ?(.*)", line):
            said.append(comment[1])
        else:
            if said and (name := re.match(r"\s+(\w+):", line)):
                found[name[1]] = " ".join(said)
            said = []
    return found


def exit_codes() -> str:
    """Exit codes, and where the client's settings come from."""
    page = [MADE, "# Exit codes and settings\n", "## Exit codes\n", "| code | meaning |", "|---|---|"]
    page += [f"| {code.value} | {code.meaning} |" for code in Exit]
    page += [
        "\n`run` and `job wait` end with the job's own exit code; where a signal ended it, 128 and the signal.\n",
        "## Which master, and as whom\n",
        "Flag beats environment beats file beats the master on this machine.\n",
        "| what | flag | variable | in `client.yaml` |",
        "|---|---|---|---|",
        f"| URL of the master | `--master` | `{settings.MASTER_VARIABLE}` | `master` |",
        f"| your token | `--token` (`@FILE`, `-`) | `{settings.TOKEN_VARIABLE}` | `token` |",
        f"| file of the authority that signed its certificate | | `{settings.CA_VARIABLE}` | `ca` |",
        "\n`client.yaml` lies in `$XDG_CONFIG_HOME/quorate` (`~/.config/quorate`); `quorate login` and `quorate up`",
        "write it, readable by you alone. A token from it goes only to the master that stands beside it.\n",
    ]
    return "\n".join(page)


def environment() -> str:
    """What a member finds in its environment."""
    page = [MADE, "# Environment of a member\n"]
    page += [
        "What a job, its image or a bootstrap script sets is never overridden. Hosts are always in rank order, the"
    ]
    page += ["main member first. `RANK`, `WORLD_SIZE` and `LOCAL_RANK` are left to launchers:"]
    page += ["they belong to a process, and a member may have several.\n", "| variable | meaning |", "|---|---|"]
    page += [f"| `{variable}` | {meaning} |" for variable, meaning in MEANINGS.items()]
    return "\n".join(page) + "\n"


def agent_file() -> str:
    """Every key of agent.yaml, with the variable that stands for it."""
    page = [
        MADE,
        "# agent.yaml\n",
        "It is `--config`, else `$QUORATE_CONFIG`, else `/etc/quorate/agent.yaml`, and may be left out: what people",
        "set most is a flag of `quorate agent`, and every key is a variable, such as `QUORATE_AGENT_STATE_DIR`;",
        "`QUORATE_MASTER`, `QUORATE_TOKEN` and `QUORATE_CA` are taken as well. Flag beats environment beats file.\n",
    ]
    return "\n".join([*page, *_keys("", AgentConfig)]) + "\n"


def benchmarks() -> str:
    """What was measured, out of bench/results."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))
    import report

    return str(report.page())


PAGES = {
    "agent-file.md": agent_file,
    "commands.md": commands,
    "job-file.md": job_file,
    "exit-codes.md": exit_codes,
    "environment.md": environment,
    "master-file.md": master_file,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    made = {REFERENCE / name: make() for name, make in PAGES.items()}
    made |= {REFERENCE.parent / name: text for name, text in network_docs.pages().items()}
    made[REFERENCE.parent / "benchmarks.md"] = benchmarks()
    for path, text in made.items():
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if not check:
                path.write_text(text)
    if check and stale:
        print(f"stale: {', '.join(stale)}; run python docs/generate.py", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
