"""The simulation is worth its time: a bug planted in the shipped code is caught by the invariant that it breaks."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from quorate.agent import core as agent_core
from quorate.agent import journal
from quorate.agent.knownmembers import KnownMembers
from quorate.master import core, networks, state, store, transitions
from quorate.master.events import JobCancelRequested
from quorate.master.settings import Settings
from quorate.master.state import StateError
from quorate.master.transitions import endings, joining, leases, links, maintenance, placing, reports, submitting

from . import invariants as inv
from . import masters
from .story import Story, Theme

#: A bug that so many histories do not meet would not be met by chance either.
SEEDS = 1000

Plant = Callable[[pytest.MonkeyPatch], None]


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(owner, name, make(getattr(owner, name)))

    return plant


def _handler(event: type, make: Callable[[Any], Any]) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setitem(transitions._HANDLERS, event, make(transitions._HANDLERS[event]))

    return plant


def _a_stop_gives_the_slots_away(observe: Any) -> Any:
    def wrong(draft: Any, agent: str, statuses: Any, **more: Any) -> None:
        observe(
            draft, agent, [msgspec.structs.replace(s, state="failed") if s.state == "stopping" else s for s in statuses]
        )
        for member in list(draft.state.held_by(agent)):
            if member.stop:
                reports.release(draft, member)

    return wrong


def _a_member_is_left_out(planned: Any) -> Any:
    def wrong(*values: Any) -> Any:
        gang = planned(*values)
        whole = not isinstance(gang, placing.Gang) or len(gang.members) <= 2
        return gang if whole else gang._replace(members=gang.members[:-1])

    return wrong


def _half_a_gang_is_written(put: Any) -> Any:
    def wrong(draft: Any, record: Any) -> None:
        if type(record).__name__ != "MemberRecord" or record.rank < 1 or record.state != "assigned" or record.stop:
            put(draft, record)

    return wrong


def _answers_do_not_wait_for_the_commit(feed: Any) -> Any:
    def wrong(master: Any, event: Any, answered: Any = None) -> None:
        def at_once(answer: Any) -> None:
            answered(answer)

        if answered is None:
            feed(master, event)
            return
        feed(master, event, lambda answer: None)
        if master._open_answers:
            at_once(master._open_answers[-1][1])
        elif master.alive:
            at_once(master.core.apply(event))

    return wrong


def _effects_do_not_wait_for_the_commit(seal: Any) -> Any:
    def wrong(master: Any) -> None:
        seal(master)
        batch = master._committing
        for effect in batch.effects:
            master._do(effect)
        master._committing = batch

    return wrong


def _cancel_changes_what_has_ended(_: Any) -> Any:
    def wrong(draft: Any, event: Any) -> Any:
        job = draft.state.jobs.get(event.job)
        if job is None:
            return submitting.Refused(404, "JOB-UNKNOWN", "")
        ending = endings.Ending(kind=endings.EndingKind.CANCELLED, reason="cancelled", exit_code=130)
        (endings.end if job.state in ("starting", "running", "stopping") else endings.finish)(draft, job, ending)
        return submitting.Done()

    return wrong


def _a_slot_stays_taken(free: Any) -> Any:
    def wrong(state_: Any, member: Any) -> None:
        free(state_, member)
        state_.slots_used[member.agent].update(dict.fromkeys(member.slots, member.id))

    return wrong


def _ports_change_hands(take: Any) -> Any:
    def wrong(state_: Any, member: Any) -> None:
        used = state_.ports_used.get(member.host, {})
        for port in member.ports.values():
            used.pop(port, None)
        take(state_, member)

    return wrong


def _a_network_goes_with_its_first_member(release: Any) -> Any:
    def wrong(networks_: Any, allocation: Any) -> None:
        first = allocation.network is not None and allocation.network.vni in networks_.vnis
        count = networks_._unreleased[allocation.id]
        networks_._unreleased[allocation.id] = 1
        if first:
            release(networks_, allocation)
        networks_._unreleased[allocation.id] = count - 1

    return wrong


def _a_network_is_never_given_back(release: Any) -> Any:
    def wrong(networks_: Any, allocation: Any) -> None:
        release(networks_, msgspec.structs.replace(allocation, network=None))

    return wrong


def _only_new_members_are_told(resend: Any) -> Any:
    def wrong(draft: Any, agent: str) -> None:
        if any(member.state == "assigned" and not member.stop for member in draft.state.held_by(agent)):
            resend(draft, agent)

    return wrong


def _every_ending_restarts(_: Any) -> Any:
    return lambda draft, job, ending: draft.state.specs[job.id].spec.may_restart


def _restarts_do_not_wait(settle: Any) -> Any:
    def wrong(draft: Any, job: Any) -> None:
        job = draft.job(job.id)
        if job.state == "stopping" and endings.will_restart(draft, job, job.ending):
            endings._conclude(draft, job, endings.current(draft, job))
        else:
            settle(draft, job)

    return wrong


BUGS: dict[str, tuple[str, Theme | None, Plant]] = {
    "a member's slots are given away when it is told to stop": (
        inv.SLOT_TWICE,
        None,
        _replace(reports, "observe", _a_stop_gives_the_slots_away),
    ),
    "a gang is placed without its last member": (
        inv.GANG_SPLIT,
        None,
        _replace(placing, "plan_gang", _a_member_is_left_out),
    ),
    "an allocation is committed with one member only": (
        inv.GANG_SPLIT,
        None,
        _replace(placing.Draft, "put", _half_a_gang_is_written),
    ),
    "an agent forgets its intents when it dies": (
        inv.STARTED_TWICE,
        None,
        _replace(journal.MemoryJournal, "record_intents", lambda _: lambda *values: None),
    ),
    "a silent agent's members are replaced before it has stopped them": (
        inv.TWO_GANGS,
        Theme.LOSS,
        _replace(Settings, "replace_after", lambda _: lambda settings, spec: settings.unreachable_s),
    ),
    "a job restarts before its members have ended": (
        inv.TWO_GANGS,
        None,
        _replace(endings, "settle", _restarts_do_not_wait),
    ),
    "a cut-off agent does not stop its members": (
        inv.TWO_GANGS,
        Theme.LOSS,
        _replace(KnownMembers, "cut_off_at", lambda _: lambda agent, member: None),
    ),
    "an agent trusts orders that it reads long after they were given": (
        inv.TWO_GANGS,
        Theme.FREEZE,
        _replace(agent_core.Core, "_is_late", lambda _: lambda agent, member, now: False),
    ),
    "a job without restarts is placed again": (
        inv.RAN_TWICE,
        None,
        _replace(endings, "will_restart", lambda _: lambda draft, job, ending: ending.kind != "cancelled"),
    ),
    "a submission is answered before it is durable": (
        inv.JOB_LOST,
        Theme.MASTER,
        _replace(masters.Master, "feed", _answers_do_not_wait_for_the_commit),
    ),
    "agents are told before it is durable": (
        inv.NOT_COMMITTED,
        Theme.MASTER,
        _replace(masters.Master, "_seal", _effects_do_not_wait_for_the_commit),
    ),
    "a final job can be cancelled": (
        inv.FINAL_CHANGED,
        None,
        _handler(JobCancelRequested, _cancel_changes_what_has_ended),
    ),
    "a cancelled job restarts": (inv.CANCEL_IGNORED, None, _replace(endings, "will_restart", _every_ending_restarts)),
    "a member's failure is overlooked": (
        inv.COMPLETED_FALSELY,
        None,
        _replace(endings, "failed", lambda _: lambda member: False),
    ),
    "members that an agent no longer knows are waited for": (
        inv.STARTED_TWICE,
        Theme.RESTORE,
        _replace(links, "_compare", lambda _: lambda draft, record, hello: None),
    ),
    "a member that has ended is never dropped": (
        inv.NOT_SETTLED,
        None,
        _replace(reports.Draft, "resend", _only_new_members_are_told),
    ),
    "ports are leased as if none were held": (
        inv.DESIRED_WRONG,
        None,
        _replace(leases, "_leases", lambda _: lambda state_, hosts, now: leases.Leases()),
    ),
    "ports are leased to whoever asks last": (
        inv.PORT_TWICE,
        None,
        lambda patch: (
            _replace(leases, "_leases", lambda _: lambda state_, hosts, now: leases.Leases())(patch),
            _replace(state.State, "_take", _ports_change_hands)(patch),
        )[0],
    ),
    "a given-back slot stays taken": (
        inv.DESIRED_WRONG,
        None,
        _replace(state.State, "_free", _a_slot_stays_taken),
    ),
    "a network is given back when the first of its members is gone": (
        inv.NETWORK_KEPT,
        None,
        _replace(networks.Networks, "release", _a_network_goes_with_its_first_member),
    ),
    "a network is never given back": (
        inv.NETWORK_KEPT,
        None,
        _replace(networks.Networks, "release", _a_network_is_never_given_back),
    ),
    "a subnet is leased as if none were held": (
        inv.DESIRED_WRONG,
        None,
        _replace(
            joining,
            "subnet_for",
            lambda find: lambda members, ranges, taken, underlay: find(members, ranges, type(taken)(), underlay),
        ),
    ),
    "two masters write to one store": (
        inv.FINAL_CHANGED,
        Theme.MASTER,
        _replace(store, "_ADVANCE", lambda text: text.replace("cluster.epoch = :fence", ":fence = :fence")),
    ),
    "an adopted store waits for no agent": (
        inv.NETWORK_TWICE,
        Theme.RESTORE,
        _replace(maintenance, "_is_accounted", lambda _: lambda draft, record: True),
    ),
    "an agent counts as heard once it has said what it has, and may still run it": (
        inv.NETWORK_TWICE,
        Theme.RESTORE,
        _replace(maintenance, "_is_accounted", lambda _: lambda draft, record: draft.live(record.id).seen),
    ),
    "nobody notices that the store has gone back": (
        inv.NETWORK_TWICE,
        Theme.RESTORE,
        lambda patch: (
            patch.setattr(links, "regression", lambda state_, seen: ""),
            patch.setattr(agent_core, "regression", lambda seen, welcome: None),
            patch.setattr(core.Store, "copy_to", _plain_copy),
        )[0],
    ),
}


def _plain_copy(store_: Any, copy: Any) -> None:
    store_._connection.connection.driver_connection.backup(copy)


def _caught(theme: Theme | None, wanted: str) -> set[str]:
    """What breaks in the first histories, until it is what is wanted."""
    caught: set[str] = set()
    for seed in range(SEEDS):
        try:
            Story(seed, theme=theme).run()
        except inv.Broken as broken:
            caught.add(broken.name)
        except StateError:
            caught.add(inv.DESIRED_WRONG)
        except (AssertionError, LookupError, msgspec.MsgspecError, store.StoreError) as error:
            caught.add(f"{type(error).__name__}: {error}")
        if wanted in caught:
            break
    return caught


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    invariant, theme, plant = BUGS[bug]
    plant(monkeypatch)
    caught = _caught(theme, invariant)
    assert invariant in caught


def test_each_invariant_has_a_planted_bug() -> None:
    named = {value for name, value in vars(inv).items() if name.isupper() and isinstance(value, str)}
    assert named == {invariant for invariant, _, _ in BUGS.values()}
