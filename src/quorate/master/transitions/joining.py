"""The network of a gang: how its members are joined on the agents chosen for them, with a VNI and a subnet."""

from collections.abc import Sequence
from ipaddress import ip_address

from quorate.master.state import State
from quorate.model.job import JobSpec
from quorate.model.jobnetwork import Enforcement
from quorate.model.messages import Feature, NetworkSpec
from quorate.network.flows import NetworkMode
from quorate.network.jobplan import Openness, openness_of
from quorate.network.joining import AgentSide, join
from quorate.network.overlays import Refusal, gateway_of, mtu_of, subnet_for, vni_for

_STRICT = (Enforcement.OFF, Enforcement.OBSERVE, Enforcement.ENFORCE)


def network_for(
    state: State, allocation: str, spec: JobSpec, agents: Sequence[str]
) -> tuple[NetworkSpec | None, str] | Refusal:
    """The network of a gang whose members (in rank order) go to these agents, and why it is this one; changes nothing.

    None is the network of the agents' hosts. `forbidden` is left out: it is filled in when the spec is sent.
    """
    pool = state.settings.network_of(spec.resources.pool)
    records = [state.agents[agent] for agent in dict.fromkeys(agents)]
    sides = [AgentSide(record.id, record.address, Feature.SANDBOX in record.features) for record in records]
    joining = join(spec.network.mode, sides, pool.modes, pool.fabric)
    if isinstance(joining, Refusal):
        return joining
    joined = f"{joining.mode}: {joining.because}"
    if joining.mode is NetworkMode.HOST:
        needs = spec.network.needs_private
        if needs:
            return Refusal(f"network.{needs} needs a private network, but {joining.because}")
        return None, joined
    subnet = subnet_for(len(agents), pool.overlays, state.networks.subnets, state.networks.underlay(state.agents))
    if isinstance(subnet, Refusal):
        return subnet
    vni = vni_for(allocation, *pool.vnis, state.networks.vnis)
    if isinstance(vni, Refusal):
        return vni
    wanted = spec.network
    window = (wanted.window.first, wanted.window.last) if wanted.window else pool.window
    network = NetworkSpec(
        mode=joining.mode.value,
        vni=vni,
        subnet=str(subnet),
        gateway=str(gateway_of(subnet)),
        mtu=mtu_of(
            (record.mtu for record in records),
            ip_address(records[0].address).version,
            encapsulated=joining.mode is NetworkMode.OVERLAY,
        ),
        members=openness(spec).value,
        enforcement=enforcement(state, spec).value,
        egress=wanted.egress.word,
        hosts=wanted.egress.hosts,
        metadata=wanted.egress.metadata,
        window=window,
        vxlan_port=pool.vxlan_port,
    )
    return network, joined


def openness(spec: JobSpec) -> Openness:
    """What its members may do among themselves, by the job's word or by its kind."""
    return Openness(spec.network.members or openness_of(spec.kind.value, spec.launcher.value))


def enforcement(state: State, spec: JobSpec) -> Enforcement:
    """The stricter of what the job and the operator ask for; without either all is enforced."""
    wanted = spec.network.enforcement, state.settings.network_of(spec.resources.pool).enforcement
    asked = [each for each in wanted if each is not None]
    return max(asked, key=_STRICT.index, default=Enforcement.ENFORCE)
