"""What one replica answers, from what one edge announces."""

from __future__ import annotations

import time

import pytest

from tests.support.presence import PresenceClient, PresenceProcess, client_of
from tests.support.presence_edge import ScriptedEdge
from tests.support.wait import eventually
from tidewire.kernel.call_errors import CallError


async def test_members_come_and_go(client: PresenceClient, edge: ScriptedEdge) -> None:
    """With what is known of each, and counted by users."""
    await edge.join("room:a", "c1", "c2", user="bob", info=b'{"n":1}')
    await edge.join("room:a", "c3")
    await eventually(lambda: _is(client, "room:a", {"c1", "c2", "c3"}))
    (found,) = await client.members("room:a")
    bobs = [member for member in found.members if member.user == "bob"]
    assert [bytes(member.conn_info) for member in bobs] == [b'{"n":1}'] * 2
    assert await client.stats("room:a", "room:none", "bad:") == [(3, 2), (0, 0), "bad_request"]
    await edge.leave("room:a", "c1", "c3")
    await eventually(lambda: _is(client, "room:a", {"c2"}))


async def test_a_list_is_cut_off_where_it_was_asked_to_be(client: PresenceClient, edge: ScriptedEdge) -> None:
    """And says how many there are."""
    await edge.join("room:a", *map(str, range(25)))
    await eventually(lambda: _counts(client, "room:a", 25))
    (found,) = await client.members("room:a", limit=10)
    assert (len(found.members), found.clients) == (10, 25)


async def test_users(client: PresenceClient, edge: ScriptedEdge) -> None:
    """Online at every connection, and then last seen."""
    began = int(time.time() * 1000)
    await edge.connect("bob", "c1", 111)
    await edge.connect("bob", "c2", 222)

    async def online() -> int:
        (status,) = await client.users("bob")
        return int(status.online)

    async def is_online(count: int) -> bool:
        return await online() == count

    await eventually(lambda: is_online(2))
    (status, nobody) = await client.users("bob", "eve")
    assert {(each.client, each.edge, each.since_ms) for each in status.connections} == {
        ("c1", "edge-1", 111),
        ("c2", "edge-1", 222),
    }
    assert (status.last_seen_ms, nobody.online, nobody.last_seen_ms) == (0, 0, 0)
    assert began - 60_000 < nobody.known_since_ms <= time.time() * 1000
    await edge.disconnect("bob", "c1", began - 5_000)
    await edge.disconnect("bob", "c2", began - 1_000)
    await eventually(lambda: is_online(0))
    (status,) = await client.users("bob")
    assert status.last_seen_ms == began - 1_000


async def test_too_many_at_once(client: PresenceClient) -> None:
    """Is an error that says so."""
    with pytest.raises(CallError, match="more than 1000 at once"):
        await client.stats(*map(str, range(1001)))


async def test_answers_are_counted(presence: PresenceProcess, edge: ScriptedEdge) -> None:
    """By method and outcome; and what is held."""
    await edge.join("room:a", "c1")
    async with client_of(presence) as client:
        await eventually(lambda: _is(client, "room:a", {"c1"}))
        await client.stats("room:a", "bad:")
    metrics = await presence.metrics()
    assert metrics.value("tidewire_presence_answers_total", method="stats", outcome="ok") == 1
    assert metrics.value("tidewire_presence_answers_total", method="stats", outcome="bad_request") == 1
    assert metrics.value("tidewire_presence_entries", kind="members") == 1
    assert metrics.value("tidewire_presence_edges") == 1


async def _is(client: PresenceClient, channel: str, clients: set[str]) -> bool:
    return await client.clients(channel) == clients


async def _counts(client: PresenceClient, channel: str, count: int) -> bool:
    ((clients, _),) = await client.stats(channel)
    return bool(clients == count)
