"""Tells whether AWS knows an action, and which one was meant; an unknown one grants, or denies, nothing at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from quorate.iam.aws.actions import ACTIONS, AS_OF, SERVICES
from quorate.iam.aws.reach import compiled
from quorate.iam.place import slip

# S3's calls that are no actions, and what they need:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
_S3_CALLS = {
    "headobject": ("GetObject",),
    "headbucket": ("ListBucket",),
    "listobjects": ("ListBucket",),
    "listobjectsv2": ("ListBucket",),
    "listobjectversions": ("ListBucketVersions",),
    "listbuckets": ("ListAllMyBuckets",),
    "listmultipartuploads": ("ListBucketMultipartUploads",),
    "listparts": ("ListMultipartUploadParts",),
    "copyobject": ("GetObject", "PutObject"),
    "createmultipartupload": ("PutObject",),
    "uploadpart": ("PutObject",),
    "uploadpartcopy": ("GetObject", "PutObject"),
    "completemultipartupload": ("PutObject",),
    "deleteobjects": ("DeleteObject",),
    "selectobjectcontent": ("GetObject",),
    "deletebuckettagging": ("PutBucketTagging",),
    "deletebucketcors": ("PutBucketCORS",),
    "deletebucketlifecycle": ("PutLifecycleConfiguration",),
    "putbucketlifecycleconfiguration": ("PutLifecycleConfiguration",),
    "getbucketlifecycleconfiguration": ("GetLifecycleConfiguration",),
    "putbucketencryption": ("PutEncryptionConfiguration",),
    "getbucketencryption": ("GetEncryptionConfiguration",),
    "putpublicaccessblock": ("PutBucketPublicAccessBlock",),
    "getpublicaccessblock": ("GetBucketPublicAccessBlock",),
}


@dataclass(frozen=True, slots=True)
class Stranger:
    """An action that is not in the tables: what can be said of it for certain, and what was probably meant.

    `listed`: AWS's list of the service is known here. `sure`: `meant` is no guess.
    """

    evidence: str
    meant: tuple[str, ...]
    listed: bool
    sure: bool = False


def stranger(action: str) -> Stranger | None:
    """What is odd about an action `service:Name`, which may hold wildcards; None where AWS knows it, or a match."""
    service, _, name = action.partition(":")
    if service not in SERVICES:
        guess = slip(service, SERVICES)
        return Stranger(
            f'the service "{service}" is not known to Quorate', (f"{guess}:{name}",) if guess else (), False
        )
    known = _names(service)
    if known is None or name.lower() in known or (_is_pattern(name) and _some(service, name)):
        return None
    if service == "s3" and (needs := _S3_CALLS.get(name.lower())):
        return Stranger(f'"{action}" is the name of a call, which needs other actions', _in(service, needs), True, True)
    guess = slip(name, known)
    evidence = f'"{action}" is not among the {len(known)} actions of {service} that AWS listed by {AS_OF}'
    return Stranger(evidence, _in(service, (known[guess],)) if guess and not _is_pattern(name) else (), True)


def _in(service: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{service}:{name}" for name in names)


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


@cache
def _names(service: str) -> dict[str, str] | None:
    """The service's actions, in lower case and as they are written; None where no list is known here."""
    listed = ACTIONS.get(service)
    return None if listed is None else {name.lower(): name for name in listed.split()}


def _some(service: str, pattern: str) -> bool:
    asked = compiled(pattern.lower(), ignore_case=False)
    return any(asked.fullmatch(name) for name in _names(service) or ())
