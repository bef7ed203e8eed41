"""What users of the NATS link hold in their hands: its options, states, errors and callbacks."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from tidewire.kernel.errors import TidewireError

MessageCallback = Callable[[bytes, bytes, bytes, bytes], None]
"""Called with (subject, reply, header, payload) in the read loop: it must not block. `header` is b"" or the raw
block from `NATS/1.0` to its empty line."""

Message = tuple[bytes, bytes, bytes, bytes]
"""One of several that are published together: subject, reply subject or b"", header block, payload."""

BarrierCallback = Callable[[bool], None]
"""Called once: True when the server has taken all that was written before, False when it refused some or when that
will not be known."""

ReplyCallback = Callable[[bytes | None, bytes], None]
"""Called once with (header, payload); header is None when no answer came in time or the link was lost."""

NO_RESPONDERS: Final = b"NATS/1.0 503"
"""How the header block begins by which the server answers, without a payload, what nobody listens for."""


class LinkState(enum.Enum):
    """Where the link stands. Only CONNECTED accepts publications."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    AWAY = "away"
    CLOSED = "closed"


class LinkError(TidewireError):
    """NATS cannot be used. `temporary`: trying again later may help. `final`: the server or the set-up says no."""

    temporary = True

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class LinkAway(LinkError):
    """There is no connection to NATS at this moment; nothing was sent."""


class LinkFull(LinkError):
    """Too much waits already (bytes for the socket, or calls for their answer); nothing was sent."""


class PayloadTooLarge(LinkError):
    """The message (header and payload) is larger than the server accepts; nothing was sent."""

    temporary = False

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a message of {size} bytes is over the {limit} bytes that NATS accepts", final=True)
        self.size = size
        self.limit = limit


class LinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach NATS and what may wait for it. Times are seconds, sizes bytes; "" means not set."""

    urls: tuple[str, ...] = ("nats://127.0.0.1:4222",)
    user: str = ""
    password: str = ""
    credentials_file: str = ""
    tls_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    connect_timeout: float = 5.0
    """One server's time to answer; `start` gives up after three times this."""
    max_pending: int = 8 * 1024 * 1024
    """Bytes that may wait for the socket before `publish` raises LinkFull."""
    max_outstanding: int = 65_536
    """Requests, and apart from them barriers, that may wait for an answer before LinkFull."""
    name: str = "tidewire"
    inbox_prefix: str = "_INBOX"
    watchdog_interval: float = 5.0
    watchdog_timeout: float = 2.0

    def __repr__(self) -> str:
        """Say who connects, without passwords (URLs may hold one too)."""
        return f"LinkOptions(name={self.name!r}, user={self.user!r}, servers={len(self.urls)})"


class LinkStats(msgspec.Struct, frozen=True):
    """Totals since the link was made; bytes are headers plus payloads of messages."""

    in_msgs: int
    in_bytes: int
    out_msgs: int
    out_bytes: int
    reconnects: int
    callback_errors: int


class LinkListener(Protocol):
    """Hears what happens to the link. All calls come from the event loop and must return at once."""

    def link_away(self) -> None:
        """The connection was lost: publications are refused from now on."""

    def link_back(self) -> None:
        """A new connection stands: every subscription was sent again and the server has processed them."""

    def chunk_end(self) -> None:
        """All messages of one read were delivered: what they caused can be written out now."""

    def link_error(self, kind: str) -> None:
        """Hear of trouble that leaves the link alive; the error itself is `NatsLink.last_error`.

        Kinds: "permissions" (the server turned a subscription or publication down), "slow_consumer" (a
        subscription of nats-py lost messages), "callback" (one of our callbacks raised), "other".
        """


class DeafListener:
    """Implements LinkListener for who only asks questions: they fail by themselves."""

    def link_away(self) -> None:
        """Questions that were asked have failed."""

    def link_back(self) -> None:
        """New ones can be asked."""

    def chunk_end(self) -> None:
        """Nothing is fanned out."""

    def link_error(self, kind: str) -> None:
        """A refusal is found in `last_error`."""


class RawSubscription:
    """One subscription that the link's own parser serves: its callback and the line that asks for it."""

    __slots__ = ("callback", "line")

    def __init__(self, callback: MessageCallback, line: bytes) -> None:
        self.callback = callback
        self.line = line


class Traffic:
    """Counts what the parser has read; `chunks` moves whenever the server sends anything."""

    __slots__ = ("chunks", "in_bytes", "in_msgs")

    def __init__(self) -> None:
        self.chunks = 0
        self.in_msgs = 0
        self.in_bytes = 0
