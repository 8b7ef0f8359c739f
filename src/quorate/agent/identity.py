"""Who an agent is, as it says in its Hello."""

from dataclasses import dataclass, field

from quorate.model.messages import PROTOCOL, Feature, Hello, MemberStatus, Seen, SlotInfo


@dataclass(frozen=True)
class Identity:
    """What an agent says of itself in its Hello; constant for the life of its process."""

    agent: str
    version: str
    boot: str
    host: str
    address: str
    slots: tuple[SlotInfo, ...]
    instance: str
    labels: dict[str, str] = field(default_factory=dict)
    lease_ports: tuple[int, int] | None = None
    #: What it can do for members, as in Hello.
    features: tuple[str, ...] = ()
    #: MTU in bytes of the device with `address`; 0 where it is not known.
    mtu: int = 0
    #: All of its machine's, as in Hello.
    addresses: tuple[str, ...] = ()

    def hello(self, seen: Seen | None, members: tuple[MemberStatus, ...]) -> Hello:
        """What an agent says first on a link."""
        return Hello(
            protocol=PROTOCOL,
            version=self.version,
            agent=self.agent,
            boot=self.boot,
            host=self.host,
            address=self.address,
            slots=self.slots,
            instance=self.instance,
            labels=self.labels,
            seen=seen,
            members=members,
            lease_ports=self.lease_ports,
            features=(Feature.ROLES, *self.features),
            mtu=self.mtu,
            addresses=self.addresses,
        )
