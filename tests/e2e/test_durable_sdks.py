"""Channels with history as the official SDKs see them: the server's subscriptions, lost positions, bytes, `tw.publish`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from tests.support.balancer import running_balancer
from tests.support.durable import Durable, durable_mesh
from tests.support.edges import PARTITIONS, token
from tests.support.history import publish
from tests.support.links import started
from tests.support.nats_client import connected as nats_connected
from tests.support.protocol import protocol
from tests.support.sdk import Json, SdkClient, connected, error_of, event, events_of, subscribed
from tests.support.sdk_maker import KINDS, all_kinds, maker
from tests.support.sdk_python import PythonClient
from tests.support.streams import stored
from tests.support.wait import eventually
from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import in_subject
from tidewire.platform.jetstream import JetStream


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Durable]:
    """A nats-server with streams, a history process and two edges."""
    with durable_mesh(tmp_path_factory.mktemp("durable")) as running:
        running.edge("one")
        running.edge("two")
        yield running


@pytest.fixture
def own_mesh(tmp_path: Path) -> Iterator[Durable]:
    """The test's own, with one edge."""
    with durable_mesh(tmp_path) as running:
        running.edge("one")
        yield running


@pytest.fixture
async def backend(mesh: Durable) -> AsyncIterator[Client]:
    """A native client of NATS."""
    async with nats_connected(mesh.nats.url) as client:
        yield client


async def put(backend: Client, channel: str, *numbers: int) -> None:
    """Publish numbers, each acknowledged."""
    for number in numbers:
        await publish(backend, channel, b"%d" % number, PARTITIONS)


def heard(client: SdkClient, kind: str, channel: str) -> list[Json]:
    """The data of publications, as they came."""
    return [each.data for each in events_of(client, kind, channel=channel)]


async def recovered(mesh: Durable) -> float:
    """How many recoveries were complete, on all edges."""
    values = [
        (await edge.metrics()).value("tidewire_recoveries_total", outcome="recovered") for edge in mesh.edges
    ]
    return sum(values)


@pytest.mark.parametrize("kind", KINDS)
@protocol("connect.subs")
async def test_subscriptions_of_the_token_recover_with_the_connection(
    mesh: Durable, backend: Client, kind: str
) -> None:
    """The SDK says where it stood in each, whichever edge it comes to; what was published meanwhile is in the reply."""
    channels = [f"log:{kind}-{letter}" for letter in "ab"]
    async with running_balancer(mesh.edges) as balancer, maker(kind) as make:
        client = await make(balancer.ws_url, token=token(kind, channels=channels))
        await connected(client)
        for channel in channels:
            await event(client, "server_subscribed", channel=channel)
            await put(backend, channel, 0, 1)
            await eventually(lambda channel=channel: heard(client, "server_publication", channel) == [0, 1])
        before = await recovered(mesh)
        for count in range(1, 4):
            balancer.cut()
            for channel in channels:
                await put(backend, channel, 2 * count, 2 * count + 1)
            await connected(client, count=count + 1)
            for channel in channels:
                expected = list(range(2 * count + 2))
                await eventually(
                    lambda channel=channel, expected=expected: (
                        heard(client, "server_publication", channel) == expected
                    )
                )
        assert await recovered(mesh) >= before + 6


async def lose_streams(mesh: Durable) -> None:
    """Put other streams in place of those that are there: they count anew."""
    async with started(mesh.nats.url) as (link, _):
        js = JetStream(link)
        for partition in range(PARTITIONS):
            await js.call(f"STREAM.DELETE.{stream_name('default', partition)}")
    await mesh.migrate()


@pytest.mark.timeout(240)
@protocol("unsubscribe.2500", "disconnect.3010")
async def test_where_continuity_cannot_be_proven_sdks_are_told_and_begin_anew(own_mesh: Durable) -> None:
    """Subscriptions of the client's get 2500, the connection of who has one of the server's 3010; both come back by themselves.

    The stream has begun another life: nothing is recovered across it, and what follows is heard.
    """
    async with contextlib.AsyncExitStack() as stack:
        mesh, edge = own_mesh, own_mesh.edges[0]
        makes = await stack.enter_async_context(all_kinds())
        backend = await stack.enter_async_context(nats_connected(mesh.nats.url))
        own = [await make(edge.ws_url, token=token("own")) for make in makes]
        servers = [await make(edge.ws_url, token=token("servers", channels=["log:a"])) for make in makes]
        for client in own:
            await connected(client)
            await subscribed(client, "log:a")
        for client in servers:
            await connected(client)
            await event(client, "server_subscribed", channel="log:a")
        await put(backend, "log:a", 0, 1, 2)
        await _all_heard(own, servers, [0, 1, 2])
        await lose_streams(mesh)
        await put(backend, "log:a", 3)
        for client in own:
            await event(client, "subscribing", channel="log:a", code=2500)
            again = await event(client, "subscribed", channel="log:a", count=2, timeout=60)
            assert not again.recovered
        for client in servers:
            await event(client, "connecting", code=3010)
            await connected(client, count=2, timeout=60)
            await event(client, "server_subscribed", channel="log:a", count=2)
        await put(backend, "log:a", 4)
        await eventually(lambda: all(4 in heard(each, "publication", "log:a") for each in own))
        await eventually(lambda: all(4 in heard(each, "server_publication", "log:a") for each in servers))
        for client in own:
            assert sorted(set(heard(client, "publication", "log:a"))) == heard(client, "publication", "log:a")
        assert all(not events_of(client, "disconnected") for client in own)
        await asyncio.gather(*(client.close() for client in (*own, *servers)))


async def _all_heard(own: list[SdkClient], servers: list[SdkClient], numbers: list[int]) -> None:
    await eventually(lambda: all(heard(each, "publication", "log:a") == numbers for each in own))
    await eventually(lambda: all(heard(each, "server_publication", "log:a") == numbers for each in servers))


class BytesClient(PythonClient):
    """A client whose publications are bytes, shown in hex."""

    def decode(self, value: Json) -> Json:
        """Return what no JSON could hold."""
        return value.hex() if isinstance(value, bytes) else value


@protocol("subscribe.recovery")
async def test_bytes_recover_in_protobuf(mesh: Durable, backend: Client) -> None:
    """Whatever they are: empty, no text, larger than a frame that is joined."""
    sent = [b"\x00\xff\xfe", b"\x80" * 70_000, b"\n\r\n", b"\xf0\x28\x8c\x28"]
    async with running_balancer(mesh.edges) as balancer:
        client = BytesClient(balancer.ws_url, wire="protobuf", token=token("bytes"))
        await connected(client)
        await subscribed(client, "raw:a")
        before = await recovered(mesh)
        balancer.cut()
        for data in sent:
            await publish(backend, "raw:a", data, PARTITIONS)
        await event(client, "subscribed", channel="raw:a", count=2)
        await eventually(lambda: heard(client, "publication", "raw:a") == [data.hex() for data in sent])
        assert await recovered(mesh) > before
        await client.close()


@pytest.mark.parametrize("kind", KINDS)
@protocol("rpc.tw_publish")
async def test_tw_publish_through_an_sdks_rpc(mesh: Durable, backend: Client, kind: str) -> None:
    """A key that was used is no second publication, also of another connection on another edge; an older version is dropped."""
    channel = f"log:{kind}-rpc"
    arguments: dict[str, Any] = {"channel": channel, "data": {"text": "one"}}
    async with maker(kind) as make:
        one, two = [await make(edge.ws_url, token=token(kind)) for edge in mesh.edges]
        other = await make(mesh.edges[0].ws_url, token=token(f"{kind}-other"))
        for client in (one, two, other):
            await connected(client)
        await subscribed(two, channel)
        keyed = {**arguments, "idempotency_key": "k"}
        assert await one.rpc("tw.publish", keyed) == {}
        assert await one.rpc("tw.publish", keyed) == {"duplicate": True}
        assert await two.rpc("tw.publish", keyed) == {"duplicate": True}
        assert (
            await other.rpc("tw.publish", {**keyed, "data": {"text": "two"}}) == {}
        )  # keys are a user's own
        versioned = {**arguments, "version_epoch": "e"}
        assert await one.rpc("tw.publish", {**versioned, "version": 2, "data": {"text": "three"}}) == {}
        assert await two.rpc("tw.publish", {**versioned, "version": 2}) == {"dropped": True}
        assert await two.rpc("tw.publish", {**versioned, "version": 1}) == {"dropped": True}
        assert await two.rpc("tw.publish", {**versioned, "version": 3, "data": {"text": "four"}}) == {}
        refused = await error_of(one.rpc("tw.publish", {**arguments, "ttl": 5}))
        assert (refused.code, refused.temporary) == (107, False)
        wanted = [{"text": text} for text in ("one", "two", "three", "four")]
        await eventually(lambda: heard(two, "publication", channel) == wanted)


@pytest.mark.parametrize("kind", KINDS)
@protocol("rpc.tw_publish")
async def test_a_publications_own_lifetime_through_an_sdks_rpc(mesh: Durable, kind: str) -> None:
    """In a namespace that gave up recovery; what has none stays."""
    channel = f"brief:{kind}"
    subject = in_subject(channel, PARTITIONS)
    stream = stream_name("brief", int(subject.split(b".")[2]))

    async def kept() -> list[bytes]:
        return [data for found, _, data in await stored(mesh.nats.url, stream) if found == subject]

    async with maker(kind) as make:
        client = await make(mesh.edges[0].ws_url, token=token(kind))
        await connected(client)
        assert await client.rpc("tw.publish", {"channel": channel, "data": 1, "ttl": 2}) == {}
        assert await client.rpc("tw.publish", {"channel": channel, "data": 2}) == {}
        assert await kept() in ([b"1", b"2"], [b"2"])

        async def ended() -> bool:
            return await kept() == [b"2"]

        await eventually(ended)
