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
    ├── UnreadableFile      not text, not JSON, not a policy of any known kind
    └── RefusedRequest      a policy that cannot be written, such as one that would hold everywhere
        ├── MissingOption       one option is missing, without which it cannot
        └── MissingOptions      all that are, gathered
    """


class UnreadableFile(IamError):
    """The file is empty, binary, malformed or of no known kind; `place` is where that shows."""

    def __init__(self, reason: str, place: Place = START) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = place


class RefusedRequest(IamError):
    """A policy was asked for that cannot be written; the text says why."""


class MissingOption(RefusedRequest):
    """A field of the request was left out; `sample` is what it might be, in the form that it must have."""

    def __init__(self, field: str, why: str, sample: str) -> None:
        self.field, self.why, self.sample = field, why, sample
        super().__init__(f"{self.option} is missing: {why}")

    @property
    def option(self) -> str:
        return f"--{self.field.replace('_', '-')}"


class MissingOptions(RefusedRequest):
    """Everything that a request lacks, so that it need not be found out one after the other."""

    def __init__(self, missing: tuple[MissingOption, ...]) -> None:
        *others, last = (each.option for each in missing)
        super().__init__(f"{', '.join(others)} and {last} are missing" if others else str(missing[0]))
        self.missing = missing
