"""What the official SDKs make of an edge's limits: they go on by themselves where the protocol says so, and stop where not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.edges import EdgeProcess, Mesh, native, running_mesh, token
from tests.support.protocol import protocol
from tests.support.raw_client import joined
from tests.support.sdk import Make, SdkError, connected, event, events_of, subscribed
from tests.support.sdk_maker import KINDS, maker
from tests.support.wait import eventually

CHANNELS = [f"live:{number}" for number in range(128)]
RATE, BURST = 5, 20
"""Commands of a connection that the narrow edge takes in a second, and at once; and as many that it refuses before it closes."""


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """An edge with the limits that it has by default."""
    with running_mesh(tmp_path_factory.mktemp("usual"), edges=1) as running:
        yield running


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """An edge that lets little happen."""
    client = {"command_rate_limit": RATE, "command_rate_burst": BURST, "user_connection_limit": 1}
    with running_mesh(tmp_path_factory.mktemp("narrow"), {"client": client}, edges=1) as running:
        yield running


@pytest.fixture(params=KINDS)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Create clients of each SDK and format in turn."""
    async with maker(request.param) as create:
        yield create


async def reconnect(mesh: Mesh, user: str) -> None:
    """Close the user's connections with a code after which SDKs come back."""
    async with native(mesh) as client:
        order = {"v": 1, "type": "disconnect", "user": user, "code": 3011, "reason": "force reconnect"}
        await client.publish("tw.ctl.all", json.dumps(order).encode())
        await client.flush()


@protocol("command.rate")
async def test_client_with_all_the_subscriptions_it_may_have_comes_back_at_once(
    usual: Mesh, make: Make, request: pytest.FixtureRequest
) -> None:
    """128 of them, each with a token: by default that is no flood."""
    user = request.node.name
    client = await make(usual.edges[0].ws_url, token=token(user))
    await connected(client)
    await asyncio.gather(
        *(subscribed(client, name, token=token(user, channel=name), quiet=True) for name in CHANNELS)
    )
    await reconnect(usual, user)
    await connected(client, count=2)
    for name in CHANNELS:
        await event(client, "subscribed", channel=name, count=2)
    assert await usual.total("tidewire_commands_throttled_total") == 0
    assert await usual.total("tidewire_commands_total", code="111") == 0


@protocol("command.rate", "error.111", "disconnect.3013")
async def test_client_that_floods_gets_temporary_errors_and_comes_back_after_the_close(
    narrow: Mesh, make: Make, request: pytest.FixtureRequest
) -> None:
    """The application sees 111 for what was refused; after 3013 the SDK reconnects by itself, and may publish again."""
    user = request.node.name
    client = await make(narrow.edges[0].ws_url, token=token(user))
    await connected(client)

    async def flood(count: int) -> list[Any]:
        return await asyncio.gather(
            *(client.publish("live:x", number) for number in range(count)), return_exceptions=True
        )

    began = time.monotonic()
    found = await flood(BURST + 10)
    refilled = RATE * (time.monotonic() - began)  # meanwhile
    errors = [each for each in found if isinstance(each, SdkError)]
    assert {(error.code, error.temporary) for error in errors} == {(111, True)}
    assert 10 - refilled <= len(errors) <= 20  # the connect was worth 10, and some of it has come back
    await flood(60)
    await connected(client, count=2)
    assert [each.code for each in events_of(client, "connecting")][-1:] == [3013]
    await client.publish("live:x", "again")


@protocol("connect.user_limit")
async def test_client_over_its_users_limit_stops_for_good(
    narrow: Mesh, make: Make, request: pytest.FixtureRequest
) -> None:
    """3504 is final: it would be refused again and again."""
    user = request.node.name
    other = await joined(narrow.edges[0].ws_url, token(user))
    client = await make(narrow.edges[0].ws_url, token=token(user))
    await client.connect()
    assert (await event(client, "disconnected")).code == 3504
    await other.close()


@protocol("handshake.address_limit")
async def test_client_whose_address_has_enough_tries_until_there_is_room(
    narrow: Mesh, make: Make, request: pytest.FixtureRequest
) -> None:
    """With its own pauses, since browsers show no header of a refusal to a page."""
    (edge,) = narrow.edges
    before = await narrow.total("tidewire_handshakes_total", outcome="address_limit")

    async def refused_twice() -> bool:
        return await narrow.total("tidewire_handshakes_total", outcome="address_limit") >= before + 2

    await limit_addresses(edge, 1)
    try:
        other = await joined(edge.ws_url, token("other"))
        client = await make(edge.ws_url, token=token(request.node.name))
        await client.connect()
        await eventually(refused_twice)
        await other.close()
        await connected(client)
    finally:
        await limit_addresses(edge, 0)


async def limit_addresses(edge: EdgeProcess, connections: int) -> None:
    """Reload with this limit of connections per address."""
    before = len(edge.logged("config.reloaded"))
    edge.configure({"client": {"address_connection_limit": connections}})
    edge.hang_up()
    await eventually(lambda: len(edge.logged("config.reloaded")) > before)
