"""What needs no server; the rest is in integration/test_doctor.py."""

from __future__ import annotations

import pytest

from tidewire.doctor.nats_facts import _traces


@pytest.mark.parametrize(
    ("version", "traces"),
    [
        ("2.10.29", False),
        ("2.11.0", True),
        ("2.12.0-beta.1", True),
        ("3.0.0", True),
        ("1.4", False),
        ("", False),
    ],
)
def test_servers_that_trace_without_delivering(version: str, *, traces: bool) -> None:
    """From 2.11 on; one that does not say its version is not trusted with it."""
    assert _traces(version) is traces
