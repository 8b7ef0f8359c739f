"""Writes a generated policy of any cloud in the form that is asked for."""

from __future__ import annotations

import json
from dataclasses import replace

from quorate.iam.aws import generate as aws
from quorate.iam.finding import MissingOption, MissingOptions, RefusedRequest
from quorate.iam.gcp import generate as gcp
from quorate.iam.gcp import render as gcp_text
from quorate.iam.oci import generate as oci
from quorate.iam.oci.request import OciRequest
from quorate.iam.request import Part

Request = OciRequest | aws.AwsRequest | gcp.GcpRequest


def check(request: Request) -> None:
    """Raises RefusedRequest where the request cannot be met; MissingOptions with all that it lacks, not the first."""
    missing: list[MissingOption] = []
    while True:
        try:
            _generate(request)
        except MissingOption as lack:
            missing.append(lack)
            request = replace(request, **{lack.field: lack.sample})  # type: ignore[arg-type]
        except RefusedRequest:
            if not missing:
                raise
            break
        else:
            break
    if missing:
        raise MissingOptions(tuple(missing))


def aside(request: Request, part: Part) -> tuple[str, ...]:
    """What to know besides the text that `write` returns, where that text has no room for it: JSON has no comments."""
    if isinstance(request, aws.AwsRequest) and part is Part.NATIVE:
        policy = aws.generate(request)
        return policy.notes if policy.grants else ()
    return ()


def _generate(request: Request) -> object:
    match request:
        case OciRequest():
            return oci.generate(request)
        case aws.AwsRequest():
            return aws.generate(request)
        case gcp.GcpRequest():
            return gcp.generate(request)


def write(request: Request, part: Part, *, as_json: bool, bare: bool) -> str:
    """The text to print, ending in a line break. Raises RefusedRequest. `bare` leaves reasons out."""
    match request:
        case OciRequest():
            return _oci(request, part, as_json=as_json, bare=bare)
        case aws.AwsRequest():
            return _aws(request, part, as_json=as_json)
        case gcp.GcpRequest():
            return _gcp(request, part, as_json=as_json, bare=bare)


def _dump(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _no_part(part: Part, cloud: str, has: str) -> RefusedRequest:
    return RefusedRequest(f"{cloud} has no part {part}; it has {has}")


def _oci(request: OciRequest, part: Part, *, as_json: bool, bare: bool) -> str:
    policy = oci.generate(request)
    if as_json:
        return _dump(oci.as_json(policy))
    match part:
        case Part.NATIVE:
            return oci.as_text(policy, reasons=not bare)
        case Part.STATEMENTS:
            return _dump([each.text for each in policy.statements])
        case Part.DYNAMIC_GROUP:
            return "".join(f"{group.rule_text}\n" for group in policy.dynamic_groups)
        case Part.REASONS:
            return oci.as_text(policy)
        case _:
            raise _no_part(part, "oci", "native, statements, dynamic-group, reasons")


def _aws(request: aws.AwsRequest, part: Part, *, as_json: bool) -> str:
    policy = aws.generate(request)
    if as_json:
        explained = [{"sid": grant.sid, **grant.reasons.as_json()} for grant in policy.grants]
        return _dump(
            {
                "cloud": "aws",
                "policy": policy.document() if policy.grants else None,
                "trust": aws.trust_document(request),
                "explanations": explained,
                "notes": list(policy.notes),
            }
        )
    match part:
        case Part.NATIVE if policy.grants:
            return _dump(policy.document())
        case Part.NATIVE:
            return "".join(f"# Note: {note}\n" for note in policy.notes)
        case Part.TRUST:
            return _dump(aws.trust_document(request))
        case Part.REASONS:
            lines = [f"# Note: {note}" for note in policy.notes]
            for grant in policy.grants:
                lines += ["", grant.sid, f"  {grant.reasons.why}", f"  Without it: {grant.reasons.without}"]
                lines.append(f"  {grant.reasons.source}")
            return "\n".join(lines).lstrip("\n") + "\n"
        case _:
            raise _no_part(part, "aws", "native, trust, reasons")


def _gcp(request: gcp.GcpRequest, part: Part, *, as_json: bool, bare: bool) -> str:
    policy = gcp.generate(request)
    if as_json:
        return _dump(gcp_text.as_json(policy))
    match part:
        case Part.NATIVE | Part.REASONS:
            return gcp_text.as_commands(policy, request.project or "", reasons=not bare or part is Part.REASONS)
        case Part.ROLES:
            return _dump({role.id: role.as_json() for role in policy.roles})
        case _:
            raise _no_part(part, "gcp", "native, roles, reasons")
