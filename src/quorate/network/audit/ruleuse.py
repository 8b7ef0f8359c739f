"""What rules do over the whole space: which have no effect, add nothing, or open what no flow of the plan needs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from quorate.network.audit.decision import Stand
from quorate.network.audit.ruleset import OTHERS, Rule, Ruleset, Scene
from quorate.network.audit.space import Cell, Outcome
from quorate.network.audit.spare import Stands
from quorate.network.audit.verdicts import EXAMPLES, passing
from quorate.network.findings import Finding


@dataclass
class _Opened:
    """What a rule opens."""

    #: Something that the plan needs.
    planned: bool = False
    #: What no flow needs: peers and ports, a few of them.
    idle: list[str] = field(default_factory=list)
    #: What it may open that no flow needs, and why that could not be told.
    doubtful: list[str] = field(default_factory=list)


class Uses:
    """What rules were seen to do."""

    def __init__(self) -> None:
        self.stands = Stands()
        self._opened: dict[str, _Opened] = defaultdict(_Opened)
        self._known: dict[Stand, Stand] = {}
        self._noted: Counter[tuple[Stand, bool]] = Counter()

    def add(self, stand: Stand) -> Stand:
        """Remember a place, also one that is not asked what it opens; returns what is known of it."""
        if stand not in self._known:
            self._known[stand] = self.stands.add(stand)
        return self._known[stand]

    def note(self, cell: Cell, stand: Stand, scene: Scene, *, needed: bool, everybody: bool) -> None:
        """Note what rules open to a peer, or to everybody; `needed` is what a flow of the plan passes through."""
        outcome = stand.decision.outcome
        if outcome is Outcome.DENY or (outcome is Outcome.UNKNOWN and (needed or not everybody)):
            # Whether a party of the plan has a name that the plan does not give it is no question of openings.
            return
        # Rules that stand together have all been shown after a few places.
        self._noted[stand, needed] += 1
        if self._noted[stand, needed] > EXAMPLES:
            return
        # Of rules that open the same, all have to go where no flow needs it, though none of them is needed for it.
        for rule in stand.needed.union(stand.to_blame if outcome is Outcome.ALLOW and not needed else ()):
            if scene.peer is OTHERS and rule not in scene.others:
                continue
            opened = self._opened[rule]
            opened.planned |= needed
            if needed:
                continue
            shown = opened.idle if outcome is Outcome.ALLOW else opened.doubtful
            if len(shown) < EXAMPLES:
                text = passing(cell, scene)
                text = text if outcome is Outcome.ALLOW else f"{text}: {stand.decision.doubt}"
                if text not in shown:
                    shown.append(text)

    def of(self, rule: str) -> _Opened:
        """Return what a rule opens."""
        return self._opened.get(rule) or _Opened()

    def idle(self, rules: Iterable[Rule]) -> frozenset[str]:
        """Return the rules that open what no flow needs."""
        return frozenset(rule.id for rule in rules if rule.allows and (rule.wide or self.of(rule.id).idle))


def rule_findings(
    ruleset: Ruleset,
    uses: Uses,
    going: Collection[str],
    disputed: Collection[str],
    waiting: Collection[str],
    withdrawing: Callable[[str], Iterable[str]],
    fabric: Collection[str] = (),
) -> Iterator[Finding]:
    """Return what is to be said of each rule.

    The rules `going` open too much, `disputed` ones block what is planned, `waiting` ones match it where it is blocked.
    Those of a `fabric` are needed by what is no flow.
    """
    matched: set[str] = set()
    reached: set[str] = set()
    needed: set[str] = set()
    for stand in uses.stands:
        matched |= stand.rules
        reached |= stand.reached
        needed |= stand.needed
    for rule in ruleset.rules:
        opened = uses.of(rule.id)
        if rule.clamped:
            remedy = "let the range end at 65535 where the text is kept"
            yield Finding("PORT-CLAMPED", rule.id, f"{_read(rule)}: {rule.clamped}", remedy=remedy)
        if rule.allows and rule.wide:
            remedy = "; ".join(dict.fromkeys(withdrawing(rule.id)))
            yield Finding("NET-UNNEEDED", rule.id, f"{_read(rule)}: {rule.wide}", remedy=remedy)
        elif rule.allows and opened.idle and rule.id not in fabric:
            what = "no flow of the plan needs it" if not opened.planned else "no flow of the plan needs all of it"
            evidence = f"{_read(rule)}: {what}; it lets pass {'; '.join(opened.idle)}"
            yield Finding("NET-UNNEEDED", rule.id, evidence, remedy="; ".join(dict.fromkeys(withdrawing(rule.id))))
        if rule.allows and opened.doubtful:
            evidence = f"{_read(rule)}: it may let pass what no flow of the plan needs: {'; '.join(opened.doubtful)}"
            yield Finding("NET-UNDETERMINED", rule.id, evidence)
    # Each of two equal rules can go, but not both; and what is too wide goes, not what the plan has beside it.
    unneeded = matched - needed
    spare = [rule for rule in ruleset.rules if rule.id in unneeded and not rule.wider]
    spare = [rule for rule in spare if not (rule.allows and rule.id in waiting)]
    spare.sort(key=lambda rule: rule.id in reached)
    ids = uses.stands.spare((rule.id for rule in spare if rule.id not in going), going, disputed)
    for rule in spare:
        if rule.id in ids:
            code = "RULE-REDUNDANT" if rule.id in reached else "RULE-SHADOWED"
            why = "without it the same would be decided" if rule.id in reached else _SHADOWED
            yield Finding(code, rule.id, f"{_read(rule)}: {why}", remedy=ruleset.removing(rule, ids))


_SHADOWED = "rules before it decide all that it would match"


def _read(rule: Rule) -> str:
    return f"{rule.text} ({rule.place})" if rule.place else rule.text
