from __future__ import annotations

import ssl

import pytest

from tidewire.platform.tls_outcomes import OUTCOMES, outcome_of


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("HTTP_REQUEST", "http"),
        ("UNSUPPORTED_PROTOCOL", "version"),
        ("NO_SHARED_CIPHER", "cipher"),
        ("TLSV1_ALERT_UNKNOWN_CA", "rejected"),
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "client_certificate"),
        ("WRONG_VERSION_NUMBER", "malformed"),
        (None, "malformed"),
    ],
)
def test_every_outcome_is_known(reason: str | None, outcome: str) -> None:
    """Also of an error that OpenSSL gives no reason for (None)."""
    error = ssl.SSLError()
    error.reason = reason  # type: ignore[assignment]
    assert outcome_of(error) == outcome
    assert outcome in OUTCOMES
