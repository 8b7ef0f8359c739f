"""Judges a GCP custom role (what `gcloud iam roles describe` prints) or an IAM policy with bindings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from quorate.iam import codes
from quorate.iam.finding import Code, Finding
from quorate.iam.gcp.known import is_known, of_call, slip_of
from quorate.iam.gcp.roles import BASIC_ROLES, KNOWN_ROLES, ROLES_DOC, STAGES, WIDE_ROLES
from quorate.iam.place import did_you_mean, slip
from quorate.iam.reading import Input

# Newer services write theirs with the API's whole name: iam.googleapis.com/workloadIdentityPools.create
PERMISSION = re.compile(r"[a-z]\w*(\.\w+){2,3}|[a-z][\w-]*(\.[\w-]+)+/\w+(\.\w+){1,3}", re.ASCII)
ROLE = re.compile(r"roles/[\w.]+|(projects|organizations)/[\w.:-]+/roles/[\w.]{3,64}")
MEMBER = re.compile(r"(user|serviceAccount|group|domain|principal|principalSet|deleted|projectOwner|projectEditor):\S+")
_ROLE_KEYS = frozenset({"name", "title", "description", "includedPermissions", "stage", "etag", "deleted"})
_POLICY_KEYS = frozenset({"bindings", "etag", "version", "auditConfigs"})
_BINDING_KEYS = frozenset({"role", "members", "condition"})
_CONDITION_KEYS = frozenset({"title", "description", "expression", "location"})


class _Judge:
    def __init__(self, source: Input) -> None:
        self.source = source
        self.found: list[Finding] = []

    def report(self, path: tuple[str | int, ...], evidence: str, mend: str, code: Code = codes.GCP_GRAMMAR) -> None:
        self.found.append(Finding(code, self.source.place(*path), evidence, mend))

    def keys(self, body: dict[str, object], known: frozenset[str], what: str, path: tuple[str | int, ...]) -> None:
        for key in body:
            if key not in known:
                self.report(
                    (*path, key), f'{what} has no key "{key}"{did_you_mean(key, known)}', "remove or correct it"
                )


def lint(source: Input) -> list[Finding]:
    """Every finding of a role or a policy."""
    judge = _Judge(source)
    document = source.document
    if not isinstance(document, dict):
        judge.report((), "expected an object", "write {…}")
    elif "bindings" in document:
        _policy(judge, document)
    elif "includedPermissions" in document:
        _role(judge, document)
    else:
        for name, role in document.items():
            _role(judge, role, name)
    return sorted(judge.found, key=lambda each: (each.place, each.code.name))


def _role(judge: _Judge, role: dict[str, object], *at: str) -> None:
    """`at`: the path to the role, where the document holds several by their names."""
    judge.keys(role, _ROLE_KEYS, "a role", at)
    if not isinstance(role.get("title"), str) or not 1 <= len(str(role.get("title"))) <= 100:
        judge.report((*at, "title"), "a role needs a title of 1 to 100 characters", "add a title")
    if "stage" in role and str(role["stage"]) not in STAGES:
        judge.report((*at, "stage"), f"the stage {role['stage']!r} is none of {', '.join(sorted(STAGES))}", "write GA")
    listed = role.get("includedPermissions")
    if not isinstance(listed, list) or not listed:
        judge.report(
            (*at, "includedPermissions"), "includedPermissions must be a list that is not empty", "list permissions"
        )
        return
    for index, permission in enumerate(listed):
        path: tuple[str | int, ...] = (*at, "includedPermissions", index)
        if not isinstance(permission, str) or not PERMISSION.fullmatch(permission):
            judge.report(path, f"{permission!r} is not service.resource.verb", "correct it", codes.GCP_PERMISSION)
        elif permission in listed[:index]:
            judge.report(path, f"{permission} stands twice", "delete one", codes.DUPLICATE)
        elif permission == "iam.serviceAccounts.actAs" and len(listed) > 1:
            judge.report(
                path,
                "actAs in a role for the project lets its holder become every service account there",
                "put it in a role of its own, bound on the agents' account alone",
                codes.GCP_ACT_AS_ANY,
            )
    _strangers(judge, listed, (*at, "includedPermissions"))


def _strangers(judge: _Judge, listed: list[object], at: tuple[str | int, ...]) -> None:
    """Permissions that the table has not: a slip for one that it has is worth a warning, the rest a note."""
    unlisted: dict[str, list[tuple[int, str]]] = {}
    for index, permission in enumerate(listed):
        if not isinstance(permission, str) or not PERMISSION.fullmatch(permission) or is_known(permission):
            continue
        path = (*at, index)
        if meant := of_call(permission):
            evidence = f"{permission} is the name of a call, not of a permission"
            judge.report(path, evidence, f"write `{meant}`", codes.GCP_PERMISSION_UNKNOWN)
        elif meant := slip_of(permission):
            evidence = f'{permission} is not known to Quorate; did you mean "{meant}"?'
            judge.report(path, evidence, f"write `{meant}`", codes.GCP_PERMISSION_UNKNOWN)
        else:
            unlisted.setdefault(re.split("[./]", permission)[0], []).append((index, permission))
    for service, several in unlisted.items():
        first, names = several[0][0], ", ".join(name for _, name in several[:3])
        more = f" and {len(several) - 3} more" if len(several) > 3 else ""
        judge.report(
            (*at, first),
            f"of {service} not known to Quorate: {names}{more}",
            "check them in https://cloud.google.com/iam/docs/permissions-reference",
            codes.UNLISTED,
        )


def _policy(judge: _Judge, policy: dict[str, object]) -> None:
    judge.keys(policy, _POLICY_KEYS, "a policy", ())
    bindings = policy["bindings"]
    if not isinstance(bindings, list):
        judge.report(("bindings",), "bindings must be a list", "write [{role, members}]")
        return
    conditioned = any(isinstance(each, dict) and "condition" in each for each in bindings)
    if conditioned and str(policy.get("version")) != "3":
        judge.report(("version",), "a policy with conditions must have version 3", 'write "version": 3')
    for index, binding in enumerate(bindings):
        path: tuple[str | int, ...] = ("bindings", index)
        if not isinstance(binding, dict):
            judge.report(path, "a binding must be an object", "write {role, members}")
            continue
        judge.keys(binding, _BINDING_KEYS, "a binding", path)
        for finding in _binding(binding, path):
            judge.report(*finding)


def _binding(
    binding: dict[str, object], path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str, str, Code]]:
    role, members = binding.get("role"), binding.get("members")
    if not isinstance(role, str) or not ROLE.fullmatch(role):
        yield (
            (*path, "role"),
            f"{role!r} is not the name of a role",
            "write roles/… or projects/…/roles/…",
            codes.GCP_GRAMMAR,
        )
        return
    if role in BASIC_ROLES:
        yield (
            (*path, "role"),
            f"{role} holds thousands of permissions",
            "grant a role for the task",
            codes.GCP_BASIC_ROLE,
        )
    elif role in WIDE_ROLES:
        yield (
            (*path, "role"),
            f"{role}: {WIDE_ROLES[role]}",
            "run `quorate iam policy --cloud gcp`",
            codes.GCP_WIDE_ROLE,
        )
    elif role.startswith("roles/") and role not in KNOWN_ROLES:
        evidence = f"{role} is not known to Quorate"
        if meant := slip(role, KNOWN_ROLES):
            evidence += f'; did you mean "{meant}"?'
            yield (*path, "role"), evidence, f"write `{meant}`", codes.GCP_ROLE_UNKNOWN
        else:
            yield (*path, "role"), evidence, f"check it in {ROLES_DOC}", codes.UNLISTED
    if role == "roles/iam.serviceAccountUser":
        yield (
            (*path, "role"),
            f"{role} in a project's policy is the right to act as every account of it",
            "bind it on the agents' account alone",
            codes.GCP_ACT_AS_ANY,
        )
    condition = binding.get("condition")
    if condition is not None and (
        not isinstance(condition, dict)
        or not isinstance(condition.get("expression"), str)
        or not condition.keys() <= _CONDITION_KEYS
    ):
        yield (*path, "condition"), "a condition has a title and an expression", "correct it", codes.GCP_GRAMMAR
    if not isinstance(members, list) or not members:
        yield (*path, "members"), "members must be a list that is not empty", "name whom it is for", codes.GCP_GRAMMAR
        return
    for index, member in enumerate(members):
        if member in ("allUsers", "allAuthenticatedUsers"):
            yield (*path, "members", index), f"{role} for {member}", "name a service account", codes.GCP_PUBLIC
        elif not isinstance(member, str) or not MEMBER.fullmatch(member):
            yield (*path, "members", index), f"{member!r} is no member", "write serviceAccount:…", codes.GCP_GRAMMAR
