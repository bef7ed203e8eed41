"""What the official SDKs make of limits over all edges: publications fail with the time to wait, the rest goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.edges import Mesh, running_mesh, token
from tests.support.protocol import protocol
from tests.support.ratelimit import RateLimitProcess
from tests.support.sdk import Make, SdkError, connected, event, subscribed
from tests.support.sdk_maker import KINDS, maker

RULES: list[dict[str, Any]] = [
    {"name": "publications", "command": "publish", "key": ["user"], "limit": 5, "period": "1h"},
    {
        "name": "subscriptions",
        "command": "subscribe",
        "key": ["user"],
        "limit": 1,
        "period": "1s",
        "lease_size": 1,
    },
    {"name": "connects", "command": "connect", "key": ["user"], "limit": 1, "period": "1s", "burst": 2},
]
LIMITS: dict[str, Any] = {
    "rules": RULES,
    "connections": [{"name": "devices", "key": "user", "limit": 2, "when_down": "deny"}],
    "envoy": [],
}


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two edges, and one who counts."""
    folder = tmp_path_factory.mktemp("limited")
    with RateLimitProcess(folder, {"rate_limits": LIMITS}) as service:
        limits = {"rate_limits": {**LIMITS, "replicas": [service.target], "timeout": "2s", "wait": "3s"}}
        with running_mesh(folder, limits, edges=2) as running:
            yield running


@pytest.fixture(params=KINDS)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Create clients of each SDK and format in turn."""
    async with maker(request.param) as create:
        yield create


@protocol("error.111", "limits.mesh")
async def test_publications_of_a_user_are_counted_on_both_edges(
    limited: Mesh, make: Make, request: pytest.FixtureRequest
) -> None:
    """The error is temporary and says when to try again."""
    user = request.node.name
    clients = [await make(edge.ws_url, token=token(user)) for edge in limited.edges]
    errors: list[SdkError] = []
    for client in clients:
        await connected(client)
        for _ in range(5):
            try:
                await client.publish("live:x", {"n": 1})
            except SdkError as error:
                errors.append(error)
    assert len(errors) == 5
    for error in errors:
        assert (error.code, error.temporary) == (111, True)
        assert error.args[0].count("too many requests: try again in ") == 1


@protocol("error.111", "limits.mesh")
async def test_sdks_subscribe_again_by_themselves(
    limited: Mesh, make: Make, request: pytest.FixtureRequest
) -> None:
    """One a second: three channels are there after some seconds, and nobody had to do anything."""
    client = await make(limited.edges[0].ws_url, token=token(request.node.name))
    await connected(client)
    await asyncio.gather(*(subscribed(client, f"live:{number}", quiet=True) for number in range(3)))


@protocol("limits.mesh", "error.111")
async def test_a_third_device_comes_in_by_itself_once_there_is_a_place(
    limited: Mesh, make: Make, request: pytest.FixtureRequest
) -> None:
    """It may be one of the two, which the network or an edge that was killed cut off, and whose place is not free yet."""
    user = request.node.name
    first = await make(limited.edges[0].ws_url, token=token(user))
    await connected(first)
    await connected(await make(limited.edges[1].ws_url, token=token(user)))
    third = await make(limited.edges[0].ws_url, token=token(user))
    await third.connect()
    turned = await event(third, "error", code=111)
    assert "2 connections over all edges" in turned.message
    await first.disconnect()
    await event(third, "connected", timeout=20)
