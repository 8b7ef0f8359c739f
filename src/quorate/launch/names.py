"""Names and addresses before anything is started: nobody is told to look for a member at its own machine.

A name that resolves to loopback makes frameworks connect to themselves and hang: the third most frequent pain.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import queue
import socket
import threading
from typing import Callable, List, Sequence

from quorate.launch.config import Configuration, Member, Network

#: A resolver that takes longer has not found the name in the hosts file, and asks a DNS that does not answer.
LIMIT_S = 3.0
#: As many names as are looked up.
_MOST = 256
_MEND = "; mend: leave /etc/hosts as it is given, and `files` first in the line `hosts` of /etc/nsswitch.conf"

#: name to addresses; raises OSError where it has none.
Resolver = Callable[[str], Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something wrong with a name or an address."""

    code: str
    sentence: str
    #: Whether the members could not find each other.
    fatal: bool


def resolve(name: str) -> Sequence[str]:
    """What the system's resolver says; may take as long as its DNS does.

    Asked in bytes: a text would have Python load its codec for names, which the member's user may not be able to read.
    """
    return sorted({str(answer[4][0]).split("%")[0] for answer in socket.getaddrinfo(name.encode("ascii"), None)})


def of_addresses(configuration: Configuration) -> List[Finding]:
    """Planned addresses that other members cannot reach, found without asking anybody."""
    loopback = [member for member in configuration.members if is_loopback(member.address)]
    if not loopback or len(loopback) == configuration.size:
        return []
    other = next(member for member in configuration.members if not is_loopback(member.address))
    return [
        Finding(
            "NAME-LOOPBACK",
            f"{member.described()} is known by a loopback address, at which {other.described()} finds itself; "
            f"start its agent with --advertise-address",
            fatal=True,
        )
        for member in loopback
    ]


def in_time(configuration: Configuration, resolver: Resolver = resolve, limit_s: float = LIMIT_S) -> List[Finding]:
    """What `of_members` finds; that the resolver hangs is found, too."""
    if configuration.network is Network.HOST:
        return []
    asked: List[str] = []
    answers: "queue.Queue[List[Finding] | Exception]" = queue.Queue()

    def noting(name: str) -> Sequence[str]:
        asked.append(name)
        return resolver(name)

    def look() -> None:
        try:
            answers.put(of_members(configuration, noting))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=look, daemon=True).start()
    try:
        answer = answers.get(timeout=limit_s)
    except queue.Empty:
        sentence = f"{asked[-1] if asked else 'the first name'} is looked up for longer than {limit_s:g} s{_MEND}"
        return [Finding("NAME-UNRESOLVED", sentence, fatal=True)]
    if isinstance(answer, Exception):
        raise answer
    return answer


def of_members(configuration: Configuration, resolver: Resolver = resolve) -> List[Finding]:
    """Where names are part of the network: each member's name must mean its planned address, and only that."""
    if configuration.network is Network.HOST:
        return []
    findings = []
    for member in _looked_up(configuration):
        try:
            answers = resolver(member.name)
        except OSError as error:
            sentence = f"{member.name} does not resolve at {configuration.own.described()}: {error}{_MEND}"
            findings.append(Finding("NAME-UNRESOLVED", sentence, fatal=True))
            continue
        wrong = [answer for answer in answers if _canonical(answer) != _canonical(member.address)]
        where = f" at {configuration.own.described()}"
        if any(is_loopback(answer) for answer in wrong):
            sentence = f"{member.name} resolves to {', '.join(wrong)} instead of {member.address}{where}{_MEND}"
            findings.append(Finding("NAME-LOOPBACK", sentence, fatal=True))
        elif wrong:
            sentence = (
                f"{member.name} resolves to {', '.join(answers)}, but is planned at {member.address}{where}{_MEND}"
            )
            findings.append(Finding("NAME-DIFFERS", sentence, fatal=True))
    return findings


def _looked_up(configuration: Configuration) -> Sequence[Member]:
    """All members, or of very many some: each look-up reads the hosts file, which is as long as there are members."""
    step = -(-configuration.size // _MOST)
    if step == 1:
        return configuration.members
    always = (configuration.own, configuration.first)
    return (*always, *configuration.members[configuration.rank % step :: step])


def of_host(configuration: Configuration, hostname: str, resolver: Resolver = resolve) -> List[Finding]:
    """On the hosts' network: what a framework gets that asks for the own machine's name. Debian's default is loopback.

    Worth a notice only, because members get addresses, and Gloo and NCCL are told their device.
    """
    if configuration.network is not Network.HOST or is_loopback(configuration.own.address):
        return []
    try:
        answers = resolver(hostname)
    except OSError as error:
        return [Finding("NAME-UNRESOLVED", f"the host's own name {hostname} does not resolve: {error}", fatal=False)]
    loopback = [answer for answer in answers if is_loopback(answer)]
    if not loopback:
        return []
    sentence = (
        f"the host's own name {hostname} resolves to {', '.join(loopback)}; programs that look it up tell the other "
        f"members an address that is not {configuration.own.address}"
    )
    return [Finding("NAME-LOOPBACK", sentence, fatal=False)]


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _canonical(address: str) -> object:
    return ipaddress.ip_address(address)
