"""Which machine a machine's own rules are for: agents of two pools have different openings."""

from __future__ import annotations

import difflib

from quorate.network.flows import Role
from quorate.network.plan import Plan


class PoolNeeded(ValueError):
    """Agents of several pools have different rules, and which pool's the machine is was not said."""


class UnknownPool(LookupError):
    """The plan has no pool of that name; the message names the nearest and lists all."""


def of_machine(plan: Plan, role: Role | None, pool: str | None) -> Plan:
    """Return the plan as one machine of that role and pool sees it.

    Without a pool that is any machine's where all pools' agents have the same rules. Raises PoolNeeded and UnknownPool.
    """
    pools = pools_of(plan)
    if pool is not None:
        return of_pool(plan, pool)
    if role is Role.MASTER or len({_seen(plan, name) for name in pools}) < 2:
        return plan
    raise PoolNeeded(f"agents of pools {', '.join(pools)} have different rules: say which one's this machine is")


def of_pool(plan: Plan, pool: str) -> Plan:
    """Return what of the plan has an agent of that pool at one of its ends; raises UnknownPool."""
    pools = pools_of(plan)
    if pool not in pools:
        near = difflib.get_close_matches(pool, pools, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownPool(f"there is no pool {pool!r}; {hint}pools: {', '.join(pools)}")
    return plan.on(pool)


def pools_of(plan: Plan) -> tuple[str, ...]:
    """Return the names of the plan's pools, sorted."""
    return tuple(party.name for party in plan.parties if party.role is Role.AGENT)


def _seen(plan: Plan, pool: str) -> frozenset[object]:
    """Return all that a rule on an agent of that pool would say."""
    return frozenset(
        (direction, flow.transport, flow.ports, flow.peer(direction).addresses)
        for direction, flow in plan.on(pool).seen_by(Role.AGENT)
    )
