"""SIGTERM of an edge: its clients move on without noticing more than a reconnect, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg

from tests.support import nats_client
from tests.support.balancer import Balancer, running_balancer
from tests.support.checker import Checker, payload, record
from tests.support.edges import OPEN, PATIENT, EdgeProcess, edge_config, mapping, token
from tests.support.nats_server import NatsServer
from tests.support.node import Node, NodeClient, running_node
from tests.support.protocol import protocol
from tests.support.raw_client import Clients, joined, publication
from tests.support.sdk import CLOSED, FORMATS, Event, connected, subscribed
from tests.support.wait import PATIENCE, eventually

CLIENTS = 500
PUBLISHERS = 20
READERS = 10
"""Clients among the 500 that listen to the publishers, and are away while they move."""
DELAY, WINDOW = 1.0, 6.0
CHANNEL = "live:flow"


class Pair(msgspec.Struct, frozen=True):
    """Two edges on one nats-server; the second one is started by the test."""

    nats: NatsServer
    first: EdgeProcess
    second: EdgeProcess


@contextlib.contextmanager
def running_pair(folder: Path, changes: Mapping[str, Any]) -> Iterator[Pair]:
    """Run the first edge, and end the second one if it was started."""
    with NatsServer(folder / "nats", config=mapping()) as server:
        config = edge_config(server.url, changes)
        first, second = (EdgeProcess(folder, config, name=f"edge-{number}") for number in (1, 2))
        with first, contextlib.ExitStack() as stack:
            stack.callback(second.kill)
            yield Pair(server, first, second)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two edges that drain over some seconds."""
    with running_pair(tmp_path, {"client": PATIENT, "drain": {"delay": DELAY, "window": WINDOW}}) as edges:
        yield edges


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Pair]:
    """Two edges that drain at once, with rpc; they wait long for clients and for answers."""
    rpc = {"enabled": True, "timeout": "3.9s", "methods": [{"name": "slow"}]}
    with running_pair(tmp_path, {"rpc": rpc, "websocket": {"close_timeout": "20s"}}) as edges:
        edges.second.start()
        yield edges


class Crowd:
    """The 500 clients of the JavaScript SDK, in two Node processes."""

    def __init__(self) -> None:
        self.clients: list[NodeClient] = []

    async def connect(self, nodes: list[Node], url: str) -> None:
        """Connect everybody; the first ones listen to the channel of the publishers.

        Hundreds in one process may wait longer for a reply than the 5 s that the SDK gives it by itself.
        """
        for number in range(CLIENTS):
            node = nodes[number % len(nodes)]
            wire = FORMATS[number // 2 % 2]
            user = f"user-{number}"
            client = await node.create(url, wire=wire, token=token(user), name=user, timeout=60_000)
            self.clients.append(client)
            if number < READERS:
                await client.subscribe(CHANNEL)
            else:
                await client.subscribe(f"live:own-{number % 50}")
            await client.connect()
        await eventually(lambda: self.count("subscribed") == CLIENTS, 60, "500 subscriptions")

    def count(self, kind: str, **fields: object) -> int:
        """Return how many events of a kind all of them have reported."""
        return sum(
            1
            for client in self.clients
            for each in client.events
            if each.event == kind and all(getattr(each, name) == value for name, value in fields.items())
        )

    def story(self) -> Counter[tuple[tuple[str, int], ...]]:
        """Return what happened to connections and subscriptions, and to how many."""
        kinds = {"connecting", "connected", "disconnected", "error", "subscription_error", "unsubscribed"}
        return Counter(
            tuple((each.event, each.code) for each in client.events if each.event in kinds)
            for client in self.clients
        )


def watch(checker: Checker, name: str) -> Callable[[bytes], None]:
    """Return the listener of a raw client that is there throughout."""
    checker.subscribed(name, [CHANNEL])

    def on_push(line: bytes) -> None:
        found = publication(line)
        assert found is not None
        checker.received(name, record(found[0], found[1]["data"]))

    return on_push


def note_outcomes(checker: Checker, events: list[Event]) -> Counter[int]:
    """Tell the checker what became of each publication of a stream; return how often by code."""
    outcomes: Counter[int] = Counter()
    for each in events:
        if each.event != "published":
            continue
        outcomes[each.code] += 1
        sent = record(each.channel, payload(each.publisher, each.sequence))
        if not each.code:
            checker.acknowledged(sent)
        elif each.code == CLOSED:
            checker.failed(sent)
        else:
            checker.unknown(sent)
    return outcomes


def note_received(checker: Checker, client: NodeClient, *, throughout: bool) -> None:
    """Tell the checker what a client of the SDK received."""
    checker.subscribed(client.name, [CHANNEL], throughout=throughout)
    for each in client.events:
        if each.event == "publication":
            checker.received(client.name, record(each.channel, each.data))


@protocol("disconnect.3001")
async def test_500_sdk_clients_move_to_the_other_edge_and_nothing_acknowledged_is_lost(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through a balancer that follows /ready, while 20 of them go on publishing.

    Each sees `connecting` with 3001 and `connected` again: no `error`, no `disconnected`. Subscribers of the other edge
    have every acknowledged publication, and none of those that failed because they crossed the close.
    """
    checker = Checker()
    async with contextlib.AsyncExitStack() as stack:
        balancer = await stack.enter_async_context(running_balancer([pair.first, pair.second]))
        nodes = [await stack.enter_async_context(running_node()) for _ in range(2)]
        crowd = Crowd()
        await crowd.connect(nodes, balancer.ws_url)
        assert balancer.sent == {pair.first.port: CLIENTS}
        await open_second(pair, balancer)
        control = await joined(
            pair.second.ws_url, token("control"), CHANNEL, on_push=watch(checker, "control")
        )
        stack.callback(control.abort)
        sdk = await nodes[0].create(
            pair.second.ws_url, token=token("sdk"), name="sdk control", timeout=60_000
        )
        await connected(sdk)
        await subscribed(sdk, CHANNEL)
        publishers = [*crowd.clients[READERS : READERS + PUBLISHERS], sdk]
        for number, client in enumerate(publishers):
            await client.stream(CHANNEL, f"p{number}", pause=5)
        await eventually(lambda: all(has(client, "published", 5) for client in publishers))

        began = time.monotonic()
        pair.first.terminate()
        scraping = asyncio.create_task(last_dropped(pair.first))
        await eventually(
            lambda: crowd.count("connected") == 2 * CLIENTS,
            DELAY + WINDOW + 45,  # for a busy machine
            "500 clients on the other edge",
        )
        moved = time.monotonic() - began
        assert await pair.first.exit_code() == 0
        ended = time.monotonic() - began
        marks = [len(client.events) for client in publishers]
        await eventually(
            lambda: all(
                has(c, "published", 5, after=mark) for c, mark in zip(publishers, marks, strict=True)
            ),
            PATIENCE,
            "publishing goes on",
        )
        for client in publishers:
            await client.stop_streams()
        await eventually(lambda: all(has(client, "stream_ended") for client in publishers))

        outcomes: Counter[int] = Counter()
        for client in publishers:
            outcomes += note_outcomes(checker, client.events)
        await eventually(lambda: has(sdk, "publication", outcomes[0]))
        note_received(checker, sdk, throughout=True)
        for client in crowd.clients[:READERS]:
            note_received(checker, client, throughout=False)
        await checker.check_when_complete(PATIENCE)
        dropped = await scraping
        connections = (await pair.second.metrics()).value("tidewire_connections")

    with capsys.disabled():
        print(
            f"\ndrain: {CLIENTS} clients moved in {moved:.1f} s (delay {DELAY:g} s, window {WINDOW:g} s), exit after "
            f"{ended:.1f} s; {checker.counts}; publishes by code {dict(outcomes)}; commands dropped {dropped:g}"
        )
    moved_once = (("connecting", 0), ("connected", 0), ("connecting", 3001), ("connected", 0))
    assert crowd.story() == {moved_once: CLIENTS}
    assert outcomes.keys() <= {0, CLOSED}
    assert dropped <= outcomes[CLOSED]
    assert connections == CLIENTS + 2
    assert balancer.sent == {pair.first.port: CLIENTS, pair.second.port: CLIENTS}
    assert balancer.refused == 0
    assert pair.first.logged("edge.drained")[0]["left"] == 0
    assert len(pair.first.logged("connection.closed")) == CLIENTS
    assert {line["code"] for line in pair.first.logged("connection.closed")} == {3001}


async def open_second(pair: Pair, balancer: Balancer) -> None:
    """Start the second edge and wait until the balancer has seen it."""
    await asyncio.to_thread(pair.second.start)
    await eventually(lambda: balancer.ready == {pair.first.port, pair.second.port})


def has(client: NodeClient, kind: str, count: int = 1, *, after: int = 0) -> bool:
    """Return whether the client has reported that many events of a kind since event number `after`."""
    return sum(1 for each in client.events[after:] if each.event == kind) >= count


async def last_dropped(edge: EdgeProcess) -> float:
    """Read the metric of dropped commands until the edge is gone; return the last value."""
    dropped = 0.0
    while edge.running:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            dropped = (await edge.metrics()).value("tidewire_commands_dropped_total")
        await asyncio.sleep(
            0.02
        )  # between two scrapes: the condition is the loop's, and bounded by the drain
    return dropped


class TestOneConnection:
    """The rules, one at a time, with a client that can do what SDKs do only by chance."""

    @protocol("close.owed")
    async def test_a_publish_that_crosses_the_close_is_dropped_and_counted(
        self, quick: Pair, clients: Clients
    ) -> None:
        """It is neither answered nor delivered, and the edge still ends with 0."""
        seen: list[Any] = []

        def on_push(line: bytes) -> None:
            found = publication(line)
            seen.append(found and found[1]["data"])

        reader = await clients.join(quick.second.ws_url, token("reader"), CHANNEL, on_push=on_push)
        client = await clients.join(quick.first.ws_url, token("late"))
        client.holds_close = True
        quick.first.terminate()
        await asyncio.wait_for(client.told_to_go.wait(), PATIENCE)
        assert (client.close_code, client.close_reason) == (3001, "shutdown")
        crossing = client.begin(publish={"channel": CHANNEL, "data": "crossed"})

        async def counted() -> bool:
            return (await quick.first.metrics()).value("tidewire_commands_dropped_total") == 1

        await eventually(counted)
        client.release()
        with pytest.raises(ConnectionError):
            await client.reply(crossing)
        assert await quick.first.exit_code() == 0
        await reader.command(publish={"channel": CHANNEL, "data": "fence"})
        await eventually(lambda: "fence" in seen)
        assert seen == ["fence"]

    @protocol("close.owed")
    async def test_a_connection_is_closed_only_when_it_is_owed_no_reply(
        self, quick: Pair, clients: Clients
    ) -> None:
        """A call under way is answered, then the close comes; what is sent meanwhile is dropped and counted."""
        asked: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        async def keep(message: Msg) -> None:
            asked.set_result(message)

        async with nats_client.connected(quick.nats.url) as responder:
            await responder.subscribe("tw.rpc.slow", cb=keep)
            await nats_client.flushed(responder)
            busy = await clients.join(quick.first.ws_url, token("busy"))
            idle = await clients.join(quick.first.ws_url, token("idle"))
            call = busy.begin(rpc={"method": "slow", "data": 1})
            message = await asyncio.wait_for(asked, PATIENCE)
            quick.first.terminate()
            await asyncio.wait_for(idle.gone.wait(), PATIENCE)
            late = busy.begin(publish={"channel": CHANNEL, "data": "late"})

            async def counted() -> bool:
                return (await quick.first.metrics()).value("tidewire_commands_dropped_total") == 1

            await eventually(counted)
            assert not busy.told_to_go.is_set()
            await message.respond(b'"done"')
            assert (await busy.reply(call))["rpc"]["data"] == "done"
            await asyncio.wait_for(busy.gone.wait(), PATIENCE)
            assert busy.close_code == 3001
            with pytest.raises(ConnectionError):
                await busy.reply(late)
            assert await quick.first.exit_code() == 0

    async def test_an_edge_that_drains_says_so_and_still_accepts_for_the_delay(
        self, tmp_path: Path, clients: Clients
    ) -> None:
        """/ready answers 503; who comes all the same is served, then told to go elsewhere."""
        with running_pair(tmp_path, {"drain": {"delay": "6s", "window": 0}}) as pair:
            pair.first.terminate()

            async def unready() -> bool:
                return (await pair.first.ready()).status == 503

            await eventually(unready)
            client = await clients.join(pair.first.ws_url, token("late"), CHANNEL)
            assert (await client.command(publish={"channel": CHANNEL, "data": 1}))["publish"] == {}
            await asyncio.wait_for(client.gone.wait(), PATIENCE)
            assert client.close_code == 3001
            assert await pair.first.exit_code() == 0

    async def test_batch_that_waits_goes_out_before_the_close(self, tmp_path: Path, clients: Clients) -> None:
        """Long before its time; who is let go would never see it."""
        seen: list[Any] = []

        def on_push(line: bytes) -> None:
            found = publication(line)
            seen.append(found and found[1]["data"])

        live = {"name": "live", **OPEN, "batch_max_delay": "10s"}
        with running_pair(tmp_path, {"channel": {"namespaces": [live]}, "drain": {"window": 0}}) as pair:
            viewer = await clients.join(pair.first.ws_url, token("viewer"), CHANNEL, on_push=on_push)
            for number in range(3):
                await viewer.command(publish={"channel": CHANNEL, "data": number})
            assert seen == [0]
            pair.first.terminate()
            await asyncio.wait_for(viewer.gone.wait(), PATIENCE)
            assert viewer.close_code == 3001
            assert seen == [0, 1, 2]

    async def test_a_peer_that_never_answers_the_close_does_not_keep_the_edge(
        self, tmp_path: Path, clients: Clients
    ) -> None:
        """Its connection is cut after websocket.close_timeout."""
        with running_pair(tmp_path, {"websocket": {"close_timeout": "500ms"}}) as pair:
            client = await clients.join(pair.first.ws_url, token("deaf"))
            client.holds_close = True
            pair.first.terminate()
            assert await pair.first.exit_code() == 0
            await asyncio.wait_for(client.gone.wait(), PATIENCE)
