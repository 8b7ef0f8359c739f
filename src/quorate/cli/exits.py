"""The exit codes of every command, in one place; they are part of what does not change."""

from enum import IntEnum


class Exit(IntEnum):
    """What a program can rely on. `run` and `job wait` end with the job's own code instead of 0 and 1."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "Exit":
        """Keeps the sentence beside the number, so that the documentation can be made from it."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "It was done."
    FAILED = 1, "It was refused or failed, and nothing was changed unless the message says so. A check found something."
    USAGE = 2, "The command line or a file is wrong; nothing was sent."
    UNREACHABLE = 3, "No master answers at the URL, or what answers there is not the one that is trusted."
    NOT_ALLOWED = 4, "The token is missing, unknown, or not allowed to do this."
    UNKNOWN = 5, "What was named does not exist."
    DEADLINE = 124, "`run`, `job wait`: the job's `max_runtime` has passed. `job wait`: so has `--timeout`."
    PLATFORM = 125, "`run`, `job wait`: the platform failed, not the job. `run`: the job could not be submitted."
    CANCELLED = 130, "`run`, `job wait`: the job was cancelled. Any command: interrupted with Ctrl-C."
    UNREAD = 141, "Any command: whoever read its output left before its end, as `| head` does."
