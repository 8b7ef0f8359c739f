"""Checks of the network between agents: they listen for a while, try each other, and say what they saw."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from quorate.master.agentflows import LEASED, VXLAN, between, vxlan_port_of
from quorate.master.asks import AskError, Asks
from quorate.master.state import State
from quorate.model.asks import LISTEN, PROBE, UNLISTEN, Listen, Listening, Probed, Probes, Target, Unlisten
from quorate.model.views import CheckedAgentView, NetCheckView, ProbeView

#: Agents that are asked at once.
_AT_ONCE: Final = 64
_LISTEN_S: Final = 10.0
#: How long a listener stays without being closed: no check takes so long.
_FOR_S: Final = 120.0
#: A probe takes 3.5 s at most, and an agent makes 256 at once.
_PROBE_S: Final = 60.0


class NetCheck:
    """One check: `pairs` says whom each agent tries. Only what is planned between two agents is tried at all."""

    def __init__(self, asks: Asks, state: State, agents: Sequence[str], pairs: Mapping[str, Iterable[str]]) -> None:
        """`agents` take part, also those that nobody tries; all in `pairs` must be among them."""
        self._asks = asks
        self._agents = {agent: state.agents[agent].pool for agent in agents}
        self._state = state
        self._pairs = pairs
        self._id = os.urandom(8).hex()
        self._nonce = os.urandom(32).hex()
        self._listening: dict[str, Listening] = {}
        self._few = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> AsyncIterator[NetCheckView]:
        """First how all agents are connected, then the probes of one after the other as they are done."""
        try:
            agents = await asyncio.gather(*(self._listen(agent, pool) for agent, pool in self._agents.items()))
            targets: dict[str, list[tuple[str, Target]]] = {}
            for agent in self._agents:
                targets[agent] = self._targets(agent)
                # With thousands of agents this takes a while, and others wait for the loop.
                await asyncio.sleep(0)
            yield NetCheckView(total=sum(map(len, targets.values())), agents=tuple(agents))
            probing = [self._probe(agent, wanted) for agent, wanted in targets.items() if wanted]
            for done in asyncio.as_completed(probing):
                yield NetCheckView(probes=await done)
        finally:
            await asyncio.gather(*(self._unlisten(agent) for agent in self._listening))

    async def _listen(self, agent: str, pool: str) -> CheckedAgentView:
        udp = vxlan_port_of(self._state, agent)
        body = msgspec.json.encode(Listen(self._id, self._nonce, _FOR_S, udp))
        try:
            async with self._few:
                answer = await self._asks.ask(agent, LISTEN, body, _LISTEN_S)
            heard = msgspec.json.decode(answer, type=Listening)
        except (AskError, msgspec.MsgspecError) as error:
            return CheckedAgentView(agent=agent, pool=pool, missing=str(error))
        self._listening[agent] = heard
        return CheckedAgentView(
            agent=agent,
            pool=pool,
            address=heard.address,
            device=heard.device,
            mtu=heard.mtu,
            network=heard.network,
            master=heard.master,
            master_near=heard.master_near,
            master_rtt=heard.master_rtt_s,
            closed=heard.closed,
            overlaid=heard.overlaid,
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
            planned = between(self._state, source, name)
            if LEASED in planned and there.tcp:
                found.append((LEASED, Target(name, there.address, there.tcp, "tcp")))
            # A machine whose overlay is up lets no process speak on that port, so there is nothing to be tried.
            if VXLAN in planned and there.udp and own.udp:
                found.append((VXLAN, Target(name, there.address, there.udp, "udp")))
                if size := min(own.mtu, there.mtu):
                    found.append((VXLAN, Target(name, there.address, there.udp, "udp", size)))
        return found

    async def _probe(self, source: str, wanted: Sequence[tuple[str, Target]]) -> tuple[ProbeView, ...]:
        body = msgspec.json.encode(Probes(self._nonce, tuple(target for _, target in wanted)))
        try:
            async with self._few:
                answer = await self._asks.ask(source, PROBE, body, _PROBE_S)
            results = msgspec.json.decode(answer, type=Probed).results
        except (AskError, msgspec.MsgspecError) as error:
            return tuple(_view(source, flow, target, "undetermined", str(error), None) for flow, target in wanted)
        return tuple(
            _view(source, flow, target, result.outcome, result.evidence, result.rtt_s)
            for (flow, target), result in zip(wanted, results, strict=False)
        )

    async def _unlisten(self, agent: str) -> None:
        with suppress(AskError):
            await self._asks.ask(agent, UNLISTEN, msgspec.json.encode(Unlisten(self._id)), _LISTEN_S)


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
