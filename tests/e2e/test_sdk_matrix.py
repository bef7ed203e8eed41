"""The SDK versions in the field, JSON and Protobuf, all at once against a mesh: see tests/support/sdk_scenarios.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from tests.support.balancer import running_balancer
from tests.support.checker import Checker, payload, record
from tests.support.edges import EdgeProcess, Mesh, edge_config, merged, native, running_mesh, token
from tests.support.nats_client import flushed
from tests.support.protocol import protocol
from tests.support.raw_client import joined
from tests.support.scenarios.setting import APPLICATION_ERROR, CONFIG, FOR_USERS, SENT
from tests.support.sdk import Event, SdkClient, event, subscribed
from tests.support.sdk_matrix import KINDS, Cast, Player, Scenario, running_cast
from tests.support.sdk_scenarios import SCENARIOS
from tests.support.wait import PATIENCE, eventually

PUBLICATIONS = 5
"""Of each SDK and format in the channel that all of them listen to."""
PINGS = 2

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two edges for all tests of this module, and two that know users: the last ones."""
    folder = tmp_path_factory.mktemp("matrix")
    with running_mesh(folder, CONFIG) as running, contextlib.ExitStack() as stack:
        config = edge_config(running.nats.url, merged(CONFIG, FOR_USERS))
        more = [EdgeProcess(folder, config, name=name).launch() for name in ("users-1", "users-2")]
        for edge in more:
            stack.push(edge)
        yield Mesh(running.nats, [*running.edges, *(edge.wait_ready() for edge in more)])


@contextlib.asynccontextmanager
async def running_backend(mesh: Mesh) -> AsyncIterator[NatsClient]:
    """Answer the clients' calls on NATS, and publish what they send; the link may publish more."""

    async def answer(message: Msg) -> None:
        await message.respond(b'{"sum": 5}')

    async def refuse(message: Msg) -> None:
        headers = {"Nats-Service-Error-Code": str(APPLICATION_ERROR), "Nats-Service-Error": "too late"}
        await link.publish(message.reply, b"", headers=headers)

    async def send_back(message: Msg) -> None:
        await link.publish(f"tw.pub.{SENT.replace(':', '.')}", message.data)

    async with native(mesh) as link:
        await link.subscribe("tw.rpc.sum", cb=answer)
        await link.subscribe("tw.rpc.fail", cb=refuse)
        await link.subscribe("tw.ev.message", cb=send_back)
        await flushed(link)
        yield link


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cast(mesh: Mesh) -> AsyncIterator[Cast]:
    """All SDKs, for all tests of this module."""
    async with running_backend(mesh) as backend, running_cast(mesh, backend) as running:
        yield running


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@protocol(
    "sdk.js_5_0_json",
    "sdk.js_5_0_protobuf",
    "sdk.js_5_7_json",
    "sdk.js_5_7_protobuf",
    "sdk.js_5_8_json",
    "sdk.js_5_8_protobuf",
    "sdk.python_0_5_json",
    "sdk.python_0_5_protobuf",
    "sdk.python_0_7_json",
    "sdk.python_0_7_protobuf",
    "sdk.go_0_12_json",
    "sdk.go_0_12_protobuf",
)
async def test_every_sdk_plays(scenario: Scenario, cast: Cast) -> None:
    """All at once, each with clients and channels of its own."""
    await cast.play(scenario)


async def test_every_sdk_receives_what_each_of_them_publishes(cast: Cast) -> None:
    """Half of them on each edge, in one channel: the checker finds nothing missing, twice, swapped or foreign."""
    channel = "live:everybody"
    checker = Checker()

    def listen(name: str, client: SdkClient) -> None:
        def on_event(got: Event) -> None:
            if got.event == "publication":
                checker.received(name, record(got.channel, got.data))

        checker.subscribed(name, [channel])
        client.on_event = on_event

    async def publish(name: str, client: SdkClient) -> None:
        for sequence in range(1, PUBLICATIONS + 1):
            data = payload(name, sequence)
            await client.publish(channel, data)
            checker.acknowledged(record(channel, data))

    async with cast.players() as players:
        clients = {
            player.kind: await player.join(edge=number // 2 % 2) for number, player in enumerate(players)
        }
        for name, client in clients.items():
            await subscribed(client, channel)
            listen(name, client)
        await asyncio.gather(*(publish(name, client) for name, client in clients.items()))
        await checker.check_when_complete(PATIENCE)
    assert checker.counts.startswith(f"{len(KINDS) * PUBLICATIONS} acknowledged, 0 unknown, 0 failed")


async def test_every_sdk_answers_pings(cast: Cast, tmp_path: Path) -> None:
    """One every four seconds: after two of them nobody was closed for want of a pong, and nobody noticed anything."""
    changes = {"client": {"ping_interval": "4s", "pong_timeout": "3900ms"}}
    config = edge_config(cast.mesh.nats.url, changes)
    with EdgeProcess(tmp_path, config, name="pinging") as edge, contextlib.ExitStack() as stack:
        async with cast.players() as players:
            clients = [await player.join(url=edge.ws_url) for player in players]
            last = await joined(edge.ws_url, token("last"))
            stack.callback(last.abort)
            await eventually(lambda: last.pings >= PINGS)
            for player, client in zip(players, clients, strict=True):
                assert [each.event for each in client.events] == ["connecting", "connected"], player.kind
            assert edge.logged("connection.closed") == []
            assert (await edge.metrics()).value("tidewire_connections") == len(KINDS) + 1


async def test_every_sdk_moves_to_another_edge_when_its_own_drains(cast: Cast, tmp_path: Path) -> None:
    """3001, then connected elsewhere and subscribed again; the application sees no error."""
    config = edge_config(cast.mesh.nats.url, {"drain": {"delay": "1s", "window": "1s"}})
    first, second = (EdgeProcess(tmp_path, config, name=name) for name in ("first", "second"))

    async def follow(player: Player, client: SdkClient) -> None:
        channel = player.channel("moving")
        await event(client, "subscribed", channel=channel, count=2)
        await client.publish(channel, "seen")
        assert (await event(client, "publication")).data == "seen"
        story = [
            (each.event, each.code)
            for each in client.events
            if each.event not in {"subscribing", "publication"}
        ]
        assert story == [
            ("connecting", 0),
            ("connected", 0),
            ("subscribed", 0),
            (player.lost, 3001),
            ("connected", 0),
            ("subscribed", 0),
        ], player.kind

    with first, contextlib.ExitStack() as stack:
        async with running_balancer([first, second]) as balancer, cast.players() as players:
            clients = [await player.join(url=balancer.ws_url) for player in players]
            for player, client in zip(players, clients, strict=True):
                await subscribed(client, player.channel("moving"))
            stack.push(await asyncio.to_thread(second.start))
            await eventually(lambda: balancer.ready == {first.port, second.port})
            first.terminate()
            await asyncio.gather(*map(follow, players, clients))
            assert balancer.sent == {first.port: len(KINDS), second.port: len(KINDS)}
            assert await first.exit_code() == 0
