"""Server-to-client messages of the Centrifuge client protocol, the same Structs for JSON and Protobuf.

Fields without a default are always written; fields at their default are left out, as the protocol asks. Payloads are
`msgspec.Raw` bytes: one JSON value for JSON clients, anything for Protobuf clients; `Raw(b"")` is absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw

from tidewire.edge.wire.commands import NO_DATA
from tidewire.kernel.errors import ReplyError, Unsubscribe


class Out(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the outgoing messages."""


class ClientInfo(Out, frozen=True):
    """Who published or joined; the JSON form of this is also what the `Tw-Info` header carries."""

    user: str
    client: str
    conn_info: Raw = NO_DATA
    chan_info: Raw = NO_DATA


class Publication(Out, frozen=True):
    """One publication; `data` is always written."""

    data: Raw
    info: ClientInfo | None = None
    offset: int = 0
    tags: dict[str, str] = {}
    delta: bool = False


class Subscribe(Out, frozen=True):
    """The server began a subscription for the client."""

    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    data: Raw = NO_DATA


class Attendee(Out, frozen=True):
    """Who joined or left; always written."""

    info: ClientInfo


class Push(Out, frozen=True):
    """A message without a request; exactly one of the payload fields is set."""

    channel: str = ""
    pub: Publication | None = None
    join: Attendee | None = None
    leave: Attendee | None = None
    unsubscribe: Unsubscribe | None = None
    subscribe: Subscribe | None = None


class SubscribeResult(Out, frozen=True):
    """The subscription is live: every publication after this reply belongs to it.

    `ttl` in seconds, above 0 whenever `expires` is set; with `delta` publications come as deltas or, in JSON, as strings of
    JSON text; with an `id` pushes name the channel by it. `epoch` and `offset` are its position; where it was recovered the
    offset is the one that the client sent, and it moves on with the `publications` that it had missed.
    """

    expires: bool = False
    ttl: int = 0
    data: Raw = NO_DATA
    delta: bool = False
    id: int = 0
    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int = 0
    publications: Sequence[Publication] = ()
    recovered: bool = False
    was_recovering: bool = False


class PresenceResult(Out, frozen=True):
    """Who is in a channel, by client id; always written."""

    presence: Mapping[str, ClientInfo]


class PresenceStatsResult(Out, frozen=True):
    """How many clients and users are in a channel; both always written."""

    num_clients: int
    num_users: int


class HistoryResult(Out, frozen=True):
    """A page of a channel's history, and the channel's position. All fields are always written."""

    publications: Sequence[Publication]
    epoch: str
    offset: int


class ConnectResult(Out, frozen=True):
    """The connection is authenticated. `ping` and `ttl` in seconds; `ttl` is above 0 whenever `expires` is set."""

    client: str
    version: str
    expires: bool = False
    ttl: int = 0
    data: Raw = NO_DATA
    subs: dict[str, SubscribeResult] = {}
    ping: int = 0
    pong: bool = False


class UnsubscribeResult(Out, frozen=True):
    """The subscription is over."""


class PublishResult(Out, frozen=True):
    """The broker has taken the publication."""


class RpcResult(Out, frozen=True):
    """The application's answer; `data` is always written."""

    data: Raw


class RefreshResult(Out, frozen=True):
    """The connection lives on; `client` is filled since SDKs up to 5.7 copy it unchecked."""

    client: str
    version: str
    expires: bool = False
    ttl: int = 0


class SubRefreshResult(Out, frozen=True):
    """The subscription lives on; see `SubscribeResult` for `ttl`."""

    expires: bool = False
    ttl: int = 0


class Reply(Out, frozen=True):
    """One reply: the command's `id` with an error or a result, or a push with no id. All defaults is a ping."""

    id: int = 0
    error: ReplyError | None = None
    push: Push | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None
    unsubscribe: UnsubscribeResult | None = None
    publish: PublishResult | None = None
    presence: PresenceResult | None = None
    presence_stats: PresenceStatsResult | None = None
    history: HistoryResult | None = None
    rpc: RpcResult | None = None
    refresh: RefreshResult | None = None
    sub_refresh: SubRefreshResult | None = None
