"""Checks of the network between agents: they listen for a while, try each other, and say what they saw."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from quorate.master.asks import AskError
from quorate.master.link import Links
from quorate.model.asks import LISTEN, PROBE, UNLISTEN, Listen, Listening, Probed, Probes, Target, Unlisten
from quorate.model.views import CheckedAgentView, NetCheckView, ProbeView
from quorate.network import catalogue

#: Agents that are asked at once.
_AT_ONCE: Final = 64
_LISTEN_S: Final = 10.0
#: How long a listener stays without being closed: no check takes so long.
_FOR_S: Final = 120.0
#: A probe takes 3.5 s at most, and an agent makes 256 at once.
_PROBE_S: Final = 60.0
#: The feature of agents whose members have networks of their own, which VXLAN joins.
SANDBOX: Final = "sandbox"


@dataclass(frozen=True)
class Party:
    """An agent that takes part."""

    agent: str
    pool: str


class NetCheck:
    """One check. `pairs` says whom each agent tries; all agents in it must be among the parties."""

    def __init__(self, links: Links, parties: Sequence[Party], pairs: Mapping[str, Sequence[str]]) -> None:
        self._links = links
        self._parties = parties
        self._pairs = pairs
        self._id = os.urandom(8).hex()
        self._nonce = os.urandom(32).hex()
        self._listening: dict[str, Listening] = {}
        self._few = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> AsyncIterator[NetCheckView]:
        """First how all agents are connected, then the probes of one after the other as they are done."""
        try:
            agents = await asyncio.gather(*(self._listen(party) for party in self._parties))
            targets = {party.agent: self._targets(party.agent) for party in self._parties}
            yield NetCheckView(total=sum(map(len, targets.values())), agents=tuple(agents))
            probing = [self._probe(agent, wanted) for agent, wanted in targets.items() if wanted]
            for done in asyncio.as_completed(probing):
                yield NetCheckView(probes=await done)
        finally:
            await asyncio.gather(*(self._unlisten(agent) for agent in self._listening))

    async def _listen(self, party: Party) -> CheckedAgentView:
        # VXLAN travels only between agents whose members have networks of their own: elsewhere no rule lets it pass.
        udp = catalogue.port("vxlan") if SANDBOX in self._links.features(party.agent) else 0
        body = msgspec.json.encode(Listen(self._id, self._nonce, _FOR_S, udp))
        try:
            async with self._few:
                answer = await self._links.asks.ask(party.agent, LISTEN, body, _LISTEN_S)
            heard = msgspec.json.decode(answer, type=Listening)
        except (AskError, msgspec.MsgspecError) as error:
            return CheckedAgentView(agent=party.agent, pool=party.pool, missing=str(error))
        self._listening[party.agent] = heard
        return CheckedAgentView(
            agent=party.agent,
            pool=party.pool,
            address=heard.address,
            device=heard.device,
            mtu=heard.mtu,
            network=heard.network,
            master=heard.master,
            master_near=heard.master_near,
            master_rtt=heard.master_rtt_s,
            closed=heard.closed,
        )

    def _targets(self, source: str) -> list[tuple[str, Target]]:
        """What the agent tries, each with the flow that it stands for."""
        own = self._listening.get(source)
        if own is None:
            return []
        found = []
        for name in self._pairs.get(source, ()):
            there = self._listening.get(name)
            if there is None:
                continue
            if there.tcp:
                found.append(("leased", Target(name, there.address, there.tcp, "tcp")))
            # A machine whose overlay is up lets no process speak on that port, so there is nothing to be tried.
            if there.udp and own.udp:
                found.append(("vxlan", Target(name, there.address, there.udp, "udp")))
                if size := min(own.mtu, there.mtu):
                    found.append(("vxlan", Target(name, there.address, there.udp, "udp", size)))
        return found

    async def _probe(self, source: str, wanted: Sequence[tuple[str, Target]]) -> tuple[ProbeView, ...]:
        body = msgspec.json.encode(Probes(self._nonce, tuple(target for _, target in wanted)))
        try:
            async with self._few:
                answer = await self._links.asks.ask(source, PROBE, body, _PROBE_S)
            results = msgspec.json.decode(answer, type=Probed).results
        except (AskError, msgspec.MsgspecError) as error:
            return tuple(_view(source, flow, target, "undetermined", str(error), None) for flow, target in wanted)
        return tuple(
            _view(source, flow, target, result.outcome, result.evidence, result.rtt_s)
            for (flow, target), result in zip(wanted, results, strict=False)
        )

    async def _unlisten(self, agent: str) -> None:
        with suppress(AskError):
            await self._links.asks.ask(agent, UNLISTEN, msgspec.json.encode(Unlisten(self._id)), _LISTEN_S)


def _view(source: str, flow: str, target: Target, outcome: str, evidence: str, rtt: float | None) -> ProbeView:
    return ProbeView(
        source=source,
        destination=target.who,
        flow=flow,
        transport=target.transport,
        port=target.port,
        packet_bytes=target.packet_bytes,
        outcome=outcome,
        evidence=evidence,
        rtt=rtt,
    )
