"""The vocabulary of the scheduling tests: clusters in a line each, generated ones, what must hold of every answer."""

from collections import Counter
from collections.abc import Iterable
from math import inf
from random import Random

from hypothesis import strategies as st
from msgspec.structs import replace

from quorate.model.job import Placement
from quorate.scheduling import (
    AgentView,
    Decisions,
    PoolPolicy,
    Request,
    Reservation,
    Running,
    View,
    labels_of,
)

NOW = 1000.0
AFTER = 300.0
POLICIES = {"default": PoolPolicy(reserve_after_s=AFTER), "other": PoolPolicy(reserve_after_s=AFTER)}


def agent(name: str, total: int = 1, free: int | None = None, pool: str = "default", **more) -> AgentView:
    """An agent, all free unless said otherwise; `closed="draining"` closes it; labels as a dict."""
    closed = more.pop("closed", "")
    labels = labels_of(more.pop("labels", {}))
    return AgentView(
        id=name,
        pool=pool,
        total=total,
        free=total if free is None else free,
        open=not closed,
        closed_because=closed,
        labels=labels,
        **more,
    )


def job(name: str, seq: int = 0, nodes: int = 1, slots: int = 1, waited: float = 0, **more) -> Request:
    """A request that has waited so long at NOW; labels as a dict, placement as a word."""
    labels = labels_of(more.pop("labels", {}))
    placement = Placement(more.pop("placement", "spread"))
    more.setdefault("pool", "default")
    return Request(
        job=name,
        seq=seq,
        nodes=nodes,
        slots=slots,
        queued_at_s=NOW - waited,
        labels=labels,
        placement=placement,
        **more,
    )


def running(name: str, *uses: tuple[str, int], left: float | None = None) -> Running:
    """A running job that ends within `left` seconds of NOW."""
    return Running(job=name, uses=uses, ends_by_s=None if left is None else NOW + left)


def view(
    agents: Iterable[AgentView],
    queue: Iterable[Request],
    running: Iterable[Running] = (),
    held: dict[str, tuple[str, ...]] | None = None,
) -> View:
    """A view at NOW; `held` maps jobs to the agents that they hold."""
    reservations = tuple(Reservation(job=name, agents=names) for name, names in (held or {}).items())
    return View(now_s=NOW, agents=tuple(agents), queue=tuple(queue), running=tuple(running), reservations=reservations)


def placed(decisions: Decisions) -> dict[str, tuple[str, ...]]:
    """Which job went where."""
    return {placed.job: placed.agents for placed in decisions.placements}


def held(decisions: Decisions) -> dict[str, tuple[str, ...]]:
    """Which job holds what."""
    return {held.job: held.agents for held in decisions.reservations}


def after(given: View, decisions: Decisions, seconds: float = 0) -> View:
    """The view once what was decided is done and so many seconds have passed, in which nothing else happened."""
    requests = {request.job: request for request in given.queue}
    free = {agent.id: agent.free for agent in given.agents}
    begun = []
    for answer in decisions.placements:
        request = requests.pop(answer.job)
        uses = tuple((name, request.slots_of(rank)) for rank, name in enumerate(answer.agents))
        for name, slots in uses:
            free[name] -= slots
        begun.append(
            Running(
                job=answer.job,
                uses=uses,
                ends_by_s=None if request.max_runtime_s is None else given.now_s + request.max_runtime_s,
            )
        )
    return replace(
        given,
        now_s=given.now_s + seconds,
        agents=tuple(replace(agent, free=free[agent.id]) for agent in given.agents),
        queue=tuple(requests.values()),
        running=(*given.running, *begun),
        reservations=decisions.reservations,
    )


def without(given: View, ended: set[str]) -> View:
    """The view once these running jobs have given their slots back."""
    back = Counter()
    for gone in given.running:
        if gone.job in ended:
            for name, slots in gone.uses:
                back[name] += slots
    return replace(
        given,
        agents=tuple(replace(agent, free=agent.free + back[agent.id]) for agent in given.agents),
        running=tuple(left for left in given.running if left.job not in ended),
    )


def shuffled(given: View, rng: Random) -> View:
    """The same view told in another order."""

    def mixed(values):
        return tuple(rng.sample(values, len(values)))

    return replace(
        given,
        agents=mixed(given.agents),
        queue=mixed(given.queue),
        running=mixed(given.running),
        reservations=mixed(given.reservations),
    )


# What must hold of every answer. Each counts anew and naively, from the view alone.


def check_nothing_is_oversubscribed(given: View, decisions: Decisions) -> None:
    """No agent gives more than it has free, and a closed one gives nothing."""
    requests = {request.job: request for request in given.queue}
    agents = {agent.id: agent for agent in given.agents}
    used = Counter()
    for answer in decisions.placements:
        for rank, name in enumerate(answer.agents):
            assert agents[name].open, f"{answer.job} was placed on the closed agent {name}"
            used[name] += requests[answer.job].slots_of(rank)
    for name, slots in used.items():
        assert slots <= max(agents[name].free, 0), f"agent {name} gave {slots} of {agents[name].free} free slots"


def check_gangs_are_whole(given: View, decisions: Decisions) -> None:
    """A job is placed once, with all its members, on agents that it may use and in the way that it asked for."""
    requests = {request.job: request for request in given.queue}
    agents = {agent.id: agent for agent in given.agents}
    assert len(placed(decisions)) == len(decisions.placements), "a job was placed twice"
    for answer in decisions.placements:
        request = requests[answer.job]
        assert request.least <= answer.nodes <= request.nodes, f"{request} was placed with {answer.nodes} members"
        with_slots = [name for rank, name in enumerate(answer.agents) if request.slots_of(rank)]
        for name in set(answer.agents):
            assert agents[name].pool == request.pool
            assert request.labels <= agents[name].labels, f"{name} lacks the labels of {request}"
            if agents[name].gpu and not request.colocate and request.slots:
                assert with_slots.count(name) <= 1, f"members of {request.job} share the GPUs of {name}"
        if request.placement is Placement.SINGLE:
            assert len(set(answer.agents)) == 1
        for size in {request.slots_of(rank) for rank in range(answer.nodes)}:
            equal = [name for rank, name in enumerate(answer.agents) if request.slots_of(rank) == size]
            assert equal == sorted(equal), "equal members on one agent are no neighbours"


def room(request: Request, agents: Iterable[AgentView], free: dict[str, int]) -> int:
    """How many members fit, counted agent by agent; of unequal ones all or none."""
    if request.sizes:
        usable = [one for one in agents if one.open and one.pool == request.pool and request.labels <= one.labels]
        return request.nodes if _unequal_fit(request, usable, free, request.sizes) else 0
    each = [0]
    for one in agents:
        if not one.open or one.pool != request.pool or not request.labels <= one.labels:
            continue
        members = request.nodes if request.slots == 0 else max(free[one.id], 0) // request.slots
        each.append(min(members, 1) if one.gpu and not request.colocate and request.slots else members)
    return max(each) if request.placement is Placement.SINGLE else sum(each)


def _unequal_fit(request: Request, usable: list[AgentView], free: dict[str, int], sizes: tuple[int, ...]) -> bool:
    """Whether there is any way at all: each member on each agent, tried out."""
    if not sizes:
        return True
    if request.placement is Placement.SINGLE:
        with_slots = sum(1 for size in sizes if size)
        return any(
            free[one.id] >= sum(sizes) and (not one.gpu or request.colocate or with_slots <= 1) for one in usable
        )
    size, rest = max(sizes), tuple(sorted(sizes)[:-1])
    for one in usable:
        if free[one.id] < size:
            continue
        alone = one.gpu and not request.colocate and size
        left = {**free, one.id: 0 if alone else free[one.id] - size}
        if _unequal_fit(request, usable, left, rest):
            return True
    return False


def check_nobody_waits_for_what_is_free(given: View, decisions: Decisions) -> None:
    """What is left after the pass, and not held by somebody ahead, is too little for each job that still waits."""
    requests = {request.job: request for request in given.queue}
    free = {agent.id: agent.free for agent in given.agents}
    for answer in decisions.placements:
        for rank, name in enumerate(answer.agents):
            free[name] -= requests[answer.job].slots_of(rank)
    for request in given.queue:
        if request.job in placed(decisions):
            continue
        locked = {
            name
            for other, names in held(decisions).items()
            if order(requests[other]) < order(request)
            for name in names
        }
        usable = [agent for agent in given.agents if agent.id not in locked]
        assert room(request, usable, free) < request.least, f"{request.job} fits and was not placed"


def check_nobody_is_overtaken_by_an_equal(given: View, decisions: Decisions) -> None:
    """Of two requests of one shape and limit, the one behind is not placed before the one ahead."""
    waiting = [request for request in given.queue if request.job not in placed(decisions)]
    going = [request for request in given.queue if request.job in placed(decisions)]
    for ahead in waiting:
        for behind in going:
            same = (ahead.pool, ahead.shape, ahead.max_runtime_s) == (behind.pool, behind.shape, behind.max_runtime_s)
            assert not (same and order(ahead) < order(behind)), f"{behind.job} overtook {ahead.job}"


def check_what_is_held_is_left_alone(given: View, decisions: Decisions) -> None:
    """Who passes the holder on agents that it holds is gone before everybody else there could be."""
    requests = {request.job: request for request in given.queue}
    for holder, names in held(decisions).items():
        ends = [
            inf if job.ends_by_s is None else job.ends_by_s
            for job in given.running
            if any(name in names for name, _ in job.uses)
        ]
        for answer in decisions.placements:
            if not set(answer.agents) & set(names):
                continue
            request = requests[answer.job]
            limit = inf if request.max_runtime_s is None else given.now_s + request.max_runtime_s
            if order(request) < order(requests[holder]):
                ends.append(limit)
            elif request.slots:
                assert limit <= max([end for end in ends if end != inf], default=0), f"{answer.job} delays {holder}"


def check_holders_can_use_what_they_hold(given: View, decisions: Decisions) -> None:
    """A waiting job holds open agents of its own that would be enough if they were empty."""
    requests = {request.job: request for request in given.queue}
    totals = {agent.id: agent.total for agent in given.agents}
    assert len(held(decisions)) == len(decisions.reservations)
    for name, names in held(decisions).items():
        assert name not in placed(decisions), f"{name} was placed and holds agents"
        own = [agent for agent in given.agents if agent.id in names]
        assert len(own) == len(names) == len(set(names)) and all(agent.open for agent in own)
        assert room(requests[name], own, totals) >= requests[name].least, f"{name} holds too little"


def check_reservations_stick(given: View, before: Decisions, decisions: Decisions) -> None:
    """Between two passes over the same agents nobody changes what it holds, unless somebody ahead begins to hold."""
    requests = {request.job: request for request in given.queue}
    begun = [order(requests[name]) for name in held(decisions) if name not in held(before)]
    for name, names in held(before).items():
        if name in requests and name not in placed(decisions) and all(order(requests[name]) < mark for mark in begun):
            assert held(decisions).get(name) == names, f"{name} was given other agents than it held"


CHECKS = (
    check_nothing_is_oversubscribed,
    check_gangs_are_whole,
    check_nobody_waits_for_what_is_free,
    check_nobody_is_overtaken_by_an_equal,
    check_what_is_held_is_left_alone,
    check_holders_can_use_what_they_hold,
)


def order(request: Request) -> tuple[int, int]:
    """The place in line, smaller is earlier."""
    return (-request.priority, request.seq)


# Generated clusters: small, so that agents are contended, and every rule has a chance to matter.

_LABELS = st.sampled_from([{}, {}, {"gpu": "a100"}, {"gpu": "h100"}, {"gpu": "h100", "zone": "1"}])
_WANTED = st.sampled_from([{}, {}, {}, {"gpu": "a100"}, {"gpu": "h100"}, {"zone": "1"}, {"gpu": "b200"}])
_LIMITS = st.none() | st.integers(1, 500).map(float)


@st.composite
def agents(draw, name: str, pools: tuple[str, ...] = ("default", "other")) -> AgentView:
    total = draw(st.integers(0, 8))
    return agent(
        name,
        total=total,
        free=draw(st.integers(-1, total)),
        pool=draw(st.sampled_from(pools)),
        gpu=draw(st.booleans()),
        closed=draw(st.sampled_from(["", "", "", "", "draining", "unreachable"])),
        labels=draw(_LABELS),
    )


@st.composite
def requests(draw, name: str, seq: int, pools: tuple[str, ...] = ("default", "other")) -> Request:
    nodes = draw(st.integers(1, 6))
    slots = draw(st.sampled_from([1, 1, 1, 2, 2, 3, 4, 8, 0]))
    sizes: tuple[int, ...] = ()
    if slots and draw(st.integers(0, 3)) == 0:
        sizes = tuple(draw(st.lists(st.integers(0, slots), min_size=min(nodes, 4) - 1, max_size=min(nodes, 4) - 1)))
        sizes = (*sizes, slots)
        nodes = len(sizes)
    return job(
        name,
        seq,
        nodes=nodes,
        min_nodes=None if sizes else draw(st.none() | st.integers(1, nodes)),
        slots=slots,
        sizes=sizes,
        placement=draw(st.sampled_from(list(Placement))),
        colocate=draw(st.booleans()),
        labels=draw(_WANTED),
        priority=draw(st.sampled_from([50, 50, 50, 90])),
        pool=draw(st.sampled_from(pools)),
        waited=draw(st.sampled_from([0, 299, 300, 5000])),
        max_runtime_s=draw(_LIMITS),
    )


@st.composite
def views(draw) -> View:
    """A cluster in the middle of its life: agents partly used by running jobs, a queue, perhaps a reservation."""
    fleet = [draw(agents(f"a{number}")) for number in range(draw(st.integers(0, 7)))]
    queue = [draw(requests(f"j{seq}", seq)) for seq in range(draw(st.integers(0, 10)))]
    jobs = []
    for one in fleet:
        if one.total > one.free:
            limit = draw(_LIMITS)
            jobs.append(running(f"on-{one.id}", (one.id, one.total - max(one.free, 0)), left=limit))
    reserved = {}
    if fleet and queue and draw(st.booleans()):
        names = st.lists(st.sampled_from([one.id for one in fleet] + ["gone"]), min_size=1, max_size=4, unique=True)
        reserved[draw(st.sampled_from(queue)).job] = tuple(draw(names))
    return view(fleet, queue, jobs, reserved)
