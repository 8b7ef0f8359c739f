"""The oci commands that change rules of groups, and of lists, which are only ever written as a whole."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from quorate.network.audit.ocirules import Holder, Kind, SecurityRule
from quorate.network.flows import Direction, Transport
from quorate.network.plan import PlannedFlow

#: What prints which lists hold in which subnets.
SUBNETS = "oci network subnet list --compartment-id OCID --all"
_NUMBERS = {Transport.TCP: "6", Transport.UDP: "17"}
_TRACKED = {"is-stateless": False}
#: What OCI adds to a rule by itself.
_PRINTED_ONLY = ("is-valid", "time-created")


def _rules(flow: PlannedFlow, direction: Direction, *, in_list: bool) -> list[dict[str, Any]]:
    """Return the rules for a flow at one end, as the command line prints and takes them."""
    far = "source" if direction is Direction.INGRESS else "destination"
    peer = flow.peer(direction)
    # A list cannot name a group.
    named = [] if in_list else [(group, "NETWORK_SECURITY_GROUP") for group in peer.security_groups]
    named = named or [(label, "SERVICE_CIDR_BLOCK") for label in peer.service_labels]
    named = named or [(str(network), "CIDR_BLOCK") for network in peer.addresses]
    return [
        {
            "protocol": _NUMBERS[flow.transport],
            "is-stateless": False,
            far: text,
            f"{far}-type": kind,
            f"{flow.transport.value}-options": {
                "destination-port-range": {"min": max(1, ports.first), "max": ports.last}
            },
            "description": flow.flow,
        }
        for text, kind in named
        for ports in flow.ports
    ]


def _camel(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_capital(key): _camel(item) for key, item in value.items()}
    return value


def _capital(key: str) -> str:
    first, *rest = key.split("-")
    return first + "".join(word.capitalize() for word in rest)


def add_to_group(group: str, flow: PlannedFlow, direction: Direction) -> str:
    """Return the command that adds a flow's rules to a group."""
    rules = [{"direction": direction.value.upper(), **_camel(rule)} for rule in _rules(flow, direction, in_list=False)]
    return f"oci network nsg rules add --nsg-id {group} --security-rules {shlex.quote(json.dumps(rules))}"


def add_to_list(ocid: str, flow: PlannedFlow, direction: Direction) -> str:
    """Return the command that adds a flow's rules to a list."""
    more = _literal(_rules(flow, direction, in_list=True))
    return _write(ocid, direction, f"[{_rules_of(direction)}, {more}][]")


def make_stateful(item: SecurityRule, holder: Holder) -> str:
    """Return what makes a stateless rule stateful, so that the answers to what it lets in pass."""
    if holder.kind is Kind.LIST:
        rules = _rules_of(item.direction)
        same, changed = _literal(item.raw), "merge(@, " + _literal(_TRACKED) + ")"
        # In place, so that it does nothing where the rule has gone meanwhile.
        return _write(holder.id, item.direction, f"[{rules}[?@ != {same}], {rules}[?@ == {same}].{changed}][]")
    if "id" not in item.raw:
        return f"let isStateless be false at {item.rule.place}"
    given = {
        key: value for key, value in {**item.raw, **_TRACKED}.items() if value is not None and key not in _PRINTED_ONLY
    }
    shown = shlex.quote(json.dumps([_camel(given)]))
    return f"oci network nsg rules update --nsg-id {holder.id or 'OCID'} --security-rules {shown}"


def as_stateful(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a rule reads once it is stateful."""
    return {**raw, **_TRACKED}


def remove(item: SecurityRule, holder: Holder, staying: int, *, beside_tracked: bool) -> str:
    """Return what takes a rule away, and leaves as many of those that read the same as are `staying`.

    `beside_tracked` says whether another one reads as it would if it were stateful.
    """
    if holder.kind is Kind.LIST:
        gone, tracked = [item.raw], as_stateful(item.raw)
        if item.stateless and not beside_tracked:
            # Another finding's command may have made it stateful before.
            gone.append(tracked)
        rules = _rules_of(item.direction)
        query = f"{rules}[?{' && '.join(f'@ != {_literal(raw)}' for raw in gone)}]"
        if staying:
            alike = " || ".join(f"@ == {_literal(raw)}" for raw in gone)
            query = f"[{query}, {rules}[?{alike}] | [:{staying}]][]"
        return _write(holder.id, item.direction, query)
    if "id" not in item.raw:
        return f"take out {item.rule.place}"
    ids = shlex.quote(json.dumps([item.raw["id"]]))
    return f"oci network nsg rules remove --nsg-id {holder.id or 'OCID'} --security-rule-ids {ids}"


def _rules_of(direction: Direction) -> str:
    return f'data."{direction.value}-security-rules"'


def _write(ocid: str, direction: Direction, query: str) -> str:
    """Return the command that writes a list's rules as a query makes them of those that it has when it runs.

    What is written replaces all rules of that direction
    (https://docs.oracle.com/iaas/tools/oci-cli/latest/oci_cli_docs/cmdref/network/security-list/update.html), so the
    present ones are asked for first: then the commands of several findings can be run one after the other. A query
    that ends as a text prints an empty list, too.
    """
    key = f"{direction.value}-security-rules"
    present = f"oci network security-list get --security-list-id {ocid} --raw-output"
    asked = shlex.quote(f"to_string({query})")
    return f'oci network security-list update --security-list-id {ocid} --force --{key} "$({present} --query {asked})"'


def _literal(value: Any) -> str:
    return "`" + json.dumps(value).replace("`", "\\`") + "`"
