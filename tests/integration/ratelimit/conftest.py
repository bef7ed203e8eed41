"""Rate-limit processes and their clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.support.ratelimit import Gateway, RateLimitClient, RateLimitProcess, client_of, gateway_of


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What the tests in this folder run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[RateLimitProcess]:
    """A process that is ready."""
    with RateLimitProcess(tmp_path) as process:
        yield process


@pytest.fixture
async def client(process: RateLimitProcess) -> AsyncIterator[RateLimitClient]:
    """A client of it."""
    async with client_of(process) as client:
        yield client


@pytest.fixture
async def gateway(process: RateLimitProcess) -> AsyncIterator[Gateway]:
    """A gateway that asks it."""
    async with gateway_of(process) as gateway:
        yield gateway
