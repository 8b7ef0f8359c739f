"""Names and addresses of everything that a hub or a sandbox consists of: derived, never drawn, so it is found again."""

import base64
import hashlib
from typing import Final

from quorate.model.ids import ALLOCATION_ID, MEMBER_ID

#: Namespaces are files in the state folder, named by kind and id. The rules in one are called as it is.
HUB: Final = "hub-"
SANDBOX: Final = "sandbox-"
#: What the machine's own rules are called.
HOST: Final = "host"

#: Inside a hub, which is one allocation's alone.
BRIDGE: Final = "br0"
VXLAN: Final = "vx0"
UPLINK: Final = "up0"
#: Inside a sandbox.
LINK: Final = "eth0"

#: The host's ends of uplinks begin so, and nothing else does.
UPLINK_PREFIX: Final = "quorate"

#: In a hub, the set of addresses that its allocation's resolver has let in.
RESOLVED: Final = "resolved"
#: In a hub, the set of its members' ports, each with the MAC and the address that may speak from it.
LOCAL: Final = "local"
#: Sets of what was refused: in a sandbox by its plan, on the host of each allocation there (`on_host`); in a hub what
#: members never reach, and what egress does not name.
REFUSED_IN: Final = "refused_in"
REFUSED_OUT: Final = "refused_out"
FORBIDDEN: Final = "refused_forbidden"
UNNAMED: Final = "refused_unnamed"
#: Comments of rules that count: forged packets, connections to the outside that are too many, questions for names that
#: come too fast.
SPOOFED: Final = "spoofed"
CROWDED: Final = "crowded"
HASTY: Final = "hasty"

#: The table in each hub, in each sandbox and on the host.
TABLE: Final = "quorate"


def port(rank: int) -> str:
    """The hub's end of a member's link."""
    return f"p{rank}"


def uplink(allocation: str) -> str:
    """The host's end of an allocation's uplink: 15 characters, the most that a link's name may have."""
    digest = hashlib.blake2b(allocation.encode(), digest_size=5).digest()
    return UPLINK_PREFIX + base64.b32encode(digest).decode().lower()


def mac(allocation: str, rank: int) -> str:
    """A member's MAC, locally administered; unique in its allocation, which is as far as it is ever seen."""
    return _mac(allocation, rank)


def gateway_mac(allocation: str) -> str:
    """The MAC of the hub itself, the same on every agent."""
    return _mac(allocation, 0xFFFF)


def _mac(allocation: str, number: int) -> str:
    digest = hashlib.blake2b(allocation.encode(), digest_size=3).digest()
    return bytes([0x02, *digest, *number.to_bytes(2, "big")]).hex(":")


def on_host(which: str, family: str, allocation: str) -> str:
    """On the host, where others are refused too: the set `which` of an allocation, of `ip` or `ip6`."""
    return f"{which}_{family}_{allocation}"


def are_rules(name: str) -> bool:
    """Whether a set of rules is called so: the host's, a hub's or a sandbox's."""
    for prefix, identifier in ((HUB, ALLOCATION_ID), (SANDBOX, MEMBER_ID)):
        if name.startswith(prefix):
            return identifier.fullmatch(name.removeprefix(prefix)) is not None
    return name == HOST


def mark(name: str, digest: str) -> str:
    """The alias of the link that is marked last: what it belongs to, and what was asked for when it was complete."""
    return f"{UPLINK_PREFIX} {name} {digest}"


def marked(alias: str | None) -> str | None:
    """The digest in such an alias; None for any other."""
    words = (alias or "").split()
    return words[2] if len(words) == 3 and words[0] == UPLINK_PREFIX else None
