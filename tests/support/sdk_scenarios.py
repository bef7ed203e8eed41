"""What every SDK, version and format must be able to do with the edge: the rows of the matrix.

A row is a function of one player; SCENARIOS at the end is the table, and docs/protocol.md tells what each row shows.
"""

from __future__ import annotations

from tests.support.edges import OPEN, token
from tests.support.sdk import connected, error_of, event, events_of, subscribed
from tests.support.sdk_matrix import Player, Scenario

CONFIG = {
    "client": {"allow_anonymous_connect_without_token": True, "expired_close_delay": "2s"},
    "channel": {
        "namespaces": [
            {"name": "live", **OPEN},
            {"name": "read", "allow_subscribe_for_client": True},
            {"name": "closed"},
            {
                "name": "public",
                **OPEN,
                "allow_subscribe_for_anonymous": True,
                "allow_publish_for_anonymous": True,
            },
        ]
    },
    "rpc": {"enabled": True, "methods": [{"name": "sum"}, {"name": "fail"}, {"name": "nobody"}]},
    "send": {"enabled": True},
}
"""Of the edges. A responder on NATS answers `sum` and `fail`, and sends back to `live:sent` what clients send."""

SENT = "live:sent"
APPLICATION_ERROR = 450


# Connections.


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
    client = await player.make(tokens=[token(player.user, ttl=ttl) for ttl in (2, 4, 3600)])
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
    client = await player.make(tokens=[token(player.user, ttl=2)])
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


# Publications and subscriptions.


async def publication(player: Player) -> None:
    """A publication arrives across edges and at its publisher, unaltered, with who published it."""
    reader, writer = await player.join(), await player.join(edge=1, info={"name": "Wörld"})
    channel = player.channel("room")
    await subscribed(reader, channel)
    await subscribed(writer, channel)
    data = {"text": "hello\nthere ✓", "number": 12.5, "nested": [{"a": None}, True]}
    await writer.publish(channel, data)
    for client in (reader, writer):
        got = await event(client, "publication")
        assert (got.channel, got.data, got.offset) == (channel, data, 0)
        assert got.info is not None
        assert got.info["user"] == player.user
        assert got.info["client"] == events_of(writer, "connected")[0].connection
        assert got.info["conn_info"] == {"name": "Wörld"}


async def unsubscribe_and_resubscribe(player: Player) -> None:
    """Nothing comes in between; a second channel, published to last, shows that nothing is still under way."""
    client, writer = await player.join(), await player.join(edge=1)
    channel, fence = player.channel("on-off"), player.channel("fence")
    await subscribed(client, channel)
    await subscribed(client, fence)
    await client.unsubscribe(channel)
    assert (await event(client, "unsubscribed", channel=channel)).code == 0
    await writer.publish(channel, "lost")
    await writer.publish(fence, 1)
    await event(client, "publication", channel=fence)
    await subscribed(client, channel)
    await writer.publish(channel, "seen")
    await event(client, "publication", channel=channel)
    assert [each.data for each in events_of(client, "publication", channel=channel)] == ["seen"]


async def subscription_token(player: Player) -> None:
    """A private channel opens with the token that the application gives; its info goes with publications."""
    client = await player.join()
    channel = player.channel("club", "$live")
    ticket = token(player.user, channel=channel, info={"rank": 1})
    await subscribed(client, channel, tokens=[ticket])
    assert len(events_of(client, "subscription_token_wanted", channel=channel)) == 1
    await client.publish(channel, "members only")
    got = await event(client, "publication")
    assert got.info is not None
    assert got.info["chan_info"] == {"rank": 1}


async def expired_subscription_token(player: Player) -> None:
    """Error 109 for the subscription only: the client asks for a new token, the connection stays."""
    client = await player.join()
    channel = player.channel("club", "$live")
    tokens = [token(player.user, channel=channel, ttl=ttl) for ttl in (-60, 3600)]
    await subscribed(client, channel, tokens=tokens)
    assert [each.code for each in events_of(client, "subscription_error")] == [109]
    assert len(events_of(client, "connected")) == 1


async def foreign_subscription_token(player: Player) -> None:
    """A well signed token for another channel ends the client with 3500."""
    client = await player.join()
    ticket = token(player.user, channel=player.channel("other", "$live"))
    await client.subscribe(player.channel("club", "$live"), token=ticket)
    assert (await event(client, "disconnected")).code == 3500


REFUSED_CHANNELS = {
    "unknown:room": 102,
    "closed:room": 103,
    "$live:without a token": 103,
    "live:" + "é" * 130: 107,
}


async def refused_subscriptions(player: Player) -> None:
    """Unknown namespace, forbidden, private, too long: the application gets the code, the connection stays."""
    client = await player.join()
    for channel, code in REFUSED_CHANNELS.items():
        await client.subscribe(channel)
        ended = await event(client, "unsubscribed", channel=channel)
        assert (ended.channel, ended.code) == (channel, code)
        assert ended.reason
    assert events_of(client, "subscribed") == []
    await subscribed(client, player.channel("still here"))
    assert len(events_of(client, "connected")) == 1


# Calls.

REFUSED_PUBLICATIONS = {"unknown:room": 102, "read:room": 103, "live:" + "x" * 300: 107}


async def refused_publications(player: Player) -> None:
    """Unknown namespace, forbidden, too long: each an error of its call, with code and message."""
    client = await player.join()
    for channel, code in REFUSED_PUBLICATIONS.items():
        error = await error_of(client.publish(channel, 1))
        assert (error.code, error.temporary) == (code, False)
        assert error.message
    await client.publish(player.channel("still here"), 1)
    assert len(events_of(client, "connected")) == 1


async def presence_and_history_off(player: Player) -> None:
    """Where a namespace has neither, asking is error 108."""
    client = await player.join()
    for name in ("presence", "presence_stats", "history"):
        assert (await error_of(client.call(name, player.channel("room")))).code == 108, name


async def rpc(player: Player) -> None:
    """An answer, an application's error code with its message, and a method that nobody answers."""
    client = await player.join()
    assert await client.rpc("sum", {"a": 2, "b": 3}) == {"sum": 5}
    failed = await error_of(client.rpc("fail", None))
    assert (failed.code, failed.message) == (APPLICATION_ERROR, "too late")
    assert (await error_of(client.rpc("nobody", 1))).code == 104


async def send(player: Player) -> None:
    """A one-way message reaches NATS."""
    client = await player.join()
    await subscribed(client, SENT)
    await client.send({"from": player.kind})
    await event(client, "publication", data={"from": player.kind})


SCENARIOS = [
    Scenario(token_callback),
    Scenario(anonymous),
    Scenario(invalid_token),
    Scenario(expired_token),
    Scenario(token_refresh),
    Scenario(token_lapse),
    Scenario(connect_again),
    Scenario(publication),
    Scenario(unsubscribe_and_resubscribe),
    Scenario(subscription_token),
    Scenario(expired_subscription_token),
    Scenario(foreign_subscription_token),
    Scenario(refused_subscriptions),
    Scenario(refused_publications),
    Scenario(presence_and_history_off),
    Scenario(rpc),
    Scenario(send, frozenset({"python"})),
]
