"""`quorate iam`: the permissions that a cluster needs in a cloud, written, checked and explained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quorate.cli.app import new_group
from quorate.cli.errors import CommandError, usage
from quorate.cli.exits import Exit
from quorate.cli.output import Json, coloured, dim, print_json
from quorate.iam.request import Audience, Auth, Cloud, Part, Profile, Target

if TYPE_CHECKING:
    from quorate.iam.finding import Finding
    from quorate.iam.policy import Request
    from quorate.iam.reading import Input

app = new_group(
    "Cloud permissions: the least that works, each statement with its reason; and a check of what is there.",
    no_args_is_help=True,
)

Text = str | None


@app.command()
def policy(
    ctx: typer.Context,
    audience: Annotated[Audience, typer.Option("--for", help="Whose permissions.")],
    cloud: Annotated[
        Cloud | None, typer.Option("--cloud", help="Which cloud; master.yaml's provider.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="master.yaml: cluster, provider, accounts, security groups.")
    ] = None,
    profile: Annotated[Profile, typer.Option(help="The least that works, or what the vendor's pages ask for.")] = (
        Profile.STRICT
    ),
    part: Annotated[
        Part,
        typer.Option(help="What the cloud's tool takes first; oci: statements, dynamic-group; aws: trust; gcp: roles."),
    ] = Part.NATIVE,
    as_json: Json = False,
    bare: Annotated[bool, typer.Option("--bare", help="Leave the reasons out of the text.")] = False,
    cluster: Annotated[Text, typer.Option(help="The cluster's name: a tag on AWS, machines' prefix on GCP.")] = None,
    bucket: Annotated[Text, typer.Option(help="The bucket of checkpoints and data.")] = None,
    repo: Annotated[Text, typer.Option(help="The repository of images.")] = None,
    may_delete: Annotated[bool, typer.Option("--may-delete", help="Old checkpoints may be deleted.")] = False,
    region: Annotated[Text, typer.Option(help="AWS: the region. GCP: of the shared subnet and the repository.")] = None,
    subnet: Annotated[list[str] | None, typer.Option(help="AWS: agents' subnets. GCP: the shared VPC's.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="OCI, AWS: the image that agents start from.")] = None,
    target: Annotated[
        Target | None,
        typer.Option(
            help="OCI: Data Science jobs (users, jobs) or Quorate's own agents (master, agents).", show_default=False
        ),
    ] = None,
    auth: Annotated[Auth | None, typer.Option(help="OCI: how the caller signs in.", show_default=False)] = None,
    group: Annotated[Text, typer.Option(help="OCI: the user group, as Name, Domain/Name or OCID.")] = None,
    dynamic_group: Annotated[Text, typer.Option(help="OCI: the dynamic group, likewise.")] = None,
    compartment: Annotated[Text, typer.Option(help="OCI: a path A:B or an OCID; without it, the tenancy.")] = None,
    compartment_ocid: Annotated[Text, typer.Option(help="OCI: its OCID, for the matching rule.")] = None,
    network_compartment: Annotated[Text, typer.Option(help="OCI: where the subnet is, if elsewhere.")] = None,
    instance: Annotated[Text, typer.Option(help="OCI: the OCID of the master's own machine.")] = None,
    tag: Annotated[Text, typer.Option(help="OCI: namespace.key=value on the cluster's machines.")] = None,
    metrics_namespace: Annotated[Text, typer.Option(help="OCI: metrics are published there.")] = None,
    volumes: Annotated[bool, typer.Option(help="OCI: data volumes are attached to agents.")] = True,
    project: Annotated[Text, typer.Option(help="GCP: the project of the machines.")] = None,
    master_account: Annotated[Text, typer.Option(help="GCP: the master's service account.")] = None,
    agent_account: Annotated[Text, typer.Option(help="GCP: the agents' service account.")] = None,
    host_project: Annotated[Text, typer.Option(help="GCP: the project of a shared VPC.")] = None,
    image_project: Annotated[Text, typer.Option(help="GCP: the project of the image, if another.")] = None,
    user: Annotated[Text, typer.Option(help="GCP: a member such as group:researchers@example.org.")] = None,
    external_ip: Annotated[bool, typer.Option("--external-ip", help="GCP: agents get external addresses.")] = False,
    data_disk: Annotated[
        bool, typer.Option("--data-disk", help="GCP: agents get an existing disk, to be read.")
    ] = False,
    legacy_scope: Annotated[
        bool, typer.Option("--legacy-scope", help="GCP: default account with the read-write scope.")
    ] = False,
    account: Annotated[Text, typer.Option(help="AWS: the account's twelve digits.")] = None,
    agent_role: Annotated[str, typer.Option(help="AWS: agents' role and instance profile.")] = "quorate-agent",
    security_group: Annotated[list[str] | None, typer.Option(help="AWS: the agents' security groups.")] = None,
    log_group: Annotated[Text, typer.Option(help="AWS: agents' logs go there.")] = None,
    spot: Annotated[bool, typer.Option("--spot", help="AWS: agents may be spot machines.")] = False,
) -> None:
    """Write the permissions that one audience needs.

    \b
      quorate iam policy --cloud oci --for user --group researchers --compartment ml --bucket training
      quorate iam policy --cloud gcp --for agent --project ml-prod --agent-account agent@ml-prod.iam.gserviceaccount.com
      quorate iam policy --cloud aws --for master --account 123456789012 --region eu-central-1
    """
    from quorate.cli.iaminput import again, chosen_cloud, known, refuse_foreign
    from quorate.iam.aws.generate import AwsRequest
    from quorate.iam.finding import MissingOptions, RefusedRequest
    from quorate.iam.gcp.generate import GcpRequest
    from quorate.iam.oci.request import OciRequest, Tag
    from quorate.iam.policy import aside, check, write
    from quorate.iam.request import usual_target

    images, subnets = tuple(image or ()), tuple(subnet or ())
    given = known(config)
    try:
        request: Request
        chosen = chosen_cloud(cloud, given.cloud)
        refuse_foreign(ctx, chosen)
        match chosen:
            case Cloud.OCI:
                request = OciRequest(
                    audience,
                    target or usual_target(audience),
                    profile,
                    auth,
                    group=group,
                    dynamic_group=dynamic_group,
                    compartment=compartment,
                    compartment_ocid=compartment_ocid,
                    network_compartment=network_compartment,
                    bucket=bucket,
                    repo=repo,
                    image=images[0] if images else None,
                    metrics_namespace=metrics_namespace,
                    instance=instance,
                    tag=Tag.parse(tag) if tag else None,
                    may_delete=may_delete,
                    volumes=volumes,
                )
            case Cloud.GCP:
                request = GcpRequest(
                    audience,
                    profile,
                    project=project,
                    cluster=cluster or given.cluster,
                    master_account=master_account or given.master_account,
                    agent_account=agent_account or given.agent_account,
                    host_project=host_project,
                    region=region,
                    subnet=subnets[0] if subnets else None,
                    image_project=image_project,
                    bucket=bucket,
                    repo=repo,
                    user=user,
                    external_ip=external_ip,
                    legacy_scope=legacy_scope,
                    data_disk=data_disk,
                    may_delete=may_delete,
                )
            case Cloud.AWS:
                request = AwsRequest(
                    audience,
                    profile,
                    account=account,
                    region=region,
                    cluster=cluster or given.cluster,
                    agent_role=agent_role,
                    subnets=subnets,
                    security_groups=tuple(security_group or given.security_groups),
                    images=images,
                    bucket=bucket,
                    repo=repo,
                    log_group=log_group,
                    spot=spot,
                    may_delete=may_delete,
                )
        check(request)
        text = write(request, part, as_json=as_json, bare=bare)
        notes = () if as_json else aside(request, part)
    except MissingOptions as error:
        lines = tuple(f"{each.option}: {each.why}" for each in error.missing) if len(error.missing) > 1 else ()
        raise CommandError(str(error), lines=lines, hint=again(ctx, error.missing), code=Exit.USAGE) from None
    except RefusedRequest as error:
        usage(str(error), "quorate iam policy --help")
    typer.echo(text, nl=False)
    for note in notes:
        typer.echo(f"note: {note}", err=True)


@app.command()
def lint(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="OCI statements, an AWS policy, a GCP role; - for stdin.")
    ],
    as_json: Json = False,
    for_agents: Annotated[
        bool, typer.Option("--for-agents", help="AWS: the policy is that of machines that run users' code.")
    ] = False,
) -> None:
    """Check policies offline, each finding with its line and what to write instead.

    Exit code 0: clean, 1: findings, 2: not a policy.

    \b
      quorate iam lint runs.policy
      aws iam get-role-policy --role-name NAME --policy-name NAME | quorate iam lint -
      oci iam policy list --compartment-id OCID --all | quorate iam lint -
      gcloud projects get-iam-policy PROJECT --format=json | quorate iam lint -
    """
    from quorate.iam.finding import UnreadableFile
    from quorate.iam.lint import is_clean, lint_file

    reports: list[tuple[str, Input, list[Finding]]] = []
    unreadable: list[str] = []
    for file in files:
        data = _bytes(file)
        try:
            reports.append((file, *lint_file(data, for_agents=for_agents)))
        except UnreadableFile as error:
            unreadable.append(f"{file}:{error.place}: {error.reason}")
    if as_json:
        print_json([each.as_json(file) for file, _, found in reports for each in found])
    else:
        for file, source, found in reports:
            _print_report(file, source, found)
    if unreadable:
        cause, *more = unreadable
        raise CommandError(cause, lines=tuple(more), hint="quorate iam lint --help", code=Exit.USAGE)
    if not all(is_clean(found) for _, _, found in reports):
        raise typer.Exit(Exit.FAILED)


@app.command()
def explain(
    what: Annotated[
        str, typer.Argument(metavar="STATEMENT|FILE|CODE", help="A statement, a policy file (- for stdin), or a code.")
    ],
    as_json: Json = False,
) -> None:
    """Say what a policy grants, and why.

    In plain words, with what each statement is needed for and what breaks without it.

    \b
      quorate iam explain "Allow dynamic-group runs to read repos in compartment ml"
      quorate iam explain runs.policy
      quorate iam explain IAM-CANNOT-CREATE
    """
    from quorate.iam.explain import explain as explain_parts
    from quorate.iam.explain import explain_code
    from quorate.iam.finding import UnreadableFile
    from quorate.iam.lint import lint_file

    if what.upper().startswith("IAM-"):
        meaning = explain_code(what)
        if meaning is None:
            from quorate.iam.codes import all_codes
            from quorate.iam.place import suggestion

            near = suggestion(what, {code.name.lower() for code in all_codes()})
            hint = f"quorate iam explain {near.upper()}" if near else "quorate iam lint FILE prints the codes it finds"
            usage(f"there is no finding {what.upper()}", hint)
        if as_json:
            print_json({"code": what.upper(), "meaning": meaning})
        else:
            typer.echo(f"{what.upper()}: {meaning}")
        return
    name, data = _statement_or_file(what)
    try:
        source, found = lint_file(data)
    except UnreadableFile as error:
        usage(f"{name}:{error.place}: {error.reason}", "quorate iam explain 'Allow group … to … in …'")
    parts = explain_parts(source)
    if as_json:
        print_json({"parts": [each.as_json() for each in parts], "findings": [each.as_json(name) for each in found]})
    else:
        for each in parts:
            typer.echo(f"{name}:{each.place}: {_visible(each.title)}\n  {_visible(each.meaning)}")
            for detail in each.details:
                typer.echo(f"  {_visible(detail)}")
            for whose, reasons in each.reasons:
                typer.echo(f"  needed by {whose}: {reasons.why}\n    without it: {reasons.without}")
                typer.echo(f"    {dim(reasons.source)}")
            if not each.reasons:
                typer.echo("  Quorate and its jobs need no such statement.")
            typer.echo("")
        if found:
            _print_report(name, source, found)
    if not parts:
        raise typer.Exit(Exit.USAGE)


def _statement_or_file(what: str) -> tuple[str, bytes]:
    """What to call it in messages, and its bytes."""
    if what == "-" or (" " not in what.strip() and what.strip()):
        return what, _bytes(what)
    try:
        if Path(what).is_file():
            return what, _bytes(what)
    except (OSError, ValueError):
        pass
    return "statement", what.encode(errors="surrogateescape")


def _bytes(file: str) -> bytes:
    """The file's content, cut off where it is too large to be a policy; `-` is standard input."""
    from quorate.iam.reading import MAX_BYTES

    try:
        if file == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with Path(file).open("rb") as content:
            return content.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        usage(f"{file}: {reason}", "name a file that can be read, or - for standard input")


def _print_report(file: str, source: Input, found: list[Finding]) -> None:
    for each in found:
        severity = coloured(each.severity.value)
        typer.echo(f"{file}:{each.place}: {severity} {each.code.name}: {_visible(each.evidence)}")
        typer.echo(f"    {_visible(each.mend)}")
        if each.replacement is not None:
            for line in each.replacement.split("\n"):
                typer.echo(f"    => {_visible(line)}")
    if not found:
        typer.echo(f"{file}: no findings ({_extent(source)})")


def _visible(text: str) -> str:
    """Control characters as escapes: a file that is checked must not be able to command the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _extent(source: Input) -> str:
    if source.document is not None:
        return f"{source.kind.value.upper()} document"
    parts = [(len(source.statements), "statement"), (len(source.rules), "matching rule")]
    return ", ".join(f"{count} {noun}{'s' if count != 1 else ''}" for count, noun in parts if count)
