"""How bad a finding is, whoever found it."""

from enum import StrEnum


class Severity(StrEnum):
    """Only `error` and `warning` make a check fail, and its command exit with 1."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
