"""Publications to a namespace with history: a real edge, and JetStream's acknowledgement behind every answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from tests.support.edges import OPEN, EdgeProcess, edge_config, mapping, merged, token
from tests.support.links import started
from tests.support.nats_client import connected, flushed
from tests.support.nats_server import NatsServer
from tests.support.protocol import protocol
from tests.support.raw_client import RawClient, joined
from tests.support.streams import IN_TIME, create_streams, move, stored
from tests.support.wait import PATIENCE, SLACK, eventually
from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import in_subject
from tidewire.platform.jetstream import JetStream

PARTITIONS = 2
HISTORY = {"history_size": 500, "history_ttl": "1h"}
NAMESPACES = [
    {"name": "live", **OPEN},
    {"name": "kept", **OPEN, **HISTORY},
    {"name": "brief", **OPEN, **HISTORY, "storage_profile": "brief"},
]
CHANGES = {
    "nats": {"partitions": PARTITIONS},
    "channel": {"namespaces": NAMESPACES},
    "storage": {"profiles": [{"name": "default"}, {"name": "brief", "message_ttl": True}]},
    "client": {"inflight_limit": 1000},
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server with JetStream and the mapping."""
    with NatsServer(tmp_path / "nats", config=mapping(PARTITIONS), jetstream=True) as running:
        yield running


@pytest.fixture
async def edge(server: NatsServer, tmp_path: Path) -> AsyncIterator[EdgeProcess]:
    """An edge with its streams."""
    config = edge_config(server.url, CHANGES)
    await create_streams(server.url, config)
    with EdgeProcess(tmp_path / "edge", config) as running:
        yield running


@pytest.fixture
async def client(edge: EdgeProcess) -> AsyncIterator[RawClient]:
    """Alice, connected."""
    found = await joined(edge.ws_url, token())
    yield found
    await found.close()


async def kept(server: NatsServer, profile: str = "default") -> list[Any]:
    """The data of all that is stored in a profile's streams, partition by partition."""
    return [
        json.loads(data)
        for partition in range(PARTITIONS)
        for _, _, data in await stored(server.url, stream_name(profile, partition))
    ]


async def test_a_publication_is_answered_when_it_is_stored(server: NatsServer, client: RawClient) -> None:
    """It is there as soon as the answer is."""
    reply = await client.command(publish={"channel": "kept:a", "data": {"n": 1}})
    assert reply["publish"] == {}
    assert await kept(server) == [{"n": 1}]


def rpc(channel: str, data: object, **arguments: object) -> dict[str, Any]:
    """The command that calls `tw.publish`."""
    return {"method": "tw.publish", "data": {"channel": channel, "data": data, **arguments}}


async def said(client: RawClient, channel: str, data: object, **arguments: object) -> Any:
    """What `tw.publish` answers: its result, or the error's code and text."""
    reply = await client.command(rpc=rpc(channel, data, **arguments))
    return reply["rpc"]["data"] if "rpc" in reply else (reply["error"]["code"], reply["error"]["message"])


@protocol("publish.order", "publish.stored")
async def test_what_comes_while_one_is_under_way_follows_in_batches_in_order(
    server: NatsServer, edge: EdgeProcess, client: RawClient
) -> None:
    """On each channel; and fewer acknowledgements were needed than there are publications, where enough waited."""
    numbers = [
        client.begin(publish={"channel": f"kept:{name}", "data": [name, n]})
        for n in range(400)
        for name in "ab"
    ]
    assert all(["publish" in await client.reply(number) for number in numbers])
    found = await kept(server)
    assert [each for each in found if each[0] == "a"] == [["a", n] for n in range(400)]
    assert [each for each in found if each[0] == "b"] == [["b", n] for n in range(400)]
    metrics = await edge.metrics()
    assert metrics.value("tidewire_stream_batches_total", outcome="stored") > 0
    assert metrics.value("tidewire_stream_acknowledged_total") == 800
    assert metrics.value("tidewire_stream_publications_total", outcome="stored") == 800
    for gauge in ("lanes", "in_flight", "held_publications", "held_bytes"):
        assert metrics.value(f"tidewire_stream_{gauge}") == 0


async def test_the_headers_are_the_edges_own(server: NatsServer, client: RawClient) -> None:
    """With an id that nobody could have guessed, before what comes from the client."""
    await said(client, "kept:a", 1, key="k\u00e9y")
    await said(client, "kept:a", 2, version=3, version_epoch="e1")
    blocks = [
        header.decode().split("\r\n")
        for partition in range(PARTITIONS)
        for _, header, _ in await stored(server.url, stream_name("default", partition))
    ]
    names = [[line.split(":")[0] for line in block] for block in blocks]
    assert names == [
        ["NATS/1.0", "Nats-Msg-Id", "Tw-V", "Tw-Time", "Tw-Info", "Tw-Key", "", ""],
        [
            "NATS/1.0",
            "Nats-Msg-Id",
            "Nats-Expected-Last-Subject-Sequence",
            "Tw-V",
            "Tw-Time",
            "Tw-Info",
            "Tw-Version",
            "Tw-Version-Epoch",
            "",
            "",
        ],
    ]
    ids = {block[1] for block in blocks}
    assert len(ids) == 2
    assert all(re.fullmatch("Nats-Msg-Id: [0-9a-f]{24}", each) for each in ids)


@protocol("rpc.tw_publish")
async def test_an_idempotency_key_makes_a_repetition_harmless(
    server: NatsServer, edge: EdgeProcess, client: RawClient
) -> None:
    """For this user on this channel: nobody else's publication is swallowed, not even with the same key."""
    assert await said(client, "kept:a", 1, idempotency_key="k") == {}
    assert await said(client, "kept:a", 1, idempotency_key="k") == {"duplicate": True}
    assert await said(client, "kept:b", 2, idempotency_key="k") == {}
    assert await said(client, "kept:a", 3, idempotency_key="l") == {}
    bob = await joined(edge.ws_url, token("bob"))
    assert await said(bob, "kept:a", 4, idempotency_key="k") == {}
    await bob.close()
    async with connected(server.url) as backend:
        await backend.request("tw.pub.kept.a", b"5", PATIENCE, headers={"Nats-Msg-Id": "m"})
        await backend.request("tw.pub.kept.b", b"6", PATIENCE, headers={"Nats-Msg-Id": "m"})
    assert await said(client, "kept:a", 7, idempotency_key="m") == {}
    found = await kept(server)
    assert sorted(set(found)) == sorted(found)
    assert {1, 2, 3, 4, 5, 7} <= set(found)


@protocol("rpc.tw_publish")
async def test_a_version_that_is_not_newer_is_dropped(
    server: NatsServer, edge: EdgeProcess, client: RawClient
) -> None:
    """Whoever publishes, and however many at once: what is stored only grows."""
    assert await said(client, "kept:a", 5, version=5) == {}
    assert await said(client, "kept:a", 4, version=4) == {"dropped": True}
    assert await said(client, "kept:a", 5, version=5) == {"dropped": True}
    assert await said(client, "kept:a", 6, version=6) == {}
    bob = await joined(edge.ws_url, token("bob"))
    racing = [
        each.begin(rpc=rpc("kept:a", version, version=version))
        for version in range(7, 15)
        for each in (client, bob)
    ]
    results = [await (client if n % 2 == 0 else bob).reply(number) for n, number in enumerate(racing)]
    await bob.close()
    assert all("rpc" in each or each["error"]["code"] == 100 for each in results)
    found = await kept(server)
    assert found == sorted(set(found))
    assert found[-1] == 14


async def test_a_lifetime_of_its_own_ends_a_publication(server: NatsServer, client: RawClient) -> None:
    """Where the profile has it."""
    assert await said(client, "brief:a", 1, ttl=1) == {}
    assert await said(client, "brief:a", 2) == {}
    assert await said(client, "kept:a", 1, ttl=1) == (
        107,
        "bad request: tw.publish: ttl needs a storage profile with message_ttl, and the namespace's has none",
    )

    async def only_the_second() -> bool:
        return await kept(server, "brief") == [2]

    await eventually(only_the_second)


@protocol("error.100")
async def test_without_a_stream_a_publication_is_not_stored_for_certain(
    server: NatsServer, edge: EdgeProcess, client: RawClient
) -> None:
    """The client hears it within 4 s, and goes on as soon as there is one again."""
    async with started(server.url) as (link, _):
        for partition in range(PARTITIONS):
            await JetStream(link).call(f"STREAM.DELETE.{stream_name('default', partition)}")
    began = time.monotonic()
    reply = await client.command(publish={"channel": "kept:a", "data": 1})
    assert 3.0 < time.monotonic() - began < IN_TIME + SLACK
    assert reply["error"]["code"] == 100
    assert reply["error"]["temporary"]
    assert "not stored, since no stream takes it" in reply["error"]["message"]
    metrics = await edge.metrics()
    assert metrics.value("tidewire_stream_publications_total", outcome="nobody") == 1
    assert metrics.value("tidewire_stream_refusals_total", verdict="nobody") > 1
    assert len(edge.logged("stream.refused")) == 1
    assert metrics.value("tidewire_stream_lanes") == 0


async def test_a_stream_that_is_gone_leaves_room_for_the_others(server: NatsServer, tmp_path: Path) -> None:
    """What it holds for want of an answer is half of the room at most; and what it had taken is known in the end."""
    config = edge_config(server.url, merged(CHANGES, {"client": {"publish": {"unconfirmed_limit": 20}}}))
    await create_streams(server.url, config)
    channels = [f"kept:{number}" for number in range(40)]
    gone = [each for each in channels if in_subject(each, PARTITIONS).startswith(b"tw.in.0.")]
    there = [each for each in channels if each not in gone]
    with EdgeProcess(tmp_path / "edge", config) as edge:
        async with started(server.url) as (link, _):
            await JetStream(link).call(f"STREAM.DELETE.{stream_name('default', 0)}")
        client = await joined(edge.ws_url, token())
        waiting = [client.begin(publish={"channel": channel, "data": 1}) for channel in gone[:15]]
        for channel in there:
            assert (await client.command(publish={"channel": channel, "data": 1}))["publish"] == {}
        codes = [(await client.reply(number))["error"]["code"] for number in waiting]
        assert sorted(codes) == [100] * 10 + [111] * 5
        metrics = await edge.metrics()
        assert metrics.value("tidewire_stream_held_bytes_of_one") == 0
        await client.close()


async def test_a_full_stream_says_so(server: NatsServer, tmp_path: Path) -> None:
    """It is not stored, and what was stored stays.

    That is certain where the first answer comes in time: a refusal of what was sent again proves nothing of the first try.
    """
    config = edge_config(server.url, CHANGES)
    await create_streams(server.url, config, discard="new", max_msgs=1, max_msgs_per_subject=-1)
    with EdgeProcess(tmp_path / "edge", config) as edge:
        client = await joined(edge.ws_url, token())
        assert "publish" in await client.command(publish={"channel": "kept:a", "data": 1})

        async def is_refused() -> bool:
            reply = await client.command(publish={"channel": "kept:a", "data": 2})
            assert reply["error"]["code"] == 100
            return "not stored, since JetStream refused it" in reply["error"]["message"]

        await eventually(is_refused)
        assert "maximum messages exceeded" in edge.logged("stream.refused")[0]["why"]
        await client.close()
    assert await kept(server) == [1]


@protocol("publish.uncertain")
async def test_a_server_that_hangs_costs_an_error_in_time_and_no_order(
    server: NatsServer, edge: EdgeProcess, client: RawClient
) -> None:
    """Frozen for 6 s: the one under way is uncertain, all behind it are not stored, and it is stored once in the end."""
    assert "publish" in await client.command(publish={"channel": "kept:a", "data": 0})
    server.pause()
    began = time.monotonic()
    numbers = [client.begin(publish={"channel": "kept:a", "data": n}) for n in (1, 2, 3)]
    replies = [await client.reply(number) for number in numbers]
    assert time.monotonic() - began < IN_TIME + SLACK
    assert next("may still be stored" in each["error"]["message"] for each in replies)
    assert all(each["error"]["code"] == 100 and each["error"]["temporary"] for each in replies)
    blocked = await client.command(publish={"channel": "kept:a", "data": 4})
    assert "not stored" in blocked["error"]["message"]
    await asyncio.sleep(max(0.0, began + 6 - time.monotonic()))
    server.resume()

    uncertain = [n for n, each in enumerate(replies, 1) if "may still be stored" in each["error"]["message"]]
    last = itertools.count(5)

    async def open_again() -> int:
        number = next(last)
        reply = await client.command(publish={"channel": "kept:a", "data": number})
        if "may still be stored" in reply.get("error", {}).get("message", ""):
            uncertain.append(number)
        return number if "publish" in reply else 0

    newest = await eventually(open_again, 30)
    found = await kept(server)
    assert found == [0, *[n for n in range(1, newest) if n in uncertain and n in found], newest]
    assert (await edge.metrics()).value("tidewire_stream_lanes") == 0


async def test_two_thousand_that_hang_are_all_told_in_time(
    server: NatsServer, edge: EdgeProcess, client: RawClient
) -> None:
    """One for each channel, all begun at once."""
    assert "publish" in await client.command(publish={"channel": "kept:a", "data": 0})
    clients = [await joined(edge.ws_url, token(f"u{number}")) for number in range(20)]
    server.pause()
    began = time.monotonic()
    numbers = [
        (each, [each.begin(publish={"channel": f"kept:{index}.{n}", "data": n}) for n in range(100)])
        for index, each in enumerate(clients)
    ]
    replies = [await each.reply(number) for each, begun in numbers for number in begun]
    took = time.monotonic() - began
    server.resume()
    print(f"2,000 unconfirmed publications: the last client was told after {took:.2f} s")
    assert took < IN_TIME + SLACK
    assert {each["error"]["code"] for each in replies} == {100}
    for each in clients:
        await each.close()


async def test_with_all_batches_of_a_stream_taken_publications_go_one_by_one(
    server: NatsServer, edge: EdgeProcess, client: RawClient
) -> None:
    """50 are open at most, for everybody: they are stored, in order, and answered."""
    async with connected(server.url) as other:
        for partition in range(PARTITIONS):
            for number in range(60):
                headers = {"Nats-Batch-Id": f"b{number}", "Nats-Batch-Sequence": "1"}
                await other.publish(f"tw.in.{partition}.kept.other", b"0", headers=headers)
        await flushed(other)
        numbers = [client.begin(publish={"channel": "kept:a", "data": n}) for n in range(400)]
        assert all(["publish" in await client.reply(number) for number in numbers])
    assert await kept(server) == list(range(400))
    assert (await edge.metrics()).value("tidewire_stream_batches_total", outcome="split") > 0


async def test_acknowledgements_of_others_are_not_believed(
    server: NatsServer, edge: EdgeProcess, client: RawClient
) -> None:
    """Neither on an inbox that was overheard, nor JetStream's own for what somebody stored elsewhere."""
    async with connected(server.url) as foe, started(server.url) as (link, _):
        await JetStream(link).call(f"STREAM.DELETE.{stream_name('default', 0)}")
        await JetStream(link).call(f"STREAM.DELETE.{stream_name('default', 1)}")
        replies: list[str] = []

        async def forge(message: Msg) -> None:
            replies.append(message.reply)
            inbox, _, _ = message.reply.rpartition(".")
            for guess in (f"{inbox}.{'0' * 16}-0", f"{inbox}.1"):
                await foe.publish(guess, b'{"stream":"TW_default_0","seq":1}')
                await foe.publish(guess, b'{"stream":"TW_default_1","seq":1}')
            await foe.publish("tw.in.0.brief.x", b"9", reply=message.reply)
            await foe.publish("tw.in.1.brief.x", b"9", reply=message.reply)
            await foe.publish(message.reply, b"not an answer")
            await foe.publish(message.reply, b'{"stream":"TW_default_0","seq":1}', headers={"A": "b"})

        await foe.subscribe("tw.in.*.kept.>", cb=forge)
        await flushed(foe)
        reply = await client.command(publish={"channel": "kept:a", "data": 1})
    assert reply["error"]["code"] == 100
    assert replies
    metrics = await edge.metrics()
    for reason in ("unexpected", "other_stream", "malformed"):
        assert metrics.value("tidewire_stream_answers_ignored_total", reason=reason) > 0


async def test_an_edge_does_not_start_beside_what_its_cluster_agrees_on(
    server: NatsServer, tmp_path: Path
) -> None:
    """One line says what to do."""
    config = edge_config(server.url, CHANGES)
    edge = EdgeProcess(tmp_path / "edge", config).launch()
    assert await edge.exit_code() != 0
    assert "there is no TW_META in JetStream, and history needs it" in edge.log
    assert "tidewire migrate" in edge.log


async def test_namespaces_that_move_take_nothing_until_they_have_moved(
    server: NatsServer, edge: EdgeProcess, client: RawClient
) -> None:
    """The others go on."""
    await move(server.url, "kept")

    async def closed() -> bool:
        reply = await client.command(publish={"channel": "kept:a", "data": 1})
        return "is being moved" in reply.get("error", {}).get("message", "")

    await eventually(closed)
    assert "publish" in await client.command(publish={"channel": "brief:a", "data": 1})
    assert "publish" in await client.command(publish={"channel": "live:a", "data": 1})
    await move(server.url)

    async def opened() -> bool:
        return "publish" in await client.command(publish={"channel": "kept:a", "data": 2})

    await eventually(opened)


async def test_what_waits_when_its_connection_goes_is_still_stored(
    server: NatsServer, edge: EdgeProcess, client: RawClient
) -> None:
    """And nothing is left of it."""
    for n in range(100):
        client.begin(publish={"channel": "kept:a", "data": n})
    await client.close()

    async def nothing_left() -> bool:
        metrics = await edge.metrics()
        return metrics.value("tidewire_stream_lanes") == 0

    await eventually(nothing_left)
    found = await kept(server)
    assert found == list(range(len(found)))


async def test_an_edge_that_drains_answers_first(
    server: NatsServer, edge: EdgeProcess, client: RawClient
) -> None:
    """Though NATS hangs for a moment."""
    server.pause()
    number = client.begin(publish={"channel": "kept:a", "data": 1})

    async def under_way() -> float:
        return (await edge.metrics()).value("tidewire_stream_in_flight")

    await eventually(under_way)
    edge.terminate()
    await asyncio.sleep(0.7)
    assert not client.gone.is_set()
    server.resume()
    assert "publish" in await client.reply(number)
    assert await edge.exit_code() == 0
    assert await kept(server) == [1]
