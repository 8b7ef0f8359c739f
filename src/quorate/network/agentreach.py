"""What a check between a cluster's agents found: attempts for the matrix, and what is no single flow's fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network

from quorate.model.ports import PortRange
from quorate.model.views import CheckedAgentView, ProbeView
from quorate.network import catalogue
from quorate.network.findings import Finding
from quorate.network.reach import Attempt, End, NetCheck, Outcome
from quorate.network.remedies import Platform, opening

#: Addresses that agree in so many bits are taken for one network: AWS has no larger VPC, and subnets of one are routed.
_ONE_NETWORK = {4: 16, 6: 48}


def reach_of(agents: Sequence[CheckedAgentView], probes: Sequence[ProbeView], platform: Platform) -> NetCheck:
    """Return the check as it is shown, with every remedy as a command for the platform."""
    by_name = {agent.agent: agent for agent in agents}
    passed = {
        (probe.source, probe.destination, probe.flow)
        for probe in probes
        if not probe.packet_bytes and probe.outcome == Outcome.OPEN
    }
    attempts = [
        _attempt(probe, by_name, platform)
        for probe in probes
        # Where a small packet does not pass, nothing is learnt from a large one.
        if not probe.packet_bytes or (probe.source, probe.destination, probe.flow) in passed
    ]
    ends = tuple(End(agent.agent, agent.address) for agent in agents if not agent.missing)
    return NetCheck(ends, tuple(attempts), tuple(_others(agents)))


def _attempt(probe: ProbeView, agents: dict[str, CheckedAgentView], platform: Platform) -> Attempt:
    flow = catalogue.FLOWS[probe.flow]
    outcome = Outcome(probe.outcome)
    source, destination = agents[probe.source], agents[probe.destination]
    evidence, remedy = probe.evidence, ""
    if probe.packet_bytes and outcome in (Outcome.FILTERED, Outcome.UNDETERMINED):
        outcome = Outcome.MTU
        evidence = (
            f"{evidence}, as a packet of {probe.packet_bytes} bytes that must not be fragmented, though small ones "
            f"pass ({source.device} there has MTU {source.mtu}, {destination.device} here {destination.mtu})"
        )
        remedy = f"ip link set {source.device} mtu {probe.packet_bytes - 50}  # on {source.agent}, and as low elsewhere"
    elif outcome in (Outcome.FILTERED, Outcome.REFUSED):
        # The rule is for the flow, not for the one port of it that was tried.
        ports = flow.ports.default if probe.port in flow.ports.default else PortRange.of(probe.port)
        v6 = ":" in destination.address
        remedy = opening(platform, flow.id, probe.transport, ports, source.address, destination.address, v6=v6)
    return Attempt(
        probe.source,
        probe.destination,
        probe.flow,
        probe.transport,
        probe.port,
        outcome,
        evidence,
        flow.purpose,
        probe.rtt,
        remedy,
    )


def _others(agents: Sequence[CheckedAgentView]) -> Iterator[Finding]:
    for agent in agents:
        if agent.missing:
            yield Finding("NET-UNDETERMINED", agent.agent, agent.missing, agent.agent, remedy="quorate agent list")
        if agent.closed:
            evidence = f"agent {agent.agent} cannot listen: {agent.closed}"
            remedy = f"ss -lntup  # on agent {agent.agent}: who holds the ports"
            yield Finding("NET-UNDETERMINED", agent.agent, evidence, agent.agent, remedy=remedy)
        if agent.master and not agent.master_near and not _one_network(agent.master, agent.address):
            far = "" if agent.master_rtt is None else f", {1000 * agent.master_rtt:.1f} ms away"
            yield Finding(
                "NET-SPLIT",
                f"agent/{agent.agent}",
                f"agent {agent.agent} ({agent.network or agent.address}) reaches the master at {agent.master} through "
                f"a router{far}: they are in different networks",
                agent.agent,
                "master",
                f"put both in one network, or peer the two; ip route get {agent.master}  # on agent {agent.agent}, "
                "shows the router",
            )


def _one_network(one: str, other: str) -> bool:
    try:
        first, second = ip_address(one), ip_address(other)
    except ValueError:
        return False
    if first.version != second.version:
        return False
    return second in ip_network((first, _ONE_NETWORK[first.version]), strict=False)
