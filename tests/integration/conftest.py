"""Fixtures of the tests that need a real nats-server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.nats_server import NatsServer
from tests.support.raw_client import Clients


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A plain nats-server of this test's own: no JetStream, no accounts, everything allowed."""
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """Raw clients of this test."""
    with contextlib.ExitStack() as stack:
        yield Clients(stack)
