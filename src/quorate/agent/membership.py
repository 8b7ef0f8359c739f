"""How an agent becomes one of its cluster: a join token for a key of its own, over a connection that it can trust."""

import hashlib
import http.client
import json
import os
import secrets
import ssl
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from quorate.agent.config import AgentConfig

#: In the state folder.
MEMBERSHIP: Final = "membership.json"
JOIN_PATH: Final = "/agent/v1/join"
AUTHORITY_PATH: Final = "/ca.pem"
_TIMEOUT_S: Final = 15.0
_MAX_ANSWER: Final = 1024 * 1024


class JoinError(Exception):
    """The agent could not join; the text says why and what to do.

    JoinError
    └── MasterAway    try again later
    """


class MasterAway(JoinError):
    """Nobody answers at the master's address (yet)."""


@dataclass(frozen=True)
class JoinToken:
    """`qj1.<id>.<secret>.<sha256 of the authority's certificate, or ->`"""

    text: str
    fingerprint: str | None

    @classmethod
    def parse(cls, text: str) -> "JoinToken":
        """Raises JoinError."""
        parts = text.strip().split(".")
        if len(parts) != 4 or parts[0] != "qj1" or not all(parts):
            raise JoinError("this is no join token; make one on the master: quorate token create --pool default")
        return cls(text.strip(), None if parts[3] == "-" else parts[3].lower())


@dataclass(frozen=True)
class Membership:
    """What an agent keeps: who it is, its key, and whom it trusts. A file of mode 0600 in its state folder."""

    agent: str
    key: str
    master: str
    #: PEM of the authority behind the master's certificate; empty where the system's authorities vouch for it.
    authority: str = ""
    #: Whether the master has accepted the key.
    joined: bool = False

    def context(self) -> ssl.SSLContext | None:
        """How to trust the master; None where it does not speak TLS. Raises JoinError."""
        if urlsplit(self.master).scheme != "https":
            return None
        try:
            return ssl.create_default_context(cadata=self.authority or None)
        except (ssl.SSLError, ValueError) as error:
            raise JoinError(
                f"what is kept of the authority behind {self.master} is no certificate in PEM: {error}; give that "
                "authority's file by --ca (the master has it at /ca.pem, `quorate master show` its fingerprint)"
            ) from error


def establish(config: AgentConfig) -> Membership:
    """The membership in the state folder, or a new one by the join token. Raises JoinError."""
    path = config.state_dir / MEMBERSHIP
    kept = _read(path)
    authority = _authority(config.ca_file) if config.ca_file else ""
    if kept is not None and kept.joined and kept.agent == config.name:
        # The master may have moved; the key is what counts.
        return Membership(kept.agent, kept.key, config.master, authority or kept.authority, True)
    if kept is not None and kept.joined:
        raise JoinError(f"{path} is of agent {kept.agent}, not {config.name}; use another state folder for this one")
    if config.token is None:
        raise JoinError("this agent is not a member yet: give it a token (quorate token create, on the master)")
    token = JoinToken.parse(config.token.get_secret_value())
    if token.fingerprint is not None and not authority and config.master.startswith("https"):
        authority = fetch_authority(config.master, token.fingerprint)
    # The key is ours and on the disk before the master hears of it: an answer that is lost costs nothing.
    key = kept.key if kept else f"qa1.{secrets.token_urlsafe(32)}"
    membership = Membership(config.name, key, config.master, authority)
    _write(path, membership)
    _join(membership, token, config.pool)
    membership = Membership(config.name, key, config.master, authority, True)
    _write(path, membership)
    return membership


def _join(membership: Membership, token: JoinToken, pool: str | None) -> None:
    body: dict[str, Any] = {
        "token": token.text,
        "name": membership.agent,
        "key_hash": hashlib.sha256(membership.key.encode()).hexdigest(),
    }
    if pool is not None:
        body["pool"] = pool
    request = urllib.request.Request(  # noqa: S310 (the scheme is checked with the configuration)
        membership.master + JOIN_PATH,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    _open(request, membership.context())


def fetch_authority(master: str, fingerprint: str) -> str:
    """The authority's certificate, over a connection that proves nothing: so nothing is said, and it is compared.

    Returns what was compared and not what was read, in which another certificate could stand behind the first.
    """
    blind = ssl.create_default_context()
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    pem = _open(urllib.request.Request(master + AUTHORITY_PATH), blind).decode("ascii", errors="replace")  # noqa: S310
    try:
        der = ssl.PEM_cert_to_DER_cert(pem.strip())
    except ValueError as error:
        raise JoinError(f"{master} has no certificate of an authority to show: {error}") from error
    found = hashlib.sha256(der).hexdigest()
    if not secrets.compare_digest(found, fingerprint):
        raise JoinError(
            f"{master} shows an authority with fingerprint {found}, the token was made for {fingerprint}: "
            "the token is of another cluster, or somebody stands between"
        )
    return ssl.DER_cert_to_PEM_cert(der)


def _open(request: urllib.request.Request, context: ssl.SSLContext | None) -> bytes:
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT_S) as answer:
            return bytes(answer.read(_MAX_ANSWER))
    except urllib.error.HTTPError as error:
        raise (MasterAway if error.code in (429, 502, 503) else JoinError)(_refusal(error)) from error
    except OSError as error:
        raise MasterAway(f"{request.full_url} cannot be reached: {getattr(error, 'reason', error)}") from error
    except http.client.HTTPException as error:
        raise MasterAway(f"what answers at {request.full_url} speaks no HTTP ({error!r}); is it a master's?") from error


def _refusal(error: urllib.error.HTTPError) -> str:
    text = error.read(_MAX_ANSWER).decode(errors="replace")
    try:
        problem = json.loads(text)
        sentence = problem.get("detail") or problem.get("title") or text
        hint = f" ({problem['hint']})" if problem.get("hint") else ""
        return f"{sentence}{hint}"
    except (ValueError, AttributeError):
        return f"the master answered {error.code}: {text[:300]}"


def _authority(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, ValueError) as error:
        raise JoinError(f"ca_file {file} cannot be read: {error}; see ls -l {file}") from error


def _read(path: Path) -> Membership | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Membership)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        # Not put aside: a key may come back from a copy, and without it this name is nobody's any more.
        raise JoinError(
            f"{path} is damaged: {error}. It has this agent's key, so put back a copy. There is none? On the master: "
            "quorate agent revoke NAME, and quorate token create --pool POOL; here: "
            f"mv {path} {path}.damaged, and start the agent with another --name and that --token"
        ) from error


def _write(path: Path, membership: Membership) -> None:
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w") as file:  # noqa: PTH123 (a descriptor)
        file.write(json.dumps(asdict(membership)))
        file.flush()
        os.fsync(fd)
    fresh.rename(path)
