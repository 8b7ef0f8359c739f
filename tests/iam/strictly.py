"""Reads policy language as OCI would: the first problem that the linter's reading finds refuses the text."""

from quorate.iam.oci.matching import read_rule
from quorate.iam.oci.parser import read
from quorate.iam.oci.syntax import Condition, Define, Statement
from quorate.iam.oci.tokens import Problem


class NotAccepted(ValueError):
    """The text breaks the policy language."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.place}: {problem.message}")
        self.problem = problem


def parse(text: str) -> Statement | Define:
    """The statement that `text` is."""
    reading = read(text)
    if reading.problems:
        raise NotAccepted(reading.problems[0])
    assert reading.statement is not None
    return reading.statement


def parse_rule(text: str) -> Condition:
    """The matching rule that `text` is."""
    reading = read_rule(text)
    if reading.problems:
        raise NotAccepted(reading.problems[0])
    assert reading.rule is not None
    return reading.rule
