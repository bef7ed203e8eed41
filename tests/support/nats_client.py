"""Plain NATS clients (nats-py) beside the edges: backends, responders, followers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import nats
from nats.aio.client import Client

from tests.support.wait import PATIENCE


@contextlib.asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Client]:
    """Connect, and close in the end whatever happened; a lost connection is not made again."""
    patient = {"max_reconnect_attempts": 0, "connect_timeout": int(PATIENCE)}
    client = await nats.connect(url, **{**patient, **options})
    try:
        yield client
    finally:
        await client.close()


async def flushed(client: Client) -> None:
    """Return when the server has processed all that the client was given: subscriptions and publications.

    Only then does another connection's publication find a subscription. It takes two flushes: nats-py writes a PING at
    once, before the commands that it has collected, so only the second one is answered after them.
    """
    await client.flush(int(PATIENCE))
    await client.flush(int(PATIENCE))
