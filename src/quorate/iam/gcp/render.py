"""Writes GCP roles and bindings as gcloud commands, or as JSON with their reasons."""

from __future__ import annotations

import shlex

from quorate.iam.gcp.generate import Binding, GcpPolicy, On, Permission

_NOUNS = {
    On.PROJECT: "gcloud projects",
    On.ACCOUNT: "gcloud iam service-accounts",
    On.SUBNET: "gcloud compute networks subnets",
    On.BUCKET: "gcloud storage buckets",
    On.REPOSITORY: "gcloud artifacts repositories",
}


def command(binding: Binding) -> str:
    """The gcloud command that sets a binding."""
    words = [*_NOUNS[binding.on].split(), "add-iam-policy-binding", *binding.where]
    words += [f"--member={binding.member}", f"--role={binding.role}"]
    if binding.condition is not None:
        title, expression = binding.condition
        words.append(f"--condition=title={title},expression={expression}")
    elif binding.on is On.PROJECT:
        words.append("--condition=None")
    return shlex.join(words)


def as_commands(policy: GcpPolicy, project: str, *, reasons: bool = True) -> str:
    """A shell script of gcloud commands that makes the roles first and then binds them."""
    lines: list[str] = [f"# Note: {note}" for note in policy.notes]
    for role in policy.roles:
        lines.append("")
        if reasons:
            lines += [
                f"# {each.name}: {each.reasons.why} Without it: {each.reasons.without}" for each in role.permissions
            ]
        words = [
            "gcloud",
            "iam",
            "roles",
            "create",
            role.id,
            f"--project={project}",
            f"--title={role.title}",
            "--stage=GA",
            "--permissions=" + ",".join(sorted(each.name for each in role.permissions)),
        ]
        lines.append(shlex.join(words))
    for binding in policy.bindings:
        lines.append("")
        if reasons:
            lines += [f"# {binding.reasons.why}", f"# Without it: {binding.reasons.without}"]
        lines.append(command(binding))
    for scope in policy.scopes:
        lines += ["", f"# Scope of the machine: {scope.name}"]
        if reasons:
            lines += [f"# {scope.reasons.why}", f"# Without it: {scope.reasons.without}"]
    return "\n".join(lines).strip("\n") + "\n"


def _line(permission: Permission) -> str:
    return f"# {permission.name}: {permission.reasons.why} Without it: {permission.reasons.without}"


def as_json(policy: GcpPolicy) -> dict[str, object]:
    return {
        "cloud": "gcp",
        "roles": [
            {
                "id": role.id,
                "role": role.as_json(),
                "permissions": [{"name": each.name, **each.reasons.as_json()} for each in role.permissions],
            }
            for role in policy.roles
        ],
        "bindings": [
            {
                "id": each.id,
                "on": each.on.value,
                "resource": each.where[0],
                "role": each.role,
                "member": each.member,
                "condition": {"title": each.condition[0], "expression": each.condition[1]} if each.condition else None,
                "command": command(each),
                **each.reasons.as_json(),
            }
            for each in policy.bindings
        ],
        "scopes": [{"scope": each.name, **each.reasons.as_json()} for each in policy.scopes],
        "notes": list(policy.notes),
    }
