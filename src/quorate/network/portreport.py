"""What `quorate net ports` says: the ports of a job of some shape in a pool, its budget, and what collides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quorate.model.clusterfile import ClusterFile, PoolSection
from quorate.model.ports import PortRange
from quorate.network import catalogue
from quorate.network.budget import Budget, Shape, budget, check_window
from quorate.network.collisions import collisions, span
from quorate.network.findings import Finding, settle
from quorate.network.flows import Flow, NetworkMode, PortKind, Role
from quorate.network.settings import modes_of, window_of


@dataclass(frozen=True, slots=True)
class PortReport:
    """The ports of one shape of job."""

    pool: str
    shape: Shape
    window: PortRange
    lease_range: PortRange
    #: Flows between members with the ports that they take; windows and leases are not among them.
    fixed: tuple[tuple[Flow, PortRange], ...]
    budget: Budget
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "pool": self.pool,
            "launcher": self.shape.launcher,
            "nodes": self.shape.nodes,
            "ranks": self.shape.ranks,
            "window": str(self.window),
            "window_size": len(self.window),
            "needed": self.budget.needed,
            "listeners": self.budget.listeners,
            "to_one_destination": self.budget.to_one_destination,
            "shares": [
                {
                    "library": share.library,
                    "listeners": share.listeners,
                    "to_one_destination": share.to_one_destination,
                    "because": share.because,
                    "figures": share.figures.value,
                }
                for share in self.budget.shares
            ],
            "fixed": [{"flow": flow.id, "ports": str(ports), "purpose": flow.purpose} for flow, ports in self.fixed],
            "lease_range": str(self.lease_range),
            "findings": [finding.to_dict() for finding in self.findings],
        }


def report(cluster: ClusterFile, pool: PoolSection, shape: Shape, window: PortRange | None = None) -> PortReport:
    """Return the report for jobs of that shape in the pool; `window` stands instead of the pool's own."""
    settings = cluster.settings(pool)
    chosen = window or window_of(settings)
    launchers = frozenset([shape.launcher])
    fixed = tuple(
        (flow, span(flow, shape.nodes))
        for flow in catalogue.FLOWS.values()
        if flow.source is flow.destination is Role.MEMBER
        and flow.ports.kind in (PortKind.FIXED, PortKind.RANGE)
        and (not flow.when.launchers or shape.launcher in flow.when.launchers)
    )
    found = [check_window(shape, chosen, f"pool {pool.name}")]
    if NetworkMode.HOST in modes_of(settings):
        found += collisions(launchers, shape.nodes)
    else:
        found += [finding for finding in collisions(launchers, shape.nodes) if finding.code == "PORT-BUDGET"]
    return PortReport(
        pool.name,
        shape,
        chosen,
        settings.lease_range or catalogue.ports("leased"),
        fixed,
        budget(shape),
        settle(finding for finding in found if finding),
    )
