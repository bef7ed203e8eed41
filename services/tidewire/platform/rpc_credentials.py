"""Certificates of gRPC servers and clients: read from files, judged, and given to gRPC as bytes."""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tidewire.platform.certificates import (
    CertificateError,
    TlsFiles,
    read_certificates,
    read_chain,
    read_file,
    read_identity,
)
from tidewire.platform.rpc_client_options import RpcClientTls
from tidewire.platform.rpc_library import grpc
from tidewire.platform.rpc_options import RpcTls

_UNSPOKEN: Final = (Ed25519PublicKey, Ed448PublicKey)
"""Keys that gRPC's TLS (BoringSSL) has no signatures for: every handshake would fail."""


class Pem(msgspec.Struct, frozen=True):
    """What gRPC is given; `None` where nothing is configured. `ends`: when the first of our chain does, in Unix time."""

    chain: bytes | None
    key: bytes | None
    authorities: bytes | None
    ends: float | None


def read_server(tls: RpcTls, now: float) -> Pem:
    """Read and judge a server's files. Blocks on files; raises CertificateError."""
    return _read(TlsFiles(tls.cert_file, tls.key_file, tls.client_ca_file), "client_ca_file", now)


def read_client(tls: RpcClientTls, now: float) -> Pem:
    """Read and judge a client's files. Blocks on files; raises CertificateError."""
    return _read(TlsFiles(tls.cert_file, tls.key_file, tls.ca_file), "ca_file", now)


def _read(files: TlsFiles, ca_setting: str, now: float) -> Pem:
    pem = _bytes(files, ca_setting, None)
    if files.client_ca_file:
        read_certificates(ca_setting, files.client_ca_file)
    if not files.cert_file:
        return pem
    if isinstance(read_chain(files)[0].public_key(), _UNSPOKEN):
        why = "has an Edwards curve's key, which gRPC does not speak: use ECDSA (P-256) or RSA"
        raise CertificateError("cert_file", files.cert_file, why)
    judged = _bytes(files, ca_setting, read_identity(files, now).ends)
    if msgspec.structs.replace(pem, ends=judged.ends) != judged:
        raise CertificateError("cert_file", files.cert_file, "changed while it was read, or its key did")
    return judged


def _bytes(files: TlsFiles, ca_setting: str, ends: float | None) -> Pem:
    def content(setting: str, path: str) -> bytes | None:
        return read_file(setting, path) if path else None

    return Pem(
        content("cert_file", files.cert_file),
        content("key_file", files.key_file),
        content(ca_setting, files.client_ca_file),
        ends,
    )


class ServerCertificates:
    """A server's certificates as they are now. gRPC asks for them at every handshake, from a thread of its own."""

    def __init__(self, pem: Pem) -> None:
        self._current = self._told = _configuration(pem)
        self._with_clients = pem.authorities is not None

    def replace(self, pem: Pem) -> None:
        """Use others for handshakes from now on; connections that are open stay."""
        self._current = _configuration(pem)

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a server is made with."""
        return grpc.dynamic_ssl_server_credentials(
            self._current,
            self._changed,  # type: ignore[arg-type] # None is "no change", as its documentation says
            self._with_clients,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what is new since the last handshake."""
        current = self._current
        changed = current is not self._told
        self._told = current
        return current if changed else None


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    if pem.key is None or pem.chain is None:
        raise AssertionError("a server's TLS without a certificate")
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.chain)], pem.authorities)


def channel_credentials(pem: Pem) -> grpc.ChannelCredentials:
    """Return what a channel is made with."""
    return grpc.ssl_channel_credentials(pem.authorities, pem.key, pem.chain)
