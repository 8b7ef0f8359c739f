"""What kind of thing an OCID names, held against the place where it is written.

Source: https://docs.oracle.com/en-us/iaas/Content/General/Concepts/identifiers.htm, ocid1.<kind>.<realm>.[region].<id>
"""

from __future__ import annotations

import re

from quorate.iam.place import slip
from quorate.iam.wordlist import words

OCID = re.compile(r"ocid1\.([a-z0-9]+)\.[a-z0-9-]*\.[a-z0-9-]*\.\S+", re.IGNORECASE)
_KIND = re.compile(r"ocid1\.([a-z0-9]+)\.", re.IGNORECASE)

# A tenancy is its own root compartment.
COMPARTMENT = frozenset({"compartment", "tenancy"})
# What may stand after `id` in a subject, a location or a definition, by the word before it.
AFTER = {
    "group": frozenset({"group"}),
    "dynamic-group": frozenset({"dynamicgroup"}),
    "compartment": COMPARTMENT,
    "tenancy": frozenset({"tenancy"}),
    "instance": frozenset({"instance"}),
    "image": frozenset({"image"}),
}
# The kinds with which a variable can be equal at all.
OF_VARIABLE: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        words(
            """target.compartment.id request.instance.compartment.id request.resource.compartment.id
            request.principal.compartment.id instance.compartment.id resource.compartment.id"""
        ),
        COMPARTMENT,
    ),
    "request.user.id": frozenset({"user"}),
    "target.user.id": frozenset({"user"}),
    "request.groups.id": frozenset({"group"}),
    "target.group.id": frozenset({"group"}),
    "target.dynamic-group.id": frozenset({"dynamicgroup"}),
    "target.dynamicgroup.id": frozenset({"dynamicgroup"}),
    "target.policy.id": frozenset({"policy"}),
    "request.vcn.id": frozenset({"vcn"}),
    "instance.id": frozenset({"instance"}),
    "target.image.id": frozenset({"image"}),
    "target.loggroup.id": frozenset({"loggroup"}),
    "target.job.id": frozenset({"datasciencejob"}),
    "target.job-run.id": frozenset({"datasciencejobrun"}),
    "target.notebook-session.id": frozenset({"datasciencenotebooksession"}),
    "target.model.id": frozenset({"datasciencemodel"}),
}
# Kinds of which it is certain what they are; of any other one nothing is claimed.
_CERTAIN = frozenset().union(*AFTER.values(), *OF_VARIABLE.values()) | words(
    """subnet vnic volume bootvolume bucket networksecuritygroup securitylist routetable volumegroup nodepool cluster
    loadbalancer filesystem mounttarget key vault vaultsecret log containerrepo containerimage datascienceproject"""
)


def misplaced(text: str, wanted: frozenset[str]) -> tuple[str, str] | None:
    """Why an OCID cannot be one of the `wanted` kinds, and what to write; None where it may be, or is no OCID."""
    found = _KIND.match(text)
    kind = found[1].lower() if found else ""
    if not kind or not wanted or kind in wanted:
        return None
    right = " or ".join(f"ocid1.{each}.…" for each in sorted(wanted))
    if kind in _CERTAIN:
        return (
            f"ocid1.{kind}.… is the OCID of another kind of thing; {right} belongs here",
            f"copy the OCID that begins with {right.replace('…', '')}",
        )
    if guess := slip(kind, wanted):
        return f'ocid1.{kind}.… is of no kind that Quorate knows; did you mean "ocid1.{guess}.…"?', "copy the OCID anew"
    return None
