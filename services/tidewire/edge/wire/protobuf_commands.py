"""Clients' commands out of Protobuf messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError
from msgspec import Raw

from tidewire.edge.wire import commands
from tidewire.edge.wire.codec import MalformedFrame
from tidewire.edge.wire.commands import NO_DATA, Command
from tidewire.rpc.centrifuge.v2 import client_pb2 as pb

MAX_FILTER_NODES: Final = 1024
_PONG: Final = Command()


def command_of(message: bytes) -> Command:
    """Return the command that a message is. Raises MalformedFrame."""
    if not message:
        return _PONG
    try:
        parsed = pb.Command.FromString(message)
    except DecodeError:
        raise MalformedFrame("not a Protobuf Command") from None
    for method, read in _READERS:
        if parsed.HasField(method):
            return Command(id=parsed.id, **{method: read(getattr(parsed, method))})
    return Command(id=parsed.id)


def _raw(data: bytes) -> Raw:
    return Raw(data) if data else NO_DATA


def _connect(message: pb.ConnectRequest) -> commands.ConnectRequest:
    return commands.ConnectRequest(
        token=message.token,
        data=_raw(message.data),
        subs=_held(message.subs),
        name=message.name,
        version=message.version,
        flag=message.flag,
    )


def _held(subs: Mapping[str, pb.SubscribeRequest]) -> dict[str, commands.Held]:
    if len(subs) > commands.MAX_SUBS:
        raise MalformedFrame(f"more than {commands.MAX_SUBS} subscriptions")
    return {
        channel: commands.Held(recover=each.recover, epoch=each.epoch, offset=each.offset)
        for channel, each in subs.items()
    }


def _subscribe(message: pb.SubscribeRequest) -> commands.SubscribeRequest:
    return commands.SubscribeRequest(
        channel=message.channel,
        token=message.token,
        recover=message.recover,
        epoch=message.epoch,
        offset=message.offset,
        data=_raw(message.data),
        positioned=message.positioned,
        recoverable=message.recoverable,
        join_leave=message.join_leave,
        delta=message.delta,
        tf=_filter(message.tf, [MAX_FILTER_NODES]) if message.HasField("tf") else None,
        flag=message.flag,
        type=message.type,
    )


def _filter(message: pb.FilterNode, left: list[int]) -> commands.FilterNode:
    left[0] -= 1 + len(message.vals)
    if left[0] < 0:
        raise MalformedFrame(f"a tags filter of more than {MAX_FILTER_NODES} nodes and values")
    return commands.FilterNode(
        op=message.op,
        key=message.key,
        cmp=message.cmp,
        val=message.val,
        vals=tuple(message.vals),
        nodes=tuple(_filter(node, left) for node in message.nodes),  # upb bounds the depth of messages to 100
    )


def _history(message: pb.HistoryRequest) -> commands.HistoryRequest:
    since = message.since
    return commands.HistoryRequest(
        channel=message.channel,
        limit=message.limit,
        since=commands.StreamPosition(offset=since.offset, epoch=since.epoch)
        if message.HasField("since")
        else None,
        reverse=message.reverse,
    )


# In the order in which the first field that is set counts.
_READERS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("connect", _connect),
    ("subscribe", _subscribe),
    ("unsubscribe", lambda m: commands.UnsubscribeRequest(channel=m.channel)),
    ("publish", lambda m: commands.PublishRequest(channel=m.channel, data=_raw(m.data))),
    ("presence", lambda m: commands.PresenceRequest(channel=m.channel)),
    ("presence_stats", lambda m: commands.PresenceStatsRequest(channel=m.channel)),
    ("history", _history),
    ("ping", lambda _: commands.PingRequest()),
    ("send", lambda m: commands.SendRequest(data=_raw(m.data))),
    ("rpc", lambda m: commands.RpcRequest(data=_raw(m.data), method=m.method)),
    ("refresh", lambda m: commands.RefreshRequest(token=m.token)),
    ("sub_refresh", lambda m: commands.SubRefreshRequest(channel=m.channel, token=m.token)),
)
