"""The Protobuf format: messages one after the other, each behind its length as a varint.

The one module that knows the generated types. Unknown fields are skipped, and an integer of more bits than its field
is cut to them, as the Protobuf encoding prescribes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from google.protobuf.message import DecodeError
from msgspec import Raw

from tidewire.edge.wire import commands, replies
from tidewire.edge.wire.codec import MAX_COMMANDS, MalformedFrame
from tidewire.edge.wire.commands import NO_DATA, Command
from tidewire.edge.wire.json_codec import MAX_CACHED_INFO, parse_info
from tidewire.edge.wire.replies import Reply
from tidewire.kernel.errors import ReplyError
from tidewire.rpc.centrifuge.v2 import client_pb2 as pb

MAX_FILTER_NODES = 1024
MAX_PREFIX = 5  # bytes of a length prefix, enough for 32 GiB
_PONG = Command()
_PUBLISHED = replies.PublishResult()


class ProtobufCodec:
    """The Protobuf format of the client protocol."""

    name: ClassVar[str] = "protobuf"
    PING: ClassVar[bytes] = b"\x00"

    def decode(self, frame: bytes) -> list[Command]:
        """Return the commands of one frame; see `Codec.decode`."""
        if not frame:
            raise MalformedFrame("no command")
        found: list[Command] = []
        position, end = 0, len(frame)
        while position < end:
            size = frame[position]
            position += 1
            if size > 127:
                size, position = _long_prefix(frame, position - 1)
            if size > end - position:
                raise MalformedFrame("a length prefix reaches beyond the frame")
            if len(found) == MAX_COMMANDS:
                raise MalformedFrame(f"more than {MAX_COMMANDS} commands")
            found.append(_command(frame[position : position + size]))
            position += size
        return found

    def burst(self, frames: Sequence[bytes]) -> list[Command] | None:
        """Return the commands of several frames; see `Codec.burst`."""
        try:
            return [command for frame in frames for command in self.decode(frame)]
        except MalformedFrame:
            return None

    def encode(self, replies: Sequence[Reply]) -> bytes:
        """Return the frame that holds `replies`; see `Codec.encode`."""
        return b"".join([_delimited(_reply(reply)) for reply in replies])

    def published(self, numbers: Sequence[int]) -> bytes:
        """Return the item that answers publish commands; see `Codec.published`."""
        return self.encode([Reply(id=number, publish=_PUBLISHED) for number in numbers])

    def publication(
        self,
        place: str | int,
        data: bytes,
        info: bytes | None,
        tags: Mapping[str, str] | None,
        channel: str = "",
        offset: int = 0,
        *,
        delta: bool | None = None,
    ) -> bytes:
        """Return the item that pushes a publication; see `Codec.publication`.

        Put together by hand, in half the time that filling the messages takes.
        """
        publication = _DATA + _delimited(data)
        if info is not None and (sender := _info(info)) is not None:
            publication += _INFO + _delimited(sender)
        if offset:
            publication += _OFFSET + _varint(offset)
        if tags:
            publication += pb.Publication(tags=tags).SerializeToString()
        if delta:
            publication += _DELTA
        if channel:
            publication += _REAL_CHANNEL + _delimited(channel.encode())
        to = _ID + _varint(place) if isinstance(place, int) else _CHANNEL + _delimited(place.encode())
        return _delimited(_PUSH + _delimited(to + _PUB + _delimited(publication)))

    def join(self, items: Sequence[bytes]) -> bytes:
        """Return the frame that holds `items`; see `Codec.join`."""
        return b"".join(items)


PROTOBUF = ProtobufCodec()


# ------------------------------------------------------------------------------------------------ framing


def _long_prefix(frame: bytes, start: int) -> tuple[int, int]:
    """Return the varint at `start` and the position after it."""
    size = 0
    for index, byte in enumerate(frame[start : start + MAX_PREFIX]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 128:
            if not byte:
                break  # not the shortest form
            return size, start + index + 1
    raise MalformedFrame("a length prefix is cut off or overlong")


def _delimited(message: bytes) -> bytes:
    size = len(message)
    return (_SHORT[size] if size < 128 else _varint(size)) + message


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def _key(number: int) -> bytes:
    """Return what goes before a length-delimited field of that number (below 16)."""
    return bytes([number << 3 | 2])


_SHORT = tuple(bytes([size]) for size in range(128))
_ID = b"\x08"  # field 1, a varint, of Reply and of Push
_PUSH = _key(pb.Reply.PUSH_FIELD_NUMBER)
_CHANNEL = _key(pb.Push.CHANNEL_FIELD_NUMBER)
_PUB = _key(pb.Push.PUB_FIELD_NUMBER)
_DATA = _key(pb.Publication.DATA_FIELD_NUMBER)
_REAL_CHANNEL = _key(pb.Publication.CHANNEL_FIELD_NUMBER)
_INFO = _key(pb.Publication.INFO_FIELD_NUMBER)
_OFFSET = bytes([pb.Publication.OFFSET_FIELD_NUMBER << 3])
_PUBLICATIONS = _key(pb.SubscribeResult.PUBLICATIONS_FIELD_NUMBER)
_SUBS = _key(pb.ConnectResult.SUBS_FIELD_NUMBER)
_DELTA = bytes([pb.Publication.DELTA_FIELD_NUMBER << 3, 1])


# ------------------------------------------------------------------------------------------------ commands


def _command(message: bytes) -> Command:
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


# ------------------------------------------------------------------------------------------------ replies


def _reply(reply: Reply) -> bytes:
    message = _ID + _varint(reply.id) if reply.id else b""
    for field, key, write in _WRITERS:
        value = getattr(reply, field)
        if value is not None:
            message += key + _delimited(write(value))
    return message


def _error(error: ReplyError) -> bytes:
    return pb.Error(code=error.code, message=error.message, temporary=error.temporary).SerializeToString()


def _push(push: replies.Push) -> bytes:
    pub, ended, begun = push.pub, push.unsubscribe, push.subscribe
    return pb.Push(
        channel=push.channel,
        pub=None if pub is None else _publication(pub),
        unsubscribe=None if ended is None else pb.Unsubscribe(code=ended.code, reason=ended.reason),
        subscribe=None if begun is None else _begun(begun),
    ).SerializeToString()


def _begun(begun: replies.Subscribe) -> pb.Subscribe:
    return pb.Subscribe(
        recoverable=begun.recoverable,
        epoch=begun.epoch,
        offset=begun.offset,
        positioned=begun.positioned,
        data=bytes(begun.data),
    )


def _publication(publication: replies.Publication) -> pb.Publication:
    return pb.Publication(
        data=bytes(publication.data),
        info=None if publication.info is None else _client_info(publication.info),
        offset=publication.offset,
        tags=publication.tags,
        delta=publication.delta,
    )


def _client_info(info: replies.ClientInfo) -> pb.ClientInfo:
    return pb.ClientInfo(
        user=info.user,
        client=info.client,
        conn_info=bytes(info.conn_info),
        chan_info=bytes(info.chan_info),
    )


def _connected(result: replies.ConnectResult) -> bytes:
    return pb.ConnectResult(
        client=result.client,
        version=result.version,
        expires=result.expires,
        ttl=result.ttl,
        data=bytes(result.data),
        ping=result.ping,
        pong=result.pong,
    ).SerializeToString() + b"".join([_SUBS + _delimited(_entry(*each)) for each in result.subs.items()])


def _entry(channel: str, result: replies.SubscribeResult) -> bytes:
    """Return an entry of a map: its key is field 1, its value field 2."""
    return _key(1) + _delimited(channel.encode()) + _key(2) + _delimited(_subscribed(result))


def _subscribed(result: replies.SubscribeResult) -> bytes:
    plain: bytes = pb.SubscribeResult(
        expires=result.expires,
        ttl=result.ttl,
        data=bytes(result.data),
        delta=result.delta,
        id=result.id,
        recoverable=result.recoverable,
        positioned=result.positioned,
        epoch=result.epoch,
        offset=result.offset,
        recovered=result.recovered,
        was_recovering=result.was_recovering,
    ).SerializeToString()
    return plain + _recovered(result.publications) if result.publications else plain


class _Recovered:
    """What clients had missed, made once for all that follow each other and missed the same."""

    def __init__(self) -> None:
        self._publications: Sequence[replies.Publication] = ()
        self._encoded = b""

    def __call__(self, publications: Sequence[replies.Publication]) -> bytes:
        if publications is not self._publications:
            self._publications = publications
            made = [_publication(each).SerializeToString() for each in publications]
            self._encoded = b"".join([_PUBLICATIONS + _delimited(each) for each in made])
        return self._encoded


_recovered = _Recovered()


def _past(result: replies.HistoryResult) -> bytes:
    return pb.HistoryResult(
        publications=[_publication(each) for each in result.publications],
        epoch=result.epoch,
        offset=result.offset,
    ).SerializeToString()


def _sub_refreshed(result: replies.SubRefreshResult) -> bytes:
    return pb.SubRefreshResult(expires=result.expires, ttl=result.ttl).SerializeToString()


def _answered(result: replies.RpcResult) -> bytes:
    return pb.RPCResult(data=bytes(result.data)).SerializeToString()


def _refreshed(result: replies.RefreshResult) -> bytes:
    return pb.RefreshResult(
        client=result.client, version=result.version, expires=result.expires, ttl=result.ttl
    ).SerializeToString()


def _done(_result: object) -> bytes:
    """Return a result without fields: its presence is the whole answer."""
    return b""


_WRITERS: tuple[tuple[str, bytes, Callable[[Any], bytes]], ...] = (
    ("error", _key(pb.Reply.ERROR_FIELD_NUMBER), _error),
    ("push", _PUSH, _push),
    ("connect", _key(pb.Reply.CONNECT_FIELD_NUMBER), _connected),
    (
        "subscribe",
        _key(pb.Reply.SUBSCRIBE_FIELD_NUMBER),
        _subscribed,
    ),
    ("unsubscribe", _key(pb.Reply.UNSUBSCRIBE_FIELD_NUMBER), _done),
    ("publish", _key(pb.Reply.PUBLISH_FIELD_NUMBER), _done),
    ("history", _key(pb.Reply.HISTORY_FIELD_NUMBER), _past),
    ("rpc", _key(pb.Reply.RPC_FIELD_NUMBER), _answered),
    ("refresh", _key(pb.Reply.REFRESH_FIELD_NUMBER), _refreshed),
    ("sub_refresh", _key(pb.Reply.SUB_REFRESH_FIELD_NUMBER), _sub_refreshed),
)


def _info(info: bytes) -> bytes | None:
    return known_info(info) if len(info) <= MAX_CACHED_INFO else _encode_info(info)


def _encode_info(info: bytes) -> bytes | None:
    parsed = parse_info(info)
    return None if parsed is None else _client_info(parsed[1]).SerializeToString()


known_info = lru_cache(maxsize=1024)(_encode_info)
