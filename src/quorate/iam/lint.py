"""Lints a file of any of the three clouds."""

from __future__ import annotations

from quorate.iam.aws import lint as aws
from quorate.iam.finding import Finding
from quorate.iam.gcp import lint as gcp
from quorate.iam.oci import lint as oci
from quorate.iam.reading import Input, Kind, make_out
from quorate.model.severity import Severity


def lint_file(data: bytes, *, for_agents: bool = False) -> tuple[Input, list[Finding]]:
    """What the file is and every finding in it, in the order of the text. Raises UnreadableFile."""
    source = make_out(data)
    match source.kind:
        case Kind.OCI:
            found = oci.lint(source.statements, source.rules)
        case Kind.AWS:
            found = aws.lint(source, for_agents=for_agents)
        case Kind.GCP:
            found = gcp.lint(source)
    return source, found


def is_clean(findings: list[Finding]) -> bool:
    """Whether a pipeline may go on: what only informs stops nothing."""
    return all(finding.severity is Severity.INFO for finding in findings)
