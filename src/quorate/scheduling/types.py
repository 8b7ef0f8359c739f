"""What the scheduler is shown and what it answers: plain immutable values, and nothing that reads a clock.

All times are seconds on one clock that the caller chooses; `View.now_s` is its present. A request or a running
job therefore stays the same value from pass to pass, and a caller with ten thousand of them builds each once.
"""

from collections.abc import Mapping

import msgspec

from quorate.model.job import Placement

Labels = frozenset[tuple[str, str]]
"""Pairs of key and value: hashable, and "the agent has all that the job asks for" is `wanted <= has`."""

Shape = tuple[object, ...]


#: Before what an agent can do, among its labels: no label that people write has a colon.
_ABILITY = "can:"


def ability(feature: str) -> tuple[str, str]:
    """What an agent can do and a job may need, as the scheduler compares it: like any other label."""
    return _ABILITY + feature, ""


def feature_of(label: tuple[str, str]) -> str | None:
    """Which ability the pair is; None for a label that people wrote."""
    return label[0].removeprefix(_ABILITY) if label[0].startswith(_ABILITY) else None


def labels_of(pairs: Mapping[str, str]) -> Labels:
    """The mapping that people write, as the value that the scheduler compares."""
    return frozenset(pairs.items())


class AgentView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One agent as the scheduler sees it."""

    id: str
    pool: str
    #: Slots that it has, and those that no allocation uses now; below zero (its slots have shrunk) counts as none.
    total: int
    free: int
    #: Whether new members may be placed on it. Slots of a closed agent are never given, nor are they held.
    open: bool = True
    #: Closed, but for a moment: nothing is placed on it, and who holds it goes on holding it.
    returning: bool = False
    #: One word or phrase for people when it is not open: "draining", "unreachable".
    closed_because: str = ""
    labels: Labels = frozenset()
    #: Its slots are GPUs: members of one gang do not share it unless the job says `colocate`.
    gpu: bool = False


class Apart(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Two agents that were seen not to reach each other: no gang is placed on both."""

    source: str
    destination: str
    #: The network modes of jobs that need the way: `auto`, `overlay`, `host`.
    modes: frozenset[str]
    #: Transport and port, as `udp 4789`.
    way: str
    #: Of the finding, as NET-FILTERED.
    code: str
    #: What `source` saw.
    evidence: str = ""

    def __str__(self) -> str:
        first, second = sorted((self.source, self.destination))
        return f"agents {first} and {second} cannot reach each other on {self.way} ({self.code})"


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A queued job: a gang of `nodes` members of `slots` slots each, on agents of one pool."""

    job: str
    pool: str
    nodes: int
    #: Elastic: with how few members it may start; None means with all of them only.
    min_nodes: int | None = None
    #: Per member. A member of no slots goes to any open agent and takes nothing from it.
    slots: int = 1
    #: Slots of each rank, where members differ; then `slots` is the largest of them. Such a gang is never elastic.
    sizes: tuple[int, ...] = ()
    placement: Placement = Placement.SPREAD
    #: Members may share a GPU agent.
    colocate: bool = False
    labels: Labels = frozenset()
    #: How its members are to be joined: `auto`, `bridge`, `overlay` or `host`.
    network: str = "auto"
    #: Higher first; among equals the lower `seq` first. `seq` is unique.
    priority: int = 50
    seq: int
    #: Since when it waits, on the clock of `View.now_s`.
    queued_at_s: float
    #: From placement until its slots are free again, start and stop included, it takes no longer; None: nobody knows.
    max_runtime_s: float | None = None
    #: What it asks for, apart from who asks: requests of one shape fit or do not fit together. Derived; never given.
    shape: Shape = ()

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.slots < 0 or not 1 <= self.least <= self.nodes:
            raise ValueError(f"job {self.job}: {self.nodes} nodes (at least {self.least}) of {self.slots} slots")
        if self.sizes and (len(self.sizes) != self.nodes or self.least != self.nodes or max(self.sizes) != self.slots):
            raise ValueError(f"job {self.job}: {self.nodes} nodes, the largest of {self.slots} slots: {self.sizes}")
        # A plain string, because an enum's hash is computed in Python, ten thousand times in a pass.
        shape = (
            self.nodes,
            self.least,
            self.slots,
            self.placement.value,
            self.colocate,
            self.labels,
            self.network,
            self.sizes,
        )
        msgspec.structs.force_setattr(self, "shape", shape)

    def slots_of(self, rank: int) -> int:
        """Slots of the member of that rank."""
        return self.sizes[rank] if self.sizes else self.slots

    @property
    def least(self) -> int:
        """The smallest gang that may start."""
        return self.nodes if self.min_nodes is None else self.min_nodes


class Running(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A placed job and the slots that it keeps until it ends, stopping and starting included."""

    job: str
    #: (agent, slots) pairs; an agent may stand there more than once.
    uses: tuple[tuple[str, int], ...]
    #: Its slots are free by then at the latest, on the clock of `View.now_s`; None: nobody knows.
    ends_by_s: float | None = None


class Reservation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Agents that a waiting job holds: nobody behind it in line may use them in a way that could delay it."""

    job: str
    agents: tuple[str, ...]


class View(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything that a decision depends on. The order of agents, queue, running and reservations does not matter."""

    now_s: float
    agents: tuple[AgentView, ...]
    queue: tuple[Request, ...]
    running: tuple[Running, ...] = ()
    #: What the pass before this one answered (`Decisions.reservations`); keep it with the state.
    reservations: tuple[Reservation, ...] = ()
    #: Agents that were seen not to reach each other.
    apart: tuple[Apart, ...] = ()


class PoolPolicy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How one pool treats its line."""

    #: The first job in line holds agents once it has waited so long; until then anything that fits passes it.
    reserve_after_s: float = 300.0


class Placed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One gang, placed whole."""

    job: str
    #: The agent of each rank, in rank order; an agent stands there once for each member on it.
    agents: tuple[str, ...]

    @property
    def nodes(self) -> int:
        """How many members were placed: `Request.nodes`, or fewer (not below `min_nodes`) for an elastic job."""
        return len(self.agents)


class Decisions(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer of one pass."""

    #: In the order in which they were decided.
    placements: tuple[Placed, ...]
    #: All reservations in force after this pass; they replace those of the view.
    reservations: tuple[Reservation, ...]
    #: With no event at all, the next pass that could answer differently is due after so many seconds; None: none is.
    #: Speaks of the pools that were looked at; what was said of the others before still holds.
    recheck_in_s: float | None = None
