"""Agents' control links: who may come in, what a hello tells, and what each message changes."""

import re

from quorate import __version__
from quorate.master.effects import CloseLink
from quorate.master.events import AgentConnected, AgentDisconnected, AgentHeartbeat, AgentRegressed, AgentReported
from quorate.master.networks import is_address
from quorate.master.records import AgentRecord, LiveRecord
from quorate.master.state import State
from quorate.master.transitions import maintenance, reports, silence
from quorate.master.transitions.draft import Draft
from quorate.model.messages import (
    MOST_ADDRESSES,
    OLDEST_PROTOCOL,
    PROTOCOL,
    HeartbeatAck,
    Hello,
    Refuse,
    ReportAck,
    Seen,
    Welcome,
)
from quorate.model.ports import LAST_PORT
from quorate.model.state import JobState, MemberState

#: How many findings of an agent are kept.
_FINDINGS = 100
# What an agent may say of itself.
_MOST_SLOTS = 1024
_MOST_LABELS = 64
_MOST_FEATURES = 64
_LONGEST_TEXT = 256
#: An IP address or a name; without a zone (RFC 4007, section 11), which means nothing on another machine.
_ADDRESS = re.compile(r"[0-9A-Za-z.:_-]*")
#: That of a loopback device.
_LARGEST_MTU = 65_536


def connect(draft: Draft, event: AgentConnected) -> None:
    """Welcomes the agent with all that it should have, or refuses the link and says why."""
    state, hello = draft.state, event.hello
    record, live = state.agents.get(event.agent), state.live.get(event.agent)
    if live is not None and live.link == event.link:
        return  # A second hello on a link is older than what this link has said and heard since.
    refuse = _refusal(draft, event)
    if refuse is not None or record is None or live is None:
        draft.effects.append(CloseLink(event.link, event.agent, refuse))
        return
    if live.link is not None and live.link != event.link:
        draft.close(record.id, live.link)
    rebooted = record.boot not in ("", hello.boot)
    record = draft.change(
        record,
        version=hello.version[:64],
        boot=hello.boot,
        host=hello.host or hello.boot,
        address=hello.address,
        instance=hello.instance,
        slots=hello.slots,
        labels=hello.labels,
        lease_ports=hello.lease_ports,
        features=hello.features,
        mtu=hello.mtu,
        addresses=hello.addresses,
        lost=False,
    )
    evidence = "" if state.adopted else regression(state, hello.seen)
    draft.change(
        live,
        link=event.link,
        instance=hello.instance,
        heard=draft.now,
        seen=not evidence,
        unreachable=False,
        duplicate_until=0.0,
        regressed=evidence,
        findings=(),
        strays=(),
    )
    state.watch(record.id, draft.now + state.settings.unreachable_s)
    identity = state.identity
    draft.send(
        record.id,
        Welcome(
            protocol=min(PROTOCOL, hello.protocol),
            version=__version__,
            cluster=identity.cluster,
            epoch=identity.epoch,
            mark=identity.mark,
            generation=state.generation,
            history=identity.history,
            heartbeat_s=state.settings.heartbeat_s,
            adopt=state.adopted,
        ),
    )
    if evidence:
        return
    if rebooted:
        _machine_is_new(draft, record)
    maintenance.end_lease(draft, record)
    _compare(draft, record, hello)
    draft.resend(record.id)


def wrong_protocol(protocol: int, version: str) -> Refuse | None:
    """Why a peer of this protocol cannot be spoken with, and what to upgrade; None where it can."""
    if protocol > PROTOCOL:
        return Refuse(
            "PROTOCOL-NEWER",
            f"the agent (Quorate {version}) speaks protocol {protocol}, this master speaks up to {PROTOCOL}: "
            "upgrade the master first, then the agents",
        )
    if protocol < OLDEST_PROTOCOL:
        return Refuse(
            "PROTOCOL-OLDER",
            f"the agent (Quorate {version}) speaks protocol {protocol}, this master speaks {OLDEST_PROTOCOL} "
            f"to {PROTOCOL}: upgrade the agent",
        )
    return None


def _refusal(draft: Draft, event: AgentConnected) -> Refuse | None:
    state, hello, agent = draft.state, event.hello, event.agent
    record, live = state.agents.get(agent), state.live.get(agent)
    if record is None or live is None or hello.agent != agent:
        return Refuse("AGENT-UNKNOWN", f"no agent {hello.agent} has joined this cluster with this key", final=True)
    if record.revoked:
        return Refuse(
            "AGENT-REVOKED",
            f"the key of agent {agent} was revoked, so its members end; to use the machine again, remove its "
            "membership.json and join under another name: quorate token create, then quorate agent --name NAME "
            "--token TOKEN",
            final=True,
        )
    if (refuse := wrong_protocol(hello.protocol, hello.version)) is not None:
        return refuse
    if (wrong := _out_of_bounds(hello)) is not None:
        return Refuse("AGENT-UNFIT", f"agent {agent} {wrong}", final=True)
    other = live.link is not None and live.link != event.link and live.instance != hello.instance
    fresh = other and draft.now - live.heard <= state.settings.link_live_s
    # Two machines with one name: the second must not pass for the first one after a reboot.
    stranger = live.duplicate_until > draft.now and hello.boot != record.boot
    if fresh or stranger:
        if fresh:
            # Only a link that lives beside it proves a second machine: a refused one must not refuse itself for ever.
            until = draft.now + state.settings.duplicate_hold_s
            draft.change(live, duplicate_until=until)
            state.due(until, "duplicate", agent)
        return Refuse(
            "AGENT-DUPLICATE",
            f"agent {agent} is connected from another process or machine; stop one of them, or join under another name",
        )
    return None


def _out_of_bounds(hello: Hello) -> str | None:
    """What in a hello is beyond all that an agent may say of itself."""
    if len(hello.slots) > _MOST_SLOTS:
        return f"has {len(hello.slots)} slots; at most {_MOST_SLOTS} are taken"
    if len({slot.index for slot in hello.slots}) != len(hello.slots):
        return "names a slot twice"
    if len(hello.labels) > _MOST_LABELS:
        return f"has {len(hello.labels)} labels; at most {_MOST_LABELS} are taken"
    if len(hello.features) > _MOST_FEATURES:
        return f"has {len(hello.features)} features; at most {_MOST_FEATURES} are taken"
    if not 0 <= hello.mtu <= _LARGEST_MTU:
        return f"has a device with an MTU of {hello.mtu}; at most {_LARGEST_MTU} are taken"
    if len(hello.addresses) > MOST_ADDRESSES:
        return f"has {len(hello.addresses)} addresses; at most {MOST_ADDRESSES} are taken"
    if (odd := next((text for text in hello.addresses if not is_address(text)), None)) is not None:
        return f"names {odd[:_LONGEST_TEXT]!r} among its addresses, which is none"
    words = (*hello.labels, *hello.labels.values(), *hello.features)
    texts = (hello.boot, hello.host, hello.address, hello.instance, *words)
    if max(map(len, texts)) > _LONGEST_TEXT:
        return f"says more than {_LONGEST_TEXT} characters where a name belongs"
    if not _ADDRESS.fullmatch(hello.address):
        return f"says that it is reached at {hello.address!r}, which is an address nowhere else"
    if hello.lease_ports is not None and not 0 < hello.lease_ports[0] <= hello.lease_ports[1] <= LAST_PORT:
        return f"offers ports {hello.lease_ports[0]} to {hello.lease_ports[1]}, which is no range of ports"
    return None


def _machine_is_new(draft: Draft, record: AgentRecord) -> None:
    """Another boot: whatever ran there before runs no more."""
    silence.lose(draft, list(draft.state.held_by(record.id)), f"agent {record.id} has booted anew", gone=True)


def _compare(draft: Draft, record: AgentRecord, hello: Hello) -> None:
    """What the agent has, against what the store holds of it."""
    state = draft.state
    reports.observe(draft, record.id, hello.members, all_of_them=True)
    named = {status.member for status in hello.members}
    moved: dict[str, list[str]] = {}
    for member in list(state.held_by(record.id)):
        if member.id in named:
            job = draft.job(member.job)
            if job.state is JobState.STOPPING:
                # It could not hear the order to stop until now.
                wait = state.specs[job.id].spec.grace + state.settings.stop_limit_s
                state.due(draft.now + wait, "stopping", member.allocation)
            continue
        # Nothing of it exists. One that was never heard of can still be started, by the desired set on this link.
        if member.state is MemberState.ASSIGNED and not member.stop:
            continue
        if member.state.final:
            reports.release(draft, member)
            continue
        never = member.state is MemberState.ASSIGNED
        reports.release(
            draft,
            member,
            state=MemberState.FAILED,
            reason="stopped before it began" if never else f"agent {record.id} no longer knows it",
            code="" if never else "MEMBER-LOST",
            echo=never,
        )
        moved.setdefault(member.job, []).append(member.id)
    for job_id, members in moved.items():
        reports.conclude(draft, job_id, [draft.member(member) for member in members])


def disconnect(draft: Draft, event: AgentDisconnected) -> None:
    """The agent's timers run from when it was last heard, not from here."""
    live = _of_link(draft, event.agent, event.link)
    if live is not None:
        extra = draft.agent(event.agent).extra_lease_s
        # A longer lease may have reached it just before the link broke.
        planned = max(live.planned_until, draft.now + extra) if extra else live.planned_until
        draft.change(live, link=None, strays=(), planned_until=planned)
        maintenance.check_stop(draft)


def heartbeat(draft: Draft, event: AgentHeartbeat) -> None:
    """Renews the agent's lease from when it sent this."""
    live = _of_link(draft, event.agent, event.link)
    if live is None:
        return
    _heard(draft, live)
    draft.acknowledge(event.agent, HeartbeatAck(event.heartbeat.sequence, event.heartbeat.sent))


def report(draft: Draft, event: AgentReported) -> None:
    """Takes in what changed on the agent, and acknowledges it."""
    live = _of_link(draft, event.agent, event.link)
    if live is None or live.regressed:
        return
    live = _heard(draft, live)
    findings = event.report.findings[:_FINDINGS]
    if findings != live.findings:
        draft.change(live, findings=findings)
    reports.observe(draft, event.agent, event.report.members)
    draft.acknowledge(event.agent, ReportAck(event.report.sequence))


def regress(draft: Draft, event: AgentRegressed) -> None:
    """The agent changes nothing and gets nothing until the operator decides."""
    live = _of_link(draft, event.agent, event.link)
    if live is not None:
        draft.change(live, regressed=event.regressed.evidence[:1024] or "it has seen a later state", heard=draft.now)


def duplicate_over(draft: Draft, agent: str) -> None:
    """Nobody else has claimed the agent's id for a while."""
    live = draft.state.live.get(agent)
    if live is not None and 0.0 < live.duplicate_until <= draft.now:
        draft.change(live, duplicate_until=0.0)


def _heard(draft: Draft, live: LiveRecord) -> LiveRecord:
    back = live.unreachable
    live = draft.change(live, heard=draft.now, unreachable=False)
    record = draft.agent(live.agent)
    if back:
        draft.state.watch(live.agent, draft.now + draft.state.settings.unreachable_s)
        draft.change(record, lost=False)
    return live


def _of_link(draft: Draft, agent: str, link: int) -> LiveRecord | None:
    """What is known of the agent, if this is the link that it was welcomed on."""
    live = draft.state.live.get(agent)
    return live if live is not None and live.link == link else None


def regression(state: State, seen: Seen | None) -> str:
    """Evidence that the agent has seen more than this store holds; empty if it has not."""
    if seen is None:
        return ""
    identity = state.identity
    if seen.cluster != identity.cluster:
        return f"it belongs to cluster {seen.cluster}"
    history = identity.history
    at = next((i for i, e in enumerate(history) if e.mark == seen.mark and e.epoch == seen.epoch), None)
    if at is None:
        return f"it has seen epoch {seen.epoch} ({seen.mark}), in which this store never was"
    end = history[at + 1].first_generation - 1 if at + 1 < len(history) else state.generation
    if seen.generation > end:
        return f"it has seen generation {seen.generation} of epoch {seen.epoch}, which ended here with {end}"
    return ""
