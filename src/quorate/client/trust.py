"""Learning to trust a master's own authority, by comparing its fingerprint with one that came another way."""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
from urllib.parse import urlsplit

from quorate.client.errors import NotAMaster, SettingsError, Unreachable, Untrusted

#: Where a master shows the certificate of its authority to anybody who asks.
AUTHORITY_PATH = "/ca.pem"
#: No certificate is larger.
MAX_PEM_BYTES = 64 * 1024
#: Seconds for a handshake that only tells a mistake in a URL from a connection that broke.
PATIENCE = 2.0


def fetch_authority(url: str, fingerprint: str) -> str:
    """Returns the PEM of the authority at `url` if its SHA-256 is `fingerprint` (hex, colons allowed).

    The connection is not verified, so nothing is sent on it but the request; raises Untrusted if the two differ.
    Returns what was compared and not what was read, in which another certificate could stand behind the first.
    """
    wanted = fingerprint.lower().removeprefix("sha256:").replace(":", "")
    if len(wanted) != 64 or set(wanted) - set("0123456789abcdef"):
        raise SettingsError(f"{fingerprint!r} is no SHA-256 fingerprint: 64 hexadecimal digits", "quorate master show")
    pem = _fetch(url)
    try:
        der = ssl.PEM_cert_to_DER_cert(pem)
    except ValueError:
        raise NotAMaster(f"what {url}{AUTHORITY_PATH} gives is no certificate") from None
    found = hashlib.sha256(der).hexdigest()
    if not hmac.compare_digest(found, wanted):
        raise Untrusted(
            f"the authority at {url} has the fingerprint {found}, and {wanted} was expected",
            "ask the operator for the right one; somebody may stand in between",
        )
    return ssl.DER_cert_to_PEM_cert(der)


def speaks_tls(url: str) -> bool:
    """Whether TLS is spoken at the place of an http:// URL: what is there would end every plain connection unsaid."""
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=PATIENCE) as plain:
            context.wrap_socket(plain).close()
    except OSError:
        return False
    return True


def _fetch(url: str) -> str:
    import httpx

    if urlsplit(url).scheme != "https":
        raise SettingsError(f"{url} speaks no TLS, so it has no certificate", "leave --fingerprint out")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with httpx.Client(verify=context, trust_env=False, timeout=10.0) as http:
            answer = http.get(f"{url}{AUTHORITY_PATH}")
    except httpx.TransportError as error:
        raise Unreachable(f"nothing answers at {url}: {error}", "quorate doctor") from None
    if not answer.is_success or len(answer.content) > MAX_PEM_BYTES:
        raise NotAMaster(f"{url}{AUTHORITY_PATH} answered {answer.status_code}", "quorate login --ca FILE")
    return answer.text
