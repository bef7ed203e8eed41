"""Batching and conflation with everything real: official SDKs, a backend on NATS, and a viewer that does not keep up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from nats.aio.client import Client as NatsClient

from tests.support.edges import OPEN, Mesh, native, running_mesh, token
from tests.support.nats_client import flushed
from tests.support.protocol import protocol
from tests.support.raw_client import Clients, publication
from tests.support.sdk import Make, SdkClient, connected, error_of, event, events_of, subscribed
from tests.support.sdk_maker import KINDS, maker
from tests.support.wait import eventually

QUEUE = 200_000
"""Bytes of client.queue_max_size: far less than what the slow viewer misses."""
CONFIG = {
    "client": {"queue_max_size": QUEUE},
    "channel": {
        "without_namespace": OPEN,
        "namespaces": [
            {"name": "board", **OPEN, "batch_max_delay": "400ms", "conflate": True},
            {"name": "turns", **OPEN, "conflate": True},
            {"name": "raw", **OPEN, "publication_data_format": "binary"},
        ],
    },
}
KEYS = 50
SIZE = 4_000
ROUNDS = 10
MOST_ROUNDS = 3_000


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two edges; each test has channels of its own."""
    with running_mesh(tmp_path_factory.mktemp("dashboard"), CONFIG) as running:
        yield running


@pytest.fixture(params=KINDS)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Create clients of each SDK and format in turn."""
    async with maker(request.param) as create:
        yield create


def data_of(client: SdkClient, channel: str) -> list[Any]:
    """What an SDK has given its application."""
    return [each.data for each in events_of(client, "publication", channel=channel)]


async def publish(backend: NatsClient, channel: str, key: str, data: Any) -> None:
    """Publish from a backend."""
    headers = {"Tw-Key": key} if key else None
    subject = f"tw.pub.{channel.replace(':', '.')}"
    await backend.publish(subject, json.dumps(data).encode(), headers=headers)


@protocol("option.batch_max_delay", "option.conflate", "rpc.tw_publish")
async def test_sdk_sees_the_first_at_once_and_then_the_latest_of_each_key(
    mesh: Mesh, make: Make, request: pytest.FixtureRequest
) -> None:
    """Published by a backend and by the SDK itself, which has `rpc` for it; the acknowledgement does not wait."""
    channel = f"board:{request.node.callspec.id}".replace("[", "-").replace("]", "")
    viewer = await make(mesh.edges[0].ws_url, token=token("viewer"))
    publisher = await make(mesh.edges[1].ws_url, token=token("publisher"))
    await connected(viewer)
    await connected(publisher)
    await subscribed(viewer, channel)
    async with native(mesh) as backend:
        await publish(backend, channel, "", "first")
        await event(viewer, "publication", channel=channel)
        for number in range(20):
            await publish(backend, channel, "a" if number % 2 else "b", number)
        await publish(backend, channel, "", "plain")
        await flushed(backend)
    for number in range(3):
        said = {"channel": channel, "data": {"n": number}, "key": "größe 1"}
        assert await publisher.rpc("tw.publish", said) == {}
    await eventually(lambda: {"n": 2} in data_of(viewer, channel))
    seen = data_of(viewer, channel)
    assert seen[0] == "first"
    assert seen.count("plain") == 1
    assert [each for each in seen if isinstance(each, int)][-2:] == [18, 19]
    assert len(seen) < 15, "nothing was conflated"
    for said, code in (
        ({"channel": "nope:a", "data": 1, "key": "k"}, 102),
        ({"channel": channel, "data": 1, "key": "a\r\nTw-V: 9"}, 107),
        ({"channel": channel, "data": 1, "keys": "k"}, 107),
        ({"channel": "raw:a", "data": 1}, 107),
    ):
        assert (await error_of(publisher.rpc("tw.publish", said))).code == code
    assert (await error_of(publisher.rpc("tw.other", {}))).code == 104
    await viewer.close()
    await publisher.close()


class Screen:
    """A raw viewer that keeps the latest of each key, and how often it got one."""

    def __init__(self) -> None:
        self.latest: dict[str, int] = {}
        self.count = 0
        self.plain: list[int] = []

    def on_push(self, line: bytes) -> None:
        """Take a push. Of one key never an older one comes after a newer one."""
        found = publication(line)
        assert found is not None
        key, number = found[1]["data"]["key"], found[1]["data"]["number"]
        if not key:
            self.plain.append(number)
            return
        assert number > self.latest.get(key, -1)
        self.latest[key] = number
        self.count += 1


@protocol("close.conflated", "option.conflate")
async def test_viewer_that_does_not_keep_up_ends_with_the_latest_of_each_key(
    mesh: Mesh, clients: Clients
) -> None:
    """It is not closed, costs the edge nothing beyond the keys, and takes nothing from the fast ones."""
    edge, channel = mesh.edges[0], "turns:wall"
    slow_screen, fast_screen = Screen(), Screen()
    slow = await clients.join(edge.ws_url, token("slow"), channel, on_push=slow_screen.on_push)
    await clients.join(edge.ws_url, token("fast"), channel, on_push=fast_screen.on_push)
    assert slow._tcp is not None
    slow._tcp.pause_reading()
    filler = "x" * SIZE
    before = await edge.metrics()
    async with native(mesh) as backend:

        async def updates(number: int) -> None:
            for key in range(KEYS):
                await publish(
                    backend, channel, f"key-{key}", {"key": f"key-{key}", "number": number, "filler": filler}
                )
            last = f"key-{KEYS - 1}"
            await eventually(lambda: fast_screen.latest.get(last) == number)  # so that it is never behind

        number = 0
        while (await edge.metrics()).value("tidewire_stragglers") == 0:
            assert number < MOST_ROUNDS, "the slow viewer's socket never fills"
            await updates(number)
            number += 1
        for _ in range(ROUNDS):
            await updates(number)
            number += 1
        await publish(backend, channel, "", {"key": "", "number": number})
        await flushed(backend)
    everything = KEYS * number
    await eventually(lambda: fast_screen.plain == [number])
    assert fast_screen.latest == {f"key-{key}": number - 1 for key in range(KEYS)}
    metrics = await edge.metrics()
    assert metrics.value("tidewire_stragglers") == 1
    assert metrics.value("tidewire_stragglers_kept_bytes") < KEYS * (SIZE + 1_000)
    assert metrics.value("tidewire_pending_bytes") < QUEUE
    withheld = metrics.value("tidewire_deliveries_withheld_total")
    assert withheld >= KEYS * ROUNDS
    assert KEYS * ROUNDS * SIZE > 4 * QUEUE, "it would have been closed with 3008"
    slow._tcp.resume_reading()
    await eventually(lambda: slow_screen.latest == fast_screen.latest and slow_screen.plain)
    assert slow_screen.count <= everything - withheld + KEYS + 5
    after = await edge.metrics()
    assert after.value("tidewire_stragglers") == 0
    assert after.value("tidewire_stragglers_kept_bytes") == 0
    assert after.value("tidewire_deliveries_caught_up_total") <= 2 * KEYS
    for name in ("tidewire_slow_consumers_total", "tidewire_connections"):
        assert after.value(name) == before.value(name)
