"""The variables that send a member's HTTP through the operator's proxy, and the cluster's own past it; pure."""

from dataclasses import dataclass

from quorate.agent import planning
from quorate.model.messages import AllocationSpec
from quorate.network.noproxy import no_proxy


@dataclass(frozen=True)
class Proxy:
    """What the operator says of the way outside."""

    url: str
    #: What is reached without it, besides the members of an allocation: the master's host, and what the operator adds.
    direct: tuple[str, ...] = ()


def variables(proxy: Proxy, spec: AllocationSpec) -> dict[str, str]:
    """In both cases, since programs differ in which they read."""
    names = [member.name for member in spec.members] if spec.network else []
    underlay = [member.underlay for member in spec.members if member.underlay]
    past = no_proxy(planning.plan_of(spec), names, (*underlay, *proxy.direct))
    given = {"http_proxy": proxy.url, "https_proxy": proxy.url, "no_proxy": past}
    return {**given, **{name.upper(): value for name, value in given.items()}}
