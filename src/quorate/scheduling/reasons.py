"""Why a job waits, and why another can never run: the same counts that the pass decides by, as sentences for people."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from math import ceil, inf

import msgspec

from quorate.model.duration import format_duration
from quorate.model.job import Placement
from quorate.scheduling.apart import NOBODY
from quorate.scheduling.free import Pool, tiers
from quorate.scheduling.gang import fits_empty, fits_now, room_for, usable
from quorate.scheduling.line import Walk, in_order
from quorate.scheduling.types import AgentView, Labels, Request, View, feature_of

#: What an agent can do that has the ability.
_CAN = {"images": "run images", "sandbox": "make private networks", "roles": "heed roles and limits of members"}
#: So many names are a help; more are a list that nobody reads.
NAMES = 3


def explain(view: View, job: str) -> str:
    """One sentence without a capital and a full stop: what the queued job needs, what there is, who is ahead of it.

    Shows the view as it is after a pass, with the reservations that the pass has answered. Costs a look at the whole
    view. Raises KeyError if the job is not in the queue.
    """
    request = next((request for request in view.queue if request.job == job), None)
    if request is None:
        raise KeyError(job)
    agents = [agent for agent in view.agents if agent.pool == request.pool]
    if not agents:
        return f"needs {_need(request, [])}; the pool has no agents"
    never = never_fits(request, agents)
    if never is not None:
        return never
    line = in_order(other for other in view.queue if other.pool == request.pool)
    ahead = line[: line.index(request)]
    walk = Walk(view, [agent for agent in agents if agent.open])
    matching = [agent for agent in agents if request.labels <= agent.labels]
    parts = [f"needs {_need(request, matching)}"]
    holds = _holds(walk, ahead, view)
    parts += _supply(walk, request, matching)
    parts += holds
    parts += _apart(walk, request, view, matching)
    parts += _closed(matching)
    if ahead:
        parts.append(f"{_ordinal(len(ahead) + 1)} in line")
    parts += [f"it holds {text}" for text in _held_by(walk, request, view)]
    return "; ".join(parts)


def places_in_line(queue: Iterable[Request], jobs: Collection[str]) -> dict[str, str]:
    """Where those of the jobs that are queued stand in the lines of their pools: what can be said of many at once."""
    counts: dict[str, int] = {}
    places: dict[str, str] = {}
    for request in in_order(queue):
        counts[request.pool] = place = counts.get(request.pool, 0) + 1
        if request.job in jobs:
            places[request.job] = f"{_ordinal(place)} in line in pool {request.pool}"
    return places


def never_fits(request: Request, agents: Iterable[AgentView], pools: Iterable[str] = ()) -> str | None:
    """Which limit the request breaks on all agents that are known, closed ones included; None if it breaks none.

    `pools` names those that exist although they may have no agent yet: nothing can be said of what they will have.
    """
    agents = list(agents)
    known = {agent.pool for agent in agents} | set(pools)
    where = f"pool {request.pool}"
    if request.pool not in known:
        return f"there is no {where}{_did_you_mean(request.pool, known)}"
    agents = [agent for agent in agents if agent.pool == request.pool]
    matching = [agent for agent in agents if request.labels <= agent.labels]
    if not agents or (matching and request.slots == 0):
        return None
    if not matching:
        return _no_such_labels(request.labels, agents, where)
    pool = Pool(matching)
    if request.sizes:
        return None if fits_empty(pool, request) else _unequal_never_fits(request, matching, where)
    found = pool.totals(request.labels).tiers(request.slots)
    room = room_for(found, request)
    if room >= request.least:
        return None
    where += _labels(request.labels)
    able = _able(request.labels)
    members = ("at least " if request.least < request.nodes else "") + _count(request.least, "member")
    largest = _count(max(agent.total for agent in matching), "slot")
    if not found:
        return f"the largest agent of {where}{able} has {largest}; the job needs {request.slots} for each member"
    together = msgspec.structs.replace(request, colocate=True)
    if room_for(found, together) >= request.least:
        taken = (
            "placement single asks for one agent"
            if request.placement is Placement.SINGLE
            else _fleet(matching, where) + able
        )
        return (
            f"{taken}; the job needs {members}, and on GPUs each has an agent of its own unless it says colocate: true"
        )
    if request.placement is Placement.SINGLE:
        slots = _count(request.least * request.slots, "slot")
        return (
            f"the largest agent of {where}{able} has {largest}; the job needs {slots} on one agent (placement single)"
        )
    of_slots = "" if request.slots == 1 else f" of {request.slots} slots"
    return f"{_fleet(matching, where)}{able}; the job needs {members}{of_slots}"


def _unequal_never_fits(request: Request, matching: Sequence[AgentView], where: str) -> str:
    fleet = _fleet(matching, where + _labels(request.labels)) + _able(request.labels)
    on_one = " on one agent" if request.placement is Placement.SINGLE else ""
    apart = "" if request.colocate or not any(agent.gpu for agent in matching) else (
        ", and on GPUs each has an agent of its own unless it says colocate: true"
    )  # fmt: skip
    return f"{fleet}; the job needs {_unequal(request)}{on_one}{apart}"


def _unequal(request: Request) -> str:
    """`1 member of 4 slots and 3 of 2`."""
    counts = Counter(request.sizes)
    parts = [
        f"{_count(count, 'member') if at == 0 else count} of {_count(size, 'slot') if at == 0 else size}"
        for at, (size, count) in enumerate(sorted(counts.items(), reverse=True))
    ]
    return _list(parts)


def _need(request: Request, matching: Sequence[AgentView]) -> str:
    least, slots = request.least, request.slots
    where = f"in pool {request.pool}{_labels(request.labels)}{_able(request.labels)}"
    if request.sizes:
        on_one = "1 agent with room for" if request.placement is Placement.SINGLE else "room for"
        return f"{on_one} {_unequal(request)} {where}"
    up_to = f" (up to {request.nodes})" if least < request.nodes else ""
    if slots == 0:
        return f"an open agent {where}"
    if request.placement is Placement.SINGLE:
        return f"1 agent with {_count(least * slots, 'free slot')} {where}"
    if _counts_agents(request, matching):
        return f"{_count(least, 'agent')}{up_to} with {_count(slots, 'free slot')} {where}"
    return f"room for {_count(least, 'member')}{up_to} of {_count(slots, 'slot')} {where}"


def _counts_agents(request: Request, matching: Sequence[AgentView]) -> bool:
    """Whether each member gets an agent of its own; a gang larger than the pool shares them, so its room is counted."""
    if request.least == 1:
        return True
    large = sum(agent.total >= request.slots for agent in matching)
    return request.placement is Placement.SPREAD and (large == 0 or large >= request.least)


def _supply(walk: Walk, request: Request, matching: Sequence[AgentView]) -> list[str]:
    """What the job could use now; what is held for those ahead does not count."""
    if request.slots == 0:
        return []
    stocks = walk.stocks_for(request)
    if request.sizes:
        fits = fits_now(walk.pool, request, stocks)
        return ["there is, so the next pass can place it" if fits else "there is none for all of them together"]
    found = usable(walk.pool, request, stocks)
    room = room_for(found, request)
    if request.placement is Placement.SINGLE:
        most = max((level >> 1 for level, _ in tiers(stocks, 0)), default=0)
        free = f"no agent has more than {most}" if room < request.least else "one has them"
    elif _counts_agents(request, matching):
        count = sum(len(bucket) for _, bucket in found)
        verb = (
            ("is free" if count < 2 else "are free")
            if request.slots == 1
            else ("has" if count < 2 else "have") + " them"
        )
        free = f"{count or 'none'} {verb}"
    else:
        free = f"there is room for {room or 'none'}"
    return [free + (", so the next pass can place it" if room >= request.least else "")]


def _holds(walk: Walk, ahead: Sequence[Request], view: View) -> list[str]:
    """Who ahead holds agents, and until when; repeats the holds, so that what they lock away is not counted as free."""
    return [f"job {other.job} ahead of it holds {text}" for other in ahead for text in _held_by(walk, other, view)]


def _held_by(walk: Walk, request: Request, view: View) -> list[str]:
    held = next((held for held in view.reservations if held.job == request.job), None)
    if held is None or not walk.hold(request, held.agents):
        return []
    agents, promise = walk.reservations[-1].agents, walk.promises[-1]
    if promise == inf:
        until = "until they are free, and nobody knows when, for not all that runs there has a max_runtime"
    else:
        # Whole minutes, upwards: nobody plans by the second what may be hours ahead.
        seconds = max(promise - view.now_s, 0.0)
        until = f"which are free within {format_duration(ceil(seconds / 60) * 60 if seconds > 60 else ceil(seconds))}"
    return [f"{_names('agent', agents)}, {until}"]


def _closed(matching: Sequence[AgentView]) -> list[str]:
    """Which agents would serve but take nothing new, by the reason for it."""
    by_reason: dict[str, list[str]] = {}
    for agent in matching:
        if not agent.open:
            by_reason.setdefault(agent.closed_because or "closed", []).append(agent.id)
    return [
        f"{_names('agent', sorted(agents))} {'is' if len(agents) == 1 else 'are'} {reason}"
        for reason, agents in sorted(by_reason.items())
    ]


def _apart(walk: Walk, request: Request, view: View, matching: Sequence[AgentView]) -> list[str]:
    """Which agents would serve but not together."""
    if walk.pool.ways_without(request) == (NOBODY,):
        return []
    open_ = {agent.id for agent in matching if agent.open}
    pairs = dict.fromkeys(
        str(pair)
        for pair in sorted(view.apart, key=lambda pair: sorted((pair.source, pair.destination)))
        if request.network in pair.modes and {pair.source, pair.destination} <= open_
    )
    shown = list(pairs)[:NAMES]
    return [*shown, f"{len(pairs) - NAMES} more pairs cannot"] if len(pairs) > NAMES else shown


def _no_such_labels(labels: Labels, agents: Sequence[AgentView], where: str) -> str:
    for label in sorted(labels):
        feature = feature_of(label)
        if feature is not None and not any(label in agent.labels for agent in agents):
            return f"no agent of {where} can {_CAN.get(feature, feature)}"
    for key, value in sorted(labels):
        values = {text for agent in agents for other, text in agent.labels if other == key}
        if not values:
            keys = {one[0] for agent in agents for one in agent.labels if feature_of(one) is None}
            return f"no agent of {where} has a label {key}{_did_you_mean(key, keys)}"
        if value not in values:
            return f"no agent of {where} has label {key}={value}{_did_you_mean(value, values)}"
    if able := _able(labels):
        return f"no agent of {where}{_labels(labels)} {able.removeprefix(' that ')}"
    return f"no agent of {where} has{_labels(labels).removeprefix(' with')} together"


def _did_you_mean(text: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = get_close_matches(text, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there is {_list(known)}" if known else ""


def _fleet(agents: Sequence[AgentView], where: str) -> str:
    totals = {agent.total for agent in agents}
    slots = _count(max(totals), "slot") if len(totals) == 1 else f"{min(totals)} to {max(totals)} slots"
    return f"{where} has {_count(len(agents), 'agent')} of {slots}"


def _labels(labels: Labels) -> str:
    """` with label a=b`; empty without any that people wrote."""
    written = [f"{key}={value}" for key, value in sorted(labels) if feature_of((key, value)) is None]
    if not written:
        return ""
    return (" with label " if len(written) == 1 else " with labels ") + _list(written)


def _able(labels: Labels) -> str:
    """` that can run images`; empty without abilities."""
    abilities = [_CAN.get(name, name) for label in sorted(labels) if (name := feature_of(label)) is not None]
    return f" that can {_list(abilities)}" if abilities else ""


def _names(noun: str, names: Sequence[str]) -> str:
    return f"{noun} {names[0]}" if len(names) == 1 else f"{noun}s {_list(names)}"


def _list(names: Sequence[str]) -> str:
    shown = list(names[:NAMES])
    if len(names) > NAMES:
        shown.append(f"{len(names) - NAMES} more")
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
