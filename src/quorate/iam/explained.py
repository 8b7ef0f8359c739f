"""A part of a generated policy together with its reasons, so that whoever approves it need not guess."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why a statement is in the policy, what fails without it, and the document that says so."""

    why: str
    without: str
    source: str

    def as_json(self) -> dict[str, str]:
        return {"why": self.why, "without": self.without, "source": self.source}
