"""`quorate net`: who must be able to talk to whom, as a plan, as rules, and as a check of what is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quorate.cli.app import new_group
from quorate.cli.exits import Exit
from quorate.cli.output import Json
from quorate.cli.session import Master, Token

if TYPE_CHECKING:
    from quorate.network.flows import Role

app = new_group(
    "Who must be able to talk to whom: the plan, its rules for every platform, and checks of what is there.\n\n"
    "All but --cluster works offline, from files. Exit codes: 0 all good, 1 findings, 2 bad input.",
    no_args_is_help=True,
)

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="master.yaml; else $QUORATE_CONFIG, /etc/quorate/master.yaml."),
]
Cluster = Annotated[bool, typer.Option("--cluster", help="Ask the master for its agents and their addresses.")]
ForRole = Annotated[
    str | None, typer.Option("--role", metavar="ROLE", help="Only what the machine of a `master` or `agent` sees.")
]
OfPool = Annotated[str | None, typer.Option("--pool", metavar="NAME", help="Only what the agents of this pool need.")]


@app.command()
def plan(
    config: Config = None,
    role: ForRole = None,
    job: Annotated[Path | None, typer.Option("--job", metavar="FILE", help="The plan of this job's members.")] = None,
    as_json: Json = False,
    cluster: Cluster = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """The flows that must pass or must fail."""
    from quorate.cli import netinput, netview
    from quorate.network.findings import failing

    source = netinput.cluster(config, live=cluster, master=master, token=token)
    made = netinput.job_plan(job, source) if job else source.plan
    netview.show_plan(made, _role(role), source.no_proxy, as_json=as_json)
    if failing(made.findings):
        raise typer.Exit(Exit.FAILED)


@app.command()
def rules(
    form: Annotated[str, typer.Option("--for", metavar="FORMAT", help="nftables, gcp, aws…; `list` names all.")],
    config: Config = None,
    role: ForRole = None,
    pool: OfPool = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the rules here.")] = None,
    as_json: Json = False,
    cluster: Cluster = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """Firewall rules in a platform's own form.

    What could not be said in it goes to stderr. `--for list` names the forms.
    """
    from quorate.cli import netinput, netview
    from quorate.network.findings import failing, settle
    from quorate.network.machine import PoolNeeded, UnknownPool
    from quorate.network.rules import FORMATS, RoleNeeded, UnknownFormat, render

    if form == "list":
        netview.show_formats({name: chosen.title for name, chosen in FORMATS.items()}, as_json=as_json)
        return
    source = netinput.cluster(config, live=cluster, master=master, token=token)
    try:
        rendered = render(source.plan, form, _role(role), pool)
    except UnknownFormat as error:
        netinput.refuse(str(error.args[0]), "quorate net rules --for list")
    except RoleNeeded as error:
        netinput.refuse(str(error), f"quorate net rules --for {form} --role agent")
    except PoolNeeded as error:
        netinput.refuse(str(error), f"quorate net rules --for {form} --role agent --pool NAME")
    except UnknownPool as error:
        netinput.refuse(str(error.args[0]))
    # What has no place is told by the renderer for each rule that is missing; the plan would only repeat it.
    others = [finding for finding in source.plan.findings if finding.code != "PLAN-UNRESOLVED"]
    findings = settle([*others, *rendered.findings])
    netview.show_rules(rendered.text, findings, output, as_json=as_json)
    if failing(findings):
        raise typer.Exit(Exit.FAILED)


@app.command()
def audit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What the platform's own tool printed; - for stdin.")],
    form: Annotated[
        str, typer.Option("--from", metavar="FORMAT", help="gcp, aws, oci, nftables, iptables, kubernetes.")
    ],
    config: Config = None,
    role: ForRole = None,
    pool: OfPool = None,
    as_json: Json = False,
    cluster: Cluster = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """Check the rules that are there.

    Is every planned flow open, every forbidden one blocked, and nothing else open?
    """
    from quorate.cli import netinput, netview
    from quorate.network.audit import ONE_MACHINE, Unreadable
    from quorate.network.audit import audit as judge
    from quorate.network.findings import failing
    from quorate.network.machine import PoolNeeded, UnknownPool

    if form in ONE_MACHINE and role is None:
        # Judged as those of every machine they would block what is another's.
        netinput.refuse(
            f"{form} rules are one machine's: say --role master or --role agent",
            f"quorate net audit --from {form} --role agent {file}",
        )
    source = netinput.cluster(config, live=cluster, master=master, token=token)
    text = netinput.read(file)
    try:
        report = judge(source.plan, form, text, _role(role), pool)
    except Unreadable as error:
        netinput.refuse(f"{file}: {error}", "quorate net audit --help")
    except PoolNeeded as error:
        netinput.refuse(str(error), f"quorate net audit --from {form} --role agent --pool NAME {file}")
    except UnknownPool as error:
        netinput.refuse(str(error.args[0]))
    netview.show_audit(report, as_json=as_json)
    if failing(report.findings):
        raise typer.Exit(Exit.FAILED)


@app.command()
def check(
    hosts: Annotated[
        list[str] | None, typer.Argument(metavar="[HOST[=ADDRESS]]...", help="With --ssh: as SSH takes them.")
    ] = None,
    ssh: Annotated[bool, typer.Option("--ssh", help="No cluster: these hosts, over your own SSH.")] = False,
    launcher: Annotated[
        str | None, typer.Option("--launcher", help="With --ssh: whose flows; torch, where no port is named.")
    ] = None,
    nodes: Annotated[int | None, typer.Option("--nodes", min=2, help="With --ssh: as many hosts.")] = None,
    port: Annotated[
        list[str] | None, typer.Option("--port", metavar="PORT|A-B", help="With --ssh: a port to try; repeatable.")
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="With --ssh: with NCCL.")] = False,
    ours: Annotated[
        bool, typer.Option("--quorate", help="With --ssh: also what Quorate needs between members.")
    ] = False,
    ssh_command: Annotated[str, typer.Option(metavar="COMMAND", help="SSH with options of its own.")] = "ssh",
    python: Annotated[str, typer.Option(metavar="PATH", help="Python 3.8 or newer, on the hosts.")] = "python3",
    pool: Annotated[str, typer.Option("--pool", metavar="NAME", help="Only between the agents of this pool.")] = "",
    platform: Annotated[
        str, typer.Option("--for", metavar="PLATFORM", help="Whose commands mend it: nft, gcp, aws, oci, kubernetes.")
    ] = "nft",
    as_json: Json = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """Let the agents of a cluster try each other, or with --ssh any hosts.

    Prints who reaches whom and how fast, and what mends what does not pass. With --ssh nothing is installed on the
    hosts, which need Python 3.8: `quorate net check --ssh gpu1 gpu2` tries the flows of a torch job between the two.
    """
    from quorate.cli import netinput, netmatrix
    from quorate.network.findings import failing

    mending = netinput.platform(platform)
    if ssh:
        from quorate.cli.netcheckssh import Asked, check_hosts

        given = tuple(hosts or ())
        if nodes is not None and nodes != len(given):
            netinput.refuse(f"--nodes {nodes} with {len(given)} hosts: name as many hosts as the job has nodes")
        if launcher is not None:
            netinput.shape(launcher, 2, 1, 1, gpu=False)
        tried = tuple(netinput.port_range(text) for text in port or ())
        asked = Asked(given, launcher, tried, gpu, ours, mending, ssh_command, python)
        found, what = check_hosts(asked), asked.what
    else:
        if hosts or launcher or nodes or port:
            netinput.refuse("hosts, launchers and ports are for --ssh", "quorate net check --ssh hostA hostB")
        from quorate.cli.netcluster import check_cluster

        found, what = check_cluster(master, token, pool, mending), ""
    netmatrix.show_check(found, as_json=as_json, what=what)
    if failing(found.findings):
        raise typer.Exit(Exit.FAILED)


@app.command()
def explain(
    what: Annotated[str, typer.Argument(metavar="PORT|FLOW|CODE", help="Such as torch-rendezvous, NET-FILTERED.")],
    as_json: Json = False,
) -> None:
    """What a port, flow or finding means."""
    from quorate.cli import netinput, netview
    from quorate.model.ports import InvalidPorts
    from quorate.network.explain import NothingToExplain
    from quorate.network.explain import explain as look_up

    try:
        found = look_up(what)
    except (NothingToExplain, InvalidPorts) as error:
        netinput.refuse(str(error.args[0]), "quorate net plan")
    netview.show_explanation(found, as_json=as_json)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A master.yaml, or what `net plan --json` printed.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The same, later.")],
    as_json: Json = False,
) -> None:
    """What changes from one plan to another.

    Exit code 1 where something does.
    """
    from quorate.cli import netinput, netview
    from quorate.network.planfile import compare

    changes = compare(netinput.plan_file(old), netinput.plan_file(new))
    netview.show_changes(changes, as_json=as_json)
    if changes:
        raise typer.Exit(Exit.FAILED)


@app.command()
def ports(
    config: Config = None,
    pool: Annotated[str | None, typer.Option(help="The pool; the first one by default.")] = None,
    launcher: Annotated[str, typer.Option(help="Whose flows and needs.")] = "torch",
    nodes: Annotated[int, typer.Option(min=1, max=10_000, help="Members of the job.")] = 2,
    ranks: Annotated[int, typer.Option(min=1, max=1024, help="Processes in each member.")] = 8,
    groups: Annotated[int, typer.Option(min=1, max=10_000, help="Process groups or communicators.")] = 4,
    gpu: Annotated[bool, typer.Option("--gpu", help="With NCCL.")] = False,
    window: Annotated[str | None, typer.Option(metavar="A-B", help="A window to check instead of the pool's.")] = None,
    as_json: Json = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="Also ask the master which ports are leased.")] = False,
    master: Master = None,
    token: Token = None,
) -> None:
    """The ports of a job, and how many it needs.

    Also says which defaults of frameworks collide where jobs share the host's network, and with --cluster which ports
    members of running jobs hold there.
    """
    from quorate.cli import netinput, netview
    from quorate.network.findings import failing
    from quorate.network.portreport import report

    source = netinput.cluster(config, live=cluster, master=master, token=token)
    made = report(
        source.file,
        netinput.pool(source.file, pool),
        netinput.shape(launcher, nodes, ranks, groups, gpu),
        netinput.port_range(window) if window else None,
    )
    leases = None
    if cluster:
        from quorate.cli.netlive import live_leases

        leases = live_leases(master, token)
    netview.show_ports(made, leases, as_json=as_json)
    if failing(made.findings):
        raise typer.Exit(Exit.FAILED)


def _role(word: str | None) -> Role | None:
    from quorate.cli.netinput import refuse
    from quorate.network.flows import Role

    if word is None:
        return None
    if word not in (Role.MASTER, Role.AGENT):
        refuse(f"--role {word}: only machines of a master or of an agent carry rules", "--role master or --role agent")
    return Role(word)
