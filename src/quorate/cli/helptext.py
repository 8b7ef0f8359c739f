"""How help looks: what a value stands for instead of its type, whole sentences, and no waiting for Rich."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup


def first_sentence(text: str | None) -> str:
    """What a listing says of a command: never cut in the middle, so it had better be short."""
    paragraph = " ".join((text or "").strip().partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".") + "."


class Command(TyperCommand):
    """A command whose help speaks of JOB and FILE, not of str and path."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _name_values(self.params)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The usage line behind the command's name."""
        return ["[OPTIONS]", *_arguments(self.params)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The arguments, then the options."""
        _format_parameters(self.get_params(ctx), formatter)

    def get_short_help_str(self, limit: int = 0) -> str:
        """What listings and shells say of it."""
        return first_sentence(self.short_help or self.help)


class Group(TyperGroup):
    """A noun with its commands; one that also does something by itself has two lines of usage."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _name_values(self.params)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """`quorate master [OPTIONS]` runs it, and `quorate master COMMAND` is about the one that runs."""
        command = f"{ctx.command_path} COMMAND [ARGS]..."
        if not self.invoke_without_command:
            formatter.write_usage(ctx.command_path, "[OPTIONS] " * bool(self.params) + "COMMAND [ARGS]...")
            return
        formatter.write_usage(ctx.command_path, "[OPTIONS]")
        formatter.write(f"{'':{len('Usage: ')}}{command}\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The commands first, for they are what a noun is asked about, unless it does something by itself."""
        if self.invoke_without_command:
            _format_parameters(self.get_params(ctx), formatter)
            self.format_commands(ctx, formatter)
        else:
            self.format_commands(ctx, formatter)
            _format_parameters(self.get_params(ctx), formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Each with its first sentence, whole."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, c.get_short_help_str()) for name, c in commands if c and not c.hidden])

    def get_short_help_str(self, limit: int = 0) -> str:
        """What listings and shells say of it."""
        return first_sentence(self.short_help or self.help)


def _name_values(parameters: Iterable[Any]) -> None:
    """Gives what its author has not named a word of its own: a choice its words, a number N, the rest its name."""
    for parameter in parameters:
        if parameter.metavar is not None or getattr(parameter, "is_flag", False):
            continue
        kind = parameter.type_descriptor
        if kind.is_choice and isinstance(parameter, TyperArgument):
            parameter.metavar = parameter.name.upper()
        elif kind.is_choice:
            parameter.metavar = "|".join(str(getattr(choice, "value", choice)) for choice in kind.choices)
        elif kind.annotation in (int, float):
            parameter.metavar = "N"
        elif kind.is_path:
            parameter.metavar = "FILE"
        else:
            parameter.metavar = parameter.name.rpartition("_")[2].upper()


def _arguments(parameters: Iterable[Any]) -> Iterator[str]:
    """Arguments as usage lines write them; one whose author has set brackets stays as it is."""
    for parameter in parameters:
        if not isinstance(parameter, TyperArgument) or parameter.hidden:
            continue
        word = str(parameter.metavar)
        if word.startswith("["):
            yield word
            continue
        if parameter.nargs != 1 and not word.endswith("..."):
            word += "..."
        yield word if parameter.required else f"[{word}]"


def _format_parameters(parameters: Iterable[Any], formatter: Any) -> None:
    shown = [parameter for parameter in parameters if not parameter.hidden]
    arguments = [(str(p.metavar), _meaning(p)) for p in shown if isinstance(p, TyperArgument)]
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": arguments, "Options": []}
    for option in shown:
        if not isinstance(option, TyperArgument):
            heading = getattr(option, "rich_help_panel", None) or "Options"
            sections.setdefault(heading, []).append((_words(option), _meaning(option)))
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def _words(option: Any) -> str:
    """`-n, --nodes N`; `--tls / --no-tls`."""
    ways = [", ".join(sorted(names, key=len)) for names in (option.opts, option.secondary_opts) if names]
    return " / ".join(ways) + ("" if option.is_flag else f" {option.metavar}")


def _meaning(parameter: Any) -> str:
    """Its help, and in brackets what it is by default and what it must be."""
    facts = []
    default = parameter.default
    if isinstance(default, Enum):
        default = default.value
    said = default in (None, "", (), []) or isinstance(default, bool) or callable(default)
    if parameter.show_default and not said:
        facts.append(f"default: {default}")
    least, most = parameter.min, parameter.max
    if least is not None and most is not None:
        facts.append(f"{least} to {most}")
    elif least is not None:
        facts.append(f"at least {least}")
    elif most is not None:
        facts.append(f"at most {most}")
    if parameter.required and not isinstance(parameter, TyperArgument):
        facts.append("required")
    told = f"  [{'; '.join(facts)}]" if facts else ""
    return f"{parameter.help or ''}{told}"
