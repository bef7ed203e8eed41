"""Certificates for tests, made when they are needed: of any lifetime, and with a key of their own."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tidewire tests")])
HOST = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def write_certificate(file: Path, ends: Iterable[datetime], key_file: Path) -> None:
    """Write a self-signed certificate for 127.0.0.1 for each end, all of one new key, which goes to `key_file`."""
    key = ec.generate_private_key(ec.SECP256R1())
    builders = [
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=365))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([HOST]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        for end in ends
    ]
    signed = [builder.sign(key, hashes.SHA256()) for builder in builders]
    file.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in signed))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
