"""What the API shows: the nouns as users see them, shared by master, client and CLI."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from quorate.model.duration import Duration
from quorate.model.job import JobSpec
from quorate.model.state import AgentState, JobState, MemberState


class _View(BaseModel):
    # Newer masters may add fields: a client must not break on them.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class MemberView(_View):
    """One member of a job's newest allocation."""

    id: str
    name: str
    role: str
    index: int
    rank: int
    agent: str
    address: str
    #: The agent's own address, where `address` is one of a private network.
    underlay: str = ""
    slots: tuple[int, ...] = ()
    ports: dict[str, int] = Field(default_factory=dict)
    state: MemberState
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    #: Its last lines of output, once it has ended; at most 2 KiB.
    tail: str = ""


class NetworkView(_View):
    """The private network of an allocation."""

    #: `bridge`, or `overlay`.
    mode: str
    #: Why it is this one, in words for people.
    because: str = ""
    vni: int
    subnet: str
    gateway: str
    mtu: int
    #: `open` or `planned`.
    members: str
    #: `enforce`, `observe` or `off`.
    enforcement: str
    #: `all`, `none` or `named`.
    egress: str


class JobView(_View):
    """A job: its spec (secrets by name only), its state, and why."""

    id: str
    owner: str
    spec: JobSpec
    #: False for those who are neither its owner nor operators: of the spec they see what it asks for, not what it runs.
    whole: bool = True
    secrets: tuple[str, ...] = ()
    state: JobState
    #: One sentence: what it waits for, or how it ended. The first failure, never its echo.
    reason: str = ""
    exit_code: int | None = None
    attempt: int = 0
    restarts_left: int = 0
    submitted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: Seconds, by the master's clock that never jumps: in the queue, from placement to all running, running.
    waited: Duration | None = None
    starting: Duration | None = None
    ran: Duration | None = None
    members: tuple[MemberView, ...] = ()
    #: That of its newest allocation; none where members share their hosts' network.
    network: NetworkView | None = None


class AttemptView(_View):
    """One allocation of a job, present or past."""

    id: str
    attempt: int
    outcome: str = ""
    reason: str = ""
    placed_at: datetime
    ended_at: datetime | None = None
    members: tuple[MemberView, ...] = ()


class HistoryEntry(_View):
    """One thing that happened to a job."""

    at: datetime
    what: str


class JobDetail(JobView):
    """A job with all that happened to it."""

    attempts: tuple[AttemptView, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    #: The newest diagnosis that was made of it, in a sentence; `GET /jobs/{id}/diagnosis` has the whole.
    diagnosis: str = ""


class SlotView(_View):
    """One slot and who holds it."""

    index: int
    kind: str
    device: str = ""
    brand: str = ""
    held_by: str | None = None


class FindingView(_View):
    """A finding as the API shows it."""

    code: str
    severity: str
    title: str
    evidence: str = ""
    remedy: str = ""


class AgentView(_View):
    """One agent."""

    id: str
    pool: str
    state: AgentState
    address: str
    host: str
    version: str
    labels: dict[str, str] = Field(default_factory=dict)
    #: What it can do for members: `sandbox`, `images`, `roles`.
    features: tuple[str, ...] = ()
    #: In bytes, of the device with its address; 0 where it is not known.
    mtu: int = 0
    slots: tuple[SlotView, ...] = ()
    free: int = 0
    members: tuple[str, ...] = ()
    #: Seconds since the last heartbeat; none before the first.
    silent: float | None = None
    findings: tuple[FindingView, ...] = ()


class PoolView(_View):
    """One pool."""

    name: str
    agents: int
    ready: int
    slots: int
    free: int
    queued: int
    running: int


class PlanView(_View):
    """What `run --plan` prints: what would happen if the job were submitted now."""

    fits_now: bool
    waits_for: str = ""
    members: tuple[MemberView, ...] = ()
    network: NetworkView | None = None
    #: How members would be joined and why, in words for people.
    joined: str = ""
    #: Per rank: the job's own variables and those that the platform adds, and the derived command.
    environment: tuple[dict[str, str], ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()


class LogLine(_View):
    """A line of a member's output, or a part of one; text and end of all parts of a stream, joined, are the stream."""

    member: str
    rank: int
    incarnation: int = 1
    stream: str = Field(description="stdout or stderr")
    time: datetime
    #: `\r` inside is kept, so that a progress bar arrives as it was drawn.
    text: str
    #: A newline, or empty where the next part of this stream goes on with the line.
    end: str = "\n"
    #: Where the next line of this member begins: give it back as a cursor.
    offset: int
    missing: int = Field(
        default=0,
        description="No line, but the last word on a log whose last so many bytes are not at the master: they have "
        "not come from the agent, or were removed.",
    )


class MasterView(_View):
    """The master: what it is and how it is."""

    version: str
    cluster: str
    epoch: int
    generation: int
    protocol: int
    agents: int
    #: SHA-256 (hex) of its authority's certificate; empty where the system's authorities vouch for it, or without TLS.
    fingerprint: str = ""
    findings: tuple[FindingView, ...] = ()


class CheckedAgentView(_View):
    """An agent in a check of the network, and how it is connected."""

    agent: str
    pool: str
    address: str = ""
    #: Of the device with the address.
    device: str = ""
    mtu: int = 0
    network: str = ""
    #: The master's address as the agent dials it, whether it lies in a network of its machine, seconds there and back.
    master: str = ""
    master_near: bool = True
    master_rtt: float | None = None
    #: What it could not listen on, and why.
    closed: str = ""
    #: Members are in private networks there, beside which VXLAN cannot be tried.
    overlaid: bool = False
    #: Why it takes no part; nothing else is known then.
    missing: str = ""


class ProbeView(_View):
    """One flow tried from one agent to another."""

    source: str
    destination: str
    flow: str = Field(description="Of the catalogue: vxlan or leased.")
    transport: str
    port: int
    #: Bytes of the packet where it was not to be fragmented.
    packet_bytes: int = 0
    outcome: str = Field(description="open, refused, filtered, unroutable, wrong host or undetermined.")
    evidence: str = ""
    #: Seconds to the first answer.
    rtt: float | None = None


class NetCheckView(_View):
    """A line of a check between agents: first all agents, then the probes of one after the other."""

    #: Probes in all, in the first line.
    total: int = 0
    agents: tuple[CheckedAgentView, ...] = ()
    probes: tuple[ProbeView, ...] = ()


class FlowCountView(_View):
    """A planned flow as one member saw it; the packets that opened a connection."""

    member: str
    flow: str
    direction: str = Field(description="ingress or egress")
    packets: int
    bytes: int


class RefusalView(_View):
    """What rules refused a member, or would have in observe mode."""

    member: str = Field(description="Its name; `main1 or sub1` where several of a machine share a user.")
    direction: str = Field(description="ingress or egress")
    #: An address, and the member that has it.
    peer: str
    peer_name: str = ""
    transport: str
    port: int
    packets: int
    by: str = Field(
        default="plan",
        description="plan: no flow between members is like that; forbidden: no member reaches it; "
        "egress: none of the hosts that the job names.",
    )


class JobNetworkView(_View):
    """What passed in the network of a job's newest allocation, and what was refused."""

    job: str
    attempt: int
    #: `bridge`, `overlay` or `host`.
    mode: str
    subnet: str = ""
    enforcement: str = ""
    #: Why there is nothing to show, in one sentence.
    nothing: str = ""
    #: Why `flows` says nothing, in one sentence.
    uncounted: str = ""
    flows: tuple[FlowCountView, ...] = ()
    refused: tuple[RefusalView, ...] = ()
    #: Members of whom so much was refused that no more is listed.
    unlisted: tuple[str, ...] = ()
    #: Packets that bore an address which is no member's.
    spoofed: int = 0
    #: Packets that would have opened more connections to the outside than members on one agent may have together.
    crowded: int = 0
    #: Questions for names that were dropped, since members on one agent asked too fast.
    hasty: int = 0
    #: Agents that could not be asked, each with why.
    missing: tuple[str, ...] = ()


class SocketView(_View):
    """A socket of a member, and what the plan says of it."""

    transport: str
    state: str
    local: str
    local_port: int
    remote: str = ""
    remote_port: int = 0
    unsent: int = 0
    unread: int = 0
    retransmits: int = 0
    pid: int = 0
    flow: str = Field("", description="The planned flow; empty for what is not in the plan.")
    peer: str = Field("", description="The member at the other end.")


class ProcessView(_View):
    """A process of a member; neither its arguments nor its environment are told."""

    pid: int
    name: str
    state: str
    cpu: float
    waits_in: str = ""
    rank: int | None = None
    stack: tuple[str, ...] = Field((), description="Frames of the main thread, the innermost first.")
    at: str = Field("", description="The innermost frame that is in no library.")


class CollectiveView(_View):
    """The newest collective of a rank in a process group, by PyTorch's flight recorder."""

    rank: int
    group: str
    sequence: int
    operation: str
    state: str


class MemberDiagnosisView(_View):
    """A member as its agent saw it from outside."""

    name: str
    rank: int
    agent: str
    address: str
    missing: str = Field("", description="Why nothing is known of it.")
    device: str = ""
    mtu: int = 0
    devices_set: dict[str, str] = Field(default_factory=dict)
    quiet: float | None = Field(None, description="Seconds since its last output.")
    processes: tuple[ProcessView, ...] = ()
    sockets: tuple[SocketView, ...] = ()
    collectives: tuple[CollectiveView, ...] = ()
    notes: tuple[str, ...] = ()


class TriedView(_View):
    """A connection that was tried from where one member is to a listener of another."""

    source: str
    destination: str
    port: int
    flow: str = ""
    outcome: str
    evidence: str = ""
    rtt: float | None = None


class DiagnosisView(_View):
    """Why a job hangs, as far as it could be seen, and all that was seen."""

    job: str
    attempt: int
    at: datetime
    automatic: bool = Field(False, description="Nobody asked: all members had stopped making progress.")
    cause: str
    findings: tuple[FindingView, ...] = ()
    members: tuple[MemberDiagnosisView, ...] = ()
    tried: tuple[TriedView, ...] = ()


class Page(_View):
    """A page of a listing; `next` is the cursor of the following one."""

    next: str | None = None


class JobPage(Page):
    """Jobs, newest first."""

    items: tuple[JobView, ...]


class AgentPage(Page):
    """Agents by name."""

    items: tuple[AgentView, ...]


class PoolPage(Page):
    """Pools by name."""

    items: tuple[PoolView, ...]


class TokenView(_View):
    """A token without its secret: `kind` is join (for agents of `pool`) or user (for `user`)."""

    id: str
    kind: str
    pool: str = ""
    user: str = ""
    operator: bool = False
    created_at: datetime
    expires_at: datetime | None = None
    uses_left: int | None = None
    description: str = ""


class TokenCreatedView(TokenView):
    """A token that was just made, with the text that is shown once."""

    token: str


class TokenPage(Page):
    """Tokens by id."""

    items: tuple[TokenView, ...]


class StopView(_View):
    """The master stops. With a planned stop: agents that will bear its silence, and those that could not be told."""

    told: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
