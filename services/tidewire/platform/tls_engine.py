"""The server's side of TLS without a socket: OpenSSL behind memory BIOs. Bytes in, bytes out."""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

PIECE: Final = 4096
"""Bytes that OpenSSL is handed at once, in both directions: its memory BIOs never give back what they once grew to."""
RECORD: Final = 16 * 1024
"""The most plain bytes in a record (RFC 8446, section 5.1)."""


class TlsEngine:
    """One connection. OpenSSL has no part in it before the first byte: silent peers cost little."""

    __slots__ = ("_incoming", "_outgoing", "_tls", "context", "open")

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.open = False
        """Whether the handshake is done."""
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()

    @property
    def begun(self) -> bool:
        """Whether a byte of the peer's came."""
        return self._tls is not None

    @property
    def version(self) -> str | None:
        """`TLSv1.3` or the like; None before the handshake's end."""
        return self._tls.version() if self._tls is not None else None

    def decrypt(self, piece: bytes) -> tuple[bytes, bool]:
        """Go on with at most PIECE bytes of the peer's; return the plain ones, and whether it has said goodbye.

        Raises ssl.SSLError.
        """
        if self._tls is None:
            self._tls = self.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(piece)
        found: list[bytes] = []
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self.open:
                self._tls.do_handshake()
                self.open = True
            while self._incoming.pending or self._tls.pending():
                found.append(self._tls.read(RECORD))
                if not found[-1]:
                    return b"".join(found), True
        return b"".join(found), False

    def encrypt(self, piece: memoryview) -> bytes:
        """Return the records of at most PIECE plain bytes."""
        if self._tls is None:
            raise AssertionError("data before the handshake")
        self._tls.write(piece)
        return self._outgoing.read()

    def say_goodbye(self) -> None:
        """Let close_notify be the last of `answer` (RFC 8446, section 6.1); the peer's is not waited for."""
        if self._tls is not None:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()

    def answer(self) -> bytes:
        """Return what TLS itself has to say: its part of the handshake, alerts, key updates."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def release(self) -> None:
        """Let go of OpenSSL's part."""
        self._tls = None
