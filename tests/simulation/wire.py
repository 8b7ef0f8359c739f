"""A link between an agent and a master: real codec bytes, in order, late, and cut whenever it suits the seed."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from quorate.model.messages import AgentMessage, MasterMessage, decode_from_agent, decode_from_master, encode

from .world import World

_numbers = count(1)


class AgentEnd(Protocol):
    """What the link calls on the agent's side."""

    def receive(self, wire: "Wire", message: MasterMessage) -> None: ...

    def link_lost(self, wire: "Wire") -> None: ...


class MasterEnd(Protocol):
    """What the link calls on the master's side."""

    def receive(self, wire: "Wire", message: AgentMessage) -> None: ...

    def link_lost(self, wire: "Wire") -> None: ...


@dataclass(frozen=True)
class Quality:
    """How bad a network is. Within a link TCP keeps order; `rough` histories break even that."""

    latency_s: float = 0.02
    #: A message comes twice, or overtakes others. TCP prevents it; a proxy or a bug might not.
    repeat: float = 0.0
    overtake: float = 0.0


class Wire:
    """One connection. It carries bytes until it is cut, and nothing that was under way arrives after that."""

    def __init__(self, world: World, quality: Quality, agent: AgentEnd, master: MasterEnd, name: str) -> None:
        self.number = next(_numbers)
        self.name = name
        self.open = True
        #: Nothing gets through, and nobody notices; TCP keeps it, and sends it again until somebody gives up.
        self.silent = False
        self._unsent: list[Callable[[], None]] = []
        self._world = world
        self._quality = quality
        self._agent = agent
        self._master = master
        self._last = {"up": 0.0, "down": 0.0}
        self._first: dict[str, float] = {}

    def to_master(self, message: AgentMessage) -> None:
        """Sends from the agent's side."""
        data = encode(message)
        self._carry("up", lambda: self._master.receive(self, decode_from_agent(data)))

    def to_agent(self, message: MasterMessage) -> None:
        """Sends from the master's side."""
        data = encode(message)
        self._carry("down", lambda: self._agent.receive(self, decode_from_master(data)))

    def heal(self) -> None:
        """What could not be sent gets through now, in its order."""
        self.silent = False
        unsent, self._unsent = self._unsent, []
        for deliver in unsent:
            self._world.after(0.0, self._arrive, deliver)

    def cut(self, *, agent_notices: float | None = 0.0, master_notices: float | None = 0.0) -> None:
        """Ends the link. Each side notices after so many seconds, or never (then its own timers must find out)."""
        if not self.open:
            return
        self.open = False
        if agent_notices is not None:
            self._world.after(agent_notices, self._agent.link_lost, self)
        if master_notices is not None:
            self._world.after(master_notices, self._master.link_lost, self)

    def _carry(self, way: str, deliver: Callable[[], None]) -> None:
        if not self.open:
            return
        world, quality = self._world, self._quality
        arrives = world.now + world.random.expovariate(1 / quality.latency_s)
        # The greeting is what makes it a link: nothing can overtake that.
        first = way not in self._first
        self._first.setdefault(way, arrives)
        if world.chance(quality.overtake) and not first:
            arrives = max(arrives, self._first[way])
        else:
            arrives = max(arrives, self._last[way])
            self._last[way] = arrives
        world.after(arrives - world.now, self._arrive, deliver)
        if world.chance(quality.repeat):
            world.after(arrives - world.now + world.random.random(), self._arrive, deliver)

    def _arrive(self, deliver: Callable[[], None]) -> None:
        if self.open and self.silent:
            self._unsent.append(deliver)
        elif self.open:
            deliver()
