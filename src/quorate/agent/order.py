"""What a shim is told of its member, once: over a socket, never over argv or the disk. Standard library only."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from quorate.agent.ssh.door import Offer


@dataclass(frozen=True)
class Order:
    """All that a shim needs; it comes over the zygote's socket, never over argv, and never touches the disk."""

    member: str
    #: The member's own folder; the shim writes its log, outcome and socket there.
    folder: str
    argv: tuple[str, ...]
    #: The user's variables, which nothing overrides.
    user_environment: dict[str, str]
    #: Variables of the machine and of the launcher, which the user's and the companion's stand above.
    environment: dict[str, str]
    work: str
    grace_s: float
    uid: int | None = None
    gid: int | None = None
    #: Name to value; written to `secrets_folder`, which is in memory.
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    secrets_folder: str = ""
    #: The file with the agent's lease, and how long after its end the member may run; None: for ever.
    lease: str = ""
    stop_after_s: float | None = None
    #: The companion's configuration; none for a member that is alone.
    companion: str = field(default="", repr=False)
    #: The network namespace that command and companion are in; empty: the machine's own.
    netns: str = ""
    #: What the command, and the companion, see as /etc/hosts and /etc/resolv.conf; empty: the machine's own.
    hosts_file: str = ""
    resolv_file: str = ""
    #: What the command, and the companion, take the machine's name for; empty: the machine's own.
    hostname: str = ""
    #: Folders of the member that its command, and the companion, see in the place of the machine's.
    temporary: dict[str, str] = field(default_factory=dict)
    #: How the member is reached by SSH; None: not at all.
    ssh: Offer | None = None
    #: Who reads the secrets, where that is another user than the companion's.
    reader: tuple[int, int] | None = None
    #: For a member with an image: what its engine is told; then `argv` and `work` mean nothing.
    container: dict[str, Any] | None = None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Order":
        fields = json.loads(data)
        ssh = Offer(**fields["ssh"]) if fields["ssh"] else None
        reader = tuple(fields["reader"]) if fields.get("reader") else None
        return cls(**{**fields, "argv": tuple(fields["argv"]), "ssh": ssh, "reader": reader})
