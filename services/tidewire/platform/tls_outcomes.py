"""How TLS handshakes end, in a word each: label values of a metric, so they are few and no peer chooses them."""

from __future__ import annotations

import ssl
from typing import Final

OK: Final = "ok"
CLOSED: Final = "closed"
TIMEOUT: Final = "timeout"
BROKEN: Final = "broken"
HTTP: Final = "http"
GONE: Final = "gone"
OVERLOAD: Final = "overload"
NO_TLS: Final = b"This port speaks TLS: use wss:// or https://.\n"
PLAIN_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(NO_TLS), NO_TLS)
)
_REASONS: Final = {
    "HTTP_REQUEST": HTTP,
    "HTTPS_PROXY_REQUEST": HTTP,
    "UNSUPPORTED_PROTOCOL": "version",
    "NO_SHARED_CIPHER": "cipher",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "client_certificate",
    "CERTIFICATE_VERIFY_FAILED": "client_certificate",
}
OUTCOMES: Final = (
    OK,
    CLOSED,
    TIMEOUT,
    BROKEN,
    GONE,
    OVERLOAD,
    *dict.fromkeys(_REASONS.values()),
    "rejected",
    "malformed",
)
"""How a handshake may end. `broken` comes after an `ok`: a record that cannot be read.

`gone` and `overload` cost no cryptography: the client was away before its turn, or its turn came too late.
"""


def outcome_of(error: ssl.SSLError) -> str:
    """Return why a handshake failed, in one of OUTCOMES."""
    reason = error.reason or ""
    return "rejected" if "ALERT" in reason else _REASONS.get(reason, "malformed")
