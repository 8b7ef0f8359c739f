"""Asks an AWS policy what it lets its holder do, as far as that can be told without a request at hand."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from functools import lru_cache

from quorate.iam.aws.grammar import AwsStatement


def may(statements: Sequence[AwsStatement], action: str, resource: str) -> bool:
    """Whether the policy might allow the action on the resource, for some request.

    An allow counts even under a condition, and a deny only without one: so "no" is certain and "yes" is not.
    """
    allowed = any(each.allows and _concerns(each, action, resource) for each in statements)
    denied = any(not each.allows and not each.conditions and _concerns(each, action, resource) for each in statements)
    return allowed and not denied


def _concerns(statement: AwsStatement, action: str, resource: str) -> bool:
    by_action = any(matches(pattern, action, ignore_case=True) for pattern in statement.actions)
    by_resource = any(overlap(pattern, resource) for pattern in statement.resources)
    return by_action is not statement.inverted_actions and by_resource is not statement.inverted_resources


def allows(statement: AwsStatement, action: str) -> bool:
    """Whether the statement, an allowing one, is about the action, on whatever resource."""
    named = any(matches(pattern, action, ignore_case=True) for pattern in statement.actions)
    return statement.allows and named is not statement.inverted_actions


def is_every(resource: str, *, kinds: bool) -> bool:
    """Whether a resource's pattern leaves the resource itself open: `*`, `arn:aws:s3:::*`, `arn:aws:ec2:*:*:*`.

    `kinds`: also where it names the kind alone, as in `role/*`, `secret:*`.
    """
    parts = resource.split(":", 5)
    if len(parts) < 6:
        return set(resource) <= set("*?") and "*" in resource
    inner = parts[5]
    if parts[2] == "s3":
        # The bucket is the resource; which objects in it hardly matters where it may be any.
        inner = inner.partition("/")[0]
    elif kinds:
        inner = re.split("[/:]", inner, maxsplit=1)[-1]
    return "*" in inner and set(inner) <= set("*?/:")


def matches(pattern: str, text: str, *, ignore_case: bool = False) -> bool:
    """AWS wildcards: `*` for any run of characters, `?` for one."""
    return compiled(pattern, ignore_case).fullmatch(text) is not None


def overlap(pattern: str, other: str) -> bool:
    """Whether some resource is named by both patterns. Errs towards yes."""
    if "*" in other or "?" in other:
        head_a, head_b = re.split(r"[*?]", pattern, maxsplit=1)[0], re.split(r"[*?]", other, maxsplit=1)[0]
        return head_a.startswith(head_b) or head_b.startswith(head_a)
    return matches(pattern, other)


@lru_cache(maxsize=1024)
def compiled(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    """The pattern for many texts."""
    # fnmatch's expressions take no longer for many stars, however they stand; brackets have no meaning here.
    text = fnmatch.translate(pattern.replace("[", "[[]"))
    return re.compile(text, re.IGNORECASE if ignore_case else 0)
