"""Findings: what a check found, under a code that stays the same, with the evidence and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from quorate.model.severity import Severity

#: Seconds: clocks that are further apart confuse logs, tokens that live for seconds, and certificates made just now.
CLOCK_SKEW_S = 5.0
#: On the machine whose clock is wrong.
CLOCK_REMEDY = "timedatectl set-ntp true"


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding: what it is called, how bad it is, and which others make it pointless to report."""

    name: str
    severity: Severity
    title: str
    meaning: str
    #: A finding of one of these codes about the same subject silences this one, for it is the cause.
    depends_on: tuple[str, ...] = ()


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

_CODES = (
    # Probes and preflight, in the order in which they are checked: each failing check silences those below it.
    Code("CLOCK-SKEW", _W, "Clocks differ", "Two machines' clocks differ by more than tokens and certificates bear."),
    Code("NAME-UNRESOLVED", _E, "A name does not resolve", "A member's name has no address on another member."),
    Code("NAME-LOOPBACK", _E, "A name resolves to loopback",
         "A member's name resolves to 127.0.0.0/8 or ::1, so its peers would connect to themselves."),
    Code("NAME-OWN-LOOPBACK", _I, "A host's own name is loopback",
         "Programs that look up their machine's own name tell their peers 127.0.0.1 or ::1."),
    Code("NAME-DIFFERS", _E, "A name resolves differently", "Two members see different addresses for one name."),
    Code("NET-UNROUTABLE", _E, "No route", "The kernel has no route to the address, or a router says so.",
         ("NAME-UNRESOLVED", "NAME-LOOPBACK")),
    Code("NET-FILTERED", _E, "A firewall drops the flow", "Packets vanish: neither an answer nor a refusal comes back.",
         ("NAME-UNRESOLVED", "NAME-LOOPBACK", "NET-UNROUTABLE")),
    Code("NET-REFUSED", _E, "The connection is refused",
         "The path is open, but nothing listens, or a firewall rejects instead of dropping.",
         ("NAME-UNRESOLVED", "NAME-LOOPBACK", "NET-UNROUTABLE")),
    Code("NET-WRONG-HOST", _E, "Another host answers", "Something answers, but not with the nonce of the member meant.",
         ("NAME-LOOPBACK",)),
    Code("NET-MTU", _E, "Large packets vanish",
         "Small packets pass and those as large as the MTU do not, nor does anybody say so: transfers would hang.",
         ("NET-FILTERED", "NET-REFUSED", "NET-UNROUTABLE", "NET-WRONG-HOST")),
    Code("NET-DEVICE", _W, "Peers are reached by another device",
         "The device that has a member's address is not the one by which the kernel reaches the other members."),
    Code("NET-FABRIC-FALLBACK", _W, "RDMA is not used",
         "The pool's fabric is one of RDMA, but the machine has no such device, or NCCL says that it uses TCP."),
    Code("NET-UNDETERMINED", _W, "Could not be determined", "The check had no way to tell; the evidence says why."),
    # A host's ports and limits.
    Code("LIMIT-FILES", _W, "Too few open files are allowed",
         "A member may need more files and connections at once than its limit (`ulimit -n`) allows."),
    Code("LIMIT-CONNECTIONS", _W, "Too few connections can wait",
         "More ranks connect at once than the kernel lets wait (net.core.somaxconn); some would be reset."),
    Code("HOST-UNREACHED", _E, "A host could not take part",
         "SSH did not reach it or was cut off, or it has no Python 3.8; of its network nothing more is known."),
    Code("PORT-TAKEN", _E, "A port is taken", "Another process listens on a port that the plan needs."),
    Code("PORT-COLLISION", _I, "Two flows want the same port", "Defaults of two frameworks overlap."),
    Code("PORT-BUDGET", _E, "The window is too small",
         "A member needs more ports than its window holds; it would fail with EADDRINUSE."),
    Code("PORT-CLAMPED", _W, "A port range was clamped", "Imported text names port 65536, which does not exist."),
    Code("PORT-IN-WINDOW", _W, "A fixed port lies in the window",
         "An outgoing connection may take the port before its listener does."),
    # Plans and audits.
    Code("NET-BLOCKED", _E, "A planned flow is blocked", "The rules do not let a flow of the plan pass."),
    Code("NET-EXPOSED", _E, "A forbidden flow is possible", "The rules let a flow pass that must fail."),
    Code("AGENT-PUBLIC", _E, "Agents are open to strangers",
         "Addresses that the plan does not name, public or private, can reach an agent."),
    Code("NET-UNNEEDED", _W, "An opening that no flow needs", "A rule lets pass what no flow of the plan uses."),
    Code("EGRESS-OPEN", _I, "Everything may go out",
         "No rule denies what leaves a machine, so its cloud lets all of it pass; the plan lists what needs to."),
    Code("RULE-SHADOWED", _W, "A rule has no effect", "Rules before it decide everything that it would match."),
    Code("RULE-REDUNDANT", _I, "A rule adds nothing", "Other rules already allow all that it allows."),
    Code("PLAN-UNRESOLVED", _W, "An end of a flow is unknown",
         "The plan knows no address, tag, group or account for one end; no rule can be written for it."),
    Code("PLAN-WIDE", _W, "A flow is wider than it need be", "A setting or framework makes a flow wider than needed."),
    Code("NET-SPLIT", _W, "Master and agents are in different networks",
         "For performance they belong in one network or VPC."),
    Code("NET-OVERLAP", _E, "Address ranges overlap",
         "Something has addresses in the range out of which members get theirs, where no member reaches it."),
    Code("PLAN-OVERLAP", _I, "Ranges of the plan overlap",
         "Two ranges share addresses, which may be right; rules that go by addresses cannot tell them apart."),
    Code("PLAN-REPEATED", _W, "An address is named twice",
         "A list names an address twice, or one machine is in two pools: one of the two is likely a slip."),
    Code("NO-INTERNET", _W, "No way out",
         "Machines have neither a public address nor NAT, and images come from outside."),
    Code("CLOUD-NEEDS", _I, "The cloud needs something besides rules",
         "Rules alone give no way out, as `where.internet` does, nor hold in another cloud; EFA needs one more."),
    # Between the members of an allocation.
    Code("MEMBERS-MISSING", _E, "Members did not come",
         "Not every member came to the rendezvous before its deadline; the evidence names those who did not.",
         ("NET-FILTERED", "NET-REFUSED", "NET-UNROUTABLE", "NET-WRONG-HOST")),
    Code("WATCH-LOST", _W, "Two members lost each other",
         "Their companions have no connection, so a failure reaches the others through the master only."),
    Code("COMPANION-FAILED", _E, "The companion failed",
         "Quorate's own process beside the member could not do its work; the evidence says why."),
    # Images and containers.
    Code("IMAGE-NOT-FOUND", _E, "There is no such image", "Its registry, or with `pull: never` the machine, has none."),
    Code("IMAGE-PULL-DENIED", _E, "The registry does not give the image away",
         "It wants credentials that the agent does not have, or that are not enough; or there is no such image."),
    Code("IMAGE-PULL-FAILED", _E, "The image did not come",
         "The registry could not be reached, or broke off; behind a proxy the engine's own service must know of it."),
    Code("ENGINE-UNREACHABLE", _E, "The container engine does not answer",
         "Nobody answers at its socket; members with an image can neither start nor be looked at."),
    Code("ENGINE-FAILED", _E, "The container engine refused",
         "Docker or Podman said no; the evidence is its own words."),
    Code("CONTAINER-LOST", _E, "A container was removed", "Somebody else than Quorate removed a member's container."),
    Code("LIMITS-UNENFORCED", _E, "A limit that the job asks for is not kept here",
         "The engine said that it leaves memory, cpus, shm or pids out, because of what this machine's kernel lacks."),
    Code("POLICY-FORBIDS", _E, "The operator does not allow it",
         "`allow` in the agent's agent.yaml does not let a job have this here."),
    Code("MEMORY-EXCEEDED", _E, "Killed for memory", "The member used more memory than its limit."),
    Code("BOOTSTRAP-FAILED", _E, "A bootstrap script failed",
         "The image's or the job's own script failed before the member's command; its last lines say why."),
    Code("SSH-UNAVAILABLE", _W, "Nobody can come in by SSH",
         "The member runs, but its SSH port or socket could not be opened; the evidence says why."),
    # While a job runs.
    Code("COLLECTIVE-MISSED", _E, "A rank did not join a collective",
         "Some ranks wait in a collective operation that others never called, or have not reached."),
    Code("COLLECTIVE-MIXED", _E, "Ranks wait in different collectives",
         "Each waits for the others in an operation that they did not call."),
    Code("MEMBER-ENDED", _E, "A member waits for one that has ended",
         "It has a connection, or asks for one, to a member whose command has ended, and which answers nobody."),
    Code("NET-LOSS", _E, "Packets are sent again and again",
         "A connection was open, and what is sent on it is not acknowledged any more."),
    Code("SANDBOX-FAILED", _E, "A private network could not be made",
         "The agent's helper, or the kernel, refused a step; the evidence says which. The job is placed again."),
    Code("NET-OBSTACLE", _W, "Another program's rules stand in the way",
         "A chain of another program drops what members send outside; no rule of Quorate's can accept what it drops."),
    Code("NET-UNFILTERED", _W, "A member in its host's network is not filtered",
         "No rule keeps it to its job's flows: its agent makes no rules, or it runs as a user that others are, too."),
    Code("NET-DRIFT", _W, "Somebody changed the rules", "Rules that Quorate set are not as it set them."),
    Code("STATE-DAMAGED", _W, "A file of the agent's state is damaged",
         "It was put aside, and the agent takes what was in it for the worst; the remedy says how to go on."),
    Code("STORE-REGRESSED", _E, "The master's store went back in time",
         "Cluster id, epoch or generation differ from what the agent knows; nothing is changed."),
    Code("AGENT-UNHEARD", _E, "A restored store waits for an agent",
         "Only the agent can say what it runs and the store does not know; nothing is placed until it has."),
    Code("AGENT-DUPLICATE", _E, "Two agents have one identity", "Two live links carry one agent's id."),
)  # fmt: skip

#: Every code, in the order in which findings are reported.
CODES = MappingProxyType({code.name: code for code in _CODES})
_ORDER = {name: place for place, name in enumerate(CODES)}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found."""

    code: str
    #: What it is about, such as a flow's id, a rule's name or a port; findings about one subject silence each other.
    subject: str
    evidence: str
    source: str | None = None
    destination: str | None = None
    #: A command or an edit that mends it, exactly as it is to be typed; empty where there is none.
    remedy: str = ""
    #: Where in a file it stands, as `master.yaml:12:5`; empty where it is of no file.
    place: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"{self.code} is not a known code of a finding")

    @property
    def severity(self) -> Severity:
        """How bad it is, by its code."""
        return CODES[self.code].severity

    @property
    def title(self) -> str:
        """A few words for people, by its code."""
        return CODES[self.code].title

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The codes that silence it."""
        return CODES[self.code].depends_on

    def to_dict(self) -> dict[str, Any]:
        """Return the finding for `--json`, with what its code says."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "title": self.title,
            "subject": self.subject,
            "source": self.source,
            "destination": self.destination,
            "evidence": self.evidence,
            "remedy": self.remedy,
            "place": self.place or None,
        }


def settle(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings worth reporting: once each, silenced ones left out, the worst first, in a stable order."""
    unique = list(dict.fromkeys(findings))
    present = {(finding.code, finding.subject) for finding in unique}
    heard = [
        finding for finding in unique if not any((code, finding.subject) in present for code in finding.depends_on)
    ]
    rank = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}
    return tuple(
        sorted(heard, key=lambda found: (rank[found.severity], _ORDER[found.code], found.subject, found.evidence))
    )


def failing(findings: Iterable[Finding]) -> bool:
    """Say whether a command with these findings exits with 1."""
    return any(finding.severity is not Severity.INFO for finding in findings)
