"""gRPC on the loop that the processes have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.support.rpc import Rpc, rpc_of_a_test


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What the tests in this folder run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def rpc() -> AsyncIterator[Rpc]:
    """Starts servers and clients, which are gone after the test."""
    async with rpc_of_a_test() as started:
        yield started
