"""A machine's private networks as one thing: look, compare, act; read counters back; notice what others changed."""

from collections.abc import Collection
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
    agents_of,
    reconcile,
)
from quorate.agent.sandbox.spec import Desired


@dataclass(frozen=True)
class Network:
    """Needs root, a thread of its own while it works, and the host's namespace as that thread's."""

    place: Place = field(default_factory=Place)

    def converge(self, desired: Desired, distrust: Collection[str] = ()) -> tuple[Action, ...]:
        """Makes everything as desired and removes the rest; returns what had to be done.

        What is named in `distrust`, as `drift` names it, is made anew even where it looks complete. Raises LinkError,
        NftError, NoUplinkLeft or OSError where a step fails; the next call goes on from there.
        """
        with self.place.locked():
            for name in distrust:
                self.place.forget(name)
            actions = tuple(reconcile(desired, self._digests(desired), self._observe()))
            for action in actions:
                self._do(action)
            return actions

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
            recorded = self.place.recorded(build.HOST)
            if recorded is not None and recorded.split()[1] != build.host_fingerprint():
                changed.append(build.HOST)
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
        port = desired.hubs[0].vxlan_port if desired.hubs else 0
        return Digests(
            hubs={hub.allocation: build.hub_digest(hub) for hub in desired.hubs},
            sandboxes={
                sandbox.member: build.sandbox_digest(desired.hub(sandbox.allocation), sandbox)
                for sandbox in desired.sandboxes
            },
            host=build.host_digest(port, agents_of(desired), self.place),
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
        recorded, table = self.place.recorded(build.HOST), nft.tables("inet", names.TABLE)
        # A table that was changed is not the one that was asked for.
        intact = recorded is not None and recorded.split()[1] == nft.fingerprint(table)
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
            case MakeHost(port, agents, forward):
                build.make_host(self.place, port, agents, forward=forward)
            case MakeHub(hub):
                build.make_hub(self.place, hub)
            case MakeSandbox(hub, sandbox):
                build.make_sandbox(self.place, hub, sandbox)
