"""What can go wrong between a client and a master, each with cause, evidence and next command.

QuorateError
└── ClientError
    ├── ApiError         the master answered with a problem
    ├── Unreachable      nothing that speaks for a master answers at the URL
    ├── Untrusted        something answers there, and its certificate is not the one that was pinned
    ├── NotAMaster       something answers there, and it is no Quorate master
    ├── ContextRefused   the folder cannot be packed
    └── SettingsError    client.yaml cannot be used
"""

from quorate.model.problem import FieldProblem, Problem, QuorateError


class ClientError(QuorateError):
    """Base of what this package raises."""


class ApiError(ClientError):
    """The master refused or failed; `problem` is what it said."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str:
        """The stable code, such as JOB-UNKNOWN."""
        return self.problem.code


class _Local(ClientError):
    """An error that the client finds by itself."""

    code = "CLIENT"
    title = "The client cannot go on"

    def __init__(self, detail: str, hint: str = "", errors: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(Problem(title=self.title, status=0, code=self.code, detail=detail, hint=hint, errors=errors))


class Unreachable(_Local):
    """Nothing answers at the master's URL."""

    code = "MASTER-UNREACHABLE"
    title = "The master cannot be reached"


class Untrusted(_Local):
    """The certificate at the master's URL is not signed by the CA that is pinned."""

    code = "MASTER-UNTRUSTED"
    title = "The master's certificate is not trusted"


class NotAMaster(_Local):
    """What answers is no Quorate master, or speaks another language."""

    code = "NOT-A-MASTER"
    title = "What answers there is no Quorate master"


class ContextRefused(_Local):
    """The folder cannot be sent with a job."""

    code = "CONTEXT-REFUSED"
    title = "The context cannot be packed"


class SettingsError(_Local):
    """The client's settings file cannot be used."""

    code = "CLIENT-SETTINGS"
    title = "The client's settings cannot be used"
