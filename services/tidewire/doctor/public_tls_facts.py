"""Reads the public port's certificate: as an edge would at its start, and as the one that runs shows it to clients."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from typing import Final

from tidewire.doctor.facts import ListenerFacts, PublicTlsFacts
from tidewire.edge.http_options import HttpConfig, tls_files
from tidewire.platform.certificates import CertificateError, read_identity

SHOWN_TIMEOUT: Final = 2.0
EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound to it


def reachable(address: str) -> str:
    """Return where this machine reaches a listener at `address`."""
    return EVERY_ADDRESS.get(address, address)


async def read_public_tls(http: HttpConfig, listener: ListenerFacts) -> PublicTlsFacts | None:
    """Return the facts; `listener` is the public one. None without TLS."""
    files = tls_files(http.tls)
    if files is None:
        return None
    try:
        identity = await asyncio.to_thread(read_identity, files, time.time())
    except CertificateError as error:
        return PublicTlsFacts(problem=f"http.tls.{error}")
    shown = await _shown(http) if listener.problem and listener.edge_runs else None
    in_force = None if shown is None else hashlib.sha256(shown).hexdigest() == identity.fingerprint
    return PublicTlsFacts(names=identity.names, in_force=in_force)


async def _shown(http: HttpConfig) -> bytes | None:
    """Return the certificate that the port shows, in DER; None where it shows none, as to all but proxies."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is only looked at
    try:
        async with asyncio.timeout(SHOWN_TIMEOUT):
            _, writer = await asyncio.open_connection(reachable(http.address), http.port, ssl=context)
    except (OSError, TimeoutError):
        return None
    shown: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return shown
