"""Deltas, as the official SDKs apply them: what is received is what was sent, whatever came in between."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from nats.aio.client import Client as NatsClient

from tests.support.edges import OPEN, Mesh, native, running_mesh, token
from tests.support.protocol import protocol
from tests.support.sdk import Make, SdkClient, connected, event, events_of, subscribed
from tests.support.sdk_maker import KINDS, maker
from tidewire.kernel.subjects import control_subject, encode_channel

DELTAS = {**OPEN, "allowed_delta_types": ["fossil"]}
CONFIG = {
    "channel": {
        "namespaces": [
            {"name": "always", **DELTAS, "delta_publish": True},
            {"name": "asked", **DELTAS},
            {"name": "paced", **DELTAS, "delta_publish": True, "batch_max_delay": "50ms", "conflate": True},
            {"name": "bytes", **DELTAS, "delta_publish": True, "publication_data_format": "binary"},
        ]
    }
}
DELIVERIES = "tidewire_delta_deliveries_total"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two edges for all tests of this module; each test has channels of its own."""
    with running_mesh(tmp_path_factory.mktemp("deltas"), CONFIG) as running:
        yield running


@pytest.fixture
async def backend(mesh: Mesh) -> AsyncIterator[NatsClient]:
    """A plain NATS client."""
    async with native(mesh) as client:
        yield client


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each SDK and format in turn."""
    found: str = request.param
    return found


@pytest.fixture
async def make(kind: str) -> AsyncIterator[Make]:
    """Create clients of that kind."""
    async with maker(kind) as create:
        yield create


def documents(count: int) -> list[Any]:
    """Documents of up to a few KiB that change a little from one to the next, or altogether; the same ones each time."""
    chance = random.Random(11)
    board = [{"name": f"Zoë {number} 日本 😀", "points": number} for number in range(60)]
    found: list[Any] = []
    for _ in range(count):
        match chance.randrange(8):
            case 0:
                found.append(chance.choice([None, "", [], {}, 7, "é" * 400, '\u2028\x7f"\\n']))
            case 1:
                found.append(["".join(chance.choices('aé日😀\\"\n', k=200))])
            case 2:
                chance.shuffle(board)
                found.append({"board": list(board)})
            case _:
                place = chance.randrange(60)
                names = ["Ünder", "日本語", "😁", board[place]["name"]]
                board[place] = {"name": chance.choice(names), "points": chance.randrange(10**6)}
                found.append({"board": list(board)})
    return found


async def publish(backend: NatsClient, channel: str, *values: object, delta: bool = False) -> None:
    """Publish as a backend does, text as it is and not as ASCII."""
    headers = {"Tw-Delta": "1"} if delta else None
    for value in values:
        data = json.dumps(value, ensure_ascii=False).encode()
        await backend.publish(f"tw.pub.{encode_channel(channel)}", data, headers=headers)
    await backend.flush()


async def reader(make: Make, mesh: Mesh, channel: str, user: str = "reader") -> SdkClient:
    """A client that asked for deltas of a channel."""
    client = await make(mesh.edges[0].ws_url, token=token(user))
    await connected(client)
    await subscribed(client, channel, delta=True)
    return client


async def received(client: SdkClient, expected: list[Any]) -> None:
    """Exactly these publications come, in this order."""
    await event(client, "publication", count=len(expected))
    assert [each.data for each in events_of(client, "publication")] == expected


@protocol("subscribe.delta", "option.delta_publish", "option.allowed_delta_types")
async def test_everything_arrives_as_it_was_sent(
    mesh: Mesh, kind: str, make: Make, backend: NatsClient
) -> None:
    """By a backend, many in one read, and by a client; most of it as deltas."""
    channel = f"always:{kind}"
    client = await reader(make, mesh, channel)
    writer = await make(mesh.edges[1].ws_url, token=token("writer"))
    await connected(writer)
    before = await mesh.total(DELIVERIES, outcome="delta")
    sent = documents(80)
    await publish(backend, channel, *sent)
    await received(client, sent)
    for value in sent[:20]:
        await writer.publish(channel, value)
    await received(client, [*sent, *sent[:20]])
    assert await mesh.total(DELIVERIES, outcome="delta") - before >= 50
    assert await mesh.total("tidewire_delta_saved_bytes_total") > 10_000


async def test_chain_begins_anew_with_each_subscription_and_connection(
    mesh: Mesh, kind: str, make: Make, backend: NatsClient
) -> None:
    """Others stay in the channel all the time, so that it has a base that a newcomer does not have."""
    channel = f"always:again {kind}"
    staying, moving = await reader(make, mesh, channel, "stays"), await reader(make, mesh, channel, "moves")
    sent = documents(24)
    moved = sent[:6] + sent[9:12] + sent[15:18] + sent[21:24]
    await publish(backend, channel, *sent[:6])
    await received(moving, moved[:6])
    await moving.unsubscribe(channel)
    await event(moving, "unsubscribed")
    await publish(backend, channel, *sent[6:9])
    await received(staying, sent[:9])
    await subscribed(moving, channel, delta=True)
    await publish(backend, channel, *sent[9:12])
    await received(moving, moved[:9])
    await moving.disconnect()
    await event(moving, "disconnected")
    await publish(backend, channel, *sent[12:15])
    await received(staying, sent[:15])
    await moving.connect()
    await event(moving, "subscribed", channel=channel, count=3)
    await publish(backend, channel, *sent[15:18])
    await received(moving, moved[:12])
    order = {"v": 1, "type": "disconnect", "user": "moves", "code": 3011, "reason": "again"}
    await backend.publish(control_subject("all").decode(), json.dumps(order).encode())
    await event(moving, "subscribed", channel=channel, count=4)
    await publish(backend, channel, *sent[21:24])
    await received(moving, moved)
    await received(staying, sent[:18] + sent[21:24])


async def test_publisher_asks_for_deltas_where_the_namespace_does_not(
    mesh: Mesh, kind: str, make: Make, backend: NatsClient
) -> None:
    """One by one; what is sent whole is what the next delta applies to. Who did not ask gets everything whole."""
    channel = f"asked:{kind}"
    client = await reader(make, mesh, channel)
    plain = await make(mesh.edges[0].ws_url, token=token("plain"))
    await connected(plain)
    await subscribed(plain, channel)
    edge = mesh.edges[0]
    before = await edge.metrics()
    sent = [{"text": "日本" * 50, "number": number} for number in range(6)]
    for number, value in enumerate(sent):
        await publish(backend, channel, value, delta=number % 2 == 1)
    await received(client, sent)
    await received(plain, sent)
    after = await edge.metrics()
    counts = {
        outcome: after.value(DELIVERIES, outcome=outcome) - before.value(DELIVERIES, outcome=outcome)
        for outcome in ("first", "delta", "unasked")
    }
    assert counts == {"first": 1, "delta": 3, "unasked": 2}


@protocol("option.batch_max_delay", "option.conflate")
async def test_batches_and_conflation(mesh: Mesh, kind: str, make: Make, backend: NatsClient) -> None:
    """What has no key all arrives; of one key the latest, and nothing that was not sent."""
    channel = f"paced:{kind}"
    client = await reader(make, mesh, channel)
    sent = documents(40)
    await publish(backend, channel, *sent)
    await received(client, sent)
    subject, keyed = f"tw.pub.{encode_channel(channel)}", [{"text": "日本" * 50, "n": n} for n in range(300)]
    for value in keyed:
        data = json.dumps(value, ensure_ascii=False).encode()
        await backend.publish(subject, data, headers={"Tw-Key": "k"})
    await event(client, "publication", data=keyed[-1])
    got = [each.data["n"] for each in events_of(client, "publication")[len(sent) :]]
    assert got == sorted(set(got))
    assert len(got) < len(keyed)


async def test_client_is_refused_nothing_where_deltas_are_not_allowed(
    mesh: Mesh, make: Make, backend: NatsClient
) -> None:
    """The reply does not grant them, and payloads come as they always did."""
    client = await reader(make, mesh, "no deltas")
    await publish(backend, "no deltas", {"a": 1}, {"a": 2}, delta=True)
    await received(client, [{"a": 1}, {"a": 2}])


@pytest.mark.parametrize("kind", [each for each in KINDS if each.endswith("protobuf")], indirect=True)
async def test_binary_namespace(mesh: Mesh, kind: str, make: Make, backend: NatsClient) -> None:
    """Empty payloads too, which are a base as good as any. The drivers of the SDKs show only bytes that are JSON text."""
    channel = f"bytes:{kind}"
    client = await reader(make, mesh, channel)
    values = [json.dumps(value).encode() for value in documents(10)]
    sent = [b"", values[0], values[1], b"", b"", *values[2:], b"", *values]
    for data in sent:
        await backend.publish(f"tw.pub.{encode_channel(channel)}", data)
    await received(client, [json.loads(data) if data else None for data in sent])
