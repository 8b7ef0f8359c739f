"""What the agents of a job's gang must be able to do, so that no job lands where its wishes would be passed over."""

from quorate.master.settings import PoolNetwork
from quorate.model.job import JobSpec
from quorate.model.jobnetwork import NetworkWish
from quorate.model.messages import Feature
from quorate.network.flows import NetworkMode


def needed_features(spec: JobSpec, pool: PoolNetwork) -> frozenset[Feature]:
    """Of each agent."""
    needed = set() if spec.plain else {Feature.ROLES}
    if spec.images:
        needed.add(Feature.IMAGES)
    wished = spec.network.mode in (NetworkWish.BRIDGE, NetworkWish.OVERLAY)
    if wished or spec.network.needs_private or NetworkMode.HOST not in pool.modes:
        needed.add(Feature.SANDBOX)
    return frozenset(needed)
