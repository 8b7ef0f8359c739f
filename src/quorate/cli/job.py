"""`quorate job`: list, show, follow, wait for and cancel jobs."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Annotated

import typer

from quorate.cli import clusterexec, complete
from quorate.cli.app import new_group
from quorate.cli.colour import draws
from quorate.cli.exits import Exit
from quorate.cli.find import find_job
from quorate.cli.output import Json, ago, bold, coloured, counted, dim, first_line, note, print_json, span, table
from quorate.cli.session import Master, Token, connect
from quorate.model.state import JobState

if TYPE_CHECKING:
    from quorate.client.api import Client
    from quorate.client.streams import Watcher
    from quorate.model.views import AttemptView, JobDetail, JobView, LogLine, MemberView

app = new_group("List, show, follow, wait for and cancel jobs.", no_args_is_help=True)

_STATES = ", ".join(JobState)

Id = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="Its id, or its name: then the newest of that name.", autocompletion=complete.jobs
    ),
]


@app.command("list")
def list_jobs(
    state: Annotated[
        JobState | None, typer.Option(metavar="STATE", help=f"Only jobs in this state: {_STATES}.")
    ] = None,
    owner: Annotated[str, typer.Option(metavar="USER", help="Only jobs of this user.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 50,
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """List jobs, newest first.

    \b
      quorate job list --state running
      quorate job list --json
    """
    with connect(master, token) as client:
        jobs = list(client.jobs(state=state or "", owner=owner, limit=limit))
    if as_json:
        print_json(jobs)
        return
    table(
        ["ID", "NAME", "?OWNER", "STATE", "?>MEMBERS", "??SUBMITTED", "?RAN", "WHY"],
        (
            (
                job.id,
                job.spec.name,
                job.owner,
                job.state,
                str(job.spec.resources.nodes),
                ago(job.submitted_at),
                span(job.ran),
                first_line(job.reason),
            )
            for job in jobs
        ),
        empty="no jobs yet; quorate run starts one",
    )


@app.command()
def show(job: Id, as_json: Json = False, master: Master = None, token: Token = None) -> None:
    """Show a job: its state and why, its members, and what happened to it.

    \b
      quorate job show k3x9q2ab
      quorate job show digits
    """
    with connect(master, token) as client:
        detail = find_job(client, job)
    if as_json:
        print_json(detail)
    else:
        _show(detail)


@app.command()
def logs(
    job: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    member: Annotated[str, typer.Option(help="Only this member: its name (sub1), or its rank.")] = "",
    attempt: Annotated[int | None, typer.Option(min=1, help="Only this attempt; else all of them.")] = None,
    tail: Annotated[int | None, typer.Option(min=0, help="Begin with the last N lines of each member.")] = None,
    times: Annotated[bool, typer.Option("--times", "-t", help="The time (UTC) before each line.")] = False,
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """Print the output of a job's members.

    \b
      quorate job logs -f digits
      quorate job logs k3x9q2ab --member sub1 --tail 20
    """
    with connect(master, token) as client:
        from quorate.cli.follow import names_of, tell_missing
        from quorate.cli.screen import Screen

        detail = find_job(client, job)
        told = _tells_of_breaks()
        lines = client.logs(detail.id, follow=follow, member=member, attempt=attempt, tail=tail, told=told)
        if as_json:
            for line in lines:
                print(line.model_dump_json(), flush=follow)
            return
        if follow and detail.state is JobState.PENDING:
            note(f"the job waits{f': {first_line(detail.reason)}' if detail.reason else ''}")
        screen = Screen({} if member else names_of(detail), faithful=True)
        batch = []
        missing = []
        try:
            for line in lines:
                if line.missing:
                    missing.append(line)
                    continue
                batch.append(_with_time(line) if times else line)
                # Following shows each line at once; a finished log goes out in larger pieces.
                if follow or len(batch) >= 500:
                    screen.write(batch)
                    batch = []
            screen.write(batch)
        finally:
            screen.finish()
        tell_missing(detail.id, missing, names_of(detail))
    if not follow and not detail.state.final:
        why = f": {first_line(detail.reason)}" if detail.reason else ""
        note(f"the job is {detail.state}{why}; -f follows it")


@app.command()
def diagnose(
    job: Id,
    kept: Annotated[bool, typer.Option("--kept", help="Show the newest one that was made; look at nothing.")] = False,
    platform: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="PLATFORM",
            help="Whose commands mend it: nft, gcp, aws, oci, kubernetes; else each agent's own.",
        ),
    ] = "",
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """Say why a job that runs does not go on.

    Looks at its members' sockets, processes, Python stacks and collectives, and tries their connections again.
    """
    from quorate.cli.jobdiagnosis import show_diagnosis

    if show_diagnosis(job, kept=kept, platform=platform, as_json=as_json, master=master, token=token):
        raise typer.Exit(Exit.FAILED)


@app.command()
def network(job: Id, as_json: Json = False, master: Master = None, token: Token = None) -> None:
    """Show what passed between a job's members, flow by flow, and what was refused."""
    from quorate.cli.jobnetwork import show_network

    show_network(job, as_json=as_json, master=master, token=token)


app.command("exec", epilog=clusterexec.EPILOG)(clusterexec.execute)


@app.command()
def cancel(
    jobs: Annotated[
        list[str], typer.Argument(metavar="JOB...", help="Their ids, or their names.", autocompletion=complete.jobs)
    ],
    wait_for_end: Annotated[bool, typer.Option("--wait", help="Return only when they have ended.")] = False,
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """Cancel jobs: SIGTERM to their members, SIGKILL after the grace period.

    \b
      quorate job cancel digits --wait
    """
    with connect(master, token) as client:
        views = stopped(client, jobs, wait_for_end=wait_for_end)
    if as_json:
        print_json(views)
        return
    for view in views:
        print(f"{view.id} {coloured(view.state)}")


@app.command()
def wait(
    job: Id,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Give up after this, such as 10m; the job runs on.")
    ] = None,
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> int:
    """Wait until a job ends, and end with its exit code.

    \b
      quorate job wait digits --timeout 10m && echo it is trained
    """
    from quorate.cli import outcome
    from quorate.cli.errors import show as show_error
    from quorate.cli.errors import usage
    from quorate.model.duration import DurationError, parse_duration

    try:
        seconds = parse_duration(timeout) if timeout else None
    except DurationError as error:
        usage(f"--timeout: {error}")
    with connect(master, token) as client:
        now = find_job(client, job)
        if not now.state.final and draws(sys.stderr):
            note(f"job {now.id} is {now.state}{f': {first_line(now.reason)}' if now.reason else ''}")
        view = _wait(client, now.id, seconds)
    if as_json:
        print_json(view)
    if not view.state.final:
        show_error(f"job {view.id} is still {view.state}", hint=f"quorate job wait {view.id}")
        return Exit.DEADLINE
    return outcome.exit_code(view) if as_json else outcome.show(view)


def stopped(client: Client, said: list[str], *, wait_for_end: bool) -> list[JobView]:
    """Asks for the end of the jobs, and waits for it if that is wished."""
    found = [find_job(client, job, to_end=True) for job in said]
    for job in found:
        if job.state.final:
            note(f"{job.id} had ended already, {ago(job.ended_at)}")
    views = [client.cancel(job.id) for job in found]
    return [_wait(client, view.id) for view in views] if wait_for_end else views


def _wait(client: Client, job: str, seconds: float | None = None) -> JobView:
    """Waits on the master, through its absence where no time was given."""
    import time

    view: JobView = client.job(job)
    if seconds is None:
        return deque(client.states(view.id, _tells_of_breaks()), maxlen=1).pop()
    deadline = time.monotonic() + seconds
    while not view.state.final and (left := deadline - time.monotonic()) > 0:
        view = client.wait(view.id, min(30.0, max(0.1, left)))
    return view


def _tells_of_breaks() -> Watcher:
    """Tells a person once for each time that the master goes away."""
    away = False

    def told(problem: Exception | None) -> None:
        nonlocal away
        if problem is not None and not away:
            note("the master is away; waiting for it")
        away = problem is not None

    return told


def _with_time(line: LogLine) -> LogLine:
    return line.model_copy(update={"text": f"{line.time:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + f"Z {line.text}"})


# --- for people --------------------------------------------------------------------------------------------------


def _show(job: JobDetail) -> None:
    spec = job.spec
    print(f"{bold(job.id)}  {spec.name}  {coloured(job.state)}")
    if job.reason:
        from quorate.cli.outcome import guilty_member, last_words

        for number, line in enumerate(job.reason.splitlines()):
            print(f"  {line}" if number == 0 else dim(f"    {line}"))
        guilty = guilty_member(job) if job.state == "failed" else None
        for line in last_words(guilty) if guilty else ():
            print(dim(f"    {line}"))
    resources = spec.resources
    facts = {
        "owner": job.owner,
        "command": " ".join(spec.entrypoint) if job.whole else dim(f"shown to {job.owner} and operators alone"),
        "image": ", ".join(spec.images),
        "asks for": f"{counted(resources.nodes, 'member')} of {counted(resources.slots, 'slot')} "
        f"in pool {resources.pool}, {spec.placement}",
        "network": _network(job),
        "launcher": spec.launcher if spec.launcher != "none" else "",
        "submitted": ago(job.submitted_at),
        "times": _times(job),
        "exit code": "" if job.exit_code is None else str(job.exit_code),
        "attempt": f"{job.attempt}, {job.restarts_left} restarts left" if job.attempt else "",
        "secrets": ", ".join(job.secrets),
        "diagnosis": f"{job.diagnosis} (quorate job diagnose {job.id} --kept)" if job.diagnosis else "",
    }
    print()
    for name, value in facts.items():
        if value:
            print(f"  {dim(name.ljust(10))} {value}")
    if job.members:
        print()
        _members(job.members)
    earlier = [attempt for attempt in job.attempts if attempt.attempt != job.attempt]
    for attempt in earlier:
        _attempt(attempt)
    if job.history:
        print(bold("\nhistory"))
        for entry in job.history:
            print(f"  {dim(f'{entry.at:%Y-%m-%d %H:%M:%S}Z')}  {entry.what}")


def _network(job: JobDetail) -> str:
    network = job.network
    if network is None:
        return ""
    return f"{network.mode} {network.subnet}, VNI {network.vni}, MTU {network.mtu}, among members {network.members}"


def _members(members: tuple[MemberView, ...]) -> None:
    table(
        ["MEMBER", ">RANK", "AGENT", "STATE", "ENDED WITH", "WHY"],
        ((m.name, str(m.rank), m.agent, m.state, ended_with(m), first_line(m.reason)) for m in members),
    )


def _attempt(attempt: AttemptView) -> None:
    print(bold(f"\nattempt {attempt.attempt}") + f"  {attempt.outcome}  {first_line(attempt.reason)}")


def ended_with(member: MemberView) -> str:
    """The exit code or the signal's name; a dash while there is none."""
    if member.signal is not None:
        import signal

        try:
            return signal.Signals(member.signal).name
        except ValueError:
            return f"signal {member.signal}"
    return "-" if member.exit_code is None else str(member.exit_code)


def _times(job: JobView) -> str:
    from quorate.cli.outcome import times

    return times(job)
