"""The command line's root: which commands there are. Each is imported only when it is called."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from typer.main import get_command

from quorate import __version__
from quorate.cli.exits import Exit
from quorate.cli.helptext import Command, Group

if TYPE_CHECKING:
    from typer.core import TyperCommand, TyperGroup


#: There is no room where something is written, which is nobody's mistake.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Entry(NamedTuple):
    """One command: the heading under which help shows it, and what it does. Its module is `quorate.cli.<module>`."""

    heading: str
    help: str
    module: str = ""


#: In the order of the help text. A command's module has an `app`.
COMMANDS: dict[str, Entry] = {
    "run": Entry("Jobs", "Submit a job and follow it."),
    "job": Entry("Jobs", "List, show, follow, wait for and cancel jobs."),
    "cluster": Entry("Jobs", "Start, list, show, enter and stop clusters."),
    "image": Entry("Jobs", "Build and push images with this machine's own Docker or Podman."),
    "demo": Entry("Try it", "Train a real model on two agents on this machine, in under a minute."),
    "up": Entry("Try it", "Start a local cluster."),
    "down": Entry("Try it", "Stop the local cluster."),
    "login": Entry("Cluster", "Remember a master and your token."),
    "agent": Entry("Cluster", "Run this machine's agent; list, drain, resume and revoke agents."),
    "pool": Entry("Cluster", "List the pools."),
    "token": Entry("Cluster", "Create, list and revoke tokens."),
    "master": Entry("Cluster", "Run the master; stop, back up, restore and adopt it."),
    "service": Entry("Cluster", "Install master and agent as systemd services."),
    "net": Entry("Network and cloud", "What must be able to talk to what: rules, checks, audits."),
    "iam": Entry("Network and cloud", "What may be done to the cloud: policies made, read and linted."),
    "doctor": Entry("Help", "Check whether this machine is fit for a master or an agent."),
    "completion": Entry("Help", "Print the completion script of a shell."),
    "version": Entry("Help", "Print the version."),
}


#: What people try who do not know the nouns yet, or know another system.
_MEANT = {
    **{verb: f"job {verb}" for verb in ("list", "show", "logs", "cancel", "wait", "diagnose", "exec")},
    **dict.fromkeys(("ls", "ps", "status", "jobs", "queue", "squeue", "top"), "job list"),
    **dict.fromkeys(("submit", "srun", "sbatch", "launch", "train"), "run"),
    **dict.fromkeys(("kill", "delete", "rm", "scancel", "stop"), "job cancel JOB"),
    **dict.fromkeys(("ssh", "attach", "shell", "enter"), "cluster exec MEMBER"),
    **dict.fromkeys(("nodes", "agents", "hosts", "sinfo"), "agent list"),
    **dict.fromkeys(("help", "man"), "--help"),
    "start": "up",
    "logout": "token revoke TOKEN_ID",
    "pools": "pool list",
    "tokens": "token list",
    "check": "net check",
    "plan": "run --plan",
}


class Root(Group):
    """Knows the commands by name and imports the one that is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | TyperGroup | None:
        """Imports the command's module; none for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"quorate.cli.{COMMANDS[cmd_name].module or cmd_name}")
        command = get_command(module.app)
        command.name = cmd_name
        return command  # type: ignore[return-value]

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The commands that begin so, without importing one of them."""
        from typer._click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=e.help) for name, e in COMMANDS.items() if name.startswith(incomplete)]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Refuses an unknown command with the nearest one."""
        if not ctx.resilient_parsing and args and not args[0].startswith("-") and args[0] not in COMMANDS:
            import difflib

            from quorate.cli.errors import usage

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = _MEANT.get(args[0]) or (near[0] if near else "--help")
            usage(f"there is no command {args[0]!r}", f"quorate {meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands under their headings, without importing one of them."""
        headings = dict.fromkeys(entry.heading for entry in COMMANDS.values())
        for heading in headings:
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(10), e.help) for name, e in COMMANDS.items() if e.heading == heading])


root = typer.Typer(
    cls=Root,
    name="quorate",
    help="Quorate runs distributed training on machines you own or rent, and proves the network before the first step.",
    epilog="quorate COMMAND --help says more. A first look: quorate demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"quorate {__version__}")
        raise typer.Exit


@root.callback()
def _options(
    _asked: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, expose_value=False, help="Print the version."
    ),
) -> None: ...


class _Noun(typer.Typer):
    """Makes all of its commands of one kind, so that their help looks alike."""

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **options: Any) -> Any:
        """As Typer's own."""
        return super().command(name, cls=cls or Command, **options)


def new_group(help: str, **options: Any) -> typer.Typer:
    """A noun with its commands. One that does something by itself says in its callback what."""
    if not options.get("invoke_without_command"):
        options["help"] = help
    return _Noun(
        cls=Group,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        **options,
    )


def run(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code; no exception that a user can cause gets past it."""
    from quorate.cli import errors

    words = sys.argv[1:] if arguments is None else arguments
    errors.FOR_PROGRAMS.set("--json" in words[: words.index("--")] if "--" in words else "--json" in words)
    try:
        command = get_command(root)
        if "_QUORATE_COMPLETE" in os.environ:
            from quorate.cli import shells

            shells.register()
        code = command.main(args=arguments, prog_name="quorate", standalone_mode=False)
        # Now, for what is still to be written at Python's end fails where nobody can catch it.
        if sys.stdout is not None:
            sys.stdout.flush()
    except errors.CommandError as error:
        errors.show(error.cause, error.lines, error.hint)
        return int(error.code)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return Exit.CANCELLED
    except typer.Abort:
        print("cancelled", file=sys.stderr)
        return Exit.CANCELLED
    except BrokenPipeError:
        return _unread()
    except OSError as error:
        if error.errno not in _FULL:
            return _explain(error)
        what = error.filename or "what this command writes"
        errors.show(f"{what} finds no room: {error.strerror}", hint="df -h, of the disk where it is written")
        return Exit.FAILED
    except SystemExit as end:
        # Click makes an exit with 1 of every EPIPE.
        if isinstance(end.__context__, BrokenPipeError):
            return _unread()
        raise
    except Exception as error:
        return _explain(error)
    return code if isinstance(code, int) else Exit.OK


def _unread() -> Exit:
    """`quorate job list | head`: nobody reads on. Python would complain once more when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.UNREAD


def _plainly(message: str) -> str:
    """A mistake in an option, with what was probably meant.

    Click sets choices below each other, and names the exception of whoever refused a value.
    """
    import difflib
    import re

    message = " ".join(message.split()).replace(": Value error, ", ": ")
    given, _, known = message.partition(" is not one of ")
    near = difflib.get_close_matches(given.rpartition(": ")[2].strip("'"), re.findall("'([^']+)'", known), n=1)
    return f"{message} Did you mean {near[0]}?" if near else message


def _explain(error: Exception) -> int:
    from typer._click.exceptions import NoArgsIsHelpError

    from quorate.cli import errors
    from quorate.model.problem import QuorateError

    if isinstance(error, QuorateError):
        return errors.show_problem(error)
    if isinstance(error, NoArgsIsHelpError):
        # Whoever names a noun alone asks what can be done with it.
        print(error.format_message(), file=sys.stderr)
        return Exit.USAGE
    if hasattr(error, "exit_code") and hasattr(error, "format_message"):
        hint = getattr(getattr(error, "ctx", None), "command_path", "quorate")
        errors.show(_plainly(error.format_message()), hint=f"{hint} --help")
        return Exit.USAGE
    if os.environ.get("QUORATE_DEBUG"):
        raise error
    errors.show(
        f"this is a mistake in Quorate itself: {type(error).__name__}: {error}",
        hint="run it again with QUORATE_DEBUG=1 and report what it prints",
    )
    return Exit.FAILED
