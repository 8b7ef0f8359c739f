"""What an agent must not forget: its intents, their outcomes, the newest state it acted on, and its lease.

The journal is a file to which records are appended; an intent costs one fdatasync, however many members it names. In
memory for the simulation, where it outlives a simulated crash of the agent.
"""

import logging
import os
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import Final, Protocol

import msgspec

from quorate.agent import begun, leasefile, memberfolder
from quorate.agent.damaged import StateDamaged
from quorate.agent.shim.log import FULL
from quorate.model.messages import AllocationSpec, MemberStatus, Seen

log = logging.getLogger(__name__)


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """Until when silence is not being cut off; seconds of CLOCK_BOOTTIME of the boot that it names.

    `renewed` is when the last acknowledged heartbeat was sent; `planned` the end of an announced maintenance.
    """

    boot: str
    renewed: float
    planned: float = 0.0


class Memory(msgspec.Struct):
    """All that a journal holds: what an agent knows when it starts."""

    intents: dict[str, AllocationSpec] = {}
    outcomes: dict[str, MemberStatus] = {}
    seen: Seen | None = None
    lease: Lease | None = None


class Journal(Protocol):
    """The store of an agent. What `record_intents` and `save_plan` were given is durable when they return."""

    def load(self) -> Memory:
        """What was recorded and not forgotten."""
        ...

    def record_intents(self, members: Sequence[str], specs: Sequence[AllocationSpec]) -> None:
        """These members, each with its allocation's spec, are about to be started. Raises JournalFull."""
        ...

    def record_outcome(self, status: MemberStatus) -> None:
        """The member has ended. Losing this record only loses words: an intent without one is failed."""
        ...

    def save_seen(self, seen: Seen) -> None:
        """Durable with the next intent, so that nothing is started for a state that could be forgotten."""
        ...

    def renew_lease(self, lease: Lease) -> None:
        """Survives the process but not the machine: another boot makes it void anyway. Raises JournalFull."""
        ...

    def save_plan(self, lease: Lease) -> None:
        """A lease with a planned end, durable on return. Raises JournalFull."""
        ...

    def forget(self, members: Iterable[str]) -> None:
        """The cluster wants no record of these any more."""
        ...


class JournalFull(Exception):
    """Nothing could be recorded, and nothing was: the disk is full. The text says which."""


class MemoryJournal:
    """A journal that lives as long as the object."""

    def __init__(self) -> None:
        self._memory = Memory()

    def load(self) -> Memory:
        held = self._memory
        return Memory(dict(held.intents), dict(held.outcomes), held.seen, held.lease)

    def record_intents(self, members: Sequence[str], specs: Sequence[AllocationSpec]) -> None:
        self._memory.intents.update(zip(members, specs, strict=True))

    def record_outcome(self, status: MemberStatus) -> None:
        self._memory.outcomes[status.member] = status

    def save_seen(self, seen: Seen) -> None:
        self._memory.seen = seen

    def renew_lease(self, lease: Lease) -> None:
        self._memory.lease = lease

    def save_plan(self, lease: Lease) -> None:
        self._memory.lease = lease

    def forget(self, members: Iterable[str]) -> None:
        for member in members:
            self._memory.intents.pop(member, None)
            self._memory.outcomes.pop(member, None)


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of the file; a compacted file holds one for each thing that is remembered."""

    #: A spec is written once and named by its allocation's id afterwards.
    spec: AllocationSpec | None = None
    intents: tuple[str, ...] = ()
    outcome: MemberStatus | None = None
    seen: Seen | None = None
    forget: tuple[str, ...] = ()


class JournalError(StateDamaged):
    """The journal cannot be read: its place and what is wrong with it.

    Nobody goes on without it unasked. It alone says which members this agent has started, and an agent that does not
    know starts them again, or ends what runs; and it has the newest state of the cluster, by which an agent knows a
    store that has gone back. Members run on meanwhile, and whoever comes may still have a copy of the file.
    """

    def __init__(self, path: Path, at: int, why: str) -> None:
        super().__init__(
            f"{path} is damaged at byte {at}: {why}. It says what this agent has started, and without it whatever of "
            f"that still runs is ended: put back a copy, or mv {path} {path}.damaged and start the agent again"
        )


_FRAME: Final = Struct(">II")
#: How a record begins: as a map of msgpack with so many keys at most.
_MAPS: Final = range(0x80, 0x81 + len(_Record.__struct_fields__))
_MAX_RECORD: Final = 64 * 1024 * 1024
#: Rewritten when it has grown by this much since it was last compact.
_COMPACT_AFTER: Final = 4 * 1024 * 1024


class FileJournal:
    """A journal in a folder of the agent's state: `journal` for what is appended, `lease` overwritten in place.

    Raises JournalError if a whole record is damaged; a torn last one is what a crash leaves, and is dropped.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "journal"
        self._encode = msgspec.msgpack.Encoder().encode
        self._fd, self._size, self._compact_size = -1, 0, 0
        self._memory, whole = self._read()
        try:
            self._compact()
        except JournalFull:
            # An agent that did not start could neither look after its members nor tell of the full disk.
            self._go_on_after(whole)

    def load(self) -> Memory:
        held = self._memory
        return Memory(dict(held.intents), dict(held.outcomes), held.seen, held.lease)

    def record_intents(self, members: Sequence[str], specs: Sequence[AllocationSpec]) -> None:
        known = {spec.allocation for spec in self._memory.intents.values()}
        records = []
        for spec in {spec.allocation: spec for spec in specs}.values():
            names = tuple(m for m, s in zip(members, specs, strict=True) if s.allocation == spec.allocation)
            records.append(_Record(spec=None if spec.allocation in known else spec, intents=names))
        folders = [self._folder / memberfolder.ALL / member for member in members]
        for folder in folders:
            begun.mark(folder)
        try:
            self._append(*records, durable=True)
        except JournalFull:
            for folder in folders:
                begun.unmark(folder)
            raise
        self._memory.intents.update(zip(members, specs, strict=True))

    def record_outcome(self, status: MemberStatus) -> None:
        self._try(_Record(outcome=status))
        self._memory.outcomes[status.member] = status

    def save_seen(self, seen: Seen) -> None:
        self._try(_Record(seen=seen))
        self._memory.seen = seen

    def renew_lease(self, lease: Lease) -> None:
        self._write_lease(lease, durable=False)

    def save_plan(self, lease: Lease) -> None:
        self._write_lease(lease, durable=True)

    def forget(self, members: Iterable[str]) -> None:
        names = tuple(members)
        self._try(_Record(forget=names))
        for member in names:
            self._memory.intents.pop(member, None)
            self._memory.outcomes.pop(member, None)
        if self._size - self._compact_size > _COMPACT_AFTER:
            with suppress(JournalFull):
                self._compact()

    def close(self) -> None:
        """Closes the file; nothing is lost without it."""
        os.close(self._fd)

    def _append(self, *records: _Record, durable: bool = False) -> None:
        self._size += self._write(self._fd, self._size, records, durable)

    def _try(self, record: _Record) -> None:
        """For what may be lost: the outcome that is missing later is a failure, the member that is forgotten twice."""
        with suppress(JournalFull):
            self._append(record)

    def _write(self, fd: int, size: int, records: Iterable[_Record], durable: bool) -> int:
        """Writes all records behind `size` bytes, or none of them; returns how many bytes they have."""
        data = b"".join(self._frame(record) for record in records)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fdatasync(fd)
        except OSError as error:
            # A torn record in the middle would make all that follows unreadable.
            os.ftruncate(fd, size)
            raise JournalFull(f"{self._path}: {error.strerror}") from error
        return len(data)

    def _frame(self, record: _Record) -> bytes:
        body = self._encode(record)
        return _FRAME.pack(len(body), zlib.crc32(body)) + body

    def _write_lease(self, lease: Lease, durable: bool) -> None:
        self._memory.lease = lease
        path = self._folder / leasefile.NAME
        try:
            leasefile.write(path, msgspec.structs.asdict(lease), durable=durable)
        except OSError as error:
            raise JournalFull(f"{path}: {error.strerror}") from error

    def _read(self) -> tuple[Memory, int]:
        """What the file holds, and how many bytes its whole records have."""
        memory = Memory()
        specs: dict[str, AllocationSpec] = {}
        decode = msgspec.msgpack.Decoder(_Record).decode
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise JournalError(self._path, 0, error.strerror or str(error)) from error
        at = 0
        while at + _FRAME.size <= len(data):
            length, checksum = _FRAME.unpack_from(data, at)
            body = data[at + _FRAME.size : at + _FRAME.size + length]
            end = at + _FRAME.size + length
            if length > _MAX_RECORD:
                # What a crash leaves of a length is no longer than the length was.
                raise JournalError(self._path, at, "no record begins there")
            if not length or len(body) < length or zlib.crc32(body) != checksum:
                # A loss of power may leave zeros where the last records, which nobody had synced, would have been.
                if any(data[end:]) or not _may_be_cut(body, checksum):
                    raise JournalError(self._path, at, "a record is not as it was written")
                break
            try:
                record = decode(body)
            except (msgspec.MsgspecError, ValueError) as error:
                raise JournalError(self._path, at, f"this Quorate does not understand a record ({error})") from error
            if record.spec is not None:
                specs[record.spec.allocation] = record.spec
            for member in record.intents:
                spec = specs.get(member.rsplit(".", 2)[0])
                if spec is None:
                    raise JournalError(self._path, at, f"member {member} has no allocation")
                memory.intents[member] = spec
            if record.outcome is not None:
                memory.outcomes[record.outcome.member] = record.outcome
            if record.seen is not None:
                memory.seen = record.seen
            for member in record.forget:
                memory.intents.pop(member, None)
                memory.outcomes.pop(member, None)
            at = end
        memory.lease = self._read_lease()
        return memory, at

    def _read_lease(self) -> Lease | None:
        path = self._folder / leasefile.NAME
        kept = leasefile.read(path)
        try:
            if kept is not None:
                return msgspec.convert([kept.get(name) for name in Lease.__struct_fields__], Lease)
        except msgspec.ValidationError as error:
            why = str(error)
        else:
            why = "it is not as it was written"
        if path.exists():
            # Without it members end too early, never too late, so nothing needs to be asked.
            log.warning(
                "%s is damaged: %s. When the master was last heard is not known, so members that may be started "
                "elsewhere are stopped now if this machine has been up for longer than their stop_after; the file is "
                "written anew once the master answers",
                path,
                why,
            )
        return None

    def _go_on_after(self, whole: int) -> None:
        """Appends to the file as it is, behind its last whole record; made compact as soon as there is room."""
        self._fd = self._open(self._path)
        os.ftruncate(self._fd, whole)
        self._size, self._compact_size = whole, whole - _COMPACT_AFTER

    def _open(self, path: Path, more: int = 0) -> int:
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | more, 0o600)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise JournalFull(f"{path}: {error.strerror}") from error

    def _compact(self) -> None:
        """Writes what is remembered to a new file and puts it in the old one's place."""
        held = self._memory
        by_allocation: dict[str, list[str]] = {}
        specs = {spec.allocation: spec for spec in held.intents.values()}
        for member, spec in held.intents.items():
            by_allocation.setdefault(spec.allocation, []).append(member)
        records = [_Record(spec=specs[name], intents=tuple(members)) for name, members in by_allocation.items()]
        records += [_Record(outcome=status) for status in held.outcomes.values()]
        if held.seen is not None:
            records.append(_Record(seen=held.seen))
        fresh = self._path.with_suffix(".new")
        fd = self._open(fresh, os.O_TRUNC)
        try:
            size = self._write(fd, 0, records, durable=True)
            fresh.rename(self._path)
        except BaseException:
            os.close(fd)
            # Its room is the first that is wanted back.
            fresh.unlink(missing_ok=True)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size, self._compact_size = fd, size, size
        folder = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _may_be_cut(body: bytes, checksum: int) -> bool:
    """Whether a crash can have left this of the last record: what it began with, and then nothing, or zeros.

    Else all that follows would be lost with it, and every member on this machine with that: so where a record ends that
    begins here and has this checksum, its length is what is damaged.
    """
    if not any(body):
        return True
    if body[0] not in _MAPS:
        return False
    found = 0
    for at in range(len(body)):
        found = zlib.crc32(body[at : at + 1], found)
        if found == checksum:
            return False
    return True
