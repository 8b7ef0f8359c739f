"""A machine's private networks as one thing: look, compare, act; read counters back; notice what others changed."""

import socket
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from quorate.agent.sandbox import build, counters, names, namespaces, nft
from quorate.agent.sandbox.foreign import Obstacle, obstacles
from quorate.agent.sandbox.links import opened
from quorate.agent.sandbox.place import Place
from quorate.agent.sandbox.reconcile import (
    Action,
    Digests,
    MakeHost,
    MakeHub,
    MakeSandbox,
    Observed,
    RemoveHost,
    RemoveHub,
    RemoveSandbox,
    RemoveStray,
    reconcile,
)
from quorate.agent.sandbox.rules import hub_rules, sandbox_rules
from quorate.agent.sandbox.spec import Desired, HostSpec, HubSpec, Peer, SandboxSpec
from quorate.network import catalogue

#: What a kernel has to be able to do is tried with these: addresses that are only examples (RFC 5737).
_TRIAL_HUB = HubSpec(
    "trial-1", 1, "192.0.2.0/29", "192.0.2.1", "127.0.0.1",
    (Peer("127.0.0.1", "192.0.2.2"), Peer("198.51.100.1", "192.0.2.3")),
)  # fmt: skip
_TRIAL_SANDBOX = SandboxSpec("trial-1.0.1")


class Incomplete(Exception):
    """Some allocations' networks could not be made or removed: `failures` says why, `done` what was done all the same.

    The key `host` stands for the machine's own part, without which nothing is made.
    """

    def __init__(self, done: tuple[Action, ...], failures: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{whose}: {why}" for whose, why in failures.items()))
        self.done = done
        self.failures = dict(failures)


@dataclass(frozen=True)
class Network:
    """Needs root, a thread of its own while it works, and the host's namespace as that thread's."""

    place: Place = field(default_factory=Place)

    def converge(self, desired: Desired, distrust: Collection[str] = ()) -> tuple[Action, ...]:
        """Makes everything as desired and removes the rest; returns what had to be done.

        What is named in `distrust`, as `drift` names it, is made anew even where it looks complete. Where a step fails,
        the rest of its allocation is left for the next call, and Incomplete is raised at the end. Raises OSError or
        NftError where the machine cannot even be looked at.
        """
        with self.place.locked():
            for name in distrust:
                self.place.forget(name)
            done: list[Action] = []
            failures: dict[str, str] = {}
            for action in reconcile(desired, self._digests(desired), self._observe()):
                whose = allocation_of(action) or names.HOST
                if whose in failures or (names.HOST in failures and isinstance(action, MakeHub | MakeSandbox)):
                    continue
                try:
                    self._do(action)
                    done.append(action)
                except (OSError, nft.NftError, build.NoUplinkLeft) as error:
                    failures[whose] = str(error)
            if failures:
                raise Incomplete(tuple(done), failures)
            return tuple(done)

    def able(self) -> str:
        """Why this machine can have no private networks, empty where it can: tried in a namespace that goes at once."""
        trial = self.place.folder / "trial"
        with self.place.locked():
            try:
                namespaces.make(trial)
                with namespaces.entered(trial), opened() as links:
                    links.make(names.BRIDGE, "bridge")
                    links.make(names.port(0), "veth", peer={"ifname": names.LINK})
                    links.make(names.VXLAN, "vxlan", vxlan_id=1, vxlan_port=catalogue.port("vxlan"), vxlan_df=1)
                    nft.load(hub_rules(_TRIAL_HUB))
                    nft.load(sandbox_rules(_TRIAL_HUB, _TRIAL_SANDBOX))
            except (OSError, nft.NftError) as error:
                return str(error)
            finally:
                namespaces.remove(trial)
        return ""

    def resolver(self, allocation: str, gateway: str) -> tuple[socket.socket, socket.socket]:
        """Where the allocation's members ask for names: UDP and TCP, on the hub's address. Raises OSError."""
        path = self.place.hub(allocation)
        if not namespaces.exists(path):
            raise FileNotFoundError(f"{allocation} has no hub here")
        with namespaces.entered(path), ExitStack() as stack:
            asked = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            asked.bind((gateway, catalogue.port("dns")))
            listener = socket.create_server((gateway, catalogue.port("dns-tcp")))
            stack.pop_all()
            return asked, listener

    def admit(self, allocation: str, addresses: Mapping[str, int]) -> None:
        """Members with egress to named hosts reach these addresses, each for so many seconds from now on.

        Raises NftError.
        """
        where = f"element inet {names.TABLE} {names.RESOLVED}"
        lines = []
        for address, seconds in addresses.items():
            # To add what is there leaves it its old time; so it goes, in the same transaction, and comes anew.
            fresh = f"add {where} {{ {address} timeout {seconds}s }}"
            lines += [fresh, f"delete {where} {{ {address} }}", fresh]
        with namespaces.entered(self.place.hub(allocation)):
            nft.load("\n".join([*lines, ""]))

    def sweep(self) -> tuple[Action, ...]:
        """Removes everything that is ours."""
        return self.converge(Desired())

    def observe(self) -> Observed:
        """Everything on this machine that is ours."""
        with self.place.locked():
            return self._observe()

    def counters(self, allocation: str) -> counters.Counters:
        """What the allocation's members here have sent and received, by flow, and what was refused."""
        with self.place.locked():
            return counters.read(self.place, allocation)

    def drift(self) -> tuple[str, ...]:
        """Which sets of rules are not as they were loaded, for NET-DRIFT: `host`, `hub-…`, `sandbox-…`."""
        with self.place.locked():
            changed = []
            recorded = self.place.recorded(names.HOST)
            if recorded is not None and recorded.split()[-1] != build.host_fingerprint():
                changed.append(names.HOST)
            for path in sorted(self.place.namespaces.iterdir()):
                recorded = self.place.recorded(path.name)
                if recorded is None or not namespaces.exists(path):
                    continue
                with namespaces.entered(path):
                    now = build.hub_fingerprint() if path.name.startswith(names.HUB) else build.sandbox_fingerprint()
                if now != recorded:
                    changed.append(path.name)
            return tuple(changed)

    def obstacles(self) -> tuple[Obstacle, ...]:
        """Other programs' rules that keep members from the outside, each with its remedy."""
        return obstacles()

    def _digests(self, desired: Desired) -> Digests:
        return Digests(
            hubs={hub.allocation: build.hub_digest(hub) for hub in desired.hubs},
            sandboxes={
                sandbox.member: build.sandbox_digest(desired.hub(sandbox.allocation), sandbox)
                for sandbox in desired.sandboxes
            },
            host=build.host_digest(desired.host or HostSpec(), self.place),
        )

    def _observe(self) -> Observed:
        hubs: dict[str, str | None] = {}
        sandboxes: dict[str, str | None] = {}
        for path in sorted(self.place.namespaces.iterdir()):
            for prefix, link, found in ((names.HUB, names.BRIDGE, hubs), (names.SANDBOX, names.LINK, sandboxes)):
                if path.name.startswith(prefix):
                    found[path.name.removeprefix(prefix)] = self._mark(path, link)
        with opened() as links:
            uplinks = {name for name in links.aliases() if name.startswith(names.UPLINK_PREFIX)}
        recorded, table = self.place.recorded(names.HOST), nft.tables("inet", names.TABLE)
        # A table that was changed is not the one that was asked for.
        intact = recorded is not None and recorded.split()[-1] == nft.fingerprint(table)
        return Observed(
            hubs=hubs,
            sandboxes=sandboxes,
            host=recorded.split()[0] if recorded is not None and intact else None,
            host_table=bool(table) or recorded is not None,
            strays=tuple(sorted(uplinks - {names.uplink(allocation) for allocation in hubs})),
        )

    def _mark(self, path: Path, link: str) -> str | None:
        if not namespaces.exists(path) or self.place.recorded(path.name) is None:
            return None
        with namespaces.entered(path), opened() as links:
            return names.marked(links.aliases().get(link))

    def _do(self, action: Action) -> None:
        match action:
            case RemoveSandbox(member):
                build.remove_sandbox(self.place, member)
            case RemoveHub(allocation):
                build.remove_hub(self.place, allocation)
            case RemoveStray(link):
                with opened() as links:
                    links.remove(link)
            case RemoveHost():
                build.remove_host(self.place)
            case MakeHost(host):
                build.make_host(self.place, host)
            case MakeHub(hub):
                build.make_hub(self.place, hub)
            case MakeSandbox(hub, sandbox):
                build.make_sandbox(self.place, hub, sandbox)


def allocation_of(action: Action) -> str:
    """Whose network an action makes or removes; empty for the machine's own part; a stray link stands alone."""
    match action:
        case RemoveSandbox(member):
            return member.partition(".")[0]
        case RemoveHub(allocation):
            return allocation
        case MakeHub(hub) | MakeSandbox(hub, _):
            return hub.allocation
        case RemoveStray(link):
            return link
        case RemoveHost() | MakeHost():
            return ""
