"""What prober and listener say to each other: JSON objects, one a line, over TCP, UDP and at a companion's door.

asks        {"probe": 2, "challenge": hex}              a door speaks first; what it says is passed over
answers     {"who": name, "proof": hex}                 an HMAC over the nonce, which never travels
asks        {"pad": "xxx…"}                             as much as fills packets of the path's full size
answers     {"received": bytes}, {"pad": "xxx…"}        the small one tells the way there from the way back
"""

from __future__ import annotations

import hmac
import os
from typing import Any, Dict, List

VERSION = 2
#: Two segments of Ethernet's largest frames. A listener echoes no more.
MAX_PAD = 18_000
#: The longest line that is ever needed.
MAX_LINE = MAX_PAD + 1024
_CHALLENGE = 32


def challenge() -> str:
    return os.urandom(_CHALLENGE // 2).hex()


def question(asked: str) -> Dict[str, Any]:
    return {"probe": VERSION, "challenge": asked}


def pad(count: int) -> Dict[str, Any]:
    """A message that is as many bytes long on the wire, its newline included, and at least the shortest there is."""
    return {"pad": "x" * max(0, min(count, MAX_PAD) - len('{"pad":""}\n'))}


def replies(message: Dict[str, Any], nonce: bytes, who: str, transport: str, port: int) -> List[Dict[str, Any]]:
    """What a listener says to a message of a prober; nothing to anybody else's."""
    asked, padding = message.get("challenge"), message.get("pad")
    if message.get("probe") == VERSION and isinstance(asked, str) and len(asked) == _CHALLENGE and asked.isascii():
        return [{"who": who, "proof": _proof(nonce, who, transport, port, asked)}]
    if isinstance(padding, str) and transport == "tcp" and len(padding) <= MAX_PAD:
        return [{"received": len(padding)}, {"pad": padding}]
    return []


def is_answer(message: Dict[str, Any]) -> bool:
    return isinstance(message.get("who"), str) and isinstance(message.get("proof"), str)


def is_proven(message: Dict[str, Any], nonce: bytes, transport: str, port: int, asked: str) -> bool:
    """Whether the answer's author holds the nonce, whoever it says that it is."""
    right = _proof(nonce, message["who"], transport, port, asked)
    return hmac.compare_digest(right.encode(), message["proof"].encode())


def _proof(nonce: bytes, who: str, transport: str, port: int, asked: str) -> str:
    text = f"quorate probe {VERSION} {who} {transport} {port} {asked}"
    return hmac.digest(nonce, text.encode("utf-8", "replace"), "sha256").hex()
