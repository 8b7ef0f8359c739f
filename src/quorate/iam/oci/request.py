"""What an OCI policy is asked for, checked before a statement is written."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quorate.iam.finding import MissingOption, RefusedRequest
from quorate.iam.oci.ocid import AFTER, OCID, misplaced
from quorate.iam.oci.syntax import Location, LocationKind, Principal, Subject, SubjectKind
from quorate.iam.request import Audience, Auth, Profile, Target

_TAG = re.compile(r"([\w-]+)\.([\w-]+)=([^'\n]+)")


@dataclass(frozen=True, slots=True)
class Tag:
    """A defined tag that marks the machines of one cluster."""

    namespace: str
    key: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Tag:
        found = _TAG.fullmatch(text)
        if found is None:
            raise RefusedRequest(f'the tag "{text}" is not of the form namespace.key=value')
        return cls(*found.groups())


@dataclass(frozen=True, slots=True)
class OciRequest:
    """All that a policy depends on. Names may carry an identity domain (`Domain/Name`) or be OCIDs.

    `compartment` is a path (`A:B`) or an OCID, and None for the whole tenancy. `compartment_ocid` is for matching
    rules, which know no names. `network_compartment` holds the subnet, where that is another one.
    """

    audience: Audience
    target: Target = Target.DATA_SCIENCE
    profile: Profile = Profile.STRICT
    auth: Auth | None = None
    group: str | None = None
    dynamic_group: str | None = None
    compartment: str | None = None
    compartment_ocid: str | None = None
    network_compartment: str | None = None
    bucket: str | None = None
    repo: str | None = None
    image: str | None = None
    metrics_namespace: str | None = None
    instance: str | None = None
    tag: Tag | None = None
    may_delete: bool = False
    volumes: bool = True

    @property
    def caller(self) -> Auth:
        """How whoever the policy is for signs in: people with a key, everything that runs in OCI by what it is."""
        if self.auth is not None:
            return self.auth
        return Auth.GROUP if self.audience is Audience.USER else Auth.DYNAMIC_GROUP

    @property
    def subject(self) -> Subject:
        if self.caller is Auth.GROUP:
            name = self.group or _missing("group", "it names the user group that the policy is for", "NAME")
            of_kind("--group", name, "group")
            return Subject(SubjectKind.GROUP, (principal(name),))
        name = self.dynamic_group or _missing(
            "dynamic_group", "it names the dynamic group that the policy is for", "NAME"
        )
        of_kind("--dynamic-group", name, "dynamic-group")
        return Subject(SubjectKind.DYNAMIC_GROUP, (principal(name),))

    @property
    def location(self) -> Location:
        of_kind("--compartment", self.compartment, "compartment")
        return location(self.compartment)

    @property
    def network_location(self) -> Location:
        of_kind("--network-compartment", self.network_compartment, "compartment")
        return location(self.network_compartment or self.compartment)

    @property
    def rule_ocid(self) -> str:
        """The compartment's OCID for a matching rule."""
        for candidate in (self.compartment_ocid, self.compartment):
            if candidate and OCID.fullmatch(candidate):
                of_kind("--compartment-ocid", candidate, "compartment")
                return candidate
        if self.compartment_ocid:
            raise RefusedRequest(f'"{self.compartment_ocid}" is not an OCID (ocid1.compartment.<realm>..<id>)')
        why = "a dynamic group's matching rule knows compartments by OCID only"
        return _missing("compartment_ocid", why, "ocid1.compartment.oc1..ID")

    def needs_bucket(self) -> str:
        return self.bucket or _missing("bucket", "without it the policy would open every bucket", "BUCKET")


def _missing(field: str, why: str, sample: str) -> str:
    raise MissingOption(field, why, sample)


def of_kind(option: str, text: str | None, word: str) -> None:
    """Refuse an OCID that cannot name what the option is for."""
    if text is not None and (odd := misplaced(text, AFTER[word])):
        raise RefusedRequest(f"{option}: {odd[0]}")


def principal(text: str) -> Principal:
    """`Name`, `Domain/Name` or an OCID."""
    if OCID.fullmatch(text):
        return Principal(text, is_ocid=True)
    domain, slash, name = text.partition("/")
    return Principal(_name(name if slash else domain), domain=_name(domain) if slash else None)


def location(text: str | None) -> Location:
    """`A:B`, an OCID, or None for the tenancy."""
    if text is None:
        return Location(LocationKind.TENANCY)
    if OCID.fullmatch(text):
        return Location(LocationKind.COMPARTMENT_ID, (text,))
    return Location(LocationKind.COMPARTMENT, tuple(_name(part) for part in text.split(":")))


def _name(text: str) -> str:
    return plain(text, "name")


def plain(text: str, what: str) -> str:
    """A text that can stand between single quotes; anything else could smuggle in another statement."""
    if not text.strip() or any(sign in text for sign in "'\n\r") or text != text.strip():
        raise RefusedRequest(f"the {what} {text!r} is empty or holds a quote, a line break or a space at its end")
    if text.startswith("<") and text.endswith(">"):
        raise RefusedRequest(f"the {what} {text!r} is a placeholder; write the real one")
    return text
