"""Explains what is in a file of any of the three clouds, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

from quorate.iam import codes
from quorate.iam.aws import generate as aws
from quorate.iam.aws.grammar import AwsStatement, read_policy
from quorate.iam.explained import Reasons
from quorate.iam.gcp import generate as gcp
from quorate.iam.oci import explain as oci
from quorate.iam.oci.matching import read_rule
from quorate.iam.oci.parser import read
from quorate.iam.place import Place
from quorate.iam.reading import Input, Kind
from quorate.iam.request import Audience, Profile


@dataclass(frozen=True, slots=True)
class Part:
    """One statement, permission or rule: what it says, what that means, and what it is needed for."""

    place: Place
    title: str
    meaning: str
    details: tuple[str, ...]
    reasons: tuple[tuple[str, Reasons], ...]

    def as_json(self) -> dict[str, object]:
        return {
            "line": self.place.line,
            "column": self.place.column,
            "statement": self.title,
            "meaning": self.meaning,
            "details": list(self.details),
            "uses": [{"whose": whose, **reasons.as_json()} for whose, reasons in self.reasons],
        }


def explain(source: Input) -> list[Part]:
    """Every part of the file, in its order; what cannot be parsed is left to the linter."""
    match source.kind:
        case Kind.OCI:
            return _oci(source)
        case Kind.AWS:
            return [_aws(source, statement) for statement in read_policy(source)[0]]
        case Kind.GCP:
            return _gcp(source)


def explain_code(name: str) -> str | None:
    """What a finding's code means, or None where there is no such code."""
    return next((code.meaning for code in codes.all_codes() if code.name == name.upper()), None)


def _oci(source: Input) -> list[Part]:
    found: list[Part] = []
    for rule in source.rules:
        parsed = read_rule(rule.text).rule
        if parsed is not None:
            found.append(_from_oci(rule.place, oci.explain_rule(parsed)))
    for each in source.statements:
        reading = read(each.text)
        if reading.statement is not None:
            found += [_from_oci(each.place, oci.explain(said)) for said in (reading.statement, *reading.others)]
    return sorted(found, key=lambda part: part.place)


def _from_oci(place: Place, said: oci.Explanation) -> Part:
    details = (f"grants {', '.join(said.permissions)}",) if said.permissions else ()
    return Part(place, said.statement, said.meaning, details, tuple((use.whose, use.reasons) for use in said.uses))


def _aws(source: Input, statement: AwsStatement) -> Part:
    verb = "Allows" if statement.allows else "Denies"
    actions = ("everything but " if statement.inverted_actions else "") + ", ".join(statement.actions)
    resources = ("everything but " if statement.inverted_resources else "") + ", ".join(statement.resources)
    on = "everything" if resources == "*" else resources or "the role itself"
    details = tuple(
        f"only if {condition.key} {condition.operator} {' or '.join(condition.values)}"
        for condition in statement.conditions
    )
    reasons = _aws_reasons().get((statement.sid, tuple(sorted(statement.actions))), ())
    title = statement.sid or f"statement {(statement.index or 0) + 1}"
    return Part(source.place(*statement.path), title, f"{verb} {actions} on {on}.", details, reasons)


@cache
def _aws_reasons() -> dict[tuple[str, tuple[str, ...]], tuple[tuple[str, Reasons], ...]]:
    takes_role = (("master", aws.TRUST_REASONS), ("agent", aws.TRUST_REASONS))
    found: dict[tuple[str, tuple[str, ...]], tuple[tuple[str, Reasons], ...]] = {
        (aws.TRUST_SID, ("sts:AssumeRole",)): takes_role
    }
    for audience in (Audience.MASTER, Audience.AGENT, Audience.USER):
        for profile in Profile:
            for spot in (False, True):
                request = aws.AwsRequest(
                    audience,
                    profile,
                    account="123456789012",
                    region="eu-central-1",
                    bucket="b",
                    repo="r",
                    log_group="l",
                    spot=spot,
                )
                for grant in aws.generate(request).grants:
                    key = (grant.sid, tuple(sorted(grant.actions)))
                    use = (audience.value, grant.reasons)
                    found[key] = (*(each for each in found.get(key, ()) if each != use), use)
    return found


def _gcp(source: Input) -> list[Part]:
    document = source.document
    found: list[Part] = []
    roles: list[tuple[tuple[str, ...], object]] = [((), document)]
    if isinstance(document, dict) and not {"includedPermissions", "bindings"} & document.keys():
        roles = [((name,), role) for name, role in document.items()]
    for at, role in roles:
        found += _gcp_role(source, role, at)
    for index, binding in enumerate(_listed(document, "bindings")):
        if isinstance(binding, dict):
            members = binding.get("members")
            who = ", ".join(map(str, members)) if isinstance(members, list) else "nobody"
            condition = binding.get("condition")
            details = (f"only if {condition.get('expression')}",) if isinstance(condition, dict) else ()
            role = str(binding.get("role"))
            reasons = _binding_reasons().get(_plain_role(role), ())
            found.append(Part(source.place("bindings", index), role, f"{who} holds {role}.", details, reasons))
    return found


def _gcp_role(source: Input, role: object, at: tuple[str, ...]) -> list[Part]:
    found: list[Part] = []
    for index, permission in enumerate(_listed(role, "includedPermissions")):
        reasons = _gcp_reasons().get(str(permission))
        found.append(
            Part(
                source.place(*at, "includedPermissions", index),
                str(permission),
                _allowed(str(permission)),
                (),
                (("master or agent", reasons),) if reasons else (),
            )
        )
    return found


def _allowed(permission: str) -> str:
    *where, verb = permission.split(".")
    return f"Allows {verb} on {' of '.join(reversed(where))}." if where else f"Allows {permission}."


def _listed(document: object, key: str) -> list[object]:
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, list) else []


def _plain_role(role: str) -> str:
    """A role without the project that a custom one is made in."""
    return role if role.startswith("roles/") else role.rpartition("/")[2]


@cache
def _binding_reasons() -> dict[str, tuple[tuple[str, Reasons], ...]]:
    """What each role that `quorate iam policy` binds is needed for, whatever the profile."""
    found: dict[str, tuple[tuple[str, Reasons], ...]] = {}
    for audience, profile in product((Audience.MASTER, Audience.AGENT, Audience.USER), Profile):
        request = gcp.GcpRequest(
            audience,
            profile,
            project="project",
            master_account="m@project.iam.gserviceaccount.com",
            agent_account="a@project.iam.gserviceaccount.com",
            host_project="host-project",
            image_project="image-project",
            subnet="subnet",
            region="region",
            bucket="bucket",
            repo="repo",
            user="group:g@example.org",
        )
        for binding in gcp.generate(request).bindings:
            role, use = _plain_role(binding.role), (audience.value, binding.reasons)
            found[role] = tuple(dict.fromkeys((*found.get(role, ()), use)))
    return found


@cache
def _gcp_reasons() -> dict[str, Reasons]:
    found: dict[str, Reasons] = {}
    for audience in (Audience.MASTER, Audience.AGENT):
        policy = gcp.generate(
            gcp.GcpRequest(
                audience,
                project="project",
                master_account="m@project.iam.gserviceaccount.com",
                agent_account="a@project.iam.gserviceaccount.com",
                bucket="bucket",
                external_ip=True,
                data_disk=True,
                may_delete=True,
            )
        )
        found.update({each.name: each.reasons for role in policy.roles for each in role.permissions})
    return found
