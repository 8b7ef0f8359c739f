"""`quorate net check` of a cluster: its agents try each other, and what they saw becomes a matrix."""

from __future__ import annotations

from quorate.cli.output import note
from quorate.cli.progress import Bar
from quorate.cli.session import connect
from quorate.model.views import CheckedAgentView, ProbeView
from quorate.network.agentreach import reach_of
from quorate.network.reach import NetCheck
from quorate.network.remedies import Platform

#: Agents that a sentence names.
_NAMED = 6


def check_cluster(master: str | None, token: str | None, pool: str, platform: Platform) -> NetCheck:
    """Have the master's agents try each other, and return what they found; shows how far it is."""
    agents: tuple[CheckedAgentView, ...] = ()
    probes: list[ProbeView] = []
    with connect(master, token) as client, Bar("agents try each other") as bar:
        for view in client.check_network(pool):
            if view.agents:
                agents = view.agents
                bar.at(0, view.total)
            probes += view.probes
            bar.at(len(probes))
    if not probes and not any(agent.overlaid for agent in agents):
        note(
            "nothing is planned between these agents: a plan connects agents of one pool"
            if len(agents) > 1
            else f"{len(agents) or 'no'} agent: there is nobody to try; quorate token create lets more join"
        )
    if overlaid := [agent.agent for agent in agents if agent.overlaid]:
        note(
            f"VXLAN is not tried from and to {', '.join(overlaid[:_NAMED])}{', …' if len(overlaid) > _NAMED else ''}: "
            "members there are in private networks now, and beside these no other program may speak it"
        )
    return reach_of(agents, probes, platform)
