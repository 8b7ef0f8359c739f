"""A job's logs as a stream of lines."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from quorate.master.api.calls import Master, User, while_valid
from quorate.master.api.jobs import KEEP_ALIVE_S, NDJSON, Id, known_job, may_touch
from quorate.master.api.problems import ApiProblem
from quorate.master.loglines import last_lines
from quorate.master.logmerge import Grown, LogMerge
from quorate.master.records import JobRecord
from quorate.master.services import Services
from quorate.master.state import State
from quorate.master.writer import now
from quorate.model.ids import JobId, MemberId, member_id, split_member
from quorate.model.logcursor import MAX_CURSOR_BYTES, CursorError, parse_cursor
from quorate.model.messages import PlannedMember
from quorate.model.state import MemberState
from quorate.model.views import LogLine

router = APIRouter(tags=["jobs"])

#: A reader who follows is shown an unfinished line when its member has paused for so long.
PAUSE_S = 0.1
#: What has ended but has not sent all of its log gets so long after the job's end; its agent may be gone for good.
LATE_LOGS_S = 10.0
MAX_TAIL = 1_000_000


@router.get(
    "/jobs/{id}/logs",
    response_class=StreamingResponse,
    responses={200: {"model": LogLine, "content": {NDJSON: {"schema": {"$ref": "#/components/schemas/LogLine"}}}}},
)
async def logs(
    request: Request,
    master: Master,
    caller: User,
    job: Id,
    member: Annotated[str, Query(max_length=64, description="A member's name (sub1), rank or id; all without.")] = "",
    attempt: Annotated[int | None, Query(ge=1, description="Which attempt; all without.")] = None,
    follow: Annotated[bool, Query(description="Go on until the job has ended and its logs are complete.")] = False,
    cursor: Annotated[str, Query(max_length=MAX_CURSOR_BYTES, description="Go on where a stream broke off.")] = "",
    tail: Annotated[
        int | None, Query(ge=0, le=MAX_TAIL, description="Only so many last lines of each member of the attempt.")
    ] = None,
) -> StreamingResponse:
    """The lines of all members, by time; a LogLine a line, an empty line now and then."""
    record = known_job(master, job)
    may_touch(caller, record, "read the logs of")
    try:
        cursors = parse_cursor(record.id, cursor)
    except CursorError as error:
        raise ApiProblem(422, "CURSOR-INVALID", str(error), "begin without a cursor") from None
    there = [each.attempt for each in master.state.attempts_of(record)]
    # Of a job that goes on, it may yet come.
    if attempt is not None and attempt not in there and record.state.final:
        has = f"; it has {', '.join(map(str, there))}" if there else "; none has begun"
        raise ApiProblem(
            404, "ATTEMPT-UNKNOWN", f"job {record.id} has no attempt {attempt}{has}", f"quorate job show {record.id}"
        )
    if tail is not None and attempt is None:
        attempt = record.attempt or None
    stream = _Stream(master, record.id, _Wanted(member, attempt), cursors, tail)
    if member and record.attempt and not stream.present():
        names = _names(master.state, record, attempt)
        has = f"; it has {', '.join(names[:8])}{' …' if len(names) > 8 else ''}" if names else ""
        raise ApiProblem(
            404,
            "MEMBER-UNKNOWN",
            f"job {record.id} has no member {member!r}" + (f" in attempt {attempt}" if attempt else "") + has,
            f"quorate job show {record.id}",
        )
    master.notices.check_room()
    return StreamingResponse(while_valid(request, master, stream.lines(follow=follow)), media_type=NDJSON)


def _names(state: State, record: JobRecord, attempt: int | None) -> list[str]:
    """The members' names, each once."""
    attempts = [each for each in state.attempts_of(record) if attempt in (None, each.attempt)]
    return list(dict.fromkeys(planned.name for each in attempts for planned in each.members))


class _Wanted:
    """Which members a reader asked for."""

    def __init__(self, member: str, attempt: int | None) -> None:
        self._member = member
        self._attempt = attempt

    def members(self, state: State, job: JobId) -> list[MemberId]:
        """Those that there are by now, in order of attempt and rank."""
        record = state.jobs.get(job)
        return [
            member_id(allocation.id, planned.rank)
            for allocation in (state.attempts_of(record) if record else ())
            if self._attempt in (None, allocation.attempt)
            for planned in allocation.members
            if self._is_meant(planned, member_id(allocation.id, planned.rank))
        ]

    def _is_meant(self, planned: PlannedMember, member: MemberId) -> bool:
        return self._member in ("", planned.name, str(planned.rank), member)


class _Stream:
    """One reader's way through the logs of a job."""

    def __init__(
        self, master: Services, job: JobId, wanted: _Wanted, cursors: dict[MemberId, int], tail: int | None
    ) -> None:
        self._master = master
        self._job = job
        self._wanted = wanted
        self._cursors = cursors
        self._tail = tail
        self._merge = LogMerge(master.logs)
        self._grown = Grown()

    def present(self) -> list[MemberId]:
        """The members that there are by now."""
        return self._wanted.members(self._master.state, self._job)

    async def lines(self, *, follow: bool) -> AsyncGenerator[bytes]:
        """NDJSON until the end, or until what there is has been told."""
        master, grown = self._master, self._grown
        unfinished_at: float | None = None
        with master.notices.watching(self._job, grown.event):
            try:
                while True:
                    grown.event.clear()
                    await self._take_in_new_members()
                    # Asked before reading: what it says is complete is then read to its end.
                    complete = self._complete()
                    news, grown.members = grown.members, set()
                    if complete:
                        # By its size on the disk, of which the word may still be on its way.
                        news.update(self._merge.members)
                    blob = await asyncio.to_thread(self._merge.step, news)
                    if blob or (news and unfinished_at is None):
                        # A progress bar may go on for an hour without a line of its own being complete.
                        unfinished_at = now()
                    if blob:
                        yield blob
                        continue
                    if complete or master.notices.stopping or (not follow and not self._will_be_complete()):
                        yield await asyncio.to_thread(self._merge.finish, ended=complete)
                        if complete:
                            yield self._missing()
                        return
                    if unfinished_at is not None and now() >= unfinished_at + PAUSE_S:
                        unfinished_at = None
                        yield await asyncio.to_thread(self._merge.finish, ended=False)
                        continue
                    if not await self._wait(PAUSE_S if unfinished_at is not None else self._patience()):
                        yield b"" if unfinished_at is not None else b"\n"
            finally:
                master.logs.unwatch(self._merge.members, grown)

    async def _take_in_new_members(self) -> None:
        known = set(self._merge.members)
        fresh = [member for member in self.present() if member not in known]
        if not fresh:
            return
        # Watched before they are read, so that nothing falls between.
        self._master.logs.watch(fresh, self._grown)
        cursors = {member: self._cursors.get(member, 0) for member in fresh}
        if self._tail is not None and not self._cursors:
            for member in fresh:
                cursors[member] = await asyncio.to_thread(last_lines, self._master.logs, member, self._tail)
        self._merge.add(cursors)

    async def _wait(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._grown.event.wait()
        except TimeoutError:
            return False
        return True

    def _patience(self) -> float:
        record = self._master.state.jobs.get(self._job)
        return PAUSE_S * 5 if record is not None and record.state.final else KEEP_ALIVE_S

    def _will_be_complete(self) -> bool:
        """The job has ended and the last of its output is on its way: even who does not follow should have it."""
        record = self._master.state.jobs.get(self._job)
        return record is not None and record.state.final and not self._complete()

    def _complete(self) -> bool:
        """Nothing more will come: the job is final, and every member's log is here, or has had its time to come."""
        state = self._master.state
        record = state.jobs.get(self._job)
        if record is None:
            return True
        if not record.state.final:
            return False
        ended = record.ended
        if ended is None or ended.epoch != state.identity.epoch or now() > ended.now + LATE_LOGS_S:
            return True
        return all(self._has_all_of(member) for member in self._merge.members)

    def _missing(self) -> bytes:
        """A last line for each log that is shorter than its member is known to have written."""
        told = []
        for member in self._merge.members:
            record = self._master.state.members.get(member)
            size = self._master.logs.size(member)
            if record is not None and size < record.log_bytes:
                _allocation, rank, incarnation = split_member(member)
                line = LogLine(
                    member=member,
                    rank=rank,
                    incarnation=incarnation,
                    stream="platform",
                    time=datetime.now(UTC),
                    text="",
                    end="",
                    offset=size,
                    missing=record.log_bytes - size,
                )
                told.append(line.model_dump_json().encode() + b"\n")
        return b"".join(told)

    def _has_all_of(self, member: MemberId) -> bool:
        record = self._master.state.members.get(member)
        if record is None or record.state is MemberState.LOST:
            return True
        return self._master.logs.size(member) >= record.log_bytes
