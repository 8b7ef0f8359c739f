"""`quorate run`: submit a job from a file, from flags, or from both, and follow it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quorate.cli import complete, joboptions
from quorate.cli.app import new_group
from quorate.cli.errors import CommandError, usage
from quorate.cli.exits import Exit
from quorate.cli.helptext import Command
from quorate.cli.output import Json, note, print_json, size
from quorate.cli.pairs import pairs
from quorate.cli.session import Master, Token, connect

if TYPE_CHECKING:
    from quorate.cli.jobfile import LoadedJob
    from quorate.client.api import Client
    from quorate.model.views import JobView

app = new_group("Submit a job and follow it.")

_COMMAND = "quorate.run.command"


class _Run(Command):
    """Keeps what stands after -- apart: the words before it may name a file, those after it are the job's own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


@app.command(
    cls=_Run,
    epilog="Exit codes: the job's own; 124 when max_runtime passed, 125 when the platform failed, 130 when cancelled.",
)
def run(
    ctx: typer.Context,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE] [-- COMMAND...]", help="A job file, or a command after --.")
    ] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="The job file.", metavar="FILE")] = None,
    name: joboptions.Name = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="train|command|cluster",
            help="What it is for.",
            autocompletion=complete.words("train", "command", "cluster"),
        ),
    ] = None,
    nodes: joboptions.Nodes = None,
    min_nodes: Annotated[
        int | None, typer.Option(help="Elastic: the fewest members to start with.", rich_help_panel=joboptions.PLACE)
    ] = None,
    slots: joboptions.Slots = None,
    pool: joboptions.Pool = None,
    label: joboptions.Labels = None,
    launcher: Annotated[
        str | None,
        typer.Option(
            metavar="none|torch",
            help="Who starts the processes of a member.",
            autocompletion=complete.words("none", "torch"),
            rich_help_panel=joboptions.MEMBERS,
        ),
    ] = None,
    placement: joboptions.Placement = None,
    image: joboptions.Image = None,
    network: joboptions.Network = None,
    env: joboptions.Variables = None,
    mount: joboptions.Mounts = None,
    memory: joboptions.Memory = None,
    cpus: joboptions.Cpus = None,
    shm: joboptions.Shm = None,
    bootstrap: joboptions.Bootstrap = None,
    workdir: joboptions.Workdir = None,
    run_as: joboptions.RunAs = None,
    preflight: joboptions.Preflight = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="NAME=@FILE|NAME=$VAR",
            help="A secret from a file or a variable. Repeatable.",
            rich_help_panel=joboptions.MEMBERS,
        ),
    ] = None,
    context: Annotated[
        Path | None, typer.Option(help="Folder to send along.", metavar="FOLDER", rich_help_panel=joboptions.MEMBERS)
    ] = None,
    no_context: Annotated[
        bool, typer.Option("--no-context", help="Send no folder.", rich_help_panel=joboptions.MEMBERS)
    ] = False,
    priority: Annotated[
        int | None, typer.Option(help="0 to 100; higher first.", rich_help_panel=joboptions.TIME)
    ] = None,
    restarts: Annotated[
        int | None, typer.Option(help="How often a failed job is placed again.", rich_help_panel=joboptions.TIME)
    ] = None,
    max_runtime: Annotated[
        str | None,
        typer.Option(help="End it after this, such as 2h.", metavar="DURATION", rich_help_panel=joboptions.TIME),
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option(help="Between SIGTERM and SIGKILL.", metavar="DURATION", rich_help_panel=joboptions.TIME),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would happen, and run nothing.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Submit, print the id, and do not follow.")] = False,
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> int:
    """Submit a job and follow it until it ends.

    \b
      quorate run job.yaml
      quorate run job.yaml --nodes 4
      quorate run --nodes 2 --launcher torch -- python train.py
    """
    command: list[str] = ctx.meta.get(_COMMAND, [])
    job_file = _job_file(arguments or [], file, command)
    if not job_file and not command and not image:
        usage("a job file or a command is needed", "quorate run job.yaml, or quorate run -- COMMAND")
    flags: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "entrypoint": command or None,
        "launcher": launcher,
        "placement": placement,
        "resources": joboptions.resources(nodes, slots, pool, label, min_nodes),
        "image": image,
        "network": {"mode": network},
        "environment": joboptions.variables(env),
        "mounts": joboptions.mounts(mount),
        "memory": memory,
        "cpus": cpus,
        "shm": shm,
        "bootstrap": bootstrap,
        "workdir": workdir,
        "run_as": run_as,
        "preflight": preflight,
        "secrets": _secrets(secret),
        "context": str(context) if context else None,
        "priority": priority,
        "restarts": restarts,
        "max_runtime": max_runtime,
        "grace": grace,
    }
    if command and not job_file and not context and not no_context and _names_a_file(command):
        flags["context"] = "."
    from quorate.cli import jobfile

    loaded = jobfile.load(job_file, flags, no_context=no_context)
    with connect(master, token) as client:
        if plan:
            return show_plan_of(client, loaded, as_json)
        return _submit(client, loaded, detach=detach, as_json=as_json)


def _job_file(arguments: list[str], option: Path | None, command: list[str]) -> Path | None:
    """The job file, from either place; refuses what looks like a command without its --."""
    as_command = f"for a command write: quorate run [OPTIONS] -- {' '.join(arguments)}"
    if len(arguments) > 1:
        usage(f"{arguments[1]!r} is one too many", as_command)
    if arguments and option:
        usage(f"two job files are named: {arguments[0]} and {option}", "name one")
    named = Path(arguments[0]) if arguments else option
    if named and named.suffix not in (".yaml", ".yml", ".json") and not named.exists():
        usage(f"there is no job file {named}", as_command)
    return named


def _names_a_file(command: list[str]) -> bool:
    """Whether a word of the command is a file below this folder: then the job cannot do without the folder."""
    return any(not word.startswith(("/", "-", "..")) and _is_file(word) for word in command)


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except OSError:
        # A script, say: longer than the name of a file may be.
        return False


def _secrets(items: list[str] | None) -> dict[str, Any]:
    """Only from files and variables: what stands on a command line is no secret any more."""
    secrets: dict[str, Any] = {}
    for key, value in pairs("--secret", items).items():
        if value.startswith("@"):
            secrets[key] = {"file": str(Path(value[1:]).resolve())}
        elif value.startswith("$"):
            secrets[key] = {"from_env": value[1:]}
        else:
            usage(f"--secret {key}=… holds the value itself, which others can read in the list of processes",
                  f"--secret {key}=@FILE or --secret '{key}=$VARIABLE'")  # fmt: skip
    return secrets


def submitted(client: Client, loaded: LoadedJob) -> JobView | Exit:
    """The job as the master took it; else its refusal is shown, and this is the exit code for it."""
    from quorate.cli.errors import show_problem
    from quorate.model.problem import QuorateError

    try:
        return client.submit(_with_context(client, _with_images(loaded)))
    except QuorateError as error:
        # A job that is wrong is a usage error; that it could not be handed in is the platform's failure.
        code = show_problem(error)
        return code if code is Exit.USAGE else Exit.PLATFORM


def _submit(client: Client, loaded: LoadedJob, *, detach: bool, as_json: bool) -> int:
    from quorate.cli import follow

    job = submitted(client, loaded)
    if isinstance(job, Exit):
        return job
    if detach:
        if as_json:
            print_json(job)
        else:
            print(job.id)
            note(f"quorate job logs -f {job.id} follows it, quorate job cancel {job.id} ends it")
        return Exit.OK
    if as_json:
        raise CommandError(
            "--json goes with --detach or --plan; a job that is followed prints its logs",
            hint="quorate run --detach --json …, then quorate job logs -f JOB --json",
            code=Exit.USAGE,
        )
    return follow.follow(client, job)


def _with_images(loaded: LoadedJob) -> LoadedJob:
    """The job with the images that it wants built, if there are any; the engine says meanwhile what it does."""
    if not loaded.builds:
        return loaded
    from quorate.cli import image
    from quorate.cli.jobfile import LoadedJob

    return LoadedJob(image.built(loaded.spec), loaded.context)


def _with_context(client: Client, loaded: LoadedJob) -> Any:
    """Sends the job's folder, if it has one, and returns the spec that names it."""
    if loaded.context is None:
        return loaded.spec
    from quorate.cli.progress import Bar
    from quorate.client.context import packed

    name = loaded.context.name
    with Bar(f"packing {name}") as bar, packed(loaded.context, bar.at) as context:
        with Bar(f"sending {name}", context.packed_bytes) as bar:
            sent = client.upload(context, bar.at)
        if sent:
            note(f"sent {loaded.context}: {context.files} files, {size(context.packed_bytes)}")
        return loaded.spec.model_copy(update={"context": context.sha256})


def show_plan_of(client: Client, loaded: LoadedJob, as_json: bool) -> int:
    """Prints what would become of the job."""
    from quorate.cli.planview import show_plan

    spec = loaded.spec
    if loaded.builds:
        from quorate.cli import image

        spec = image.named(spec)
    if loaded.context is not None:
        from quorate.client.context import packed

        with packed(loaded.context) as context:
            spec = spec.model_copy(update={"context": context.sha256})
            described = f"{loaded.context}, {context.files} files, {size(context.packed_bytes)}"
    else:
        described = "none"
    plan = client.plan(spec)
    if as_json:
        print_json(plan)
    else:
        show_plan(spec, plan, described)
    return Exit.OK
