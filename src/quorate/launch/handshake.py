"""How two members prove to each other that they belong to the same allocation: challenge and answer over its nonce.

The nonce never travels. Each side answers a fresh challenge of the other with an HMAC that binds the purpose, the
allocation, the direction and the rank, so that an answer fits no other question. It guards against strangers and
mix-ups (another allocation on a port that was leased again), not against someone who changes packets on their way.
"""

from __future__ import annotations

import hmac
import os

from quorate.launch.config import Configuration

#: Bytes; in hex on the wire.
CHALLENGE_BYTES = 16
VERSION = 1


def challenge() -> str:
    return os.urandom(CHALLENGE_BYTES).hex()


def of_member(configuration: Configuration, purpose: str, rank: int, own: str, theirs: str) -> str:
    """What the member of this rank answers to `theirs`."""
    return _proof(configuration, purpose, "member", rank, own, theirs)


def of_host(configuration: Configuration, purpose: str, rank: int, own: str, theirs: str) -> str:
    """What the listening side answers to the challenge of the member of this rank."""
    return _proof(configuration, purpose, "host", rank, own, theirs)


def equal(ours: str, theirs: object) -> bool:
    return isinstance(theirs, str) and theirs.isascii() and hmac.compare_digest(ours, theirs)


def is_challenge(value: object) -> bool:
    return isinstance(value, str) and len(value) == 2 * CHALLENGE_BYTES and value.isascii()


def _proof(configuration: Configuration, purpose: str, side: str, rank: int, own: str, theirs: str) -> str:
    # No field can contain a space, so no two different questions make the same text.
    text = f"quorate {VERSION} {purpose} {configuration.allocation} {side} {rank} {own} {theirs}"
    return hmac.digest(configuration.secret, text.encode(), "sha256").hex()
