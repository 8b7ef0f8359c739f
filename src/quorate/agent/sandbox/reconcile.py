"""What has to be done so that a machine has the private networks that it should have: a pure comparison."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from quorate.agent.sandbox.spec import Desired, HostSpec, HubSpec, SandboxSpec


@dataclass(frozen=True)
class Observed:
    """What is there, by id, with the digest of what was asked for; None for what was never completed, or is damaged."""

    hubs: Mapping[str, str | None] = field(default_factory=dict)
    sandboxes: Mapping[str, str | None] = field(default_factory=dict)
    #: The digest of the host's rules; None where there are none, or others than were loaded.
    host: str | None = None
    #: Whether the host has a table of ours, or a record of one.
    host_table: bool = False
    #: Host's ends of uplinks that lead to no hub.
    strays: tuple[str, ...] = ()


@dataclass(frozen=True)
class Digests:
    """The digests of what is desired, by id; the host's for its rules."""

    hubs: Mapping[str, str]
    sandboxes: Mapping[str, str]
    host: str


class _Step(msgspec.Struct, frozen=True):
    pass


class RemoveSandbox(_Step, frozen=True, tag="remove-sandbox"):
    """Nobody wants it."""

    member: str


class RemoveHub(_Step, frozen=True, tag="remove-hub"):
    """Nobody wants it."""

    allocation: str


class RemoveStray(_Step, frozen=True, tag="remove-stray"):
    """A link of ours that leads nowhere."""

    link: str


class RemoveHost(_Step, frozen=True, tag="remove-host"):
    """Nothing is left that needs rules on the host."""


class MakeHost(_Step, frozen=True, tag="make-host"):
    """The host's rules are missing, others, or changed by somebody."""

    host: HostSpec


class MakeHub(_Step, frozen=True, tag="make-hub"):
    """It is missing, incomplete or another one."""

    hub: HubSpec


class MakeSandbox(_Step, frozen=True, tag="make-sandbox"):
    """It is missing, incomplete or another one; or its hub is made anew, and its link went with the old one."""

    hub: HubSpec
    sandbox: SandboxSpec


Action = RemoveSandbox | RemoveHub | RemoveStray | RemoveHost | MakeHost | MakeHub | MakeSandbox


def reconcile(desired: Desired, digests: Digests, observed: Observed) -> Iterator[Action]:
    """First what goes, so that its VNI and addresses are free; then the host's rules, hubs, sandboxes."""
    hubs = {hub.allocation: hub for hub in desired.hubs}
    members = {sandbox.member for sandbox in desired.sandboxes}
    for member in sorted(observed.sandboxes.keys() - members):
        yield RemoveSandbox(member)
    for allocation in sorted(observed.hubs.keys() - hubs.keys()):
        yield RemoveHub(allocation)
    for link in observed.strays:
        yield RemoveStray(link)
    host = desired.host
    if host is None:
        if observed.host_table:
            yield RemoveHost()
    elif observed.host != digests.host:
        yield MakeHost(host)
    anew = set()
    for allocation, hub in hubs.items():
        if observed.hubs.get(allocation) != digests.hubs[allocation]:
            anew.add(allocation)
            yield MakeHub(hub)
    for sandbox in desired.sandboxes:
        same = observed.sandboxes.get(sandbox.member) == digests.sandboxes[sandbox.member]
        if not same or sandbox.allocation in anew:
            yield MakeSandbox(hubs[sandbox.allocation], sandbox)
