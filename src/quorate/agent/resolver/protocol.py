"""What an agent and the process of its resolvers say to each other: framed like the helper's requests, either way."""

from typing import Final, TypeVar

import msgspec

#: Admissions under way at once, of all allocations; of each there is one.
ADMITTING: Final = 4


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Serve(_Message, frozen=True, tag="serve"):
    """Answer this allocation's questions: UDP and TCP on its hub's address, two descriptors that come with this."""

    allocation: str
    #: Names of members, in lower case, to their addresses.
    members: dict[str, str]
    #: What may be asked for besides; None for everything.
    hosts: tuple[str, ...] | None
    #: Whom to ask, instead of the machine's own servers.
    servers: tuple[str, ...] = ()


class Drop(_Message, frozen=True, tag="drop"):
    """Nobody asks for this allocation any more; its sockets would keep its hub alive."""

    allocation: str


class Admit(_Message, frozen=True, tag="admit"):
    """Let the allocation's members reach these addresses, each for so many seconds; answered by Admitted."""

    number: int
    allocation: str
    addresses: dict[str, int]


class Admitted(_Message, frozen=True, tag="admitted"):
    """They are reached from now on; or why not."""

    number: int
    error: str = ""


Told = Serve | Drop | Admitted
Message = TypeVar("Message")

told: msgspec.msgpack.Decoder[Told] = msgspec.msgpack.Decoder(Told)
asked: msgspec.msgpack.Decoder[Admit] = msgspec.msgpack.Decoder(Admit)
