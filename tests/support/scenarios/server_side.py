"""What the server does with clients unasked: subscriptions, orders, one connection of a user."""

from __future__ import annotations

from tests.support.scenarios.setting import USERS
from tests.support.sdk import event, events_of, subscribed
from tests.support.sdk_matrix import Player


async def server_side_subscriptions(player: Player) -> None:
    """Those of a token are there with the connection, with their data; publications arrive, with their info.

    They are there again when the client connects again.
    """
    plain, rich = player.channel("by the server", "closed"), player.channel("by the server")
    subs = {rich: {"info": {"rank": 1}, "data": {"hello": "✓"}}}
    client = await player.join(channels=[plain], subs=subs)
    assert (await event(client, "server_subscribed", channel=plain)).data is None
    assert (await event(client, "server_subscribed", channel=rich)).data == {"hello": "✓"}
    await player.publish(plain, [1], {"kind": "news"})
    got = await event(client, "server_publication", channel=plain)
    assert (got.data, got.info, got.tags) == ([1], None, {"kind": "news"})
    await client.publish(rich, 2)
    got = await event(client, "server_publication", channel=rich)
    assert got.info is not None
    assert (got.data, got.info["user"], got.info["chan_info"]) == (2, player.user, {"rank": 1})
    await client.disconnect()
    await client.connect()
    for channel in (plain, rich):
        await event(client, "server_subscribed", channel=channel, count=2)
    await player.publish(plain, "again")
    await event(client, "server_publication", channel=plain, data="again")


async def personal_channel(player: Player) -> None:
    """A user has its own channel without asking, and a backend reaches it there."""
    client = await player.join(edge=USERS[0])
    channel = f"#{player.user}"
    await event(client, "server_subscribed", channel=channel)
    await player.publish(channel, {"for": "you"})
    assert (await event(client, "server_publication", channel=channel)).data == {"for": "you"}


async def subscribe_order(player: Player) -> None:
    """A backend subscribes a connected user, whatever its rights. Python 0.5 ignores that it is told so."""
    client = await player.join()
    channel = player.channel("ordered", "closed")
    await player.order("subscribe", channel=channel, data={"hello": 1})
    assert (await event(client, "server_subscribed", channel=channel)).data == {"hello": 1}
    await player.publish(channel, "seen")
    assert (await event(client, "server_publication", channel=channel)).data == "seen"


async def unsubscribe_order(player: Player) -> None:
    """A backend ends subscriptions; from 2500 on the client subscribes again, to those that were its own."""
    made, ended, renewed = (player.channel(name) for name in ("made", "ended", "renewed"))
    client = await player.join(channels=[made])
    await event(client, "server_subscribed", channel=made)
    for channel in (ended, renewed):
        await subscribed(client, channel)
    await player.order("unsubscribe", channel=made, code=2500)
    await event(client, "server_unsubscribed", channel=made)
    await player.order("unsubscribe", channel=ended, code=2001, reason="over")
    told = await event(client, "unsubscribed", channel=ended)
    assert (told.code, told.reason) == (2001, "over")
    await player.order("unsubscribe", channel=renewed, code=2500, reason="once more")
    assert (await event(client, "subscribing", channel=renewed, code=2500)).reason == "once more"
    await event(client, "subscribed", channel=renewed, count=2)
    for channel in (made, ended, renewed):
        await client.publish(channel, 1)
    await event(client, "publication", channel=renewed)
    assert [each.channel for each in client.events if each.event.endswith("publication")] == [renewed]


async def disconnect_order(player: Player) -> None:
    """A backend closes connections: below 3500 the client comes back, with a code like 4501 it does not."""
    banned, moved = await player.join(), await player.join(edge=1)
    ids = [events_of(client, "connected")[0].connection for client in (banned, moved)]
    await player.order("disconnect", client=ids[0], code=4501, reason="banned")
    assert (await event(banned, "disconnected", code=4501)).reason == "banned"
    await player.order("disconnect", client=ids[1], code=3100, reason="come back")
    assert (await event(moved, player.lost, code=3100)).reason == "come back"
    await event(moved, "connected", count=2)
    assert len(events_of(banned, "connected")) == 1


async def single_connection(player: Player) -> None:
    """Where a user may have one connection, a new one closes the older with 3503, which does not come back."""
    clients = [await player.join(edge=USERS[0])]
    for edge in (USERS[1], USERS[0], USERS[0]):
        clients.append(await player.join(edge=edge))
        assert (await event(clients[-2], "disconnected")).code == 3503
    await clients[-1].publish(player.channel("still here"), 1)
    for client in clients:
        assert len(events_of(client, "connected")) == 1
