"""A server's certificate and key, read from files and judged before anything depends on them."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

LARGEST_FILE: Final = 1 << 20
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Those of TLS 1.2 with forward secrecy and authenticated encryption (RFC 9325, section 4.2); 1.3 has no others. No
finite-field Diffie-Hellman, which costs the server most (CVE-2002-20001).
"""
TICKETS: Final = 1
"""Session tickets after a handshake of TLS 1.3: a client needs one to come back with less work for both sides."""
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class TlsFiles(msgspec.Struct, frozen=True):
    """What a server's TLS is made of. `client_ca_file`: only clients with a certificate of these authorities; "": all."""

    cert_file: str
    key_file: str
    client_ca_file: str = ""
    min_version: str = "1.2"


class CertificateError(Exception):
    """A file cannot be used; `setting` is the field of TlsFiles that names it, `why` follows its path in a sentence."""

    def __init__(self, setting: str, path: str, why: str) -> None:
        super().__init__(f"{setting} {path} {why}")
        self.setting = setting
        self.path = path
        self.why = why


class Identity(msgspec.Struct, frozen=True):
    """A server's certificate, ready for handshakes. `ends`: when the first of its chain does, in Unix time."""

    context: ssl.SSLContext
    ends: float
    names: tuple[str, ...]
    fingerprint: str
    """SHA-256 of the certificate, in hexadecimal digits."""


def read_identity(files: TlsFiles, now: float) -> Identity:
    """Read and judge everything. Blocks on files; raises CertificateError."""
    chain = read_chain(files)
    check_key(files, chain[0])
    for each in chain:
        _check_time(files, each, now)
    return Identity(
        context=_context(files),
        ends=min(each.not_valid_after_utc.timestamp() for each in chain),
        names=names_of(chain[0]),
        fingerprint=chain[0].fingerprint(hashes.SHA256()).hex(),
    )


def read_chain(files: TlsFiles) -> Sequence[x509.Certificate]:
    """Return the certificate and what stands behind it; raises CertificateError."""
    return read_certificates("cert_file", files.cert_file)


def read_certificates(setting: str, path: str) -> Sequence[x509.Certificate]:
    """Return the certificates in the file that a setting names, at least one; raises CertificateError."""
    content = read_file(setting, path)
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        why = "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"
        raise CertificateError(setting, path, why) from None


def check_key(files: TlsFiles, certificate: x509.Certificate) -> None:
    """Raise CertificateError unless the key file holds the certificate's key."""
    content = read_file("key_file", files.key_file)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise CertificateError("key_file", files.key_file, "has a password: give a key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError("key_file", files.key_file, "holds no private key in PEM") from None
    halves = [
        each.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for each in (key.public_key(), certificate.public_key())
    ]
    if halves[0] != halves[1]:
        why = f"is not the key of the (first) certificate in {files.cert_file}"
        raise CertificateError("key_file", files.key_file, why)


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the hosts and addresses that a certificate is for; clients look nowhere else (RFC 9525, section 2)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    hosts = names.get_values_for_type(x509.DNSName)
    return (*hosts, *map(str, names.get_values_for_type(x509.IPAddress)))


def read_file(setting: str, path: str) -> bytes:
    """Return the first MiB of a regular file; raises CertificateError."""
    try:
        if not Path(path).is_file():
            raise CertificateError(setting, path, "is not there, or no regular file")
        with Path(path).open("rb") as opened:
            return opened.read(LARGEST_FILE)
    except OSError as error:
        raise CertificateError(setting, path, f"cannot be read: {error.strerror}") from None


def _check_time(files: TlsFiles, certificate: x509.Certificate, now: float) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    why = ""
    if certificate.not_valid_after_utc <= moment:
        why = f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    elif certificate.not_valid_before_utc > moment:
        why = f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if why:
        name = certificate.subject.rfc4514_string() or certificate.serial_number
        raise CertificateError("cert_file", files.cert_file, f"{why} ({name})")


def _context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context without renegotiation, compression and old ciphers.

    Each has new keys for session tickets, which hold a session encrypted: the server keeps nothing for them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[files.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = TICKETS
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.cert_file, files.key_file, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = f"cannot be used: {getattr(error, 'reason', None) or error}"
        raise CertificateError("cert_file", files.cert_file, why) from None
    if files.client_ca_file:
        _ask_clients(context, files.client_ca_file)
    return context


def _ask_clients(context: ssl.SSLContext, ca_file: str) -> None:
    content = read_file("client_ca_file", ca_file)
    try:
        context.load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise CertificateError("client_ca_file", ca_file, "holds no certificates in PEM") from None
    context.verify_mode = ssl.CERT_REQUIRED
