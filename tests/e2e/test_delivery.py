"""Every subscriber has every message once, in order per publisher: many clients, two edges, all formats."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.checker import Checker, Record, payload, record
from tests.support.edges import EdgeProcess, Mesh, token
from tests.support.node import Node
from tests.support.protocol import protocol
from tests.support.raw_client import RawClient, joined, publication
from tests.support.sdk import FORMATS, Event, SdkClient
from tests.support.sdk_python import PythonClient
from tests.support.wait import eventually

CHANNELS = [f"live:room-{number}" for number in range(20)]
MESSAGES = 1000
ROUNDS = 5
"""Messages of one publisher in one channel: 10 publishers, 20 channels."""
CLIENTS = 200
"""Per edge."""
JAVASCRIPT = 20
PYTHON = 10
"""SDK clients among them, half of each format. The others are raw: see tests/support/raw_client.py for why."""
TIMEOUT = 60.0
"""Seconds, also for each command of the SDKs: a busy machine may take longer than the 5 that they wait by themselves."""


class Readers:
    """Puts what subscribers of every kind receive into the checker."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self.trouble: list[Event] = []
        """What SDKs reported as errors."""
        self._known: dict[bytes, Record | None] = {}

    def raw(self, name: str) -> Callable[[bytes], None]:
        """Return the listener of a raw client. All clients of an edge get the same bytes: they are read once."""

        def on_push(line: bytes) -> None:
            if line not in self._known:
                found = publication(line)
                self._known[line] = found and record(found[0], found[1]["data"])
            got = self._known[line]
            if got is not None:
                self._checker.received(name, got)

        self._checker.subscribed(name, CHANNELS)
        return on_push

    def sdk(self, name: str, client: SdkClient, live: asyncio.Event) -> None:
        """Listen to an SDK client; `live` is set when it has all its subscriptions."""
        missing = set(CHANNELS)

        def on_event(event: Event) -> None:
            if event.event in {"error", "subscription_error"}:
                self.trouble.append(event)
            elif event.event == "publication":
                self._checker.received(name, record(event.channel, event.data))
            elif event.event == "subscribed":
                missing.discard(event.channel)
                if not missing:
                    live.set()

        client.on_event = on_event
        self._checker.subscribed(name, CHANNELS)


@contextlib.asynccontextmanager
async def clients_of(
    edge: EdgeProcess, node: Node, readers: Readers
) -> AsyncIterator[tuple[list[SdkClient], list[RawClient]]]:
    """Connect the clients of one edge, each subscribed to every channel."""
    sdks: list[SdkClient] = []
    raws: list[RawClient] = []
    try:
        for number in range(JAVASCRIPT):
            wire = FORMATS[number % 2]
            sdks.append(
                await node.create(
                    edge.ws_url,
                    wire=wire,
                    token=token(f"js-{number}"),
                    name=f"{edge.name} js-{number} {wire}",
                    timeout=1000 * TIMEOUT,
                )
            )
        sdks += [
            PythonClient(edge.ws_url, wire=FORMATS[number % 2], token=token(f"py-{number}"), timeout=TIMEOUT)
            for number in range(PYTHON)
        ]
        for number, client in enumerate(sdks):
            live = asyncio.Event()
            readers.sdk(f"{edge.name} sdk-{number}", client, live)
            for channel in CHANNELS:
                await client.subscribe(channel)
            await client.connect()
            await eventually(live.is_set, TIMEOUT, f"the subscriptions of sdk-{number}: {readers.trouble}")
        for number in range(CLIENTS - len(sdks)):
            name = f"{edge.name} raw-{number}"
            raws.append(await joined(edge.ws_url, token(name), *CHANNELS, on_push=readers.raw(name)))
        yield sdks, raws
    finally:
        for raw in raws:
            raw.abort()
        for client in sdks:
            await client.close()


@protocol("publish.order")
async def test_two_edges_with_200_clients_each_deliver_1000_messages(
    mesh: Mesh, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """On 20 channels, from 10 publishers of all kinds: the checker finds nothing missing, twice, swapped or foreign.

    A last message in each channel follows when all have everything, so that a late repeat would show before it.
    """
    checker = Checker()
    readers = Readers(checker)
    times = [time.monotonic()]
    one, two = mesh.edges
    async with (
        clients_of(one, node, readers) as (sdks1, raws1),
        clients_of(two, node, readers) as (sdks2, raws2),
    ):
        times.append(time.monotonic())
        publishers = [*raws1[:3], *raws2[:3], *sdks1[:2], *sdks2[-2:]]
        assert len(publishers) * len(CHANNELS) * ROUNDS == MESSAGES
        await asyncio.gather(
            *(publish_all(f"p{number}", client, checker) for number, client in enumerate(publishers))
        )
        times.append(time.monotonic())
        await checker.check_when_complete(TIMEOUT)
        times.append(time.monotonic())
        for channel in CHANNELS:
            await publish(raws1[0], channel, payload("fence", 1), checker)
        await checker.check_when_complete(TIMEOUT)
    assert readers.trouble == []
    connecting, publishing, delivering = (end - start for start, end in itertools.pairwise(times))
    with capsys.disabled():
        print(
            f"\ndelivery: {checker.counts}; connect and subscribe {connecting:.1f} s, "
            f"publish {publishing:.2f} s, last delivery {delivering:.2f} s later"
        )


async def publish_all(publisher: str, client: RawClient | SdkClient, checker: Checker) -> None:
    """Publish in every channel, round by round. A raw client waits for its acknowledgements at the end of each round.

    With more under way at once, the SDKs' own publications would wait too long in a slow edge for their acknowledgements.
    """
    for number in range(1, ROUNDS + 1):
        messages = [(channel, payload(publisher, number, text="x" * 50)) for channel in CHANNELS]
        if isinstance(client, RawClient):
            await asyncio.gather(*(publish(client, channel, data, checker) for channel, data in messages))
            continue
        for channel, data in messages:
            await publish(client, channel, data, checker)


async def publish(
    client: RawClient | SdkClient, channel: str, data: dict[str, object], checker: Checker
) -> None:
    """Publish and note the acknowledgement; anything else fails the test."""
    if isinstance(client, RawClient):
        reply = await client.command(publish={"channel": channel, "data": data})
        assert reply.get("publish") == {}, reply
    else:
        await client.publish(channel, data)
    checker.acknowledged(record(channel, data))
