"""Fixtures of storage: a nats-server with JetStream and the mapping, and a link to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.edges import mapping
from tests.support.links import started
from tests.support.nats_server import NatsServer
from tests.support.storage import PARTITIONS
from tidewire.platform.jetstream import JetStream
from tidewire.platform.nats_link import NatsLink


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server."""
    with NatsServer(tmp_path / "nats", config=mapping(PARTITIONS), jetstream=True) as running:
        yield running


@pytest.fixture
async def link(server: NatsServer) -> AsyncIterator[NatsLink]:
    """A link to it."""
    async with started(server.url) as (connected, _):
        yield connected


@pytest.fixture
def js(link: NatsLink) -> JetStream:
    """JetStream over the link."""
    return JetStream(link, 10.0)
