"""The official Python SDK behind the same face as the JavaScript one; it runs in the test's own event loop."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Sequence
from itertools import starmap
from typing import Any

import centrifuge

from tests.support.sdk import CLOSED, TIMED_OUT, Event, Json, OnEvent, SdkError, Tags, Tokens
from tests.support.wait import PATIENCE

NO_PROXY = {"proxy": None} if "proxy" in inspect.signature(centrifuge.Client).parameters else {}
"""Version 0.5 has no such option; its driver has no proxy in the environment instead."""


class PythonClient:
    """One client of the Python SDK; see `sdk.SdkClient`."""

    def __init__(
        self,
        url: str,
        *,
        wire: str = "json",
        token: str = "",
        tokens: Tokens = None,
        **options: Any,
    ) -> None:
        """Create a client that is not connected yet; `options` are the SDK's own."""
        self.events: list[Event] = []
        self.on_event: OnEvent | None = None
        self._protobuf = wire == "protobuf"
        self._subscriptions: dict[str, centrifuge.Subscription] = {}
        self._sdk = centrifuge.Client(
            url,
            events=_ClientEvents(self),
            token=token,
            get_token=None if tokens is None else _Provider(self, "token_wanted", tokens),
            use_protobuf=self._protobuf,
            **NO_PROXY,
            **options,
        )

    async def connect(self) -> None:
        """See SdkClient."""
        await self._sdk.connect()

    async def disconnect(self) -> None:
        """See SdkClient."""
        await self._sdk.disconnect()

    async def close(self) -> None:
        """See SdkClient: the SDK closes its socket in a task that it does not show (0.5: in `disconnect` itself)."""
        await self.disconnect()
        tasks = set(getattr(self._sdk, "_background_tasks", ()))
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)

    async def subscribe(
        self,
        channel: str,
        *,
        token: str = "",
        tokens: Tokens = None,
        tags: Tags = None,
        delta: bool = False,
        quiet: bool = False,
        recoverable: bool = False,
        join_leave: bool = False,
    ) -> None:
        """See SdkClient."""
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            subscription = self._sdk.new_subscription(
                channel,
                events=_SubscriptionEvents(self, channel, quiet=quiet),
                token=token,
                get_token=(
                    None if tokens is None else _Provider(self, "subscription_token_wanted", tokens, channel)
                ),
                delta=centrifuge.DeltaType.FOSSIL if delta else None,
                positioned=recoverable,
                recoverable=recoverable,
                join_leave=join_leave,
                tags_filter=tags and centrifuge.Filter.all(*starmap(centrifuge.Filter.eq, tags.items())),
            )
            self._subscriptions[channel] = subscription
        await subscription.subscribe()

    async def unsubscribe(self, channel: str) -> None:
        """See SdkClient."""
        await self._subscriptions[channel].unsubscribe()

    async def publish(self, channel: str, data: object) -> None:
        """See SdkClient."""
        try:
            await self._sdk.publish(channel, self.encode(data))
        except centrifuge.CentrifugeError as error:
            raise sdk_error(error) from error

    async def rpc(self, method: str, data: object) -> Json:
        """See SdkClient."""
        try:
            return self.decode((await self._sdk.rpc(method, self.encode(data))).data)
        except centrifuge.CentrifugeError as error:
            raise sdk_error(error) from error

    async def who(self, channel: str) -> dict[str, Json]:
        """See SdkClient."""
        try:
            found = await self._sdk.presence(channel)
        except centrifuge.CentrifugeError as error:
            raise sdk_error(error) from error
        return {client: self.person(info) for client, info in found.clients.items()}

    async def how_many(self, channel: str) -> tuple[int, int]:
        """See SdkClient."""
        try:
            found = await self._sdk.presence_stats(channel)
        except centrifuge.CentrifugeError as error:
            raise sdk_error(error) from error
        return found.num_clients, found.num_users

    async def call(self, name: str, channel: str) -> None:
        """See SdkClient."""
        try:
            await getattr(self._sdk, name)(channel)
        except centrifuge.CentrifugeError as error:
            raise sdk_error(error) from error

    def encode(self, value: object) -> Json:
        """Return a payload as the SDK wants it: with Protobuf it is bytes, here of JSON text."""
        return json.dumps(value).encode() if self._protobuf else value

    def decode(self, value: Json) -> Json:
        """Return a payload of the SDK as a JSON value."""
        return (json.loads(value) if value else None) if isinstance(value, bytes) else value

    def publication(self, pub: centrifuge.Publication) -> dict[str, Json]:
        """Return what an event tells of a publication."""
        return {
            "data": self.decode(pub.data),
            "info": self.person(pub.info) if pub.info else None,
            "tags": dict(pub.tags or {}),
            "offset": pub.offset,
        }

    def person(self, info: centrifuge.ClientInfo) -> dict[str, Json]:
        """Return what an event tells of somebody."""
        return {
            "user": info.user,
            "client": info.client,
            "conn_info": self.decode(info.conn_info),
            "chan_info": self.decode(info.chan_info),
        }

    def note(self, event: str, **fields: Json) -> None:
        """Keep an event, or pass it on."""
        if self.on_event is None:
            self.events.append(Event(event, **fields))
        else:
            self.on_event(Event(event, **fields))


def sdk_error(error: BaseException) -> SdkError:
    """Return an exception of the SDK as its code, with the JavaScript SDK's numbers for what has none."""
    match error:
        case centrifuge.ReplyError():
            return SdkError(error.code, error.message, temporary=error.temporary)
        case centrifuge.ClientDisconnectedError():
            return SdkError(CLOSED, str(error))
        case centrifuge.OperationTimeoutError():
            return SdkError(TIMED_OUT, str(error))
    return SdkError(0, repr(error))


class _Provider:
    """Hands out the given tokens one after the other, and fails when there is none left, as a backend would."""

    def __init__(
        self, client: PythonClient, kind: str, tokens: Sequence[str | None], channel: str = ""
    ) -> None:
        self._client = client
        self._kind = kind
        self._left = list(tokens)
        self._channel = channel

    async def __call__(self, _channel: str = "") -> str:
        self._client.note(self._kind, channel=self._channel, left=len(self._left))
        if not self._left:
            raise RuntimeError("no token left")
        token = self._left.pop(0)
        if token is None:
            raise centrifuge.UnauthorizedError
        return token


class _ClientEvents(centrifuge.ClientEventHandler):
    def __init__(self, client: PythonClient) -> None:
        self._client = client

    async def on_connecting(self, ctx: centrifuge.ConnectingContext) -> None:
        self._client.note("connecting", code=ctx.code, reason=ctx.reason)

    async def on_connected(self, ctx: centrifuge.ConnectedContext) -> None:
        self._client.note("connected", connection=ctx.client)

    async def on_disconnected(self, ctx: centrifuge.DisconnectedContext) -> None:
        self._client.note("disconnected", code=ctx.code, reason=ctx.reason)

    async def on_error(self, ctx: centrifuge.ErrorContext) -> None:
        error = sdk_error(ctx.error)
        self._client.note("error", code=error.code or ctx.code, message=error.message)

    async def on_subscribing(self, ctx: centrifuge.ServerSubscribingContext) -> None:
        self._client.note("server_subscribing", channel=ctx.channel)

    async def on_subscribed(self, ctx: centrifuge.ServerSubscribedContext) -> None:
        self._client.note("server_subscribed", channel=ctx.channel, data=self._client.decode(ctx.data))

    async def on_unsubscribed(self, ctx: centrifuge.ServerUnsubscribedContext) -> None:
        self._client.note("server_unsubscribed", channel=ctx.channel)

    async def on_publication(self, ctx: centrifuge.ServerPublicationContext) -> None:
        self._client.note("server_publication", channel=ctx.channel, **self._client.publication(ctx.pub))

    async def on_join(self, ctx: centrifuge.ServerJoinContext) -> None:
        self._client.note("server_join", channel=ctx.channel, info=self._client.person(ctx.info))

    async def on_leave(self, ctx: centrifuge.ServerLeaveContext) -> None:
        self._client.note("server_leave", channel=ctx.channel, info=self._client.person(ctx.info))


class _SubscriptionEvents(centrifuge.SubscriptionEventHandler):
    def __init__(self, client: PythonClient, channel: str, *, quiet: bool) -> None:
        self._client = client
        self._channel = channel
        self._quiet = quiet

    async def on_subscribing(self, ctx: centrifuge.SubscribingContext) -> None:
        self._client.note("subscribing", channel=self._channel, code=ctx.code, reason=ctx.reason)

    async def on_subscribed(self, _ctx: centrifuge.SubscribedContext) -> None:
        self._client.note("subscribed", channel=self._channel)

    async def on_unsubscribed(self, ctx: centrifuge.UnsubscribedContext) -> None:
        self._client.note("unsubscribed", channel=self._channel, code=ctx.code, reason=ctx.reason)

    async def on_publication(self, ctx: centrifuge.PublicationContext) -> None:
        if not self._quiet:
            self._client.note("publication", channel=self._channel, **self._client.publication(ctx.pub))

    async def on_join(self, ctx: centrifuge.JoinContext) -> None:
        self._client.note("join", channel=self._channel, info=self._client.person(ctx.info))

    async def on_leave(self, ctx: centrifuge.LeaveContext) -> None:
        self._client.note("leave", channel=self._channel, info=self._client.person(ctx.info))

    async def on_error(self, ctx: centrifuge.SubscriptionErrorContext) -> None:
        error = sdk_error(ctx.error)
        self._client.note(
            "subscription_error",
            channel=self._channel,
            code=error.code or ctx.code,
            message=error.message,
            temporary=error.temporary,
        )
