"""Replies and pushes as Protobuf messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from tidewire.edge.wire import replies
from tidewire.edge.wire.json_codec import MAX_CACHED_INFO, parse_info
from tidewire.edge.wire.protobuf_fields import delimited, key, varint
from tidewire.edge.wire.replies import Reply
from tidewire.kernel.errors import ReplyError
from tidewire.rpc.centrifuge.v2 import client_pb2 as pb

ID = b"\x08"  # field 1, a varint, of Reply and of Push
PUSH = key(pb.Reply.PUSH_FIELD_NUMBER)
_PUBLICATIONS = key(pb.SubscribeResult.PUBLICATIONS_FIELD_NUMBER)
_SUBS = key(pb.ConnectResult.SUBS_FIELD_NUMBER)


def message_of(reply: Reply) -> bytes:
    """Return a reply as a message."""
    message = ID + varint(reply.id) if reply.id else b""
    for field, before, write in _WRITERS:
        value = getattr(reply, field)
        if value is not None:
            message += before + delimited(write(value))
    return message


def _error(error: ReplyError) -> bytes:
    return pb.Error(code=error.code, message=error.message, temporary=error.temporary).SerializeToString()


def _push(push: replies.Push) -> bytes:
    pub, ended, begun, join, leave = push.pub, push.unsubscribe, push.subscribe, push.join, push.leave
    return pb.Push(
        channel=push.channel,
        pub=None if pub is None else _publication(pub),
        join=None if join is None else pb.Join(info=_client_info(join.info)),
        leave=None if leave is None else pb.Leave(info=_client_info(leave.info)),
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
    ).SerializeToString() + b"".join([_SUBS + delimited(_entry(*each)) for each in result.subs.items()])


def _entry(channel: str, result: replies.SubscribeResult) -> bytes:
    """Return an entry of a map: its key is field 1, its value field 2."""
    return key(1) + delimited(channel.encode()) + key(2) + delimited(_subscribed(result))


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
            self._encoded = b"".join([_PUBLICATIONS + delimited(each) for each in made])
        return self._encoded


_recovered = _Recovered()


def _present(result: replies.PresenceResult) -> bytes:
    return pb.PresenceResult(
        presence={client: _client_info(info) for client, info in result.presence.items()}
    ).SerializeToString()


def _counted(result: replies.PresenceStatsResult) -> bytes:
    return pb.PresenceStatsResult(
        num_clients=result.num_clients, num_users=result.num_users
    ).SerializeToString()


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
    ("error", key(pb.Reply.ERROR_FIELD_NUMBER), _error),
    ("push", PUSH, _push),
    ("connect", key(pb.Reply.CONNECT_FIELD_NUMBER), _connected),
    (
        "subscribe",
        key(pb.Reply.SUBSCRIBE_FIELD_NUMBER),
        _subscribed,
    ),
    ("unsubscribe", key(pb.Reply.UNSUBSCRIBE_FIELD_NUMBER), _done),
    ("publish", key(pb.Reply.PUBLISH_FIELD_NUMBER), _done),
    ("presence", key(pb.Reply.PRESENCE_FIELD_NUMBER), _present),
    ("presence_stats", key(pb.Reply.PRESENCE_STATS_FIELD_NUMBER), _counted),
    ("history", key(pb.Reply.HISTORY_FIELD_NUMBER), _past),
    ("rpc", key(pb.Reply.RPC_FIELD_NUMBER), _answered),
    ("refresh", key(pb.Reply.REFRESH_FIELD_NUMBER), _refreshed),
    ("sub_refresh", key(pb.Reply.SUB_REFRESH_FIELD_NUMBER), _sub_refreshed),
)


def info_of(info: bytes) -> bytes | None:
    """Return the ClientInfo that an `info` header names; None for what is none."""
    return known_info(info) if len(info) <= MAX_CACHED_INFO else _encode_info(info)


def _encode_info(info: bytes) -> bytes | None:
    parsed = parse_info(info)
    return None if parsed is None else _client_info(parsed[1]).SerializeToString()


known_info = lru_cache(maxsize=1024)(_encode_info)
