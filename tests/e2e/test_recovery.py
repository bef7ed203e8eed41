"""Positions and recovery with real processes: what was missed comes, once and in order, whatever is cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError

from tests.support.balancer import running_balancer
from tests.support.checker import Checker, payload, record
from tests.support.durable import Durable, durable_mesh
from tests.support.edges import PARTITIONS, token
from tests.support.history import publish
from tests.support.nats_client import connected as nats_connected
from tests.support.node import Node
from tests.support.protocol import protocol
from tests.support.raw_client import Clients, RawClient, publication
from tests.support.sdk import FORMATS, Event, SdkClient, subscribed
from tests.support.sdk_python import PythonClient
from tests.support.wait import eventually
from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import in_subject

ROUNDS = 6


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Durable]:
    """A nats-server with streams, a history process and two edges."""
    with durable_mesh(tmp_path_factory.mktemp("durable")) as running:
        running.edge("one")
        running.edge("two")
        yield running


@pytest.fixture
def channel(request: pytest.FixtureRequest) -> str:
    """A channel of the test's own."""
    return f"log:{request.node.name}"


@pytest.fixture
async def backend(mesh: Durable) -> AsyncIterator[Client]:
    """A native client of NATS."""
    async with nats_connected(mesh.nats.url) as client:
        yield client


async def put(backend: Client, channel: str, data: bytes, **headers: str) -> int:
    """Publish with an acknowledgement; return the offset."""
    return await publish(backend, channel, data, PARTITIONS, **headers)


class Ear:
    """A raw client, with the publications that it was pushed."""

    def __init__(self, client: RawClient, heard: list[dict[str, Any]], channel: str) -> None:
        self.client = client
        self.channel = channel
        self.heard = heard

    @property
    def offsets(self) -> list[int]:
        """Of what was pushed."""
        return [each["offset"] for each in self.heard]

    async def subscribe(self, channel: str = "", **fields: Any) -> dict[str, Any]:
        """The answer."""
        reply = await self.client.command(subscribe={"channel": channel or self.channel, **fields})
        return dict(reply["subscribe"] if "subscribe" in reply else reply["error"])

    async def recover(self, offset: int, epoch: str, channel: str = "", **fields: Any) -> dict[str, Any]:
        """The answer to a subscribe command that recovers."""
        return await self.subscribe(channel, recover=True, offset=offset, epoch=epoch, **fields)

    async def history(self, channel: str = "", **fields: Any) -> dict[str, Any]:
        """The answer to a history command."""
        reply = await self.client.command(history={"channel": channel or self.channel, **fields})
        return dict(reply["history"] if "history" in reply else reply["error"])


async def ear(clients: Clients, mesh: Durable, channel: str, edge: int = 0) -> Ear:
    """Connect a client to one of the edges; it will be about this channel unless it is told another."""
    heard: list[dict[str, Any]] = []

    def on_push(line: bytes) -> None:
        found = publication(line)
        if found is not None:
            heard.append(found[1])

    client = await clients.open(mesh.edges[edge].ws_url, on_push)
    await client.connect(token("alice"))
    return Ear(client, heard, channel)


def shown(answer: dict[str, Any]) -> list[int]:
    """The offsets of an answer's publications."""
    return [each["offset"] for each in answer.get("publications", [])]


async def dropped(mesh: Durable, edge: int = 0) -> float:
    """Messages that an edge did not believe."""
    return (await mesh.edges[edge].metrics()).value("tidewire_publications_dropped_total", reason="forged")


@protocol("subscribe.recovery")
async def test_what_was_missed_comes_on_any_edge(
    mesh: Durable, backend: Client, clients: Clients, channel: str
) -> None:
    """From the start, from a position, from the top; an epoch that is another's recovers nothing."""
    one = await ear(clients, mesh, channel)
    begun = await one.subscribe()
    assert begun["recoverable"]
    sent = [await put(backend, channel, b"%d" % number) for number in range(5)]
    await put(backend, "log:other", b"0")
    await eventually(lambda: one.offsets == sent)
    two = await ear(clients, mesh, channel, 1)
    answer = await two.recover(sent[1], begun["epoch"])
    assert (answer["recovered"], answer["offset"], shown(answer)) == (True, sent[1], sent[2:])
    for offset, epoch, expected in ((0, "", sent), (sent[-1], begun["epoch"], [])):
        other = await ear(clients, mesh, channel, 1)
        answer = await other.recover(offset, epoch)
        assert (answer["recovered"], shown(answer)) == (True, expected)
    lost = await ear(clients, mesh, channel)
    answer = await lost.recover(sent[1], "another")
    assert (answer.get("recovered"), answer["offset"], answer["was_recovering"]) == (None, sent[-1], True)
    assert (await (await ear(clients, mesh, channel)).recover(sent[1], "another", flag=2))["code"] == 112
    last = await put(backend, channel, b"5")
    await eventually(lambda: [each.offsets for each in (two, other, lost)] == [[last]] * 3)


@protocol("command.history")
async def test_history_is_read_in_pages(
    mesh: Durable, backend: Client, clients: Clients, channel: str
) -> None:
    """Forwards, backwards, from a position, all of it, none of it; an epoch that is another's is an error."""
    sent = [await put(backend, channel, b"%d" % number) for number in range(5)]
    one = await ear(clients, mesh, channel)
    top = await one.history()
    assert (top["publications"], top["offset"]) == ([], sent[-1])
    assert shown(await one.history(limit=-1)) == sent
    assert shown(await one.history(limit=2)) == sent[:2]
    assert shown(await one.history(limit=2, reverse=True)) == sent[:2:-1]
    since = {"offset": sent[1], "epoch": top["epoch"]}
    assert shown(await one.history(limit=-1, since=since)) == sent[2:]
    assert shown(await one.history(limit=-1, since=since, reverse=True)) == sent[:1]
    assert (await one.history(limit=-1, since={"offset": sent[1], "epoch": "another"}))["code"] == 112
    assert (await one.history("ask:a"))["code"] == 103
    assert (await one.history("live:a"))["code"] == 108


@protocol("option.force_recovery_mode")
async def test_cache_mode_brings_the_last_value(
    mesh: Durable, backend: Client, clients: Clients, channel: str
) -> None:
    """And what follows it, live."""
    for number in range(3):
        last = await put(backend, "last:a", b"%d" % number)
    one = await ear(clients, mesh, channel)
    assert shown(await one.recover(0, "", "last:a")) == [last]
    after = await put(backend, "last:a", b"3")
    await eventually(lambda: one.offsets == [after])


async def test_wildcards_hear_stored_channels_without_positions(
    mesh: Durable, backend: Client, clients: Clients, channel: str
) -> None:
    """What one of them heard has the channel, and no offset."""
    one = await ear(clients, mesh, channel)
    assert await one.subscribe("stocks:*", positioned=True, recover=True) == {}
    await put(backend, "stocks:a", b"1")
    await eventually(lambda: one.heard == [{"data": 1, "channel": "stocks:a"}])


async def test_nothing_but_the_stream_is_believed_on_tw_out(
    mesh: Durable, backend: Client, clients: Clients, channel: str
) -> None:
    """Neither a message with all the right headers in front, nor an acknowledgement or a direct get sent there."""
    one = await ear(clients, mesh, channel)
    await one.subscribe()
    before = await dropped(mesh)
    first = await put(backend, channel, b"0")
    source = in_subject(channel, PARTITIONS).decode()
    target = source.replace("tw.in", "tw.out")
    stream = stream_name("default", int(source.split(".")[2]))
    stolen = in_subject("log:other", PARTITIONS).decode()
    forged = {"Nats-Stream": stream, "Nats-Sequence": str(first + 1), "Nats-Last-Sequence": str(first)}
    await backend.publish(target, b"1")
    await backend.publish(target, b"2", headers=forged)
    await backend.publish(target, b"3", headers={**forged, "Nats-Subject": stolen})
    await backend.publish(
        target, b"4", headers={**forged, "Nats-Subject": source, "Nats-Stream": "TW_other_0"}
    )
    await backend.publish(source, b"5", reply=target)  # its acknowledgement is sent to the channel
    away = await put(backend, "log:other", b"6")
    other = stream_name("default", int(stolen.split(".")[2]))
    await backend.publish(f"$JS.API.DIRECT.GET.{other}", b'{"seq":%d}' % away, reply=target)
    last = await put(backend, channel, b"7", Nats_Sequence="1", Nats_Subject=stolen)
    await eventually(lambda: one.offsets[-1:] == [last])

    async def all_dropped() -> bool:
        return await dropped(mesh) == before + 6

    await eventually(all_dropped)  # what JetStream sends in answer may come behind the last publication
    assert [each["data"] for each in one.heard] == [0, 5, 7]


@protocol("error.100")
async def test_history_away_is_an_error_for_positions_only(
    mesh: Durable, backend: Client, clients: Clients, channel: str
) -> None:
    """Clients that ask for none go on, and so do those that have one; when it is back all is as before."""
    old, plain, new = [await ear(clients, mesh, channel) for _ in range(3)]
    begun = await old.subscribe()
    first = await put(backend, channel, b"0")
    await eventually(lambda: old.offsets == [first])
    port = mesh.history.port
    mesh.history.kill()
    assert await plain.subscribe("ask:a") == {}
    answer = await new.subscribe("ask:a", positioned=True)
    assert (answer["code"], answer["temporary"]) == (100, True)
    assert (await new.recover(0, begun["epoch"]))["code"] == 100
    sent = [await put(backend, "ask:a", b"1"), await put(backend, channel, b"2")]
    await eventually(lambda: [*plain.offsets, *old.offsets[1:]] == sent)
    mesh.history.configure({"history_service": {"rpc": {"port": port}}})
    mesh.history.start()
    answer = {}
    while "recovered" not in answer:
        answer = await new.recover(0, begun["epoch"])
    assert shown(answer) == [first, sent[1]]


@pytest.mark.parametrize("wire", FORMATS)
@protocol("subscribe.recovery")
async def test_sdks_miss_nothing_while_connections_and_nats_are_cut(
    mesh: Durable, node: Node, wire: str
) -> None:
    """Both SDKs, plain, with deltas and in batches: cut every half second, NATS killed and started in between."""
    checker = Checker()
    channels = (f"log:{wire}", f"edits:{wire}", f"batch:{wire}")
    async with running_balancer(mesh.edges) as balancer, contextlib.AsyncExitStack() as stack:
        for kind in ("js", "python"):
            for channel in channels:
                client = await _sdk(kind, balancer.ws_url, wire, node)
                stack.push_async_callback(client.close)
                await client.connect()
                await client.subscribe(channel, delta=channel.startswith("edits"))
                await subscribed(client, channel)
                checker.subscribed(f"{kind} {channel}", [channel])
                client.on_event = _noting(checker, f"{kind} {channel}")
        publishing = [asyncio.create_task(_publish(mesh, checker, channel)) for channel in channels]
        for number in range(ROUNDS):
            await asyncio.sleep(0.5)  # publications go on meanwhile
            balancer.cut()
            if number == ROUNDS // 2:
                mesh.nats.kill()
                mesh.nats.restart()
        await asyncio.gather(*publishing)
        await checker.check_when_complete(60)
    print(checker.counts)


async def _sdk(kind: str, url: str, wire: str, node: Node) -> SdkClient:
    if kind == "js":
        return await node.create(url, wire=wire, token=token("js"))
    return PythonClient(url, wire=wire, token=token("python"))


def _noting(checker: Checker, name: str) -> Callable[[Event], None]:
    def note(event: Event) -> None:
        if event.event == "publication":
            checker.received(name, record(event.channel, event.data))

    return note


async def _publish(mesh: Durable, checker: Checker, channel: str) -> None:
    """Publish for as long as connections are cut; what was not acknowledged is nobody's to expect."""
    async with nats_connected(mesh.nats.url) as backend:
        for sequence in range(1, ROUNDS * 50):
            data = payload("backend", sequence, text="what deltas leave out " * 3)
            sent = record(channel, data)
            try:
                await put(backend, channel, json.dumps(data).encode())
            except (NatsError, TimeoutError):
                checker.unknown(sent)
            else:
                checker.acknowledged(sent)
            await asyncio.sleep(0.01)  # the pace of a publisher
