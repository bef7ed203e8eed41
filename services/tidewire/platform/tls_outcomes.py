"""How TLS handshakes end, in a word each: label values of a metric, so they are few and no peer chooses them."""

from __future__ import annotations

import ssl
from typing import Final

OK: Final = "ok"
CLOSED: Final = "closed"
TIMEOUT: Final = "timeout"
BROKEN: Final = "broken"
HTTP: Final = "http"
_REASONS: Final = {
    "HTTP_REQUEST": HTTP,
    "HTTPS_PROXY_REQUEST": HTTP,
    "UNSUPPORTED_PROTOCOL": "version",
    "NO_SHARED_CIPHER": "cipher",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "client_certificate",
    "CERTIFICATE_VERIFY_FAILED": "client_certificate",
}
OUTCOMES: Final = (OK, CLOSED, TIMEOUT, BROKEN, *dict.fromkeys(_REASONS.values()), "rejected", "malformed")
"""How a handshake may end. `broken` comes after an `ok`: a record that cannot be read."""


def outcome_of(error: ssl.SSLError) -> str:
    """Return why a handshake failed, in one of OUTCOMES."""
    reason = error.reason or ""
    return "rejected" if "ALERT" in reason else _REASONS.get(reason, "malformed")
