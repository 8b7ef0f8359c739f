"""What an audit says of every forbidden flow of the catalogue: what these rules make of it, or who else holds it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from quorate.network.audit.decision import Outcome
from quorate.network.audit.verdicts import FlowVerdict
from quorate.network.catalogue import FORBIDDEN
from quorate.network.flows import ForbiddenFlow, NetworkMode, Role
from quorate.network.plan import Plan, PlannedFlow


class Holds(StrEnum):
    """Whether a forbidden flow fails, from the worst to the best; `held` says that other rules than these see to it."""

    POSSIBLE = "possible"
    UNDETERMINED = "undetermined"
    NOT_JUDGED = "not judged"
    HELD = "held"
    IMPOSSIBLE = "impossible"


_ORDER = list(Holds)
_OUTCOMES = {Outcome.ALLOW: Holds.POSSIBLE, Outcome.UNKNOWN: Holds.UNDETERMINED, Outcome.DENY: Holds.IMPOSSIBLE}
#: Who holds what no firewall between machines sees, or what it could not tell from an agent's own traffic.
_ROUND = "the agents' own rules, round private networks"
_BY_USER = "the agents' own rules, by user; NET-UNFILTERED where not"
_BOTH = f"{_ROUND} and by user"
#: Forbidden flows to members, by those to the machines whose addresses members of the hosts' network have.
_AT_AGENTS = {"user-to-member": "user-to-agent", "anyone-to-member": "anyone-to-agent"}


@dataclass(frozen=True, slots=True)
class MustFail:
    """One forbidden flow, and what is known of it."""

    flow: ForbiddenFlow
    holds: Holds
    why: str

    def to_dict(self) -> dict[str, str]:
        """Return it for `--json`."""
        ends = {"source": self.flow.source.value, "destination": self.flow.destination.value}
        return {"flow": self.flow.id, **ends, "verdict": self.holds.value, "why": self.why}


def of_each(plan: Plan, told: Collection[FlowVerdict], asked: Collection[PlannedFlow]) -> tuple[MustFail, ...]:
    """Return a line for every forbidden flow of the catalogue.

    `told` are those of the plan that are possible or undetermined, `asked` all that the rules decide about.
    """
    return tuple(_line(flow, plan, told, asked) for flow in FORBIDDEN.values())


def _line(flow: ForbiddenFlow, plan: Plan, told: Collection[FlowVerdict], asked: Collection[PlannedFlow]) -> MustFail:
    pools = {name: modes for name, modes in plan.modes.items() if plan.pool in (None, name)}
    if flow.destination is Role.AGENT and flow.source is not Role.MEMBER:
        return MustFail(flow, *_at_agents(flow.id, None, plan, told, asked))
    shared = {name for name, modes in pools.items() if NetworkMode.HOST in modes}
    private = not pools or any(modes - {NetworkMode.HOST} for modes in pools.values())
    if not shared or flow.id not in _AT_AGENTS:
        return MustFail(flow, Holds.HELD, _BOTH if shared and private else _BY_USER if shared else _ROUND)
    # Members of the hosts' network have their agents' addresses.
    holds, why = _at_agents(_AT_AGENTS[flow.id], shared, plan, told, asked)
    if not private:
        return MustFail(flow, holds, f"on the hosts' network, at the agents' addresses: {why}")
    worst = min(holds, Holds.HELD, key=_ORDER.index)
    return MustFail(flow, worst, f"{_ROUND}; on the hosts' network, at the agents' addresses: {why}")


def _at_agents(
    name: str,
    pools: Collection[str] | None,
    plan: Plan,
    told: Collection[FlowVerdict],
    asked: Collection[PlannedFlow],
) -> tuple[Holds, str]:
    """Return what the rules make of a forbidden flow to agents of some pools, or of all."""

    def meant(flow: PlannedFlow) -> bool:
        return flow.flow == name and (pools is None or flow.destination.name in pools)

    planned = {flow for flow in plan.forbidden if meant(flow)}
    if not planned:
        return Holds.NOT_JUDGED, "all of them are agents' addresses" if plan.forbidden else "the plan does not name it"
    found = [verdict for verdict in told if meant(verdict.flow)]
    if found:
        worst = min((_OUTCOMES[verdict.outcome] for verdict in found), key=_ORDER.index)
        whys = (f"{v.flow.destination.key}: {v.why}" for v in found if _OUTCOMES[v.outcome] is worst)
        return worst, "; ".join(whys)
    if planned.isdisjoint(asked):
        return Holds.NOT_JUDGED, "these are not the agents' rules"
    return Holds.IMPOSSIBLE, "by these rules"


def worst_first(lines: Collection[MustFail]) -> Iterator[MustFail]:
    """Yield what asks for something to be done first."""
    yield from sorted(lines, key=lambda line: _ORDER.index(line.holds))
