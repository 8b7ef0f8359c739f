"""Is what is there right? Rule sets read from the platforms' own tools, judged by a plan without opening a socket."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from types import MappingProxyType

from quorate.network.audit.judge import AuditReport, judge
from quorate.network.audit.ruleset import Ruleset, Unreadable
from quorate.network.audit.verdicts import FlowVerdict
from quorate.network.flows import Role
from quorate.network.machine import of_machine, of_pool
from quorate.network.plan import Plan

__all__ = ["FORMATS", "AuditReport", "FlowVerdict", "Unreadable", "audit"]

#: Format to the reader that understands it, as `module:function`; imported when it is used.
FORMATS = MappingProxyType(
    {
        "nftables": "nftables:read",
        "iptables": "iptables:read",
        "gcp": "gcp:read",
        "aws": "aws:read",
        "oci": "oci:read",
        "kubernetes": "kubernetes:read",
    }
)


#: Formats that one machine's own tool prints.
ONE_MACHINE = ("nftables", "iptables")


def audit(plan: Plan, form: str, text: str, role: Role | None = None, pool: str | None = None) -> AuditReport:
    """Return what the rules in `text` do with the plan's flows.

    Rules of one machine (nftables, iptables) hold for machines of `role`; without one, for whichever end is governed.
    Raises Unreadable for text that is not what the platform's tool prints, and for a format that nobody reads;
    UnknownPool, and PoolNeeded for an agent's own rules where those of several pools differ.
    """
    if form not in FORMATS:
        near = difflib.get_close_matches(form, FORMATS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise Unreadable(f"no format is called {form!r}{hint} (formats: {', '.join(FORMATS)})")
    module, function = FORMATS[form].split(":")
    reader: Callable[[str], Ruleset] = getattr(import_module(f"{__name__}.{module}"), function)
    ruleset = reader(text)
    if form in ONE_MACHINE:
        plan = of_machine(plan, role, pool)
    elif pool is not None:
        plan = of_pool(plan, pool)
    return judge(plan, ruleset, form, role)
