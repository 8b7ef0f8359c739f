"""Which objects and words `nft -j list ruleset` prints: what is none of them would be passed over, and is refused.

Source: libnftables-json(5); `meter` and `tunnel` are printed and not described there.
"""

from __future__ import annotations

import difflib
from typing import Any

from quorate.network.audit.documents import not_misspelt, only
from quorate.network.audit.ruleset import Unreadable

_KINDS = (
    *("metainfo", "table", "chain", "rule", "set", "map", "meter", "element", "flowtable", "counter", "quota", "limit"),
    *("ct helper", "ct timeout", "ct expectation", "secmark", "synproxy", "tunnel"),
)
#: Those that decide something, or that rules look into.
_READ = ("table", "chain", "rule", "set", "map")
_CHAIN = ("family", "table", "name", "handle", "comment", "type", "hook", "prio", "dev", "policy", "flags")
_WORDS = {
    "family": ("ip", "ip6", "inet", "arp", "bridge", "netdev"),
    "type": ("filter", "nat", "route"),
    "hook": ("prerouting", "input", "forward", "output", "postrouting", "ingress", "egress"),
    "policy": ("accept", "drop"),
}
#: Around rules newer versions print more, so that only what is almost one of these is refused.
_AROUND = {
    "table": ("family", "name", "handle", "flags", "comment"),
    "set": ("family", "table", "name", "handle", "type", "policy", "flags", "elem", "timeout", "size", "comment"),
}


def check(item: dict[str, Any], place: str) -> None:
    """Raise Unreadable for an object of the list, which has one key, that is of no kind or has a wrong word."""
    only(item, _KINDS, place)
    kind, body = next(iter(item.items()))
    if kind not in _READ:
        return
    if not isinstance(body, dict):
        raise Unreadable(f"a {kind} is an object", place)
    if kind == "chain":
        only(body, _CHAIN, place)
        for key, words in _WORDS.items():
            _one_of(body, key, words, place)
    elif kind != "rule":
        not_misspelt(body, _AROUND["table" if kind == "table" else "set"], place)
        _one_of(body, "family", _WORDS["family"], place)


def _one_of(body: dict[str, Any], key: str, words: tuple[str, ...], place: str) -> None:
    value = body.get(key, words[0])
    if value not in words:
        near = difflib.get_close_matches(str(value), words, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(words)}"
        raise Unreadable(f"{key} is {str(value)[:40]!r}; {hint}", place)
