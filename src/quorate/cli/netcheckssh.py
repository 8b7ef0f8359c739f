"""`quorate net check --ssh`: hosts try a job's flows among themselves, with no cluster and nothing installed there."""

from __future__ import annotations

import secrets
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address
from time import monotonic
from typing import Any, TypeVar

from quorate.cli.netinput import refuse
from quorate.cli.netssh import Greeting, Host, HostFailed
from quorate.cli.steps import Steps
from quorate.model.ports import PortRange
from quorate.network import catalogue
from quorate.network.findings import CLOCK_REMEDY, CLOCK_SKEW_S, Finding
from quorate.network.flows import NetworkMode, PortKind, Role
from quorate.network.jobplan import JobNetwork, MemberEnd, Openness, plan_job
from quorate.network.plan import PlannedFlow
from quorate.network.reach import Attempt, End, NetCheck, Outcome
from quorate.network.remedies import Platform, opening

#: Seconds after which whatever is silent is filtered; `launch/probe.py` says why.
_TIMEOUT_S = 3.5
#: Flows of Quorate itself, which other people's jobs do not have.
_OURS = frozenset({"rendezvous", "watch", "ssh"})
_MOST_HOSTS = 256


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    #: `[user@]host[=ADDRESS]`, as SSH takes them.
    hosts: tuple[str, ...]
    #: None: only the ports that are named, or torch's where none is.
    launcher: str | None = None
    ports: tuple[PortRange, ...] = ()
    gpu: bool = False
    #: Also what Quorate itself needs between members.
    ours: bool = False
    platform: Platform = Platform.NFTABLES
    ssh: str = "ssh"
    python: str = "python3"

    @property
    def what(self) -> str:
        """The flows, in a word for the verdict."""
        shown = [self.launcher or ("" if self.ports else "torch"), *(f"port {ports}" for ports in self.ports)]
        return " and ".join(word for word in shown if word)


@dataclass(frozen=True, slots=True)
class _Door:
    """Where a host listens, for the flows that share these ports."""

    transport: str
    ports: PortRange
    flows: tuple[PlannedFlow, ...]

    @property
    def names(self) -> str:
        return ", ".join(dict.fromkeys(flow.flow for flow in self.flows))

    def wanted(self, address: str) -> dict[str, Any]:
        where = {"address": address, "transport": self.transport}
        first, last = max(1, self.ports.first), self.ports.last
        return {**where, "port": first} if first == last else {**where, "first": first, "last": last}


@dataclass(slots=True)
class _Taking:
    """A host that takes part."""

    name: str
    host: Host
    greeting: Greeting
    address: str
    doors: tuple[_Door, ...] = ()
    #: The ports of its doors; None where it cannot listen.
    at: list[int | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Clock:
    """A host's clock, in seconds from this machine's."""

    name: str
    ahead_s: float
    uncertain_s: float


_Said = TypeVar("_Said")


def check_hosts(asked: Asked) -> NetCheck:
    """Let the hosts try each other; what is wrong with a host is a finding, and the others go on."""
    named = _named(asked.hosts)
    nonce = secrets.token_hex(16)
    with ExitStack() as stack, Steps() as step, ThreadPoolExecutor(len(named)) as pool:
        findings: list[Finding] = []
        step(f"connecting to {len(named)} hosts")
        taking = _connect(asked, named, stack, pool, findings)
        connected = taking
        _give_addresses(taking, named)
        tried: list[Attempt] = []
        if len(taking) > 1:
            _give_doors(taking, asked)
            step("listening there")
            taking, taken = _all(pool, taking, lambda each: _listen(each, nonce), findings)
            findings += taken
        if len(taking) > 1:
            attempts = sum(len(each.doors) for each in taking) * (len(taking) - 1)
            step(f"trying {attempts} flows, each in both directions")
            listening = taking
            taking, tried = _all(pool, taking, lambda each: _try(each, listening, asked.platform), findings)
            # When somebody went nobody knows, and so not either what an attempt to reach it says.
            staying = {each.name for each in taking}
            tried = [attempt for attempt in tried if attempt.destination in staying]
        ends = tuple(End(each.name, each.address) for each in taking)
        if len(taking) > 1:
            step("comparing clocks and names")
            taking, clocks = _all(pool, taking, _clock, findings)
            findings += _skews(clocks)
            others = taking
            findings += _all(pool, taking, lambda each: _own_name(each, others), findings)[1]
        # Before the matrix is shown, so that nobody waits for goodbyes.
        list(pool.map(lambda each: each.host.close(), connected))
    return NetCheck(ends, tuple(tried), tuple(findings))


def _all(
    pool: ThreadPoolExecutor, taking: Sequence[_Taking], ask: Callable[[_Taking], list[_Said]], findings: list[Finding]
) -> tuple[list[_Taking], list[_Said]]:
    """Who has answered, and what they have said; whoever has gone is a finding instead."""

    def answered(each: _Taking) -> list[_Said] | HostFailed:
        try:
            return ask(each)
        except HostFailed as failed:
            return failed

    stayed: list[_Taking] = []
    said: list[_Said] = []
    for each, answer in zip(taking, pool.map(answered, taking), strict=True):
        if isinstance(answer, HostFailed):
            findings.append(_unreached(each.name, f"{each.name} was reached, and then was not any more", answer))
        else:
            stayed.append(each)
            said += answer
    return stayed, said


def _unreached(name: str, what: str, failed: HostFailed) -> Finding:
    return Finding("HOST-UNREACHED", name, f"{what}: {failed.why}", name, remedy=failed.remedy)


def _named(hosts: Sequence[str]) -> dict[str, str]:
    """Hosts with the addresses that were given for them, or none; refuse what cannot be meant."""
    named: dict[str, str] = {}
    for host in hosts:
        name, _, address = host.partition("=")
        if not name or name.startswith("-") or any(char.isspace() for char in name):
            refuse(f"{host!r} is no host", "quorate net check --ssh hostA hostB")
        if name in named:
            refuse(f"{name} is there twice")
        try:
            named[name] = str(ip_address(address)) if address else ""
        except ValueError:
            refuse(f"{address!r} is no address", f"write {name}=10.0.0.5, or {name} alone")
    if len(named) < 2:
        refuse("a check is between two hosts at least", "quorate net check --ssh hostA hostB")
    if len(named) > _MOST_HOSTS:
        refuse(f"{len(named)} hosts are more than {_MOST_HOSTS}; agents of a cluster can be as many as there are")
    return named


def _connect(
    asked: Asked, named: dict[str, str], stack: ExitStack, pool: ThreadPoolExecutor, findings: list[Finding]
) -> list[_Taking]:
    def greeted(name: str) -> _Taking | Finding:
        try:
            host = Host(name, shlex.split(asked.ssh), asked.python)
            stack.callback(host.close)
            return _Taking(name, host, host.greet(), "")
        except HostFailed as failed:
            return _unreached(name, f"{name} takes no part", failed)

    answers = list(pool.map(greeted, named))
    findings += [answer for answer in answers if isinstance(answer, Finding)]
    return [answer for answer in answers if isinstance(answer, _Taking)]


def _give_addresses(taking: Sequence[_Taking], named: dict[str, str]) -> None:
    for each in taking:
        each.address = named[each.name] or each.greeting.reached_at
    silent = [each.name for each in taking if not each.address]
    if silent:
        refuse(f"SSH does not say at which address it reached {silent[0]}", f"write {silent[0]}=ADDRESS")
    local = [each.name for each in taking if ip_address(each.address).is_loopback]
    if local and len(local) < len(taking):
        refuse(
            f"{local[0]} is reached at loopback, which the others cannot",
            f"write {local[0]}=ADDRESS, with the address that the others know",
        )


def _give_doors(taking: Sequence[_Taking], asked: Asked) -> None:
    launcher = asked.launcher or ("none" if asked.ports else "torch")
    members = tuple(MemberEnd(each.name, rank, ip_address(each.address), each.name) for rank, each in enumerate(taking))
    job = JobNetwork(
        "hosts",
        "train",
        launcher,
        NetworkMode.HOST,
        members,
        catalogue.EPHEMERAL,
        Openness.PLANNED,
        gpu=asked.gpu,
        ssh=False,
        extra=asked.ports,
    )
    flows = [flow for flow in plan_job(job).flows if _is_asked(flow, asked)]
    for each in taking:
        by_ports: dict[tuple[str, PortRange], list[PlannedFlow]] = defaultdict(list)
        for flow in flows:
            if flow.destination.name in (each.name, "members"):
                for ports in _ports(flow, each.greeting):
                    by_ports[flow.transport.value, ports].append(flow)
        each.doors = tuple(_Door(transport, ports, tuple(mine)) for (transport, ports), mine in by_ports.items())


def _is_asked(flow: PlannedFlow, asked: Asked) -> bool:
    if flow.source.role is not Role.MEMBER or flow.flow == "leased":
        return False
    if flow.flow in _OURS:
        return asked.ours
    return flow.flow == "declared" or asked.launcher is not None or not asked.ports


def _ports(flow: PlannedFlow, greeting: Greeting) -> tuple[PortRange, ...]:
    """Where the flow's listeners are: a window is that of the host's own kernel."""
    window = catalogue.flow(flow.flow).ports.kind is PortKind.WINDOW
    return (PortRange(*greeting.ephemeral),) if window else flow.ports


def _listen(each: _Taking, nonce: str) -> list[Finding]:
    address = each.address
    heard = each.host.ask(_order(each, nonce, address))
    if any("none of this machine" in why for why in heard["failed"]):
        # Behind NAT the address by which others know it is none of its own.
        heard = each.host.ask(_order(each, nonce, "::" if ":" in address else "0.0.0.0"))
    each.at = heard["ports"]
    return [
        Finding(
            "PORT-TAKEN",
            f"{door.transport}/{door.ports} of {each.name}",
            f"{each.name} cannot listen on {door.transport}/{door.ports} for {door.names}: {why}",
            each.name,
            remedy=f"ssh {each.name} ss -lpn 'sport = :{door.ports.first}'",
        )
        for door, why in zip(each.doors, heard["failed"], strict=True)
        if why
    ]


def _order(each: _Taking, nonce: str, address: str) -> dict[str, Any]:
    return {"nonce": nonce, "who": each.name, "listen": [door.wanted(address) for door in each.doors]}


def _try(each: _Taking, taking: Sequence[_Taking], platform: Platform) -> list[Attempt]:
    """Everything from one host to all others."""
    before = True
    targets: list[tuple[_Taking, _Door, int, bool]] = []
    for other in taking:
        if other is each:
            before = False
            continue
        # Full-size packets go there and back, so one of two hosts tries them.
        full = not before
        for door, port in zip(other.doors, other.at, strict=True):
            if port is not None:
                targets.append((other, door, port, full and door.transport == "tcp"))
                full = full and door.transport != "tcp"
    order = {
        "probe": [
            {
                "place": {"address": other.address, "port": port, "transport": door.transport},
                "who": other.name,
                "full": full,
            }
            for other, door, port, full in targets
        ],
        "timeout_s": _TIMEOUT_S,
    }
    answers = each.host.ask(order, timeout_s=30.0 + _TIMEOUT_S * len(targets) / 64)["probes"]
    return [
        _attempt(each, other, door, port, answer, platform)
        for (other, door, port, _), answer in zip(targets, answers, strict=True)
    ]


def _attempt(
    source: _Taking, other: _Taking, door: _Door, port: int, answer: dict[str, Any], platform: Platform
) -> Attempt:
    outcome = Outcome(answer["outcome"])
    evidence = str(answer["evidence"])
    if outcome is Outcome.REFUSED:
        evidence = f"connection refused, though {other.name} listens: a firewall rejects it"
    first = door.flows[0]
    v6 = ":" in other.address
    remedy = opening(platform, first.flow, door.transport, door.ports, source.address, other.address, v6=v6)
    if outcome is Outcome.MTU:
        remedy = f"ssh {source.name} tracepath -n {other.address}"
    purpose = " and ".join(dict.fromkeys(flow.purpose for flow in door.flows))
    return Attempt(
        source.name, other.name, door.names, door.transport, port, outcome, evidence, purpose,
        answer["round_trip_s"], remedy,
    )  # fmt: skip


def _clock(each: _Taking) -> list[_Clock]:
    """Read through the connection, which takes half its round trip."""
    began = monotonic()
    theirs = float(each.host.ask({"clock": True})["time"])
    half = (monotonic() - began) / 2
    return [_Clock(each.name, theirs - (began + half), half)]


def _skews(clocks: Sequence[_Clock]) -> Iterable[Finding]:
    """Each clock against the first one's."""
    for clock in clocks[1:]:
        first = clocks[0]
        ahead = clock.ahead_s - first.ahead_s
        if abs(ahead) - clock.uncertain_s - first.uncertain_s > CLOCK_SKEW_S:
            word = "ahead of" if ahead > 0 else "behind"
            evidence = f"the clock of {clock.name} is {abs(ahead):.0f} s {word} that of {first.name}"
            yield Finding(
                "CLOCK-SKEW", clock.name, evidence, clock.name, first.name, f"ssh {clock.name} sudo {CLOCK_REMEDY}"
            )


def _own_name(each: _Taking, taking: Sequence[_Taking]) -> list[Finding]:
    """What a program gets that looks up its machine's own name and tells it to the others."""
    others = [other.address for other in taking if other is not each]
    seen = each.host.ask({"look": others})
    loopback = [address for address in seen["name"] if ip_address(address).is_loopback]
    if not loopback or ip_address(each.address).is_loopback:
        return []
    # The remedy is there to be pasted, and the name is the other host's own word: the kernel lets it be `e;rm -r ~`.
    device = shlex.quote(next((str(device) for device in seen["devices"].values() if device), "DEVICE"))
    return [
        Finding(
            "NAME-OWN-LOOPBACK",
            each.name,
            f"{each.greeting.hostname}, the own name of {each.name}, is {loopback[0]} there; programs that look it up, "
            f"such as Gloo, tell the others an address that is not {each.address}",
            each.name,
            remedy=f"export GLOO_SOCKET_IFNAME={device} NCCL_SOCKET_IFNAME=={device}",
        )
    ]
