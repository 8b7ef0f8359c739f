"""The SSH keys of an allocation, and what OpenSSH's client reads of them: derived, never drawn, never sent. Pure.

All members have one user key; each has a host key of its own. They come from the allocation's nonce, which only its
agents and the master know (docs/decisions/0005), so every agent knows every host key, and a restarted one does again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

#: Names of the files for OpenSSH's client.
KEY, KNOWN_HOSTS, CONFIG = "id_ed25519", "known_hosts", "config"


@dataclass(frozen=True)
class Named:
    """A member as the others address it."""

    name: str
    address: str


def user_key(nonce: str) -> Ed25519PrivateKey:
    """The key with which members of the allocation let each other in. `nonce` in hex."""
    return _derived(nonce, "user")


def host_key(nonce: str, rank: int) -> Ed25519PrivateKey:
    """The key by which the others know the member of this rank, in every incarnation of it."""
    return _derived(nonce, f"host {rank}")


def private_text(key: Ed25519PrivateKey) -> str:
    """As in OpenSSH's private key files."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def public_text(key: Ed25519PrivateKey) -> str:
    """As in authorized_keys and known_hosts."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def client_files(nonce: str, members: Sequence[Named], folder: str, port: int) -> dict[str, str]:
    """File name to text, for members who find them in `folder`; `members` in rank order."""
    known = [
        f"[{member.name}]:{port},[{member.address}]:{port} {public_text(host_key(nonce, rank))}\n"
        for rank, member in enumerate(members)
    ]
    return {
        KEY: private_text(user_key(nonce)),
        KNOWN_HOSTS: "".join(known),
        CONFIG: _client_config((host for member in members for host in (member.name, member.address)), folder, port),
    }


def _client_config(hosts: Iterable[str], folder: str, port: int) -> str:
    """A host that is not there cannot be trusted by mistake: every key is known, so checking is strict."""
    return f"""\
# Made by Quorate: the members of this allocation, and nobody else.
Host {" ".join(hosts)}
    Port {port}
    IdentityFile {folder}/{KEY}
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/{KNOWN_HOSTS}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    HostKeyAlgorithms ssh-ed25519
    UpdateHostKeys no
    PasswordAuthentication no
    # A member may come before the others' commands have begun; a try a second.
    ConnectionAttempts 10
"""


def _derived(nonce: str, label: str) -> Ed25519PrivateKey:
    seed = HKDF(SHA256(), 32, salt=None, info=f"quorate ssh 1 {label}".encode()).derive(bytes.fromhex(nonce))
    return Ed25519PrivateKey.from_private_bytes(seed)
