"""Writes OCI policies: the statements and dynamic groups that one audience needs, each with its reasons."""

from __future__ import annotations

from dataclasses import dataclass

from quorate.iam.explained import Reasons
from quorate.iam.finding import MissingOption, RefusedRequest
from quorate.iam.oci import matching, render
from quorate.iam.oci.needs import Need, Place, needs
from quorate.iam.oci.request import OciRequest, of_kind, plain
from quorate.iam.oci.syntax import (
    Combination,
    Compare,
    Condition,
    Effect,
    Location,
    LocationKind,
    Mode,
    Operator,
    Statement,
    Value,
    ValueKind,
)
from quorate.iam.oci.vocabulary import MATCHING
from quorate.iam.request import Audience, Auth, Target


@dataclass(frozen=True, slots=True)
class ExplainedStatement:
    """A statement that was generated, under the id of the need that it meets."""

    need: str
    statement: Statement
    reasons: Reasons

    @property
    def text(self) -> str:
        return render.statement(self.statement)


@dataclass(frozen=True, slots=True)
class DynamicGroup:
    """A dynamic group to create before the policy."""

    name: str
    rule: Condition
    reasons: Reasons

    @property
    def rule_text(self) -> str:
        return matching.render_rule(self.rule)


@dataclass(frozen=True, slots=True)
class OciPolicy:
    """A whole answer: groups to make, statements to grant, and what else to know."""

    dynamic_groups: tuple[DynamicGroup, ...]
    statements: tuple[ExplainedStatement, ...]
    notes: tuple[str, ...]


def generate(request: OciRequest) -> OciPolicy:
    """The policy for a request. Raises RefusedRequest where it would be void or open."""
    _check(request)
    if request.audience is Audience.JOB and request.target is Target.INSTANCES:
        note = (
            "A member of a job has no identity in the cloud: the metadata addresses are closed to it. "
            "What it reads and writes goes through its agent's machine (--for agent)."
        )
        return OciPolicy((), (), (note,))
    groups = (_dynamic_group(request),) if request.caller is Auth.DYNAMIC_GROUP else ()
    statements = tuple(_statement(request, need) for need in needs(request))
    return OciPolicy(groups, statements, tuple(_notes(request)))


def _check(request: OciRequest) -> None:
    if request.target is Target.DATA_SCIENCE and request.audience in (Audience.MASTER, Audience.AGENT):
        raise RefusedRequest(
            f"Data Science jobs have no {request.audience} of ours: ask --for user (who starts jobs) or --for job "
            "(the runs), or --target instances"
        )
    if request.audience in (Audience.AGENT, Audience.JOB) and request.caller is Auth.GROUP:
        raise RefusedRequest(f"an {request.audience} runs in OCI and holds no key: --auth dynamic-group")


def _dynamic_group(request: OciRequest) -> DynamicGroup:
    name = request.subject.members[0].name
    if request.target is Target.DATA_SCIENCE and request.audience is Audience.JOB:
        return DynamicGroup(
            name,
            matching.job_run_rule(request.rule_ocid),
            Reasons("The job runs of one compartment act as this group.", "The runs have no rights at all.", MATCHING),
        )
    if request.target is Target.DATA_SCIENCE:
        return DynamicGroup(
            name,
            matching.notebook_rule(request.rule_ocid),
            Reasons(
                "Notebook sessions of one compartment act as this group when they start jobs.",
                "A notebook that signs in as itself may start nothing.",
                MATCHING,
            ),
        )
    if request.audience is Audience.MASTER:
        return DynamicGroup(
            name,
            _master_rule(request),
            Reasons(
                "The master's one machine. A rule on the compartment would take in the agents as well, "
                "and users' code could then start machines.",
                "The master cannot start or stop machines.",
                MATCHING,
            ),
        )
    tag = request.tag
    return DynamicGroup(
        name,
        matching.instance_rule(request.rule_ocid, (tag.namespace, tag.key, tag.value) if tag else None),
        Reasons(
            "The agents' machines act as this group.", "Agents can neither pull images nor save results.", MATCHING
        ),
    )


def _master_rule(request: OciRequest) -> Condition:
    if request.instance is None:
        why = "the OCID of the master's own machine, so that no agent is taken for it"
        raise MissingOption("instance", why, "ocid1.instance.oc1.REGION.ID")
    of_kind("--instance", request.instance, "instance")
    return Compare("instance.id", Operator.EQUAL, (Value(ValueKind.STRING, plain(request.instance, "instance")),))


def _statement(request: OciRequest, need: Need) -> ExplainedStatement:
    statement = Statement(
        Effect.ALLOW,
        need.subject or request.subject,
        need.grant,
        _location(request, need.place),
        _condition(need.conditions),
    )
    return ExplainedStatement(need.id, statement, need.reasons)


def _location(request: OciRequest, place: Place) -> Location:
    match place:
        case Place.HERE:
            return request.location
        case Place.NETWORK:
            return request.network_location
        case Place.TENANCY:
            return Location(LocationKind.TENANCY)


def _condition(pairs: tuple[tuple[str, str], ...]) -> Condition | None:
    """Always in braces: with one condition too, as the vendor's pages write them, so that another is easily added."""
    if not pairs:
        return None
    return Combination(
        Mode.ALL,
        tuple(
            Compare(variable, Operator.EQUAL, (Value(ValueKind.STRING, plain(text, variable)),))
            for variable, text in pairs
        ),
    )


def _notes(request: OciRequest) -> list[str]:
    notes = []
    if request.compartment is None:
        notes.append("The policy holds in the whole tenancy; --compartment narrows it.")
    if request.target is Target.INSTANCES and request.audience is Audience.USER:
        notes.append("People talk to the master alone and need nothing here. --bucket and --repo add some.")
    elif request.repo is None and request.audience is Audience.USER:
        notes.append("No --repo: images may be pulled, and pushing is left to others.")
    if request.repo is not None and request.audience is Audience.USER:
        notes.append(
            "The repository must exist: a list call carries no target.repo.name, so the condition declines it."
        )
    if request.target is Target.INSTANCES and request.tag is None and request.audience is Audience.MASTER:
        notes.append("No --tag: the master may terminate every machine of the compartment, its own included.")
    if request.target is Target.INSTANCES and request.tag is None and request.audience is Audience.AGENT:
        notes.append("No --tag: every machine of the compartment counts as an agent.")
    return notes


def as_text(policy: OciPolicy, *, reasons: bool = True) -> str:
    """Statements a line each, for a file in version control; the linter reads the same text back."""
    lines: list[str] = []
    for note in policy.notes:
        lines += [f"# Note: {note}", ""]
    for group in policy.dynamic_groups:
        lines.append(f"# Dynamic group {group.name}, matching rule:")
        lines += _because(group.reasons) if reasons else []
        lines += [group.rule_text, ""]
    for each in policy.statements:
        lines += _because(each.reasons) if reasons else []
        lines.append(each.text)
        lines += [""] if reasons else []
    return "\n".join(lines).rstrip("\n") + "\n"


def _because(reasons: Reasons) -> list[str]:
    return [f"# {reasons.why}", f"# Without it: {reasons.without}"]


def as_json(policy: OciPolicy) -> dict[str, object]:
    return {
        "cloud": "oci",
        "dynamic_groups": [
            {"name": group.name, "matching-rule": group.rule_text, **group.reasons.as_json()}
            for group in policy.dynamic_groups
        ],
        "statements": [each.text for each in policy.statements],
        "explanations": [
            {"need": each.need, "statement": each.text, **each.reasons.as_json()} for each in policy.statements
        ],
        "notes": list(policy.notes),
    }
