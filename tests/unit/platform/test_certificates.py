from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from tests.support.certificates import write_certificate
from tidewire.platform import certificates
from tidewire.platform.certificates import CertificateError, TlsFiles, names_of, read_chain, read_identity

NOW = datetime.now(UTC).replace(microsecond=0)


class Folder:
    """A good certificate, its key, and the server's TLS that they make."""

    def __init__(self, path: Path) -> None:
        self.cert, self.key, self.other = path / "cert.pem", path / "key.pem", path / "other.pem"
        write_certificate(self.other, [NOW + timedelta(days=9)], path / "other-key.pem")
        write_certificate(self.cert, [NOW + timedelta(days=1)], self.key)
        self.files = TlsFiles(str(self.cert), str(self.key))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Files of this test's own."""
    return Folder(tmp_path)


def test_good_certificate(folder: Folder) -> None:
    """What is told of it, and what its handshakes are like."""
    identity = read_identity(folder.files, NOW.timestamp())
    assert identity.ends == (NOW + timedelta(days=1)).timestamp()
    assert identity.names == ("127.0.0.1",)
    assert len(identity.fingerprint) == 64
    context = identity.context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.verify_mode is ssl.CERT_NONE
    old = [each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"]
    assert old
    assert all(
        name.startswith("ECDHE-") and name.endswith(("GCM-SHA256", "GCM-SHA384", "POLY1305")) for name in old
    )


def test_chain_ends_with_its_first_end(folder: Folder) -> None:
    """An authority that expires takes the certificate with it."""
    write_certificate(folder.cert, [NOW + timedelta(days=9), NOW + timedelta(days=3)], folder.key)
    assert read_identity(folder.files, NOW.timestamp()).ends == (NOW + timedelta(days=3)).timestamp()
    assert len(read_chain(folder.files)) == 2


def no_file(folder: Folder) -> None:
    """Not there."""
    folder.cert.unlink()


def no_key(folder: Folder) -> None:
    """Not there."""
    folder.key.unlink()


def pipe(folder: Folder) -> None:
    """Would keep a reader waiting for ever."""
    folder.cert.unlink()
    os.mkfifo(folder.cert)


def text(folder: Folder) -> None:
    """No PEM."""
    folder.cert.write_text("hello")


def text_as_key(folder: Folder) -> None:
    """No PEM."""
    folder.key.write_text("hello")


def damaged(folder: Folder) -> None:
    """PEM of something else."""
    folder.cert.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def other_key(folder: Folder) -> None:
    """Of another certificate."""
    shutil.copy(folder.key.with_name("other-key.pem"), folder.key)


def with_password(folder: Folder) -> None:
    """Which OpenSSL would ask for on the terminal."""
    key = ec.generate_private_key(ec.SECP256R1())
    folder.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )


def expired(folder: Folder) -> None:
    """Since yesterday."""
    write_certificate(folder.cert, [NOW - timedelta(days=1)], folder.key)


def too_early(folder: Folder) -> None:
    """From next year on."""
    write_certificate(folder.cert, [NOW + timedelta(days=800)], folder.key)


@pytest.mark.parametrize(
    ("spoil", "setting", "why"),
    [
        (no_file, "cert_file", "is not there"),
        (no_key, "key_file", "is not there"),
        (pipe, "cert_file", "no regular file"),
        (text, "cert_file", "holds no certificate in PEM"),
        (text_as_key, "key_file", "holds no private key in PEM"),
        (damaged, "cert_file", "holds no certificate in PEM"),
        (other_key, "key_file", "is not the key of the (first) certificate"),
        (with_password, "key_file", "has a password"),
        (expired, "cert_file", "expired on "),
        (too_early, "cert_file", "is not valid before "),
    ],
)
def test_bad_file_is_named(folder: Folder, spoil: Callable[[Folder], None], setting: str, why: str) -> None:
    """With its setting, its path and the reason, in one line."""
    spoil(folder)
    with pytest.raises(CertificateError) as caught:
        read_identity(folder.files, NOW.timestamp())
    assert caught.value.setting == setting
    assert caught.value.path == str(getattr(folder, setting.partition("_")[0]))
    assert why in caught.value.why
    assert "\n" not in str(caught.value)


def test_unreadable_file_is_named(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, who runs the tests in a container, may read everything: the refusal is made."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CertificateError, match=r"cert_file .* cannot be read: Permission denied"):
        read_identity(folder.files, NOW.timestamp())


def test_files_that_change_while_they_are_read(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our reading and OpenSSL's: what it finds then is refused, too."""
    monkeypatch.setattr(certificates, "check_key", lambda *_: other_key(folder))
    with pytest.raises(CertificateError, match="cannot be used: KEY_VALUES_MISMATCH"):
        read_identity(folder.files, NOW.timestamp())


def test_authorities_of_clients(folder: Folder) -> None:
    """With them a certificate is required; without any in the file nothing is."""
    files = TlsFiles(str(folder.cert), str(folder.key), str(folder.other), "1.3")
    context = read_identity(files, NOW.timestamp()).context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    for content in ("hello", "ä"):
        folder.other.write_text(content)
        with pytest.raises(CertificateError, match=r"client_ca_file .* holds no certificates in PEM"):
            read_identity(files, NOW.timestamp())


def test_certificate_may_have_no_name(folder: Folder) -> None:
    """Then no client accepts it, which the doctor says."""
    (certificate,) = read_chain(TlsFiles(str(Path("tests/support/tls/ca.pem")), ""))
    assert names_of(certificate) == ()
