"""A cluster that lives: jobs come, run and end, agents close and open again, and every pass is checked."""

from dataclasses import dataclass, field
from math import inf
from random import Random

from msgspec.structs import replace

from quorate.scheduling import AgentView, PoolPolicy, Request, Reservation, Running, View, decide

from .clusters import CHECKS, after, held, order

#: The longest that anything runs, and how long the first in line waits before it holds agents; seconds.
LONGEST = 15
PATIENCE = 20


@dataclass
class Life:
    """Time goes in whole seconds; at each of them there is one pass, as after a batch of events.

    Behind the jobs that matter stands an endless stream of small ones: whenever fewer than three of them wait, more
    come, so a slot that anybody may use is used at once.
    """

    agents: list[AgentView]
    #: The jobs that matter; each comes at its `queued_at_s`.
    jobs: list[Request]
    rng: Random
    #: Agent and seconds: closed from the first to the second.
    outages: list[tuple[str, int, int]] = field(default_factory=list)
    patience: float = PATIENCE
    #: Whether some of the small jobs have no limit.
    endless: bool = True

    def __post_init__(self) -> None:
        self.now = 0
        #: When each job was placed, and when it would have been by the limits known as it began to hold agents.
        self.placed_at: dict[str, int] = {}
        self.promised: dict[str, float] = {}
        #: How many were placed past a job that holds agents.
        self.passed = 0
        self.queue: list[Request] = []
        self._mine = {request.job for request in self.jobs}
        self._running: dict[str, tuple[Running, int]] = {}
        self._reservations: tuple[Reservation, ...] = ()
        self._seq = 1000

    def live(self, seconds: int) -> None:
        """Lets time pass until all jobs that matter are placed, so many seconds at most."""
        while self.now < seconds and self.still_waiting():
            self._end_what_is_over()
            self._let_jobs_come()
            self._decide()
            self.now += 1

    def still_waiting(self) -> set[str]:
        """The jobs that matter and are not yet placed."""
        return self._mine - self.placed_at.keys()

    def view(self) -> View:
        """What the scheduler is shown now."""
        used = dict.fromkeys((agent.id for agent in self.agents), 0)
        for job, _ in self._running.values():
            for name, slots in job.uses:
                used[name] += slots
        away = {name for name, begins, ends in self.outages if begins <= self.now < ends}
        return View(
            now_s=self.now,
            agents=tuple(
                replace(agent, free=agent.total - used[agent.id], open=agent.id not in away) for agent in self.agents
            ),
            queue=tuple(self.queue),
            running=tuple(job for job, _ in self._running.values()),
            reservations=self._reservations,
        )

    def _end_what_is_over(self) -> None:
        self._running = {name: (job, ends) for name, (job, ends) in self._running.items() if ends > self.now}

    def _let_jobs_come(self) -> None:
        self.queue += [request for request in self.jobs if request.queued_at_s == self.now]
        for _ in range(3 - sum(request.job not in self._mine for request in self.queue)):
            self._seq += 1
            limit = self.rng.choice([*range(1, LONGEST), *[None] * 2 * self.endless])
            self.queue.append(
                Request(
                    job=f"small-{self._seq}",
                    pool="default",
                    nodes=1,
                    seq=self._seq,
                    queued_at_s=self.now,
                    max_runtime_s=limit,
                )
            )

    def _decide(self) -> None:
        before = self.view()
        decisions = decide(before, {"default": PoolPolicy(reserve_after_s=self.patience)})
        for check in CHECKS:
            check(before, decisions)
        requests = {request.job: request for request in self.queue}
        then = after(before, decisions)
        by_name = {job.job: job for job in then.running}
        holders = [order(requests[name]) for name in held(decisions)]
        for answer in decisions.placements:
            request = requests[answer.job]
            limit = LONGEST if request.max_runtime_s is None else int(min(request.max_runtime_s, LONGEST))
            self._running[answer.job] = by_name[answer.job], self.now + self.rng.randint(1, max(limit, 1))
            self.placed_at[answer.job] = self.now
            self.passed += any(holder < order(request) for holder in holders)
        for name, names in held(decisions).items():
            ends = [job.ends_by_s for job in then.running if {agent for agent, _ in job.uses} & set(names)]
            self.promised.setdefault(name, inf if None in ends else max(ends, default=self.now))
        self.queue = list(then.queue)
        self._reservations = then.reservations
