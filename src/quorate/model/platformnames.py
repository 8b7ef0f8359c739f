"""The names that platforms give to machines and their groups, each checked by its platform's own rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SIXTY_THREE = "at most 63 letters, digits, '-', '_' and '.', from a letter or digit to a letter or digit"


def _form(pattern: str, rule: str, most: int = 255) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if len(value) > most or not compiled.fullmatch(value):
            shown = value if len(value) <= 80 else f"{value[:77]}..."
            raise ValueError(f"{shown!r} is not {rule}")
        return value

    return check


#: https://docs.aws.amazon.com/ec2/latest/userguide/resource-ids.html (8 digits before 2018, 17 since)
AWS_GROUP = re.compile(r"sg-[0-9a-f]{8,17}")
#: ocid1.TYPE.REALM.[REGION][.FUTURE USE].ID: https://docs.oracle.com/iaas/Content/General/Concepts/identifiers.htm
OCI_GROUP = re.compile(r"ocid1\.networksecuritygroup\.[a-z0-9-]+\.[a-z0-9-]*(\.[a-z0-9-]*)?\.[A-Za-z0-9_-]+")

#: Names of groups are not taken: rules name groups by their ids.
GroupId = Annotated[
    str,
    AfterValidator(
        _form(
            f"{AWS_GROUP.pattern}|{OCI_GROUP.pattern}",
            "the id of an AWS security group (sg- and 8 to 17 of 0-9a-f) "
            "or of an OCI network security group (ocid1.networksecuritygroup.REALM.REGION.ID)",
        )
    ),
]
#: https://cloud.google.com/vpc/docs/add-remove-network-tags
NetworkTag = Annotated[
    str,
    AfterValidator(
        _form(
            r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?",
            "a network tag of GCP: 1 to 63 lower case letters, digits and '-', from a letter to a letter or digit",
        )
    ),
]
#: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
LabelKey = Annotated[
    str,
    AfterValidator(
        _form(
            rf"((?=[^/]{{1,253}}/){_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?",
            f"the key of a Kubernetes label: {_SIXTY_THREE}, behind a DNS name and '/' if need be",
            253 + 1 + 63,
        )
    ),
]
LabelValue = Annotated[
    str,
    AfterValidator(
        _form(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", f"the value of a Kubernetes label: {_SIXTY_THREE}")
    ),
]
#: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
Namespace = Annotated[
    str,
    AfterValidator(
        _form(
            _LABEL,
            "a Kubernetes namespace: 1 to 63 lower case letters, digits and '-', from and to a letter or digit",
        )
    ),
]
