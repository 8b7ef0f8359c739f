"""Writes the pages that are made from the code, such as the commands. `--check` only says what is stale."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer._click.core import Context
from typer.core import TyperGroup
from typer.main import get_command

from quorate.cli.app import COMMANDS, root
from quorate.cli.exits import Exit
from quorate.client import settings
from quorate.launch.environment import MEANINGS
from quorate.model.duration import format_duration
from quorate.model.job import JobSpec, Resources

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
    page += ["\n## resources\n", *_keys("resources.", Resources)]
    return "\n".join(page) + "\n"


def _keys(prefix: str, model: Any) -> list[str]:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    schema = model.model_json_schema()
    for name, key in schema["properties"].items():
        kind = _type(key, schema.get("$defs", {}))
        default = "required" if name in schema.get("required", []) else f"`{_default(key)}`"
        rows.append(f"| `{prefix}{name}` | {kind} | {default} | {key.get('description', '')} |")
    return rows


def _type(key: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in key:
        found = definitions[key["$ref"].rpartition("/")[2]]
        return ", ".join(f"`{word}`" for word in found["enum"]) if "enum" in found else "mapping, see below"
    if "anyOf" in key:
        return " or ".join(_type(one, definitions) for one in key["anyOf"] if one.get("type") != "null")
    if key.get("format") == "password":
        return "secret"
    if "examples" in key:
        return f"time such as `{key['examples'][0]}`"
    if key.get("type") == "object":
        return "mapping"
    bounds = [f"{word} {key[name]}" for name, word in (("minimum", "from"), ("maximum", "to")) if name in key]
    names = {"integer": "number", "array": "list of words, or a text for the shell", "boolean": "true or false"}
    return " ".join([names.get(key.get("type", ""), "text"), *bounds])


def _default(key: dict[str, Any]) -> str:
    value = key.get("default", {})
    if value is None:
        return "none"
    if isinstance(value, bool | dict):
        return json.dumps(value)
    return format_duration(value) if isinstance(value, float) else str(value)


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
    page += ["What a job sets itself is never overridden. `RANK`, `WORLD_SIZE` and `LOCAL_RANK` are left to launchers:"]
    page += ["they belong to a process, and a member may have several.\n", "| variable | meaning |", "|---|---|"]
    page += [f"| `{variable}` | {meaning} |" for variable, meaning in MEANINGS.items()]
    return "\n".join(page) + "\n"


PAGES = {
    "commands.md": commands,
    "job-file.md": job_file,
    "exit-codes.md": exit_codes,
    "environment.md": environment,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, make in PAGES.items():
        path, text = REFERENCE / name, make()
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if not check:
                path.write_text(text)
    if check and stale:
        print(f"stale: {', '.join(stale)}; run python docs/generate.py", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
