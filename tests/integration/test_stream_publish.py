"""Publications to a namespace with history: a real edge, and JetStream's acknowledgement behind every answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.edges import OPEN, EdgeProcess, edge_config, mapping, token
from tests.support.nats_server import NatsServer
from tests.support.raw_client import RawClient, joined
from tests.support.streams import create_streams, stored
from tidewire.kernel.streams import stream_name

PARTITIONS = 2
HISTORY = {"history_size": 100, "history_ttl": "1h"}
NAMESPACES = [
    {"name": "live", **OPEN},
    {"name": "kept", **OPEN, **HISTORY},
    {"name": "brief", **OPEN, **HISTORY, "storage_profile": "brief"},
]
CHANGES = {
    "nats": {"partitions": PARTITIONS},
    "channel": {"namespaces": NAMESPACES},
    "storage": {"profiles": [{"name": "default"}, {"name": "brief", "message_ttl": True}]},
    "client": {"inflight_limit": 1000},
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server with JetStream and the mapping."""
    with NatsServer(tmp_path / "nats", config=mapping(PARTITIONS), jetstream=True) as running:
        yield running


@pytest.fixture
async def edge(server: NatsServer, tmp_path: Path) -> AsyncIterator[EdgeProcess]:
    """An edge with its streams."""
    config = edge_config(server.url, CHANGES)
    await create_streams(server.url, config)
    with EdgeProcess(tmp_path / "edge", config) as running:
        yield running


@pytest.fixture
async def client(edge: EdgeProcess) -> AsyncIterator[RawClient]:
    """Alice, connected."""
    found = await joined(edge.ws_url, token())
    yield found
    await found.close()


async def kept(server: NatsServer, profile: str = "default") -> list[Any]:
    """The data of all that is stored in a profile's streams, partition by partition."""
    return [
        json.loads(data)
        for partition in range(PARTITIONS)
        for _, _, data in await stored(server.url, stream_name(profile, partition))
    ]


async def test_a_publication_is_answered_when_it_is_stored(server: NatsServer, client: RawClient) -> None:
    """It is there as soon as the answer is."""
    reply = await client.command(publish={"channel": "kept:a", "data": {"n": 1}})
    assert reply["publish"] == {}
    assert await kept(server) == [{"n": 1}]
