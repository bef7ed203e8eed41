"""Fixtures of the tests that need a real nats-server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nats_server import NatsServer


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A plain nats-server of this test's own: no JetStream, no accounts, everything allowed."""
    with NatsServer(tmp_path / "nats") as server:
        yield server
