"""Every finding of the policy linters, once, so that the docs and the code cannot differ."""

from __future__ import annotations

from quorate.iam.finding import Code
from quorate.model.severity import Severity

_ALL: dict[str, Code] = {}


def _code(name: str, severity: Severity, meaning: str) -> Code:
    assert name not in _ALL
    _ALL[name] = Code(name, severity, meaning)
    return _ALL[name]


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.INFO

# Any cloud
SYNTAX = _code("IAM-SYNTAX", _E, "The text breaks the policy language.")
DUPLICATE = _code("IAM-DUPLICATE", _W, "The same statement stands twice.")

# OCI statements
TWO_VERBS = _code("IAM-TWO-VERBS", _E, "Two verbs in one statement (`use read metrics`): OCI refuses it.")
VERB_UNKNOWN = _code("IAM-VERB-UNKNOWN", _E, "Not one of inspect, read, use, manage (`user` is a slip for `use`).")
NO_SUBJECT = _code("IAM-NO-SUBJECT", _E, "Nobody is named, often because a `<placeholder>` was eaten.")
NO_LOCATION = _code("IAM-NO-LOCATION", _E, "Neither tenancy nor a compartment is named.")
NO_VALUE = _code("IAM-NO-VALUE", _E, "A condition compares with nothing.")
UNQUOTED = _code("IAM-UNQUOTED", _E, "A condition's string value lacks its single quotes.")
PLACEHOLDER = _code("IAM-PLACEHOLDER", _E, "A template's placeholder was never filled in.")
RESOURCE_UNKNOWN = _code(
    "IAM-RESOURCE-UNKNOWN", _W, "Not known to Quorate, and a slip away from a resource type that is."
)
PERMISSION_UNKNOWN = _code(
    "IAM-PERMISSION-UNKNOWN", _W, "Not known to Quorate, and a slip away from a permission that is."
)
VARIABLE_UNKNOWN = _code("IAM-VARIABLE-UNKNOWN", _W, "Not known to Quorate, and a slip away from a variable that is.")
UNLISTED = _code("IAM-UNLISTED", _N, "A name that Quorate does not know; the vendors add new ones all the time.")
OCID_KIND = _code("IAM-OCID-KIND", _E, "An OCID of another kind than the place asks for: it names nobody, or nothing.")
VARIABLE_MISPLACED = _code(
    "IAM-VARIABLE-MISPLACED",
    _E,
    "The variable is not part of any request for this resource type, so the condition is false and the grant is void.",
)
LIST_DECLINED = _code(
    "IAM-LIST-DECLINED", _W, "List calls carry no name of one resource, so this condition declines every one of them."
)
TAG_CREATES = _code(
    "IAM-TAG-CREATES",
    _W,
    "What is being made or listed has no tag yet, so a condition on the resource's tag declines creating and listing.",
)
NEVER_TRUE = _code("IAM-NEVER-TRUE", _E, "The condition contradicts itself and grants nothing.")
ALWAYS_TRUE = _code("IAM-ALWAYS-TRUE", _W, "The condition is true of everything and restricts nothing.")
SUBSUMED = _code("IAM-SUBSUMED", _W, "Another statement already grants all of this.")
ALL_RESOURCES = _code("IAM-ALL-RESOURCES", _E, "Grants more than reading on every resource that there is.")
ANY_USER = _code("IAM-ANY-USER", _E, "Grants to every principal, with no condition on who asks.")
ESCALATION = _code(
    "IAM-ESCALATION",
    _E,
    "Code that runs on machines, or anybody, may change who may do what, and so take more than this.",
)
TENANCY_WIDE = _code("IAM-TENANCY-WIDE", _W, "Grants use or manage in the whole tenancy without a condition.")
WIDER = _code("IAM-WIDER", _W, "Wider than training needs; a narrower statement does the same work.")
NO_BUCKET = _code("IAM-NO-BUCKET", _W, "Objects or buckets may be changed in every bucket of the location.")
CANNOT_CREATE = _code(
    "IAM-CANNOT-CREATE", _W, "`use objects` may overwrite an object but not create one: a new checkpoint fails."
)
DENY_OPT_IN = _code("IAM-DENY-OPT-IN", _N, "Deny statements act only where the tenancy has switched them on.")
TOO_MANY = _code("IAM-TOO-MANY", _E, "More than 500 statements on one path of compartments: OCI refuses the rest.")
LONG_POLICY = _code(
    "IAM-LONG-POLICY", _N, "More than 50 statements in one policy, which some OCI installations refuse."
)

# OCI dynamic groups
DG_MATCHES_NOTHING = _code("IAM-DG-MATCHES-NOTHING", _E, "No resource can match the rule: the group stays empty.")
DG_MATCHES_TENANCY = _code(
    "IAM-DG-MATCHES-TENANCY", _E, "No compartment, resource or tag bounds the rule: it takes in the whole tenancy."
)
DG_INSTANCE_VARIABLE = _code(
    "IAM-DG-INSTANCE-VARIABLE", _E, "An `instance.*` variable matches compute instances only, never a job run."
)
DG_TYPE_UNKNOWN = _code(
    "IAM-DG-TYPE-UNKNOWN", _W, "Not known to Quorate as a type of principal, and a slip away from one that is."
)

# AWS
AWS_GRAMMAR = _code("IAM-AWS-GRAMMAR", _E, "The document breaks the grammar of AWS policies.")
AWS_ACTION = _code("IAM-AWS-ACTION", _E, "The action's name is not of the form `service:Action`.")
AWS_ACTION_UNKNOWN = _code(
    "IAM-AWS-ACTION-UNKNOWN",
    _W,
    "Not among the actions that AWS listed for the service; a misspelt one grants, or denies, nothing.",
)
AWS_STAR_ACTION = _code("IAM-AWS-STAR-ACTION", _E, "Allows every action, or every action of a service.")
AWS_STAR_RESOURCE = _code(
    "IAM-AWS-STAR-RESOURCE",
    _W,
    "An action that changes things or reads what is kept, on every resource, with no condition.",
)
AWS_PASS_ROLE = _code("IAM-AWS-PASS-ROLE", _E, "May hand any role to a machine: whoever holds this holds every role.")
AWS_PUBLIC = _code("IAM-AWS-PUBLIC", _E, "Granted to every principal of every account, with no condition.")
AWS_OPEN_CONDITION = _code(
    "IAM-AWS-OPEN-CONDITION", _W, "A condition that holds when its key is absent, or for all values."
)
AWS_REACHES = _code("IAM-AWS-REACHES", _E, "An agent may do what only the master should be able to do.")

# GCP
GCP_GRAMMAR = _code("IAM-GCP-GRAMMAR", _E, "The document is not a role or policy that IAM would accept.")
GCP_PERMISSION = _code("IAM-GCP-PERMISSION", _E, "The permission's name is not of the form `service.resource.verb`.")
GCP_PERMISSION_UNKNOWN = _code(
    "IAM-GCP-PERMISSION-UNKNOWN", _W, "Not known to Quorate, and a slip away from one that is, or a call's name."
)
GCP_BASIC_ROLE = _code("IAM-GCP-BASIC-ROLE", _E, "A basic role (owner, editor, viewer) instead of one for the task.")
GCP_WIDE_ROLE = _code("IAM-GCP-WIDE-ROLE", _W, "A predefined role far wider than the master's calls.")
GCP_PUBLIC = _code("IAM-GCP-PUBLIC", _E, "Granted to everybody on the internet or with an account.")
GCP_ACT_AS_ANY = _code("IAM-GCP-ACT-AS-ANY", _E, "May act as every service account of the project.")
GCP_ROLE_UNKNOWN = _code("IAM-GCP-ROLE-UNKNOWN", _W, "Not known to Quorate, and a slip away from a role that is.")


def all_codes() -> tuple[Code, ...]:
    return tuple(_ALL.values())
