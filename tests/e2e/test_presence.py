"""Presence with real processes: who is in a channel, who joins and leaves, who is connected; edges and replicas die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.edges import token
from tests.support.present import Guest, Present, present_mesh
from tests.support.protocol import protocol
from tests.support.raw_client import Clients
from tests.support.wait import eventually

pytestmark = pytest.mark.timeout(240)  # several processes start, one after the other


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Present]:
    """One replica and two edges, for tests that kill neither."""
    with present_mesh(tmp_path_factory.mktemp("present")) as running:
        running.edge("one")
        running.edge("two")
        asyncio.run(running.until_ready())
        yield running


@protocol(
    "command.presence", "command.presence_stats", "option.presence", "option.allow_presence_for_subscriber"
)
async def test_everybody_on_all_edges_is_listed_and_users_are_counted_once(
    mesh: Present, clients: Clients
) -> None:
    """A client sees itself at once, and others of other edges."""
    one, two = mesh.edges
    alice = await (await Guest.open(clients, one, info={"name": "Alice"})).subscribe("room:a")
    assert set(await alice.presence("room:a")) == {alice.id}
    again = await (await Guest.open(clients, two)).subscribe("room:a")
    bob = await (await Guest.open(clients, two, "bob")).subscribe("room:a")

    async def all_here() -> bool:
        return set(await alice.presence("room:a")) == {alice.id, again.id, bob.id}

    await eventually(all_here)
    assert (await alice.presence("room:a"))[alice.id] == {
        "user": "alice",
        "client": alice.id,
        "conn_info": {"name": "Alice"},
    }

    async def all_counted() -> bool:
        return await bob.stats("room:a") == (3, 2)

    await eventually(all_counted)
    await again.unsubscribe("room:a")
    bob.client.abort()

    async def alone() -> bool:
        return set(await alice.presence("room:a")) == {alice.id}

    await eventually(alone)
    assert await alice.stats("room:a") == (1, 1)


@protocol("command.presence", "option.presence_max_clients", "option.allow_presence_for_client", "token.caps")
async def test_who_may_not_ask_and_what_is_off_is_an_error_and_never_an_empty_list(
    mesh: Present, clients: Clients
) -> None:
    """108 where presence is off, 103 without the right, 106 beyond the bound; a capability gives the right."""
    one, _ = mesh.edges
    alice = await Guest.open(clients, one, caps=[{"channels": ["shy:a"], "allow": ["prs"]}])
    bob = await Guest.open(clients, one, "bob")
    for channel, code in (("live:a", 108), ("room:x", 103), ("shy:a", 103), ("nope:a", 102)):
        assert (await bob.presence(channel))["code"] == code
    assert await alice.presence("shy:a") == {}
    assert await bob.presence("open:a") == {}
    for guest in [alice, bob, await Guest.open(clients, one, "carol")]:
        await guest.subscribe("few:a")

    async def cut() -> bool:
        return (await bob.presence("few:a")).get("code") == 106

    await eventually(cut)
    assert await bob.stats("few:a") == (3, 3)


@protocol("subscribe.join_leave", "option.join_leave")
async def test_joins_and_leaves_reach_those_who_asked_and_may_know(mesh: Present, clients: Clients) -> None:
    """The own join, too, behind the reply; nobody who did not ask, or may not ask who is there."""
    one, two = mesh.edges
    alice = await (await Guest.open(clients, one)).subscribe("room:j", join_leave=True)
    deaf = await (await Guest.open(clients, one, "deaf")).subscribe("room:j")
    shy = await (await Guest.open(clients, one)).subscribe("shy:j", join_leave=True)
    bob = await (await Guest.open(clients, two, "bob", info=[1])).subscribe(
        "room:j", token=token("bob", channel="room:j", info={"seat": 3})
    )
    await (await Guest.open(clients, two, "bob")).subscribe("shy:j")
    await eventually(lambda: ("join", bob.id) in alice.events("room:j"))
    await bob.unsubscribe("room:j")
    await eventually(lambda: len(alice.events("room:j")) == 4)
    events = alice.events("room:j")
    assert {client for change, client in events if change == "join"} == {alice.id, deaf.id, bob.id}
    assert events[-1] == ("leave", bob.id)
    (push,) = [each for each in alice.pushes if each.get("join", {}).get("info", {}).get("client") == bob.id]
    assert push["join"]["info"] == {
        "user": "bob",
        "client": bob.id,
        "conn_info": [1],
        "chan_info": {"seat": 3},
    }
    assert deaf.pushes == bob.pushes == shy.pushes == []


@protocol("option.force_push_join_leave", "token.subs")
async def test_they_are_forced_on_who_did_not_ask_and_tokens_decide_otherwise(
    mesh: Present, clients: Clients
) -> None:
    """Server-side subscriptions, too; a token may hide a client, or spare it the pushes."""
    one, two = mesh.edges
    hidden = {"presence": {"value": False}, "join_leave": {"value": False}}
    spared = {"force_push_join_leave": {"value": False}}
    alice = await Guest.open(clients, one, channels=["loud:s"])
    await eventually(lambda: alice.events("loud:s"))
    ghost = await Guest.open(clients, two, "ghost", subs={"loud:s": {"override": hidden}})
    quiet = await Guest.open(clients, two, "quiet", subs={"loud:s": {"override": spared}})
    await eventually(lambda: len(alice.events("loud:s")) == 2)
    assert alice.events("loud:s") == [("join", alice.id), ("join", quiet.id)]
    await eventually(lambda: ghost.events("loud:s") == [("join", quiet.id)] or len(ghost.pushes) > 1)
    assert ghost.id not in await alice.presence("loud:s")
    assert quiet.pushes == []
    ghost.client.abort()
    quiet.client.abort()
    await eventually(lambda: len(alice.events("loud:s")) == 3)
    assert alice.events("loud:s")[-1:] == [("leave", quiet.id)]


@protocol("rpc.tw_user_status")
async def test_users_are_known_over_all_edges(mesh: Present, clients: Clients) -> None:
    """Online, since when, and when last seen; not for everybody."""
    one, _ = mesh.edges
    telling = mesh.edge("telling", {"client": {"allow_user_status_for_client": True}})
    bob = await Guest.open(clients, one, "status-bob")
    carol = await Guest.open(clients, telling, "status-carol")
    question = {"method": "tw.user_status", "data": {"users": ["status-bob", "status-nobody"]}}
    assert (await bob.client.command(rpc=question))["error"]["code"] == 103

    async def told() -> dict[str, Any]:
        return dict((await carol.client.command(rpc=question))["rpc"]["data"]["users"])

    async def online() -> bool:
        return bool((await told())["status-bob"]["online"])

    await eventually(online)
    found = await told()
    assert abs(found["status-bob"]["since"] / 1000 - time.time()) < 60
    assert found["status-nobody"] == {"online": False, "connections": 0, "since": 0, "last_seen": 0}
    bob.client.abort()

    async def seen() -> bool:
        status = (await told())["status-bob"]
        return not status["online"] and abs(status["last_seen"] / 1000 - time.time()) < 60

    await eventually(seen)
    telling.kill()


@protocol("connect.single", "disconnect.3504")
async def test_user_who_may_have_one_connection_is_refused_another_on_any_edge(
    mesh: Present, clients: Clients
) -> None:
    """And of two that come at the same time on two edges one stays, the first."""
    refuse = {"client": {"single_connection": "refuse"}}
    edges = [mesh.edge(name, refuse) for name in ("strict-1", "strict-2")]
    first = await Guest.open(clients, edges[0], "only")

    async def known() -> bool:
        second = await clients.open(edges[1].ws_url)
        second.begin(connect={"token": token("only")})
        await second.gone.wait()
        return second.close_code == 3504

    await eventually(known)
    assert not first.client.gone.is_set()
    for round_ in range(10):
        raw = [await clients.open(edge.ws_url) for edge in edges]
        for each in raw:
            each.begin(connect={"token": token(f"both-{round_}")})
        await eventually(lambda raw=raw: sum(each.gone.is_set() for each in raw) == 1)
        (gone,) = [each for each in raw if each.gone.is_set()]
        assert gone.close_code == 3504
    for edge in edges:
        edge.kill()
