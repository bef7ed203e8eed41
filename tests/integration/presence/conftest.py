"""A nats-server, presence processes on it, and an edge that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.support.nats_server import NatsServer
from tests.support.presence import PresenceClient, PresenceProcess, client_of, presence_config
from tests.support.presence_edge import ScriptedEdge, scripted_edge


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What the tests in this folder run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server."""
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def edge(server: NatsServer) -> AsyncIterator[ScriptedEdge]:
    """An edge that lives through the whole test."""
    async with scripted_edge(server.url, "edge-1") as edge:
        yield edge


@pytest.fixture
async def presence(server: NatsServer, edge: ScriptedEdge, tmp_path: Path) -> AsyncIterator[PresenceProcess]:
    """A presence process that is ready."""
    with PresenceProcess(tmp_path, presence_config(server.url)) as process:
        await process.until_ready()
        yield process


@pytest.fixture
async def client(presence: PresenceProcess) -> AsyncIterator[PresenceClient]:
    """A client of it."""
    async with client_of(presence) as client:
        yield client
