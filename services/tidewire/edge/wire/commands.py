"""Client-to-server messages of the Centrifuge client protocol, the same Structs for JSON and Protobuf.

Payload fields (`data`, `info`) are `msgspec.Raw`: the bytes as the client sent them, a JSON value in the JSON format,
anything in Protobuf. An absent payload is `Raw(b"")`. Field meanings: the client protocol's message tables.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

Uint32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Uint64 = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # msgspec bounds end at int64; no offset gets there
NO_DATA = Raw(b"")
MAX_SUBS = 512
"""Server-side subscriptions that a client may speak of: as many as a token can give."""


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of the plain (acyclic) messages: kept out of the garbage collector's books."""


class FilterNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node of a tags filter (`tf`)."""

    op: str = ""
    key: str = ""
    cmp: str = ""
    val: str = ""
    vals: tuple[str, ...] = ()
    nodes: tuple[FilterNode, ...] = ()


class SubscribeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask to join a channel; recovery flags are wishes that the namespace may or may not grant."""

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Uint64 = 0
    data: Raw = NO_DATA
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    tf: FilterNode | None = None
    flag: int = 0
    type: int = 0


class Held(Message, frozen=True):
    """What a client says of a server-side subscription that it had: where it stood, and whether it wants to recover."""

    recover: bool = False
    epoch: str = ""
    offset: Uint64 = 0


class ConnectRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Authenticate. `headers`, which nobody reads yet, are not decoded; `subs` are few, since few bytes make many objects."""

    token: str = ""
    data: Raw = NO_DATA
    subs: Annotated[dict[str, Held], Meta(max_length=MAX_SUBS)] = {}
    name: str = ""
    version: str = ""
    flag: int = 0


class UnsubscribeRequest(Message, frozen=True):
    """Leave a channel."""

    channel: str = ""


class PublishRequest(Message, frozen=True):
    """Publish `data` into a channel."""

    channel: str = ""
    data: Raw = NO_DATA


class PresenceRequest(Message, frozen=True):
    """Ask who is on a channel."""

    channel: str = ""


class PresenceStatsRequest(Message, frozen=True):
    """Ask how many are on a channel."""

    channel: str = ""


class StreamPosition(Message, frozen=True):
    """A place in a channel's history."""

    offset: Uint64 = 0
    epoch: str = ""


class HistoryRequest(Message, frozen=True):
    """Ask for past publications; `limit` 0 asks for the position only."""

    channel: str = ""
    limit: int = 0
    since: StreamPosition | None = None
    reverse: bool = False


class PingRequest(Message, frozen=True):
    """Client-side ping, which this protocol version does not serve."""


class SendRequest(Message, frozen=True):
    """One-way message to the application, without a reply."""

    data: Raw = NO_DATA


class RpcRequest(Message, frozen=True):
    """Call an application method."""

    data: Raw = NO_DATA
    method: str = ""


class RefreshRequest(Message, frozen=True):
    """Bring a new connection token."""

    token: str = ""


class SubRefreshRequest(Message, frozen=True):
    """Bring a new subscription token."""

    channel: str = ""
    token: str = ""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One command. The first field that is present, in the order below, is its method (the protocol has no oneof).

    A command without id and method is a pong.
    """

    id: Uint32 = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    history: HistoryRequest | None = None
    ping: PingRequest | None = None
    send: SendRequest | None = None
    rpc: RpcRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None
