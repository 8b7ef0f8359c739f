"""What must hold after every step, checked where it can break: at each start of a process and at each commit."""

from collections import Counter
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from quorate.master.core import Batch
from quorate.master.records import AllocationRecord, JobRecord, MemberRecord, Put
from quorate.master.state import State
from quorate.model.ids import allocation_id, member_id, split_member
from quorate.model.messages import AllocationSpec
from quorate.model.state import JobState, MemberState

if TYPE_CHECKING:
    from .machines import Machine, Process

SLOT_TWICE = "no slot given twice"
PORT_TWICE = "no port given twice"
NETWORK_TWICE = "no network given twice"
NETWORK_KEPT = "a network is held for members that may exist, and for nobody else"
GANG_SPLIT = "no gang split"
STARTED_TWICE = "no member started twice"
RAN_TWICE = "a job without restarts runs once"
TWO_GANGS = "no two gangs of one job alive"
JOB_LOST = "no accepted job lost"
FINAL_CHANGED = "a final job never changes"
COMPLETED_FALSELY = "a completed job's members all exited with 0"
NOT_COMMITTED = "nothing is started that is not committed"
CANCEL_IGNORED = "a cancelled job is not placed again"
NOT_SETTLED = "everything settles after healing"
DESIRED_WRONG = "the state agrees with itself"


def _share_a_network(one: AllocationSpec, other: AllocationSpec) -> bool:
    if one.network is None or other.network is None:
        return False
    overlap = IPv4Network(one.network.subnet).overlaps(IPv4Network(other.network.subnet))
    return one.network.vni == other.network.vni or overlap


class Broken(AssertionError):
    """An invariant does not hold; `name` is which."""

    def __init__(self, name: str, evidence: str) -> None:
        super().__init__(f"{name}: {evidence}")
        self.name = name


class Invariants:
    """The memory that it takes to judge one history."""

    def __init__(self) -> None:
        self.machines: list[Machine] = []
        self._started: dict[str, str] = {}
        #: The newest allocation of each job of which a command has begun.
        self.ran: dict[str, str] = {}
        #: Exit codes of processes that wrote one down, by member.
        self._exits: dict[str, int | None] = {}
        #: Jobs whose acceptance (cancellation) somebody was told of.
        self.accepted: set[str] = set()
        self.cancelled: set[str] = set()
        self.final: dict[str, JobState] = {}
        #: Allocations that a commit has made durable.
        self.committed: dict[str, AllocationRecord] = {}
        self._forgotten: set[str] = set()

    # --- the machines ----------------------------------------------------------------------------------------------

    def started(self, machine: "Machine", process: "Process") -> None:
        """A process of a member was started."""
        member, spec = process.member, process.spec
        if member in self._started:
            raise Broken(STARTED_TWICE, f"{member} on {machine.name}, before on {self._started[member]}")
        self._started[member] = machine.name
        ran = self.ran.get(spec.job, spec.allocation)
        if spec.stop_after_s is None and ran != spec.allocation:
            raise Broken(RAN_TWICE, f"{member} starts on {machine.name} after {ran} ran")
        if spec.allocation not in self.committed:
            raise Broken(NOT_COMMITTED, f"{member} on {machine.name}")
        planned = spec.members[split_member(member)[1]]  # type: ignore[arg-type]
        for other in machine.processes.values():
            if other is process or not other.alive:
                continue
            theirs = other.spec.members[split_member(other.member)[1]]  # type: ignore[arg-type]
            if shared := set(planned.slots) & set(theirs.slots):
                raise Broken(SLOT_TWICE, f"slots {shared} of {machine.name}: {member} and {other.member}")
        for elsewhere in self.machines:
            for other in elsewhere.processes.values():
                if other is process or not other.alive:
                    continue
                theirs = other.spec.members[split_member(other.member)[1]]  # type: ignore[arg-type]
                same_host = machine.host == elsewhere.host and spec.network is None and other.spec.network is None
                if same_host and (ports := set(planned.ports.values()) & set(theirs.ports.values())):
                    raise Broken(PORT_TWICE, f"ports {ports} of {machine.host}: {member} and {other.member}")
                if other.spec.allocation != spec.allocation and _share_a_network(spec, other.spec):
                    raise Broken(NETWORK_TWICE, f"{spec.network}: {member}, {other.member} on {elsewhere.name}")
                if other.spec.job == spec.job and other.spec.allocation != spec.allocation and not elsewhere.excused:
                    raise Broken(
                        TWO_GANGS, f"{member} starts on {machine.name}, {other.member} lives on {elsewhere.name}"
                    )

    def runs(self, process: "Process") -> None:
        """A member's command has begun."""
        self.ran[process.spec.job] = process.spec.allocation

    def ended(self, process: "Process") -> None:
        """A process ended and its shim wrote down how."""
        self._exits[process.member] = process.exit.code if process.exit else None

    # --- the master ------------------------------------------------------------------------------------------------

    def committed_batch(self, batch: Batch) -> None:
        """A batch is durable from now on."""
        members = {c.record.id for c in batch.changes if isinstance(c, Put) and isinstance(c.record, MemberRecord)}
        for change in batch.changes:
            if not isinstance(change, Put):
                if change.kind is JobRecord:
                    self._forgotten.add(change.key)
                continue
            match change.record:
                case AllocationRecord() as allocation if allocation.id not in self.committed:
                    self._whole(allocation, members)
                    self.committed[allocation.id] = allocation
                case JobRecord() as job:
                    self._job(job)
                case _:
                    pass

    def _whole(self, allocation: AllocationRecord, members: set[str]) -> None:
        missing = [m.rank for m in allocation.members if member_id(allocation.id, m.rank) not in members]
        if missing or [m.rank for m in allocation.members] != list(range(len(allocation.members))):
            raise Broken(GANG_SPLIT, f"{allocation.id} was committed without ranks {missing}")
        if allocation.job in self.cancelled:
            raise Broken(CANCEL_IGNORED, f"{allocation.id}")

    def _job(self, job: JobRecord) -> None:
        known = self.final.get(job.id)
        if known is not None and known is not job.state:
            raise Broken(FINAL_CHANGED, f"{job.id} was {known} and is {job.state}")
        if job.state.final:
            self.final[job.id] = job.state
        if job.state is JobState.COMPLETED and known is None:
            allocation = self.committed[allocation_id(job.id, job.attempt)]
            codes = [self._exits.get(member_id(allocation.id, m.rank)) for m in allocation.members]
            if any(code != 0 for code in codes):
                raise Broken(COMPLETED_FALSELY, f"{job.id}: its members' exit codes were {codes}")

    def opened(self, state: State) -> None:
        """A master has read its store back."""
        lost = [job for job in self.accepted if job not in state.jobs and job not in self._forgotten]
        if lost:
            raise Broken(JOB_LOST, ", ".join(lost))
        self.consistent(state)

    def placed_whole(self, state: State) -> None:
        """Every gang has the size that its job asked for."""
        for allocation in state.allocations.values():
            needs = state.specs[allocation.job].spec.resources
            least = needs.nodes if needs.min_nodes is None else needs.min_nodes
            if not least <= len(allocation.members) <= needs.nodes:
                raise Broken(GANG_SPLIT, f"{allocation.id} has {len(allocation.members)} members")

    def consistent(self, state: State) -> None:
        """The indexes say what the records say."""
        self.placed_whole(state)
        held: dict[tuple[str, int], str] = {}
        for member in state.members.values():
            for slot in () if member.released else member.slots:
                if (member.agent, slot) in held:
                    raise Broken(SLOT_TWICE, f"slot {slot} of {member.agent}: {member.id}, {held[member.agent, slot]}")
                held[member.agent, slot] = member.id
        used = {(agent, slot): m for agent, slots in state.slots_used.items() for slot, m in slots.items()}
        if used != held:
            raise Broken(DESIRED_WRONG, f"slots used {used}, records say {held}")
        holders = {member.allocation for member in state.members.values() if not member.released}
        networks = {key: found for key in holders if (found := state.allocations[key].network) is not None}
        vnis = {network.vni: key for key, network in networks.items()}
        addresses = sum(2 ** (32 - int(network.subnet.partition("/")[2])) for network in networks.values())
        if vnis != state.networks.vnis or len(vnis) != len(networks) or addresses != len(state.networks.subnets):
            raise Broken(NETWORK_KEPT, f"{state.networks.vnis} and {len(state.networks.subnets)}, records say {vnis}")
        pending = {job.id for job in state.jobs.values() if job.state is JobState.PENDING}
        if pending != state.queue.keys():
            raise Broken(DESIRED_WRONG, f"queue {state.queue.keys()}, records say {pending}")
        tallies: dict[str, Counter[MemberState]] = {}
        for member in state.members.values():
            tallies.setdefault(member.allocation, Counter())[member.state] += 1
        if tallies != state.tallies:
            raise Broken(DESIRED_WRONG, f"tallies {state.tallies}, records say {tallies}")
