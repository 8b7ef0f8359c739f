"""Plans as files: what `quorate net plan --json` prints is read back, and two plans are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from quorate.model.clusterfile import ClusterFile, NetworkField
from quorate.model.ports import PortRangeField
from quorate.model.yamlfile import FileProblem, FileProblems, parse_yaml, validate
from quorate.network.clusterplan import plan_cluster
from quorate.network.flows import Encryption, Role, Transport
from quorate.network.plan import Party, Plan, PlannedFlow, collapse


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _PartyPart(_Part):
    key: str
    role: Role
    name: str
    addresses: tuple[NetworkField, ...] = ()
    tags: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    namespace: str | None = None
    hosts: tuple[str, ...] = ()
    service_cidrs: tuple[str, ...] = ()
    vpc: str | None = None


class _FlowPart(_Part):
    flow: str
    source: str
    destination: str
    transport: Transport
    ports: tuple[PortRangeField, ...]
    purpose: str
    because: str = ""
    encryption: Encryption = Encryption.NONE


class _PlanPart(_Part):
    plan: str
    parties: tuple[_PartyPart, ...]
    flows: tuple[_FlowPart, ...]
    forbidden: tuple[_FlowPart, ...] = ()
    findings: list[dict[str, Any]] = []
    #: What `net plan` computes for people; not part of a plan.
    no_proxy: str | None = None


def read_plan(text: str, filename: str) -> Plan:
    """Return the plan that is in a file: one that `net plan --json` printed, or a `master.yaml`.

    Raises FileProblems with everything that is wrong with it. Findings are not read back.
    """
    document = parse_yaml(text, filename)
    if not document.data:
        raise FileProblems([document.problem((), "the file is empty and describes neither a plan nor a cluster")])
    if not (isinstance(document.data, dict) and "plan" in document.data):
        return plan_cluster(validate(document, ClusterFile), at=document.shown)
    part = validate(document, _PlanPart)
    parties = {party.key: _party(party) for party in part.parties}
    unknown: list[FileProblem] = []
    for section, flows in (("flows", part.flows), ("forbidden", part.forbidden)):
        for index, flow in enumerate(flows):
            for end in ("source", "destination"):
                if getattr(flow, end) not in parties:
                    cause = f"no party has the key {getattr(flow, end)!r}"
                    unknown.append(document.problem((section, index, end), cause))
    if unknown:
        raise FileProblems(unknown)
    return Plan(
        part.plan,
        tuple(_flow(flow, parties) for flow in part.flows),
        tuple(_flow(flow, parties) for flow in part.forbidden),
    )


def _party(part: _PartyPart) -> Party:
    return Party(
        part.role,
        part.name,
        collapse(part.addresses),
        part.tags,
        part.service_accounts,
        part.security_groups,
        tuple(sorted(part.labels.items())),
        part.namespace,
        part.hosts,
        part.service_cidrs,
        part.vpc,
    )


def _flow(part: _FlowPart, parties: dict[str, Party]) -> PlannedFlow:
    ends = (parties[part.source], parties[part.destination])
    return PlannedFlow(part.flow, *ends, part.transport, part.ports, part.purpose, part.because, part.encryption)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two plans."""

    #: `+` is only in the new plan, `-` only in the old one, `~` is in both and differs.
    sign: str
    what: str
    detail: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return it for `--json`."""
        words = {"+": "added", "-": "removed", "~": "changed"}
        return {"change": words[self.sign], "what": self.what, "detail": self.detail}


def compare(old: Plan, new: Plan) -> tuple[Change, ...]:
    """Return what has changed from one plan to another, removed flows first."""
    changes: list[Change] = []
    for word, before, after in (("", old.flows, new.flows), ("forbidden ", old.forbidden, new.forbidden)):
        was, now = _by_ends(before), _by_ends(after)
        changes += [Change("-", f"{word}{was[key]}") for key in was if key not in now]
        changes += [Change("+", f"{word}{now[key]}", now[key].purpose) for key in now if key not in was]
        for key in was:
            if key in now and was[key].ports != now[key].ports:
                detail = f"ports {_list(was[key].ports)} become {_list(now[key].ports)}"
                changes.append(Change("~", f"{word}{key[0]}: {key[1]} -> {key[2]}", detail))
    was_there = {party.key: party for party in old.parties}
    for party in new.parties:
        if party.key in was_there and (detail := _moved(was_there[party.key], party)):
            changes.append(Change("~", party.key, detail))
    return tuple(sorted(changes, key=lambda change: "-+~".index(change.sign)))


def _by_ends(flows: tuple[PlannedFlow, ...]) -> dict[tuple[str, str, str, str], PlannedFlow]:
    return {(flow.flow, flow.source.key, flow.destination.key, flow.transport.value): flow for flow in flows}


def _moved(old: Party, new: Party) -> str:
    parts = []
    for name in ("addresses", "tags", "service_accounts", "security_groups", "labels", "hosts", "service_cidrs"):
        was, now = set(getattr(old, name)), set(getattr(new, name))
        parts += [f"-{item}" for item in getattr(old, name) if item not in now]
        parts += [f"+{item}" for item in getattr(new, name) if item not in was]
    for name in ("namespace", "vpc"):
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            parts.append(f"{name} {was or '-'} -> {now or '-'}")
    return " ".join(map(str, parts))


def _list(items: tuple[object, ...]) -> str:
    return ", ".join(map(str, items))
