"""A nats-server with streams, and history processes on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from nats.aio.client import Client

from tests.support.history import (
    HistoryClient,
    HistoryProcess,
    client_of,
    history_config,
    migrated,
    publisher,
    server_config,
)
from tests.support.nats_server import NatsServer


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What the tests in this folder run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server with JetStream."""
    with NatsServer(tmp_path / "nats", config=server_config(), jetstream=True) as server:
        yield server


@pytest.fixture
async def config(server: NatsServer) -> dict[str, Any]:
    """The configuration of history processes, whose streams are there."""
    config = history_config(server.url)
    await migrated(config)
    return config


@pytest.fixture
def history(config: dict[str, Any], tmp_path: Path) -> Iterator[HistoryProcess]:
    """A history process that is ready."""
    with HistoryProcess(tmp_path, config) as process:
        yield process


@pytest.fixture
async def client(history: HistoryProcess) -> AsyncIterator[HistoryClient]:
    """A client of it."""
    async with client_of(history) as client:
        yield client


@pytest.fixture
async def nats(server: NatsServer) -> AsyncIterator[Client]:
    """A plain NATS client."""
    async with contextlib.AsyncExitStack() as stack:
        yield await stack.enter_async_context(publisher(server))
