"""What the linters report: a stable code, how bad it is, where, the evidence and the exact mend."""

from __future__ import annotations

from dataclasses import dataclass

from quorate.iam.place import START, Place
from quorate.model.severity import Severity


@dataclass(frozen=True, slots=True)
class Code:
    """A finding's stable name and what it means; the docs list them all."""

    name: str
    severity: Severity
    meaning: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect of one statement.

    `replacement` is the whole statement as it should read, where that can be known without asking anybody; a line for
    each where one statement has to become two.
    """

    code: Code
    place: Place
    evidence: str
    mend: str
    replacement: str | None = None

    @property
    def severity(self) -> Severity:
        return self.code.severity

    def as_json(self, file: str) -> dict[str, object]:
        return {
            "code": self.code.name,
            "severity": self.severity.value,
            "file": file,
            "line": self.place.line,
            "column": self.place.column,
            "evidence": self.evidence,
            "mend": self.mend,
            "replacement": self.replacement,
        }


class IamError(Exception):
    """Input that cannot be worked with; the tree below it names why.

    IamError
    ├── UnreadableFile   not text, not JSON, not a policy of any known kind
    └── RefusedRequest   a policy that cannot be written, such as one without a subject
    """


class UnreadableFile(IamError):
    """The file is empty, binary, malformed or of no known kind; `place` is where that shows."""

    def __init__(self, reason: str, place: Place = START) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = place


class RefusedRequest(IamError):
    """A policy was asked for that cannot be written; the text says why."""
