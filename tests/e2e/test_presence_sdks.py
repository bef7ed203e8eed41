"""Presence as the official SDKs see it: who is there, joins and leaves, subscriptions of the server's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.balancer import running_balancer
from tests.support.edges import token
from tests.support.present import Present, present_mesh
from tests.support.protocol import protocol
from tests.support.sdk import Json, SdkClient, connected, error_of, event, events_of
from tests.support.sdk_maker import KINDS, maker
from tests.support.wait import eventually

pytestmark = pytest.mark.timeout(240)  # several processes start, one after the other


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Present]:
    """One replica and two edges."""
    with present_mesh(tmp_path_factory.mktemp("present")) as running:
        running.edge("one")
        running.edge("two")
        asyncio.run(running.until_ready())
        yield running


def of(client: SdkClient, kind: str, channel: str) -> list[str]:
    """Whose joins or leaves it was told, by client id."""
    return [each.info["client"] for each in events_of(client, kind, channel=channel) if each.info]


def person(user: str, client: str, conn_info: Json = None, chan_info: Json = None) -> dict[str, Json]:
    """As the SDKs show somebody."""
    return {"user": user, "client": client, "conn_info": conn_info, "chan_info": chan_info}


@pytest.mark.parametrize("kind", KINDS)
@protocol("command.presence", "command.presence_stats", "subscribe.join_leave")
async def test_sdk_shows_who_is_there_and_who_comes_and_goes(mesh: Present, kind: str) -> None:
    """With the infos of their tokens; its own join, too; each counted once as a user."""
    one, two = mesh.edges
    channel = f"room:{kind}"
    async with maker(kind) as make:
        alice = await make(one.ws_url, token=token("alice", info={"name": "Alice"}))
        bob = await make(two.ws_url, token=token("bob"))
        again = await make(two.ws_url, token=token("alice"))
        ids = [(await connected(client)).connection for client in (alice, bob, again)]
        await alice.subscribe(channel, join_leave=True)
        own = await event(alice, "join", channel=channel)
        assert own.info == person("alice", ids[0], {"name": "Alice"})
        assert await alice.who(channel) == {ids[0]: own.info}
        await bob.subscribe(channel, token=token("bob", channel=channel, info=[7]))
        await again.subscribe(channel)
        await eventually(lambda: set(of(alice, "join", channel)) == set(ids))
        (seen,) = [each.info for each in events_of(alice, "join") if each.info and each.info["user"] == "bob"]
        assert seen == person("bob", ids[1], None, [7])

        async def counted() -> bool:
            return await alice.how_many(channel) == (3, 2)

        await eventually(counted)
        assert (await alice.who(channel))[ids[1]] == seen
        await bob.unsubscribe(channel)
        await again.disconnect()
        await eventually(lambda: set(of(alice, "leave", channel)) == {ids[1], ids[2]})
        assert events_of(bob, "join") == events_of(bob, "leave") == []
        denied = await error_of(bob.who(channel))
        assert denied.code == 103


@pytest.mark.parametrize("kind", KINDS)
@protocol("option.force_push_join_leave", "subscribe.server_side")
async def test_subscriptions_of_the_servers_bring_joins_and_leaves(mesh: Present, kind: str) -> None:
    """Where the namespace forces them."""
    one, two = mesh.edges
    channel = f"loud:server-{kind}"
    async with maker(kind) as make:
        alice = await make(one.ws_url, token=token("alice", channels=[channel]))
        bob = await make(two.ws_url, token=token("bob", channels=[channel]))
        mine = (await connected(alice)).connection
        await event(alice, "server_join", channel=channel)
        theirs = (await connected(bob)).connection
        await eventually(lambda: of(alice, "server_join", channel) == [mine, theirs])
        assert set(await alice.who(channel)) == {mine, theirs}
        await bob.disconnect()
        await eventually(lambda: of(alice, "server_leave", channel) == [theirs])


@pytest.mark.parametrize("kind", KINDS)
@protocol("option.join_leave_debounce")
async def test_sdk_that_is_back_at_once_causes_neither_leave_nor_join(mesh: Present, kind: str) -> None:
    """Cut again and again, to come back on any edge; in the end nobody is left over."""
    one, _ = mesh.edges
    channel = f"calm:{kind}"
    async with running_balancer(mesh.edges) as balancer, maker(kind) as make:
        watcher = await make(one.ws_url, token=token("watcher"))
        await connected(watcher)
        await watcher.subscribe(channel, join_leave=True)
        await event(watcher, "join", channel=channel)
        restless = await make(balancer.ws_url, token=token("restless"))
        first = (await connected(restless)).connection
        await restless.subscribe(channel)
        await eventually(lambda: first in of(watcher, "join", channel))
        for count in range(2, 5):
            balancer.cut()
            await connected(restless, count=count)
            last = events_of(restless, "connected")[-1].connection

            async def here(last: str = last) -> bool:
                return last in await watcher.who(channel)

            await eventually(here)
        told = len(of(watcher, "join", channel)), len(of(watcher, "leave", channel))
        print(f"{kind}: {told} joins and leaves told of 1 + 3 connections")
        await restless.disconnect()
        left = {each.connection for each in events_of(restless, "connected")}
        shown = lambda: set(of(watcher, "join", channel)) - set(of(watcher, "leave", channel))  # noqa: E731
        await eventually(lambda: len(shown() & left) == 0)
        assert set(of(watcher, "leave", channel)) <= left
