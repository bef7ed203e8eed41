"""What concerns a user on all edges at once: orders over NATS, one connection only, wildcards. Two edges, raw clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from tests.support.edges import OPEN, Mesh, native, running_mesh, token
from tests.support.nats_client import flushed
from tests.support.protocol import protocol
from tests.support.raw_client import RawClient
from tests.support.wait import PATIENCE, eventually
from tidewire.kernel.subjects import encode_channel, in_subject, partition_of

CHANGES = {
    "channel": {
        "namespaces": [
            {"name": "live", **OPEN, "allow_user_limited_channels": True},
            {"name": "prices", **OPEN, "allow_wildcards": True, "allow_user_limited_channels": True},
            {"name": "closed"},
        ]
    },
}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two edges where several connections of a user live side by side."""
    with running_mesh(tmp_path_factory.mktemp("users"), CHANGES) as running:
        yield running


@pytest.fixture(scope="module")
def singles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two edges where a new connection of a user replaces its others."""
    changes = {"client": {"single_connection": "replace"}}
    with running_mesh(tmp_path_factory.mktemp("singles"), changes) as running:
        yield running


class Seat:
    """One connected client, its id and what it was pushed."""

    def __init__(self, url: str) -> None:
        self.pushes: list[dict[str, Any]] = []
        self.raw = RawClient(url, lambda line: self.pushes.append(json.loads(line)["push"]))
        self.client = ""

    async def connect(self, user: str, **claims: object) -> Seat:
        """Open and authenticate."""
        await self.raw.open()
        self.client = (await self.raw.connect(token(user, **claims)))["client"]
        return self

    async def subscribe(self, channel: str, **fields: object) -> dict[str, Any]:
        """Subscribe; the whole reply."""
        return await self.raw.command(subscribe={"channel": channel, **fields})

    async def closed(self) -> tuple[int, str]:
        """Wait for the edge's close; its code and reason."""
        async with asyncio.timeout(PATIENCE):
            await self.raw.told_to_go.wait()
        return self.raw.close_code, self.raw.close_reason


@contextlib.asynccontextmanager
async def seats(mesh: Mesh, *users: str) -> AsyncIterator[list[Seat]]:
    """A client for each user, on the edges in turn."""
    found: list[Seat] = []
    try:
        for index, user in enumerate(users):
            found.append(Seat(mesh.edges[index % 2].ws_url))
            await found[-1].connect(user)
        yield found
    finally:
        for seat in found:
            seat.raw.abort()


async def order(nats_client: Client, /, *, node: str = "all", **fields: object) -> None:
    """Give an order."""
    await nats_client.publish(f"tw.ctl.{node}", json.dumps({"v": 1, **fields}).encode())
    await flushed(nats_client)


async def orders_taken(mesh: Mesh, **labels: str) -> float:
    """How many, over both edges."""
    found = [await edge.metrics() for edge in mesh.edges]
    return sum(each.value("tidewire_control_orders_total", **labels) for each in found)


# Orders.


@protocol("order.disconnect", "disconnect.3503")
async def test_disconnect_reaches_a_user_on_every_edge(mesh: Mesh) -> None:
    """All its connections but the spared one; nobody else's. Once with a code of the application's."""
    async with native(mesh) as client, seats(mesh, "ann", "ann", "ann", "bob") as (one, two, three, other):
        await order(client, type="disconnect", user="ann", spare=[three.client])
        assert await one.closed() == await two.closed() == (3503, "force disconnect")
        await order(client, type="disconnect", user="ann", code=4501, reason="banned")
        assert await three.closed() == (4501, "banned")
        assert (await other.subscribe("live:a"))["subscribe"] == {}


@protocol("order.subscribe", "order.unsubscribe", "unsubscribe.2000", "subscribe.server_side")
async def test_subscribe_and_unsubscribe_by_order(mesh: Mesh) -> None:
    """Whatever the rights; the client is told, gets publications, and is told of the end. One client of two by its id."""
    async with native(mesh) as client, seats(mesh, "cid", "cid") as (one, two):
        await order(
            client, type="subscribe", user="cid", client=two.client, channel="closed:x", data={"hello": 1}
        )
        await eventually(lambda: two.pushes)
        assert two.pushes.pop() == {"channel": "closed:x", "subscribe": {"data": {"hello": 1}}}
        await client.publish("tw.pub.closed.x", b"1")
        await eventually(lambda: two.pushes)
        assert two.pushes.pop() == {"channel": "closed:x", "pub": {"data": 1}}
        await order(client, type="unsubscribe", user="cid", channel="closed:x")
        await eventually(lambda: two.pushes)
        ended = {"channel": "closed:x", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
        assert two.pushes == [ended]
        assert one.pushes == []


@protocol("order.refresh")
async def test_refresh_by_order(mesh: Mesh) -> None:
    """A connection may be told to end now, with the code that lets it come back with a new token."""
    async with native(mesh) as client, seats(mesh, "dan", "dan") as (one, two):
        await order(client, type="refresh", user="dan", client=one.client, expire_at=1)
        assert (await one.closed())[0] == 3005
        assert (await two.subscribe("live:a"))["subscribe"] == {}


@protocol("order.malformed")
async def test_orders_that_cannot_be_read_do_nothing_and_are_counted(mesh: Mesh) -> None:
    """Another version, an unknown type, missing or wrong fields, no JSON; the edges go on."""
    bad = [
        b"", b"{", b"[]", b'{"v":1}', b'{"v":2,"type":"disconnect","user":"eve"}', b'{"v":1,"type":"explode"}',
        b'{"v":1,"type":"disconnect"}', b'{"v":1,"type":"disconnect","user":""}',
        b'{"v":1,"type":"disconnect","user":"eve","code":1000}',
        b'{"v":1,"type":"subscribe","user":"eve","channel":""}', b"\xff" * 70_000,
    ]  # fmt: skip
    async with native(mesh) as client, seats(mesh, "eve") as (seat,):
        before = await orders_taken(mesh, kind="unknown", outcome="malformed")
        for each in bad:
            await client.publish("tw.ctl.all", each)
        await flushed(client)

        async def counted() -> bool:
            return await orders_taken(mesh, kind="unknown", outcome="malformed") == before + 2 * len(bad)

        await eventually(counted)
        assert (await seat.subscribe("live:a"))["subscribe"] == {}
        await order(client, node="edge-1", type="disconnect", user="nobody")


# One connection of a user.


@protocol("connect.single", "disconnect.3503")
async def test_new_connection_replaces_the_old_one_wherever_it_is(singles: Mesh) -> None:
    """On the same edge and on the other; the reason says why, and anonymous users are no one user."""
    async with seats(singles, "ann", "bob") as (first, other), contextlib.AsyncExitStack() as stack:
        latest = first
        for edge in (1, 1, 0):
            newer = Seat(singles.edges[edge].ws_url)
            stack.callback(newer.raw.abort)
            await newer.connect("ann")
            code, reason = await latest.closed()
            assert (code, "connected anew" in reason) == (3503, True)
            latest = newer
        assert (await latest.subscribe("live:a"))["subscribe"] == {}
        assert (await other.subscribe("live:a"))["subscribe"] == {}


@protocol("connect.single")
async def test_of_connections_at_the_same_time_exactly_one_stays(singles: Mesh) -> None:
    """Whatever order the edges hear of them: never none, never two."""
    for number in range(5):
        user = f"user-{number}"
        found = [Seat(singles.edges[index % 2].ws_url) for index in range(6)]
        with contextlib.ExitStack() as stack:
            for seat in found:
                stack.callback(seat.raw.abort)
            await asyncio.gather(*(seat.raw.open() for seat in found))
            await asyncio.gather(*(seat.raw.connect(token(user)) for seat in found), return_exceptions=True)
            last = await only_one(found)
            await orders_have_passed(singles)
            assert (await last.subscribe("live:a"))["subscribe"] == {}


async def only_one(found: list[Seat]) -> Seat:
    """Wait until all but one are told to go."""

    def left() -> list[Seat]:
        return [seat for seat in found if not seat.raw.told_to_go.is_set()]

    await eventually(lambda: len(left()) == 1)
    return left()[0]


async def orders_have_passed(mesh: Mesh) -> None:
    """Both edges have taken an order that was given after all of theirs: none is on its way any more.

    An acknowledged publication of each shows that NATS has what it sent before; only the last order is of its kind.
    """
    async with seats(mesh, "fence-1", "fence-2") as found:
        for seat in found:
            assert "publish" in await seat.raw.command(publish={"channel": "live:fence", "data": 1})
    before = await orders_taken(mesh, kind="refresh")
    async with native(mesh) as client:
        await order(client, type="refresh", user="nobody", expire_at=0)

    async def passed() -> bool:
        return await orders_taken(mesh, kind="refresh") == before + len(mesh.edges)

    await eventually(passed)


# Wildcards.


@protocol("channel.wildcard")
async def test_wildcards_across_edges(mesh: Mesh) -> None:
    """Each publication comes with its real channel, once for the pattern and once for the channel itself."""
    async with seats(mesh, "ann", "bob") as (reader, writer):
        for channel in ("prices:nasdaq.*", "prices:nasdaq.AAPL"):
            assert (await reader.subscribe(channel))["subscribe"] == {}
        for channel in ("prices:nasdaq.AAPL", "prices:nasdaq.MSFT", "prices:nyse.IBM", "prices:nasdaq.a.b"):
            assert "error" not in await writer.raw.command(publish={"channel": channel, "data": channel})
        refused = await writer.raw.command(publish={"channel": "prices:nasdaq.*", "data": 1})
        assert refused["error"]["code"] == 107
        await eventually(lambda: len(reader.pushes) == 3)
        found = sorted(
            (push["channel"], push["pub"].get("channel", ""), push["pub"]["data"]) for push in reader.pushes
        )
        assert found == [
            ("prices:nasdaq.*", "prices:nasdaq.AAPL", "prices:nasdaq.AAPL"),
            ("prices:nasdaq.*", "prices:nasdaq.MSFT", "prices:nasdaq.MSFT"),
            ("prices:nasdaq.AAPL", "", "prices:nasdaq.AAPL"),
        ]


@protocol("channel.wildcard")
async def test_wildcards_never_deliver_what_is_private_or_forged(mesh: Mesh, tmp_path: Path) -> None:
    """`$` and `#` channels and another partition's subjects arrive at the edge and go no further; all are counted."""
    hidden = ["$prices:a", "prices:a#bob"]
    async with native(mesh) as client, seats(mesh, "eve") as (eve,):
        for pattern in ("prices:*", "prices:*.*"):
            assert (await eve.subscribe(pattern))["subscribe"] == {}
        for pattern in ("$prices:*", "prices:*#bob", "prices:*#*", "prices:a*", "closed:*"):
            assert (await eve.subscribe(pattern))["error"]["code"] in {103, 107}, pattern
        before = await dropped(mesh)
        for channel in hidden:
            await client.publish(in_subject(channel, 16).decode(), b'"secret"')
        tokens = encode_channel("prices:a")
        await client.publish(f"tw.in.{(partition_of(tokens, 16) + 1) % 16}.{tokens}", b'"forged"')
        await client.publish("tw.in.x.prices.a", b'"forged"')
        await client.publish("tw.pub.prices.a", b'"good"')
        await eventually(lambda: eve.pushes)
        assert [push["pub"]["data"] for push in eve.pushes] == ["good"]

        async def counted() -> bool:
            return await dropped(mesh) == {
                "restricted": before["restricted"] + 2,
                "forged_subject": before["forged_subject"] + 2,
            }

        await eventually(counted)


async def dropped(mesh: Mesh) -> dict[str, float]:
    """Publications that wildcards must not deliver, over both edges."""
    found = [await edge.metrics() for edge in mesh.edges]
    return {
        reason: sum(each.value("tidewire_publications_dropped_total", reason=reason) for each in found)
        for reason in ("restricted", "forged_subject")
    }
