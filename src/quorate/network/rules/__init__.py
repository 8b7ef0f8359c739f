"""Rules out of a plan, one renderer per platform; adding a platform is one file here and one line in FORMATS."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType

from quorate.network.findings import Finding
from quorate.network.flows import Role
from quorate.network.machine import of_machine, of_pool
from quorate.network.plan import Plan


@dataclass(frozen=True, slots=True)
class Rendered:
    """The rules as text in the platform's own form, and what could not be said in it."""

    text: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """One form of rules: what it is, and where it is rendered."""

    name: str
    title: str
    #: `module:function` below this package; imported when it is used.
    renderer: str
    #: Rules for one machine need to know its role; a cloud's rules cover all.
    needs_role: bool = False


class UnknownFormat(LookupError):
    """There is no format of that name; the message names the nearest and lists all."""

    def __init__(self, name: str) -> None:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        super().__init__(f"no format is called {name!r}; {hint}formats: {', '.join(FORMATS)}")


class RoleNeeded(ValueError):
    """The format is for one machine and the role of that machine was not given."""


_FORMATS = (
    Format("nftables", "nftables rule set for one machine", "nftables:render", needs_role=True),
    Format("iptables", "iptables-restore and ip6tables-restore input for one machine", "iptables:render", True),
    Format("gcp", "GCP VPC firewall rules, JSON resources", "gcp:render_json"),
    Format("gcloud", "GCP VPC firewall rules, gcloud commands", "gcp:render_commands"),
    Format("aws", "AWS security groups, JSON for the EC2 API", "aws:render_json"),
    Format("cloudformation", "AWS security groups, CloudFormation template", "aws:render_cloudformation"),
    Format("oci-nsg", "OCI network security groups, JSON, at most 25 rules a call", "oci:render_groups"),
    Format("oci-security-list", "OCI security lists, JSON", "oci:render_lists"),
    Format("kubernetes", "Kubernetes NetworkPolicy, YAML", "kubernetes:render"),
    Format("terraform-gcp", "Terraform for GCP", "terraform:render_gcp"),
    Format("terraform-aws", "Terraform for AWS", "terraform:render_aws"),
    Format("terraform-oci", "Terraform for OCI", "terraform:render_oci"),
)

#: Every format by its name, in the order of the docs.
FORMATS = MappingProxyType({form.name: form for form in _FORMATS})


def render(plan: Plan, form: str, role: Role | None = None, pool: str | None = None) -> Rendered:
    """Return the rules of a plan; the same plan gives the same text, whenever it is asked.

    Raises UnknownFormat and UnknownPool; and where a machine's own format is asked for, RoleNeeded without its role,
    and PoolNeeded without the pool of an agent where pools differ.
    """
    if form not in FORMATS:
        raise UnknownFormat(form)
    chosen = FORMATS[form]
    if chosen.needs_role and role is None:
        raise RoleNeeded(f"{form} rules are for one machine: say --role master or --role agent")
    if chosen.needs_role:
        plan = of_machine(plan, role, pool)
    elif pool is not None:
        plan = of_pool(plan, pool)
    module, function = chosen.renderer.split(":")
    renderer: Callable[[Plan, Role | None], Rendered] = getattr(import_module(f"{__name__}.{module}"), function)
    return renderer(plan, role)
