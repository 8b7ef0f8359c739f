"""Seals the secrets of jobs: AES-256-GCM under a key file, bound to the job and the name that they were given for."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from quorate.master.files import write_private

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class SecretsError(Exception):
    """A key file that cannot be used, or a secret that it does not open; never carries a value."""


class Sealer:
    """Seals and opens under one key. Sealed: 12 random bytes, then ciphertext and tag."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def from_file(cls, path: Path, *, make: bool) -> "Sealer":
        """Reads the key (32 bytes as hex); with `make`, a file that is missing is made."""
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            if not make:
                raise SecretsError(
                    f"the key file {path} is missing; make one with: openssl rand -hex 32 > {path}"
                ) from None
            write_private(path, os.urandom(_KEY_BYTES).hex().encode() + b"\n")
            text = path.read_bytes()
        except OSError as error:
            raise SecretsError(f"the key file {path} cannot be read: {error.strerror}") from None
        if path.stat().st_mode & 0o077:
            raise SecretsError(f"the key file {path} can be read by others; run: chmod 600 {path}")
        try:
            key = bytes.fromhex(text.decode().strip())
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise SecretsError(
                f"the key file {path} must hold 32 bytes as hex: put it back from your copy. A new one (openssl rand "
                f"-hex 32 > {path}) opens no secret of a job that was submitted before"
            )
        return cls(key)

    def seal(self, job: str, secrets: Mapping[str, SecretStr]) -> dict[str, bytes]:
        """The secrets of a job as they are stored."""
        sealed = {}
        for name, value in secrets.items():
            nonce = os.urandom(_NONCE_BYTES)
            sealed[name] = nonce + self._cipher.encrypt(nonce, value.get_secret_value().encode(), _about(job, name))
        return sealed

    def open(self, job: str, sealed: Mapping[str, bytes]) -> dict[str, str]:
        """The values again; raises SecretsError where the key is another one or the bytes were changed or moved."""
        values = {}
        for name, data in sealed.items():
            try:
                plain = self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _about(job, name))
            except InvalidTag:
                raise SecretsError(
                    f"secret {name} of job {job} does not open: it was sealed under another key, or was changed"
                ) from None
            values[name] = plain.decode()
        return values


def _about(job: str, name: str) -> bytes:
    return f"{job}\0{name}".encode()
