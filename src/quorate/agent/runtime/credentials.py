"""What a registry wants to hear before it gives an image away: from Docker's configuration, its helpers, or a job."""

import base64
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from quorate.agent.runtime.references import Reference

#: A job's secret of this name holds a `config.json`; it is for its agents alone, no member sees it.
SECRET: Final = "docker-config"  # noqa: S105, the name
#: A helper that asks somebody has nobody to ask here.
_HELPER_S = 30.0
_MAX_OUTPUT = 64 * 1024
_HELPER = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CredentialsError(Exception):
    """What is kept cannot be used; the text names the file or the program, and never what it holds."""


def credentials(reference: Reference, config: Path | None, job: str = "") -> str:
    """For the engine's X-Registry-Auth; empty where nothing is known, and the registry is asked as a stranger.

    A job's own come first. Blocks while a helper runs. Raises CredentialsError.
    """
    if job and (found := _of_config(_parsed(job, f"secret {SECRET}"), reference, f"secret {SECRET}", helpers=False)):
        return _encoded(found)
    if config is not None and config.exists():
        try:
            text = config.read_text()
        except OSError as error:
            raise CredentialsError(f"{config}: {error.strerror}") from error
        if found := _of_config(_parsed(text, str(config)), reference, str(config), helpers=True):
            return _encoded(found)
    return ""


def _parsed(text: str, where: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        raise CredentialsError(f"{where} is not JSON") from None
    if not isinstance(data, dict):
        raise CredentialsError(f'{where} is not an object such as {{"auths": …}}')
    return data


def _of_config(data: Mapping[str, Any], reference: Reference, where: str, helpers: bool) -> dict[str, str] | None:
    key = reference.credentials_key
    # A job must not choose a program that runs here.
    if helpers:
        program = (data.get("credHelpers") or {}).get(reference.registry) or data.get("credsStore")
        if program and (found := _ask(str(program), key)):
            return found
    auths = data.get("auths") or {}
    entry = next((entry for name, entry in auths.items() if _host(name) == _host(key)), None)
    if not isinstance(entry, dict):
        return None
    if token := entry.get("identitytoken"):
        return {"identitytoken": str(token), "serveraddress": key}
    if text := entry.get("auth"):
        try:
            user, colon, password = base64.b64decode(text).decode().rstrip("\0").partition(":")
        except ValueError:
            colon = ""
        if not colon:
            raise CredentialsError(f"{where}: auth for {reference.registry} is not USER:PASSWORD in base64")
        return {"username": user, "password": password, "serveraddress": key}
    if "username" in entry and "password" in entry:
        return {"username": str(entry["username"]), "password": str(entry["password"]), "serveraddress": key}
    return None


def _host(key: str) -> str:
    return re.sub(r"^https?://", "", key).split("/", 1)[0]


def _ask(helper: str, key: str) -> dict[str, str] | None:
    """What `docker-credential-<helper>` knows; None if it says that it knows nothing."""
    if not _HELPER.fullmatch(helper):
        raise CredentialsError(f"{helper[:64]!r} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, "get"], input=key.encode(), capture_output=True, timeout=_HELPER_S, check=False)
    except FileNotFoundError:
        raise CredentialsError(f"there is no {program} on the PATH of the agent") from None
    except subprocess.TimeoutExpired:
        raise CredentialsError(f"{program} has not answered within {_HELPER_S:g} s") from None
    if done.returncode:
        said = (done.stdout or done.stderr)[:500].decode(errors="replace").strip()
        if "credentials not found" in said:
            return None
        raise CredentialsError(f"{program} failed: {said or f'exit code {done.returncode}'}")
    try:
        answer = json.loads(done.stdout[:_MAX_OUTPUT])
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise CredentialsError(f"{program} answered with something else than credentials") from None
    # The helpers' protocol: this name says that the secret is a token.
    if user == "<token>":
        return {"identitytoken": secret, "serveraddress": key}
    return {"username": user, "password": secret, "serveraddress": key}


def _encoded(found: Mapping[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(found).encode()).decode()
