"""Publish, presence, history, rpc, send: what clients ask and get an answer to."""

from __future__ import annotations

from tests.support.scenarios.setting import APPLICATION_ERROR, SENT
from tests.support.sdk import error_of, event, events_of, subscribed
from tests.support.sdk_matrix import Player

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
    """A one-way message reaches NATS. The Python SDK has none."""
    client = await player.join()
    await subscribed(client, SENT)
    await client.send({"from": player.kind})
    await event(client, "publication", data={"from": player.kind})
