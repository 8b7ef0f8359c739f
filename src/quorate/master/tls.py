"""The master's certificate: the operator's own, or one signed by a small authority of the cluster's own.

Agents and users learn to trust that authority by its fingerprint, which a join token carries: they fetch the
certificate over an unverified connection, on which they send nothing, and compare.
"""

import datetime
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quorate.master.files import write_private

CA_LIFE: Final = datetime.timedelta(days=3650)
#: What browsers and other TLS stacks still accept (CA/Browser Forum, ballot SC22).
SERVER_LIFE: Final = datetime.timedelta(days=397)
#: A server's certificate with less life left than this is made anew.
RENEW_BEFORE: Final = datetime.timedelta(days=130)
#: Clocks of agents may be behind by so much.
BACKDATED: Final = datetime.timedelta(hours=1)


class CertificateError(Exception):
    """A certificate or key that cannot be used; the message names the file and why."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the listener shows. `authority` is the PEM that peers must trust; empty: they trust it already."""

    chain: Path
    key: Path
    authority: bytes = b""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the authority's certificate, or `-` where the system's authorities vouch for the master."""
        return fingerprint_of(self.authority) if self.authority else "-"

    def context(self) -> ssl.SSLContext:
        """A server's context; raises CertificateError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Lets a context that is in use show this certificate from the next handshake on."""
        try:
            context.load_cert_chain(self.chain, self.key)
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(f"{self.chain} with {self.key} cannot be used: {error}") from error


def fingerprint_of(pem: bytes) -> str:
    """SHA-256 (hex) of a certificate."""
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


def operators_certificate(chain: Path, key: Path, authority: Path | None) -> Certificate:
    """The operator's own certificate; raises CertificateError where the files are no pair."""
    try:
        certificate = Certificate(chain, key, authority.read_bytes() if authority else b"")
        if certificate.authority:
            fingerprint_of(certificate.authority)
    except (OSError, ValueError) as error:
        raise CertificateError(f"{authority} is no certificate: {error}") from error
    certificate.context()
    return certificate


def own_certificate(directory: Path, names: Iterable[str], now: datetime.datetime) -> Certificate:
    """The cluster's own authority and a certificate for `names` (also addresses), made or renewed as needed."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = _alternative_names(names)
    authority, authority_key = _authority(directory, now)
    chain, key = directory / "server.pem", directory / "server.key"
    if not _still_good(chain, key, authority, wanted, now):
        made_key = ec.generate_private_key(ec.SECP256R1())
        made = _server_certificate(authority, authority_key, made_key, wanted, now)
        # The key first: a crash in between leaves a pair that does not match, which the next start sees and renews.
        write_private(key, _private(made_key))
        write_private(chain, made.public_bytes(serialization.Encoding.PEM) + _public(authority))
    return Certificate(chain, key, _public(authority))


def _authority(directory: Path, now: datetime.datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate_file, key_file = directory / "ca.pem", directory / "ca.key"
    # Never made anew by itself: nobody who has learnt to trust this one would talk to the master any more.
    advice = (
        "Agents and users trust this authority: put both files back from your copy. Without one, rm both: the master "
        "makes another, which every agent and user has to be given (--ca)"
    )
    if certificate_file.exists() and not key_file.exists():
        raise CertificateError(f"{key_file} is missing, and {certificate_file} is there. {advice}")
    if certificate_file.exists():
        try:
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise CertificateError(f"{certificate_file} with {key_file} cannot be read: {error}. {advice}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise CertificateError(f"{key_file} is not the key of {certificate_file}. {advice}")
        return certificate, key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Quorate cluster {os.urandom(4).hex()}")])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(name, name, key, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(key_file, _private(key))
    write_private(certificate_file, _public(certificate))
    return certificate, key


def _server_certificate(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    now: datetime.datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Quorate master")])
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _builder(subject, authority.subject, key, now, SERVER_LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
    )


def _still_good(
    chain: Path, key: Path, authority: x509.Certificate, names: list[x509.GeneralName], now: datetime.datetime
) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(chain.read_bytes())
        certificate.verify_directly_issued_by(authority)
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        has = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # Whatever is wrong with a certificate of our own, the answer is a new one.
        return False
    mine = private.public_key() == certificate.public_key()
    return mine and set(names) <= set(has) and certificate.not_valid_after_utc - now > RENEW_BEFORE


def _alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    found: dict[x509.GeneralName, None] = {}
    for name in names:
        try:
            found[x509.IPAddress(ip_address(name))] = None
        except ValueError:
            found[x509.DNSName(name.encode("idna").decode())] = None
    return list(found)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
