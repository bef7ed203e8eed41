"""What tests see of an official SDK, whichever it is: events in order, and calls that return or raise SdkError."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from tests.support.wait import PATIENCE, eventually

CLOSED = 11
"""The SDKs' own error for a command whose connection was closed before the reply."""
TIMED_OUT = 1
"""The SDKs' own error for a command without a reply in time."""

Json = Any
"""A JSON value."""
Tokens = Sequence[str | None] | None
"""What an application answers when it is asked for a token, one after the other, until it fails; None among them: that
its user may not. Without any it cannot be asked."""
Tags = Mapping[str, str] | None
"""A filter: all these tags and their values."""

FORMATS = ("json", "protobuf")


class SdkError(Exception):
    """A call failed. `code` from 100 up is the server's, below it is the SDK's own."""

    def __init__(self, code: int, message: str, *, temporary: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.temporary = temporary


class Event(msgspec.Struct, frozen=True):
    """What the SDK reported to its application. Fields that do not belong to its kind keep their defaults.

    `connection` is the client id that the edge gave; `token_wanted` and `subscription_token_wanted` tell that the SDK
    asked its application for a token; `published` is the outcome of one publication of a stream, code 0 for an ack. `epoch` and `offset` of a
    `subscribed` are where the reply says that the subscription is. What
    belongs to a subscription that the server made begins with `server_`.
    """

    event: str
    channel: str = ""
    code: int = 0
    reason: str = ""
    message: str = ""
    type: str = ""
    temporary: bool = False
    connection: str = ""
    data: Any = None
    info: dict[str, Any] | None = None
    tags: dict[str, str] = {}
    offset: int = 0
    epoch: str = ""
    recovered: bool = False
    was_recovering: bool = False
    left: int = 0
    publisher: str = ""
    sequence: int = 0


OnEvent = Callable[[Event], None]


class SdkClient(Protocol):
    """One client of an official SDK. Payloads are JSON values in both formats.

    Events are kept in `events`, unless `on_event` is set: then it gets them.
    """

    events: list[Event]
    on_event: OnEvent | None

    async def connect(self) -> None:
        """Begin to connect; the outcome is an event."""

    async def disconnect(self) -> None:
        """End the connection, as an application would."""

    async def close(self) -> None:
        """End the client for good and wait until nothing of it is left."""

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
        """Begin to subscribe, or begin again; the outcome is an event. `quiet`: publications are no events.

        With `tags` the edge is to deliver only publications that have all of them, where the SDK has filters; `delta`
        asks for deltas, where it has those; `recoverable`: miss nothing, and be told where that is not certain.
        `join_leave` asks for joins and leaves, which are events then.
        """

    async def unsubscribe(self, channel: str) -> None:
        """End a subscription."""

    async def publish(self, channel: str, data: object) -> None:
        """Publish, and wait for the acknowledgement."""

    async def rpc(self, method: str, data: object) -> Json:
        """Call, and return the answer's data."""

    async def who(self, channel: str) -> dict[str, Json]:
        """Return who is in a channel, by client id, each as an event's `info`."""

    async def how_many(self, channel: str) -> tuple[int, int]:
        """Return how many clients and users are in a channel."""

    async def call(self, name: str, channel: str) -> None:
        """Ask for `history`, `presence` or `presence_stats` of a channel; what they hold is not looked at."""


class Make(Protocol):
    """Creates a client of one SDK and format; `tokens` are what its application answers when asked for a token."""

    def __call__(self, url: str, *, token: str = "", tokens: Tokens = None) -> Awaitable[SdkClient]:
        """Create a client that is not connected yet."""


def events_of(client: SdkClient, kind: str, **fields: object) -> list[Event]:
    """Return the events of a kind that have these fields."""
    return [
        event
        for event in client.events
        if event.event == kind and all(getattr(event, name) == value for name, value in fields.items())
    ]


async def event(
    client: SdkClient, kind: str, *, count: int = 1, timeout: float = PATIENCE, **fields: object
) -> Event:
    """Wait until there are `count` such events and return the newest of them."""

    def found() -> Event | None:
        events = events_of(client, kind, **fields)
        return events[count - 1] if len(events) >= count else None

    try:
        return await eventually(found, timeout, f"{count} x {kind} {fields or ''}")  # type: ignore[return-value]
    except AssertionError as error:
        raise AssertionError(f"{error}; events: {client.events[-12:]}") from None


async def connected(client: SdkClient, *, count: int = 1, timeout: float = PATIENCE) -> Event:
    """Connect, unless it is under way, and wait for it."""
    if not client.events:
        await client.connect()
    return await event(client, "connected", count=count, timeout=timeout)


async def subscribed(
    client: SdkClient,
    channel: str,
    *,
    token: str = "",
    tokens: Tokens = None,
    tags: Tags = None,
    delta: bool = False,
    quiet: bool = False,
) -> Event:
    """Subscribe and wait for it."""
    count = len(events_of(client, "subscribed", channel=channel)) + 1
    await client.subscribe(channel, token=token, tokens=tokens, tags=tags, delta=delta, quiet=quiet)
    return await event(client, "subscribed", channel=channel, count=count)


async def error_of(call: Awaitable[Any]) -> SdkError:
    """Await a call that must fail and return its error."""
    try:
        result = await call
    except SdkError as error:
        return error
    raise AssertionError(f"the call succeeded: {result!r}")
