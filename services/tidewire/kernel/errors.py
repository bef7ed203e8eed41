"""The one table of protocol errors, disconnects and ends of subscriptions, for the wire, the clients and the metrics.

Codes and their meaning are those of the Centrifuge client protocol (v2). A reply error leaves the connection open; a
disconnect closes it, and its code alone tells the client whether to come back; an unsubscribe ends one subscription.
"""

from __future__ import annotations

import msgspec

MAX_REASON = 123
"""Bytes of UTF-8: what a control frame leaves beside the code (RFC 6455, section 5.5)."""


class TidewireError(Exception):
    """Root of the errors that Tidewire raises on purpose."""


class ReplyError(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong with one command; `temporary` tells the SDKs to try again by themselves."""

    code: int
    message: str
    temporary: bool = False

    def saying(self, message: str) -> ReplyError:
        """Return the same error with a more specific, non-empty sentence for the developer who reads it."""
        return ReplyError(self.code, message, self.temporary)


class Disconnect(msgspec.Struct, frozen=True):
    """Why a connection is closed: WebSocket close code and reason (plain words, at most 123 bytes of UTF-8)."""

    code: int
    reason: str

    def saying(self, reason: str) -> Disconnect:
        """Return the same disconnect with a more specific reason, cut to what a close frame holds."""
        return Disconnect(self.code, reason.encode(errors="replace")[:MAX_REASON].decode(errors="ignore"))

    @property
    def reconnect(self) -> bool:
        """Whether the SDKs come back after this code (client protocol: 3500-3999 and 4500-4999 are final)."""
        return not (3500 <= self.code <= 3999 or 4500 <= self.code <= 4999)


class Unsubscribe(msgspec.Struct, frozen=True):
    """Why the edge ended a subscription: below code 2500 for good, from there on the SDKs subscribe again."""

    code: int
    reason: str

    def saying(self, reason: str) -> Unsubscribe:
        """Return the same end with a more specific reason."""
        return Unsubscribe(self.code, reason)


INTERNAL = ReplyError(100, "internal server error", temporary=True)
UNAUTHORIZED = ReplyError(101, "unauthorized")
UNKNOWN_CHANNEL = ReplyError(102, "unknown channel")
PERMISSION_DENIED = ReplyError(103, "permission denied")
METHOD_NOT_FOUND = ReplyError(104, "method not found")
ALREADY_SUBSCRIBED = ReplyError(105, "already subscribed")
LIMIT_EXCEEDED = ReplyError(106, "limit exceeded")
BAD_REQUEST = ReplyError(107, "bad request")
NOT_AVAILABLE = ReplyError(108, "not available")
TOKEN_EXPIRED = ReplyError(109, "token expired")
EXPIRED = ReplyError(110, "expired")
TOO_MANY_REQUESTS = ReplyError(111, "too many requests", temporary=True)
UNRECOVERABLE_POSITION = ReplyError(112, "unrecoverable position")

CONNECTION_CLOSED = Disconnect(3000, "connection closed")
SHUTDOWN = Disconnect(3001, "shutdown")
INTERNAL_ERROR = Disconnect(3004, "internal server error")
CONNECTION_EXPIRED = Disconnect(3005, "connection expired")
SUBSCRIPTION_EXPIRED = Disconnect(3006, "subscription expired")
SLOW = Disconnect(3008, "slow")
WRITE_ERROR = Disconnect(3009, "write error")
INSUFFICIENT_STATE_CLOSE = Disconnect(3010, "insufficient state")
NO_PONG = Disconnect(3012, "no pong")
TOO_MANY_REQUESTS_CLOSE = Disconnect(3013, "too many requests")
INVALID_TOKEN = Disconnect(3500, "invalid token")
BAD_PROTOCOL = Disconnect(3501, "bad request")
STALE = Disconnect(3502, "stale")
FORCE_DISCONNECT = Disconnect(3503, "force disconnect")
CONNECTION_LIMIT = Disconnect(3504, "connection limit")
CHANNEL_LIMIT = Disconnect(3505, "channel limit")
INAPPROPRIATE_PROTOCOL = Disconnect(3506, "inappropriate protocol")
NOT_AVAILABLE_CLOSE = Disconnect(3508, "not available")
TOO_MANY_ERRORS = Disconnect(3509, "too many errors")

UNSUBSCRIBED_BY_SERVER = Unsubscribe(2000, "server unsubscribe")
INSUFFICIENT_STATE = Unsubscribe(2500, "insufficient state")
EXPIRED_SUBSCRIPTION = Unsubscribe(2501, "subscription expired")
