"""What every SDK, version and format must be able to do with the edge: the rows of the matrix.

A row is a function of one player; SCENARIOS at the end is the table, and docs/protocol.md tells what each row shows.
"""

from __future__ import annotations

from tests.support.edges import OPEN, token
from tests.support.sdk import connected, error_of, event, events_of, subscribed
from tests.support.sdk_matrix import Player, Scenario

CONFIG = {
    "client": {
        "allow_anonymous_connect_without_token": True,
        "expired_close_delay": "2s",
        "expired_sub_close_delay": "2s",
    },
    "channel": {
        "namespaces": [
            {"name": "live", **OPEN},
            {"name": "read", "allow_subscribe_for_client": True},
            {"name": "closed"},
            {"name": "prices", **OPEN, "allow_wildcards": True},
            {"name": "tagged", **OPEN, "allow_tags_filter": True},
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

FOR_USERS = {
    "client": {"single_connection": "replace", "subscribe_to_user_personal_channel": {"enabled": True}}
}
"""On top of CONFIG, on the edges of USERS."""
USERS = (2, 3)

SENT = "live:sent"
APPLICATION_ERROR = 450
UNAUTHORIZED = 1
"""The SDKs' own unsubscribe code: the application gave no token."""


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


async def subscription_refresh(player: Player) -> None:
    """A subscription's token expires twice; the client refreshes it each time, and the subscription stays.

    Python 0.5 leaves the channel out of the command; the edge finds it in the token.
    """
    client = await player.join()
    channel = player.channel("club", "$live")
    # The second lives longer than the grace time that the first would have without a refresh.
    tokens = [token(player.user, channel=channel, ttl=ttl) for ttl in (2, 6, 3600)]
    await subscribed(client, channel, tokens=tokens)
    await event(client, "subscription_token_wanted", count=3)
    await client.publish(channel, "still here")
    await event(client, "publication", channel=channel)
    assert len(events_of(client, "subscribing", channel=channel)) == 1
    for kind in ("unsubscribed", "subscription_error"):
        assert events_of(client, kind) == [], kind
    assert len(events_of(client, "connected")) == 1


async def subscription_lapse(player: Player) -> None:
    """Without a new token in time the edge ends it with 2501; the client goes on asking, the connection stays."""
    client = await player.join()
    channel = player.channel("club", "$live")
    await subscribed(client, channel, tokens=[token(player.user, channel=channel, ttl=2)])
    assert (await event(client, "subscribing", channel=channel, code=2501)).reason == "subscription expired"
    await event(client, "subscription_token_wanted", count=3)
    assert len(events_of(client, "connected")) == 1


async def subscription_token_refused(player: Player) -> None:
    """When a token expires and the application has none for this user any more, the subscription ends for good."""
    client = await player.join()
    channel = player.channel("club", "$live")
    await subscribed(client, channel, tokens=[token(player.user, channel=channel, ttl=2), None])
    assert (await event(client, "unsubscribed", channel=channel)).code == UNAUTHORIZED
    await client.publish(player.channel("still here"), 1)
    assert len(events_of(client, "subscribed", channel=channel)) == 1
    assert len(events_of(client, "connected")) == 1


async def tags_filter(player: Player) -> None:
    """Of what a backend publishes with tags, only what has all that were asked for. JavaScript 5.0 has no filters."""
    client = await player.join()
    channel = player.channel("news", "tagged")
    wanted = {"kind": "news", "lang": "é"}
    await subscribed(client, channel, tags=wanted)
    for tags in ({}, {"kind": "news"}, {"kind": "sport", "lang": "é"}):
        await player.publish(channel, "unwanted", tags)
    await player.publish(channel, "wanted", wanted | {"more": "1"})
    got = await event(client, "publication", channel=channel)
    assert (got.data, got.tags) == ("wanted", wanted | {"more": "1"})


async def wildcard(player: Player) -> None:
    """A pattern covers one part of the name, beside a subscription to one of its channels; nobody publishes to it.

    No SDK tells its application which channel it was: publications come as those of the pattern.
    """
    client, writer = await player.join(), await player.join(edge=1)
    market = f"prices:{player.kind.replace('.', '-')}"
    pattern, one = f"{market}.*", f"{market}.AAPL"
    await subscribed(client, pattern)
    await subscribed(client, one)
    for channel in (market, f"{one}.bid"):
        await player.publish(channel, "elsewhere")
    await writer.publish(one, 1)
    await player.publish(f"{market}.MSFT", 2)
    await event(client, "publication", channel=pattern, count=2)
    await event(client, "publication", channel=one)
    assert {each.data for each in events_of(client, "publication", channel=pattern)} == {1, 2}
    assert [each.data for each in events_of(client, "publication", channel=one)] == [1]
    assert (await error_of(writer.publish(pattern, 1))).code == 107


# Subscriptions that the server makes, and orders.


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
    """A backend ends subscriptions, the server's and the client's; from 2500 on the client subscribes again."""
    made, ended, renewed = (player.channel(name) for name in ("made", "ended", "renewed"))
    client = await player.join(channels=[made])
    await event(client, "server_subscribed", channel=made)
    for channel in (ended, renewed):
        await subscribed(client, channel)
    await player.order("unsubscribe", channel=made)
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


async def capability(player: Player) -> None:
    """A token lets its client publish in one channel of a namespace where clients only read."""
    channel = player.channel("desk", "read")
    client = await player.join(caps=[{"channels": [channel], "allow": ["pub"]}])
    await subscribed(client, channel)
    await client.publish(channel, "by right")
    assert (await event(client, "publication", channel=channel)).data == "by right"
    assert (await error_of(client.publish(player.channel("other", "read"), 1))).code == 103


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
    Scenario(subscription_refresh),
    Scenario(subscription_lapse),
    Scenario(subscription_token_refused),
    Scenario(tags_filter, frozenset({"js-5.0"})),
    Scenario(wildcard),
    Scenario(server_side_subscriptions),
    Scenario(personal_channel),
    Scenario(subscribe_order, frozenset({"python-0.5"})),
    Scenario(unsubscribe_order),
    Scenario(disconnect_order),
    Scenario(single_connection),
    Scenario(refused_publications),
    Scenario(capability),
    Scenario(presence_and_history_off),
    Scenario(rpc),
    Scenario(send, frozenset({"python"})),
]
