"""How clients connect, and how their tokens go on or end."""

from __future__ import annotations

from tests.support.edges import token
from tests.support.sdk import connected, event, events_of, subscribed
from tests.support.sdk_matrix import Player


async def token_callback(player: Player) -> None:
    """A client without a token asks its application for one before it connects."""
    client = await player.make(tokens=[token(player.user)])
    await connected(client)
    assert len(events_of(client, "token_wanted")) == 1


async def anonymous(player: Player) -> None:
    """Without a token, where the edge allows it: no user name, the rest works."""
    client = await player.make()
    await connected(client)
    channel = player.channel("anonymous", "public")
    await subscribed(client, channel)
    await client.publish(channel, 1)
    got = await event(client, "publication")
    assert got.info is not None
    assert got.info["user"] == ""


async def invalid_token(player: Player) -> None:
    """3500 ends the client: it does not try again."""
    client = await player.make(token=token(key="another key, 32 bytes long, more"))
    await client.connect()
    assert (await event(client, "disconnected")).code == 3500
    assert events_of(client, "connected") == []


async def expired_token(player: Player) -> None:
    """Error 109 in the connect reply: the client asks for a new token and connects with that."""
    client = await player.make(token=token(player.user, ttl=-60), tokens=[token(player.user)])
    await connected(client)
    assert [each.code for each in events_of(client, "error")] == [109]
    assert len(events_of(client, "token_wanted")) == 1


async def token_refresh(player: Player) -> None:
    """The token expires twice; the client refreshes it each time, and the connection stays."""
    client = await player.make(tokens=[token(player.user, ttl=ttl) for ttl in (4, 9, 3600)])
    await connected(client)
    await event(client, "token_wanted", count=3)
    channel = player.channel("refreshed")
    await subscribed(client, channel)
    await client.publish(channel, 1)
    await event(client, "publication")
    assert len(events_of(client, "connected")) == 1
    assert events_of(client, "error") == []


async def token_lapse(player: Player) -> None:
    """Without a new token in time the edge closes with 3005; the client goes on asking for one."""
    client = await player.make(tokens=[token(player.user, ttl=4)])
    await connected(client)
    assert (await event(client, player.lost, code=3005)).reason == "connection expired"
    await event(client, "token_wanted", count=3)


async def connect_again(player: Player) -> None:
    """After the application's disconnect and connect its subscriptions are there again."""
    client = await player.join()
    channel = player.channel("again")
    await subscribed(client, channel)
    await client.disconnect()
    assert (await event(client, "disconnected")).code == 0
    await client.connect()
    await event(client, "subscribed", channel=channel, count=2)
    await client.publish(channel, "seen")
    assert (await event(client, "publication")).data == "seen"
