"""What `quorate iam policy` takes from `master.yaml`, so that it need not be said again on the command line."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from quorate.cli.errors import usage
from quorate.cli.netinput import cluster
from quorate.iam.request import Cloud

if TYPE_CHECKING:
    from quorate.iam.finding import MissingOption
    from quorate.model.clusterfile import ClusterFile


def again(ctx: typer.Context, missing: tuple[MissingOption, ...]) -> str:
    """The command as it was given, with what it lacks filled in by samples, for people to put their own names into."""
    words = ctx.command_path.split()
    for each in _given(ctx):
        value = ctx.params.get(each.name or "")
        if isinstance(value, bool):
            words.append(each.opts[-1] if value else each.secondary_opts[-1])
        else:
            for one in value if isinstance(value, list | tuple) else (value,):
                words += [each.opts[-1], str(one)]
    return shlex.join([*words, *(word for each in missing for word in (each.option, each.sample))])


def _given(ctx: typer.Context) -> list[Any]:
    """The options that stand on the command line, and not those that have a default."""
    sources = ((each, ctx.get_parameter_source(each.name or "")) for each in ctx.command.params)
    return [each for each, source in sources if source is not None and source.name == "COMMANDLINE"]


# What an option is called in the requests of those clouds that take several of it.
_SEVERAL = {"image": "images", "subnet": "subnets", "security_group": "security_groups"}


def refuse_foreign(ctx: typer.Context, cloud: Cloud) -> None:
    """Refuse an option that only other clouds know: it would bound nothing, and nobody would notice."""
    from quorate.iam.aws.generate import AwsRequest
    from quorate.iam.gcp.generate import GcpRequest
    from quorate.iam.oci.request import OciRequest

    requests = {Cloud.OCI: OciRequest, Cloud.GCP: GcpRequest, Cloud.AWS: AwsRequest}
    known = {each: {field.name for field in fields(request)} for each, request in requests.items()}
    for option in _given(ctx):
        names = {option.name, _SEVERAL.get(option.name, option.name)}
        takers = [str(each) for each in Cloud if names & known[each]]
        if takers and cloud not in takers:
            usage(
                f"{option.opts[-1]} is for {' and '.join(takers)}, and this policy is for {cloud}",
                f"leave {option.opts[-1]} out, or name another --cloud",
            )


@dataclass(frozen=True, slots=True)
class Known:
    """What the cluster's file says about the cloud; None and empty where it says nothing."""

    cluster: str
    cloud: Cloud | None
    master_account: str | None
    agent_account: str | None
    security_groups: tuple[str, ...]


def known(path: Path | None) -> Known:
    """Read the file that is named, or the one that `quorate net` would read; with none, nothing but a name is known."""
    file = cluster(path).file
    accounts = {account for pool in file.pools for account in pool.where.service_accounts}
    return Known(
        cluster=file.name,
        cloud=_cloud(file),
        master_account=next(iter(file.master.where.service_accounts), None),
        agent_account=accounts.pop() if len(accounts) == 1 else None,
        security_groups=tuple(dict.fromkeys(group for pool in file.pools for group in pool.where.security_groups)),
    )


def _cloud(file: ClusterFile) -> Cloud | None:
    """The one cloud in which the pools are; None where there is none or several."""
    types = {pool.provider.type for pool in file.pools if pool.provider is not None}
    return Cloud(types.pop()) if len(types) == 1 else None


def chosen_cloud(asked: Cloud | None, from_file: Cloud | None) -> Cloud:
    """The cloud that was asked for, else that of the file."""
    cloud = asked or from_file
    if cloud is None:
        usage("--cloud is missing, and master.yaml does not name one provider", "add --cloud oci, gcp or aws")
    return cloud
