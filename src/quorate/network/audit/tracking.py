"""In which states connection tracking has the packets of a connection, where rules leave some of them untracked.

Linux, nf_conntrack_proto_tcp.c (tcp_conntracks) and nf_conntrack_core.c: what has no entry is new where it may begin a
connection, and invalid otherwise; a TCP connection whose first packet was not seen may be picked up in the middle
(nf_conntrack_tcp_loose), and one of whose packets some are not seen may fall out of its windows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from quorate.network.audit.ruleset import Phase, Scene
from quorate.network.audit.space import EVERY_FLAGS, Box, Outcome, both, cells
from quorate.network.audit.tcpflags import ACK, SYN, flags_where, needed, valid
from quorate.network.flows import Transport

#: The states in which a packet may be; more than one where that is not known.
States = frozenset[str]
NEW, ESTABLISHED, INVALID, UNTRACKED = (frozenset([word]) for word in ("new", "established", "invalid", "untracked"))
_ANY = NEW | ESTABLISHED | INVALID
_SYN_ACK = flags_where(lambda flags: bool(flags & SYN and flags & ACK))


@dataclass(frozen=True, slots=True)
class Left:
    """Packets of a phase that rules leave untracked, or may."""

    phase: Phase
    box: Box
    sure: bool


def usual(phase: Phase) -> States:
    """Return the state of packets that are tracked, as all others of their connection are."""
    return NEW if phase is Phase.OPEN else ESTABLISHED


def regions(scene: Scene, left: Sequence[Left]) -> Mapping[States, list[Box]]:
    """Return where the packets of a scene are in other states than the usual ones; these places share no point."""
    found: dict[States, list[Box]] = defaultdict(list)
    of_phases = [(one, box) for one in left if (box := _seen_from(one, scene)) is not None]
    if not of_phases:
        return found
    markers = [Box(flags=_SYN_ACK), *(box for _, box in of_phases)]
    for cell in cells([], Outcome.DENY, Box(flags=valid(scene)), markers):
        here = [of_phases[index - 1][0] for index in cell.markers if index]
        may = {phase: _answers(phase, here) for phase in Phase}
        states: set[str] = set()
        for untracked in product(*may.values()):
            answer = scene.phase is Phase.ANSWER and 0 in cell.markers
            states |= _state(scene, dict(zip(may, untracked, strict=True)), first_answer=answer)
        if states != usual(scene.phase):
            found[frozenset(states)].append(Box(cell.peer, cell.local, cell.service, cell.other, cell.flags))
    return found


def _answers(phase: Phase, here: Sequence[Left]) -> tuple[bool, ...]:
    """Return whether packets of that phase are untracked; both where that is not known."""
    mine = [one.sure for one in here if one.phase is phase]
    return (True,) if True in mine else (False, True) if mine else (False,)


def _seen_from(one: Left, scene: Scene) -> Box | None:
    """Return where it matters to packets of the scene's phase: those of others have flags of their own."""
    if one.phase is scene.phase or scene.transport is not Transport.TCP:
        return one.box
    asked = replace(scene, phase=one.phase)
    flags = _SYN_ACK if one.phase is Phase.ANSWER else needed(asked)
    return replace(one.box, flags=EVERY_FLAGS) if both(one.box.flags, flags) else None


def _state(scene: Scene, untracked: Mapping[Phase, bool], *, first_answer: bool) -> States:
    phase = scene.phase
    if untracked[phase]:
        return UNTRACKED
    if scene.transport is Transport.UDP:
        # Until both directions were seen every datagram is new.
        other = {Phase.OPEN: None, Phase.ANSWER: Phase.OPEN, Phase.GO_ON: Phase.ANSWER}[phase]
        return NEW if other is None or untracked[other] else ESTABLISHED
    if phase is Phase.OPEN:
        return NEW
    if phase is Phase.ANSWER:
        if untracked[Phase.OPEN]:
            return INVALID if first_answer else _ANY
        return ESTABLISHED if first_answer or not untracked[Phase.GO_ON] else ESTABLISHED | INVALID
    if untracked[Phase.OPEN]:
        return _ANY
    return INVALID if untracked[Phase.ANSWER] else ESTABLISHED


def holds(states: States, asked: Sequence[object]) -> bool | None:
    """Say whether packets in these states are in one that is asked for; None where that is not known."""
    inside = {state for state in states if state in asked}
    return None if inside and inside != states else bool(inside)


def shown(states: States) -> str:
    """Return the states as people write them."""
    return " or ".join(sorted(states))


def boxes_of(found: Mapping[States, list[Box]]) -> Iterator[tuple[States, Box]]:
    """Yield every place with its states."""
    for states, boxes in found.items():
        for box in boxes:
            yield states, box
