"""The files that the NATS link needs: looked at before anything is connected, so that a wrong path is told at once."""

from __future__ import annotations

import ssl
from pathlib import Path

from tidewire.platform.nats_types import LinkError, LinkOptions


def readable(credentials_file: str) -> None:
    """Raise LinkError when the file ("" = none) cannot be read: nats-py looks only where the server asks for it."""
    if not credentials_file:
        return
    try:
        Path(credentials_file).read_bytes()
    except OSError as error:
        raise LinkError(f"the NATS credentials cannot be read ({error})", final=True) from error


def tls_context(options: LinkOptions) -> ssl.SSLContext | None:
    """Build the TLS settings from the configured files; None when no file is configured.

    Raises:
        LinkError: A file cannot be read or used.
    """
    if not (options.tls_ca_file or options.tls_cert_file):
        return None
    try:
        context = ssl.create_default_context(cafile=options.tls_ca_file or None)
        if options.tls_cert_file:
            context.load_cert_chain(options.tls_cert_file, options.tls_key_file or None)
    except OSError as error:
        raise LinkError(f"the TLS files for NATS cannot be used ({error})", final=True) from error
    return context
