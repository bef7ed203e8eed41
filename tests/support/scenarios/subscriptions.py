"""Channels that clients subscribe to, and what is published there."""

from __future__ import annotations

from tests.support.edges import token
from tests.support.sdk import error_of, event, events_of, subscribed
from tests.support.sdk_matrix import Player

UNAUTHORIZED = 1
"""The SDKs' own unsubscribe code: the application gave no token."""


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
    tokens = [token(player.user, channel=channel, ttl=ttl) for ttl in (4, 9, 3600)]
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
    await subscribed(client, channel, tokens=[token(player.user, channel=channel, ttl=4)])
    assert (await event(client, "subscribing", channel=channel, code=2501)).reason == "subscription expired"
    await event(client, "subscription_token_wanted", count=3)
    assert len(events_of(client, "connected")) == 1


async def subscription_token_refused(player: Player) -> None:
    """When a token expires and the application has none for this user any more, the subscription ends for good."""
    client = await player.join()
    channel = player.channel("club", "$live")
    await subscribed(client, channel, tokens=[token(player.user, channel=channel, ttl=4), None])
    assert (await event(client, "unsubscribed", channel=channel)).code == UNAUTHORIZED
    await client.publish(player.channel("still here"), 1)
    for kind in ("subscribing", "subscribed"):
        assert len(events_of(client, kind, channel=channel)) == 1, kind
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


async def deltas(player: Player) -> None:
    """What is published arrives as it was, by a client that asked for deltas and by one that did not. JavaScript 5.0 has none."""
    with_deltas, without, writer = await player.join(), await player.join(edge=1), await player.join(edge=1)
    channel = player.channel("board", "delta")
    await subscribed(with_deltas, channel, delta=True)
    await subscribed(without, channel)
    board = [{"name": f"Zoë {number} 日本😀", "points": number} for number in range(20)]
    sent = [
        board[:],
        [*board[:9], {"name": "Ünder 9", "points": -1}, *board[10:]],
        [],
        board[::-1],
        board[1:],
    ]
    for data in sent:
        await writer.publish(channel, data)
    for client in (with_deltas, without):
        await event(client, "publication", count=len(sent))
        assert [each.data for each in events_of(client, "publication")] == sent


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
